"""When a stream is over, and when its playlists have to end although it is not."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import RENDITIONS
from broadcaster.hls import MediaPlaylist
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import SOAK
from tests.support.servers.end_to_end import ROOMY, VARIANTS, EndToEnd, end_to_end

GRACE = 8.0  # seconds
KEY_FRAMES = (0, 3, 6, 10, 13, 19, 22, 30)  # seconds, of a source that is passed through


@pytest.mark.takes(20)
async def test_the_grace_time_and_the_next_stream(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """ENDLIST comes after the grace time and not before; the next stream begins with its first segments."""
    async with end_to_end(
        tmp_path, bucket, BROADCASTER_END_GRACE_SECONDS=f"{GRACE:g}", BROADCASTER_WINDOW_SEGMENTS=ROOMY
    ) as on:
        await on.live_with(3)
        await on.owncast.stop_streaming()
        newest = max(
            path.stat().st_mtime for path in (tmp_path / "hls").rglob(f"stream-{on.owncast.run_id}-*.ts")
        )
        await on.drained()
        await ended(on)
        assert time.time() - newest > GRACE
        before = {variant: on.watcher.last(variant) for variant in VARIANTS}
        await on.owncast.wipe()
        await on.owncast.go_live()
        for variant in VARIANTS:
            await on.watcher.until_number(variant, before[variant] + 1)
        await on.owncast.wait_for_segments(3)
        await on.owncast.stop_streaming()
        await on.drained()
        await on.check_zeros()
        for variant in VARIANTS:
            first = next(
                version for version in on.watcher.versions[variant] if version.last > before[variant]
            )
            # It was not held back for longer than the next segment.
            assert first.last - before[variant] <= 2 or not SOAK
            assert first.segments[0].discontinuity


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_owncast_word ends a stream sooner")
@pytest.mark.takes(35)
async def test_an_owncast_that_stays_idle(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Five minutes after an end Owncast shows its idle clip: that it stays ends the stream."""
    async with end_to_end(tmp_path, bucket, BROADCASTER_WINDOW_SEGMENTS=ROOMY) as on:
        await on.whole_run(2)
        await on.owncast.wipe()
        await ended(on)


async def ended(on: EndToEnd) -> None:
    for variant in VARIANTS:
        await on.watcher.until_ended(variant)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_life has uneven lengths")
async def test_uneven_key_frames(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A source that is passed through has segments as long as it likes: no second of picture is lost."""
    owncast = SimulatedOwncast(
        tmp_path / "hls",
        tmp_path / "owncast",
        segment_seconds=3,
        variants=RENDITIONS[:1],
        key_frames=KEY_FRAMES,
    )
    async with end_to_end(tmp_path, bucket, owncast=owncast) as on:
        await owncast.go_live()
        await owncast.wait_for_segments(2 * len(KEY_FRAMES))
        await owncast.stop_streaming()
        await on.watcher.until(lambda: len(set(on.watcher.segments("main"))) == len(owncast.finished))
        versions = on.watcher.versions["main"]
        assert on.watcher.violations == []
        assert on.watcher.missing == []
        assert not any(segment.gap for version in versions for segment in version.segments)
        assert ends(versions) <= 1
        played = [segment.duration.total_seconds() for version in versions for segment in version.segments]
        longest = max(later - earlier for earlier, later in pairwise(KEY_FRAMES))
        assert max(played) == pytest.approx(longest, abs=0.2)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_stream has ends")
@pytest.mark.takes(20)
async def test_a_longer_latency_level_and_fewer_variants(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """What players have read cannot change: the playlists end for a moment, and nothing is lost."""
    async with end_to_end(tmp_path, bucket, BROADCASTER_WINDOW_SEGMENTS=ROOMY) as on:
        await on.whole_run(3)
        await on.whole_run(3, segment_seconds=2)
        assert [ends(on.watcher.versions[variant]) for variant in VARIANTS] == [1, 1]
        assert {on.watcher.versions[variant][-1].target_duration for variant in VARIANTS} == {2}
        await on.owncast.go_live(variants=RENDITIONS[:1])
        await on.owncast.wait_for_segments(3)
        await on.owncast.stop_streaming()
        await on.watcher.until(lambda: bool(on.watcher.versions.get("main")))
        last_of_run = f"{on.owncast.run_id}-2.ts"
        await on.watcher.until(lambda: any(last_of_run in url for url in on.watcher.segments("main")))
        assert on.watcher.violations == []
        assert on.watcher.missing == []
        lines = [line for line in on.service.log.read_text().splitlines() if "new ones begin at once" in line]
        assert len(lines) == 2


def ends(versions: list[MediaPlaylist]) -> int:
    """How often ENDLIST came."""
    return sum(after.ended and not before.ended for before, after in pairwise(versions))
