"""An encoder that comes back, in every way that an Owncast has: players notice a DISCONTINUITY and no more.

In ``make soak`` all latency levels take part, with pauses of up to 90 s.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from tests.support.fakes.owncast_transcoder import LATENCY_LEVELS, LatencyLevel
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import SOAK
from tests.support.servers.end_to_end import ROOMY, VARIANTS, EndToEnd, end_to_end, url_key

# Latency level, and pauses in seconds before the encoder is back; a restart and a kill of Owncast follow.
LEVELS = (
    (LATENCY_LEVELS[0], (0.5, 3, 20)),
    (LATENCY_LEVELS[1], (90, 0.5)),
    (LATENCY_LEVELS[2], (3, 20, 90)),
    (LATENCY_LEVELS[3], (0.5, 3)),
    (LATENCY_LEVELS[4], (20, 90)),
)
NOBODY = 65534
# Two transcoders write a playlist for a while after a restart, which takes long on a busy machine.
TORN = "it is left out until it changes"


class Output(NamedTuple):
    """What an Owncast writes: transport streams, or the fragments of MP4 of a coming one."""

    level: LatencyLevel
    fragments: bool = False


TS, FMP4 = Output(LatencyLevel(1, 10)), Output(LatencyLevel(1, 10), fragments=True)
SHORT = ((FMP4, (3,)),)  # conformance and chaos have transport streams that come back
FULL = [(Output(level, fragments), pauses) for fragments in (False, True) for level, pauses in LEVELS]

Break = Callable[[SimulatedOwncast], Awaitable[object]]


async def stop(owncast: SimulatedOwncast) -> None:
    await owncast.stop_streaming()


async def crash(owncast: SimulatedOwncast) -> None:
    await owncast.crash_encoder()


async def restart(owncast: SimulatedOwncast) -> None:
    await owncast.restart()


async def kill(owncast: SimulatedOwncast) -> None:
    await owncast.restart(with_signal=signal.SIGKILL)


@pytest.mark.takes(30)
@pytest.mark.parametrize(("output", "pauses"), FULL if SOAK else SHORT)
@pytest.mark.parametrize("user", ["same", "other"] if SOAK else ["other"])
async def test_reconnects_restarts_and_kills(
    tmp_path: Path, bucket: SeaweedBucket, output: Output, pauses: tuple[float, ...], user: str
) -> None:
    """The window stays whole, numbers and times go on, nothing is lost or doubled, and nothing ends."""
    breaks = [*zip((stop, crash, stop), pauses, strict=False), (restart, 0.0), (kill, 0.0)]
    async with on_stage(tmp_path, bucket, user, output) as on:
        # A run that is over before the idle clip's transcoder has the clip over its closing playlist: where
        # the encoder stays away for long, that is an idle Owncast, and an end.
        await on.live_with(8 if SOAK else 3)
        await on.drained()
        for broken, pause in breaks:
            await come_back(on, broken, pause)
        await on.owncast.stop_streaming()
        await on.drained()
        check_versions(on, discontinuities=len(breaks))
        await on.check_zeros()
        warnings = warnings_of(on)
        expected = ("permission denied",) if SOAK else ("permission denied", TORN)
        assert [line for line in warnings if not any(text in line for text in expected)] == []
        assert not warnings or user == "other"  # its closing playlists are for Owncast's user alone


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit has folders of another user")
@pytest.mark.takes(15)
@pytest.mark.parametrize("output", [TS, FMP4])
async def test_ends_as_another_user(tmp_path: Path, bucket: SeaweedBucket, output: Output) -> None:
    """The last segment of each stream is taken by its file, as nobody but Owncast's user can read of it."""
    async with on_stage(tmp_path, bucket, "other", output) as on:
        for _ in range(20):
            await on.whole_run(2)
        await on.check_zeros()


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_owncast_life has the folder of each level")
@pytest.mark.takes(20)
@pytest.mark.parametrize("fragments", [False, True])
async def test_a_shorter_latency_level(tmp_path: Path, bucket: SeaweedBucket, *, fragments: bool) -> None:
    """Shorter segments fit into the target duration that players know: the same playlists go on, twice."""
    folders = tmp_path / "hls", tmp_path / "owncast"
    owncast = SimulatedOwncast(*folders, segment_seconds=3, fragments=fragments)
    async with end_to_end(tmp_path, bucket, owncast=owncast, BROADCASTER_WINDOW_SEGMENTS=ROOMY) as on:
        await owncast.go_live()
        await owncast.wait_for_segments(2)
        for seconds in (2, 1):
            await owncast.stop_streaming()
            await on.drained()
            await owncast.go_live(segment_seconds=seconds)
            await owncast.wait_for_segments(3)
        await owncast.stop_streaming()
        await on.drained()
        check_versions(on, discontinuities=2)
        await on.check_zeros()
        assert warnings_of(on) == []


