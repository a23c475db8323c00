"""A broadcaster that dies, or is restarted, is invisible to a player."""

from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/chaos kills it in mid-stream as well")
@pytest.mark.takes(20)
async def test_killed_and_restarted_in_mid_stream(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Killed three times, the service goes on with the same numbers and URLs; nothing is lost."""
    async with end_to_end(tmp_path, bucket, patient=True) as on:
        await on.owncast.go_live()
        for variant in ("0", "1"):
            await on.watcher.until_number(variant, 3)
        for _ in range(3):
            await on.service.kill()
            await on.owncast.wait_for_segments(on.owncast_segments() + 2)
            before = {variant: on.watcher.versions[variant][-1] for variant in ("0", "1")}
            await on.service.start()
            last = on.watcher.last("0")
            await on.watcher.until_number("0", last + 3)
            for variant, playlist in before.items():
                after = on.watcher.versions[variant][-1]
                assert after.discontinuity_sequence == playlist.discontinuity_sequence == 0
                assert not any(segment.discontinuity for segment in after.segments)
        await on.owncast.stop_streaming()
        await on.check_bucket()


@pytest.mark.takes(20)
async def test_restarted_while_the_encoder_restarts(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """What an encoder finished while nobody looked is taken in, although no playlist lists it any more.

    So far as it is there: only older versions of Owncast leave it.
    """
    owncast = SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", older=True)
    async with end_to_end(tmp_path, bucket, owncast=owncast, patient=True) as on:
        await on.owncast.go_live()
        await on.watcher.until_number("0", 3)
        await on.service.kill()
        await on.owncast.wait_for_segments(on.owncast_segments() + 3)
        await on.owncast.stop_streaming()
        await on.live_with(2)
        await on.service.start()
        await on.check_bucket()
        playlist = on.watcher.versions["0"][-1]
        assert sum(segment.discontinuity for segment in playlist.segments) == 1


@pytest.mark.takes(12)
async def test_stopped_in_order(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """SIGTERM finishes the uploads and ends with status 0; the ended stream is still there after a start."""
    async with end_to_end(
        tmp_path, bucket, segment_seconds=1, patient=True, BROADCASTER_END_GRACE_SECONDS="1"
    ) as on:
        await on.owncast.go_live()
        await on.watcher.until_number("0", 3)
        assert await on.service.stop() == 0
        assert "wait in the spool" not in on.service.log.read_text()
        await on.owncast.stop_streaming()
        await on.service.start()
        await on.watcher.until_ended("0")
        await on.service.stop()
        await on.service.start()
        assert (await on.service.health())["stream"] == "ended"
        await on.check_bucket()