async def come_back(on: EndToEnd, broken: Break, pause: float) -> None:
    """The encoder goes and is back after so many seconds; who waited for a segment meanwhile is answered."""
    before = {variant: on.watcher.last(variant) for variant in VARIANTS}
    await broken(on.owncast)
    if not SOAK:  # nobody can save what a busy machine has not let us see before it is removed
        await on.drained()
    after = {variant: on.watcher.last(variant) for variant in VARIANTS}
    assert all(after[variant] >= before[variant] for variant in VARIANTS)
    async with aiohttp.ClientSession(on.service.address) as session, asyncio.TaskGroup() as group:
        for variant, number in after.items():
            group.create_task(blocked(session, variant, number + 1))
        await asyncio.sleep(pause)  # an encoder is away for this long, which nothing announces
        await on.live_with(3)
        await on.drained()


async def blocked(session: aiohttp.ClientSession, variant: str, number: int) -> None:
    """Ask as players do until there is an answer: a 503 after three target durations is asked again."""
    while True:
        url = f"/live/{variant}/playlist.m3u8?_HLS_msn={number}"
        async with session.get(url) as response:
            assert response.status in (200, 503)
            if response.status == 200:
                playlist = parse(await response.text())
                assert isinstance(playlist, MediaPlaylist)
                assert playlist.last >= number
                return


def check_versions(on: EndToEnd, *, discontinuities: int) -> None:
    """No version had ENDLIST or lists less than the one before it; each break is one DISCONTINUITY."""
    for variant in VARIANTS:
        versions = on.watcher.versions[variant]
        assert not [version for version in versions if version.ended]
        assert {version.target_duration for version in versions} == {versions[0].target_duration}
        for before, after in pairwise(versions):
            assert len(after.segments) >= min(len(before.segments), 10)
            assert not any(segment.gap for segment in after.segments)
        last = versions[-1]
        assert (
            last.discontinuity_sequence + sum(segment.discontinuity for segment in last.segments)
            == discontinuities
        )
    published = [url_key(url) for url in on.watcher.listed.values()]
    assert len(set(published)) == len(published)
    # What was complete when Owncast was killed is taken by its file: no playlist may have listed it yet.
    assert on.owncast.finished.keys() <= set(published) <= on.owncast.received.keys()


def warnings_of(on: EndToEnd) -> list[str]:
    """The trouble that an operator sees."""
    return [
        line for line in on.service.log.read_text().splitlines() if " WARNING " in line or " ERROR " in line
    ]


@asynccontextmanager
async def on_stage(
    tmp_path: Path, bucket: SeaweedBucket, user: str, output: Output
) -> AsyncIterator[EndToEnd]:
    """Owncast's user runs the service too, or another does, with Owncast's group and CAP_LEASE alone."""
    if user == "same":
        async with end_to_end(
            tmp_path, bucket, owncast=simulated(tmp_path, output), BROADCASTER_WINDOW_SEGMENTS=ROOMY
        ) as on:
            yield on
        return
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("to run the service as another user takes root and setpriv")
    folder, own = folders_of_two_users()
    lease = ("--inh-caps=-all,+lease", "--ambient-caps=-all,+lease", "--bounding-set=-all,+lease")
    wrapper = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--groups=0", *lease)
    try:
        owncast = simulated(folder, output)
        async with end_to_end(
            own, bucket, owncast=owncast, wrapper=wrapper, BROADCASTER_WINDOW_SEGMENTS=ROOMY
        ) as on:
            yield on
    finally:
        shutil.rmtree(folder)


def folders_of_two_users() -> tuple[Path, Path]:
    """Owncast's, and in it one of the service's; pytest's own are for root alone."""
    folder = Path(tempfile.mkdtemp(prefix="broadcaster-other-"))
    folder.chmod(0o750)
    own = folder / "service"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    return folder, own


def simulated(folder: Path, output: Output) -> SimulatedOwncast:
    return SimulatedOwncast(
        folder / "hls",
        folder / "owncast",
        segment_seconds=output.level.segment_seconds,
        playlist_size=output.level.playlist_size,
        fragments=output.fragments,
    )
