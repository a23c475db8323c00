"""The simulated Owncast, step by step, against what was read in Owncast's source and seen of real ones."""

import contextlib
import dataclasses
import itertools
import re
import signal
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest

from broadcaster.demo.encoder import RENDITIONS
from tests.integration.owncast_folder_text import CLOSED, IDLE, NOTHING, HlsFolder, Seen
from tests.support.fakes.owncast_transcoder import LATENCY_LEVELS
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

OVERLAP = 8.0  # seconds that the idle clip's transcoder takes, unless it is held up

BARE = Seen(
    remade=True,
    playlists=NOTHING,
    playlist_modes=frozenset(),
    other_modes=frozenset(),
    multivariant=(),
    runs=frozenset(),
)
LIVING = Seen()
AT_REST = Seen(remade=True, playlists=IDLE, runs=frozenset({"idle"}))
OVERLAID = Seen(playlists=IDLE, runs=frozenset({"this", "idle"}))
PRIVATE = frozenset({0o600})
OPEN = frozenset({0o644})


class Steps:
    """What happens to an Owncast, each step returning once it has happened."""

    def __init__(self, owncast: SimulatedOwncast, folder: HlsFolder) -> None:
        self.owncast = owncast
        self.folder = folder
        self._numbers: list[int] = []

    async def until(self, seen: Seen) -> None:
        """Wait until it is so; the caller's look tells what is different when it does not come to that."""
        with contextlib.suppress(TimeoutError):
            await eventually(lambda: self.folder.look(self.owncast.run_id) == seen)

    async def start(self) -> None:
        await self.owncast.start()

    async def connect(self) -> None:
        """The idle clip's transcoder is held up, so that a segment is finished before the clip comes."""
        await self.owncast.go_live()
        if self.owncast.idle_transcoder:
            suspend(self.owncast.idle_transcoder)

    async def first_segment(self) -> None:
        await self.owncast.wait_for_segments(1)
        await eventually(lambda: len(self.folder.look(self.owncast.run_id).multivariant) == len(RENDITIONS))
        text = self.folder.text()
        assert "#EXT-X-MEDIA-SEQUENCE:0\n" in text
        assert "#EXT-X-DISCONTINUITY" not in text
        assert "#EXT-X-ENDLIST" not in text
        assert self.folder.numbers(self.owncast.run_id)[0] == 0

    async def idle_clip(self) -> None:
        """The encoder is frozen, so that what is written over its playlists can be looked at."""
        assert self.owncast.encoder
        suspend(self.owncast.encoder)
        assert self.owncast.idle_transcoder
        resume(self.owncast.idle_transcoder)
        self._numbers = self.folder.numbers(self.owncast.run_id)
        await self.until(OVERLAID)

    async def next_segment(self) -> None:
        assert self.owncast.encoder
        resume(self.owncast.encoder)
        await eventually(lambda: self.folder.numbers(self.owncast.run_id) > self._numbers)
        await self.owncast.wait_for_segments(self._numbers[-1] + 2)
        assert self.folder.numbers(self.owncast.run_id)[0] == 0, "the same run goes on"

    async def disconnect(self) -> None:
        await self.owncast.stop_streaming()
        last = self.owncast.last_playlists[self.owncast.run_id, "0"][-1]
        ending = "#EXT-X-DISCONTINUITY\n#EXTINF:8.000000,\noffline.ts\n#EXT-X-ENDLIST\n"
        assert self.folder.text().endswith(f"{last}\n{ending}"), "the last segment is listed"
        assert (self.owncast.run_id, "0", last) in self.owncast.finished
        assert "#EXT-X-TARGETDURATION:1\n" in self.folder.text()

    async def crash(self) -> None:
        await self.owncast.crash_encoder()

    async def wipe(self) -> None:
        await self.owncast.wipe()

    async def killed(self) -> None:
        before = self.folder.text()
        await self.owncast.shut_down(with_signal=signal.SIGKILL)
        assert self.folder.text() == before

    async def restart(self) -> None:
        await self.owncast.restart(with_signal=signal.SIGKILL)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """After ``step`` the folder is as ``seen``; ``fact`` says so."""

    step: Callable[[Steps], Awaitable[None]]
    fact: str
    seen: Seen


LIFE = (
    Row(Steps.start, "at process start the folder is removed and the idle clip transcoded", AT_REST),
    Row(Steps.connect, "every transcoder start removes data/hls itself and makes it anew, 0750", BARE),
    Row(Steps.first_segment, "for about a segment's length there is nothing to read; 0644", LIVING),
    Row(Steps.idle_clip, "the idle clip's transcoder is not stopped when a stream begins", OVERLAID),
    Row(
        Steps.next_segment,
        "the live playlist comes back, with the same id and numbers that go on",
        dataclasses.replace(OVERLAID, playlists="live"),
    ),
    Row(
        Steps.disconnect,
        "the closing playlist is made with os.CreateTemp and moved: mode 0600, and so has offline.ts",
        dataclasses.replace(OVERLAID, playlists=CLOSED, playlist_modes=PRIVATE, clip_modes=PRIVATE),
    ),
    Row(Steps.connect, "that is so at each reconnect; the files of the run before are gone", BARE),
    Row(Steps.first_segment, "a new id; numbers restart at 0; no DISCONTINUITY is written", LIVING),
    Row(
        Steps.crash,
        "a transcoder that dies is an end like another: core/streamState.go asks for no reason",
        Seen(playlists=CLOSED, playlist_modes=PRIVATE, clip_modes=PRIVATE),
    ),
    Row(Steps.wipe, "ENDLIST is provisional for 5 minutes; then the folder is removed", AT_REST),
    Row(Steps.connect, "that is so at each start of a stream", BARE),
    Row(Steps.first_segment, "the first segment is listed by all variants", LIVING),
    Row(Steps.killed, "a process that is killed leaves the folder as it is", LIVING),
    Row(Steps.restart, "at process start the folder is removed; the idle clip takes its time", BARE),
    Row(Steps.connect, "an encoder that is back at once finds the idle clip's transcoder at work", BARE),
    Row(Steps.first_segment, "and has its playlists to itself, until", LIVING),
    Row(
        Steps.idle_clip,
        "the finished EVENT playlist of stream-offline-* is written over the live one",
        OVERLAID,
    ),
)

EARLIER = frozenset({"this", "earlier", "idle"})
OLDER = (
    Row(Steps.start, "at process start the folder is removed and the idle clip transcoded", AT_REST),
    Row(
        Steps.connect,
        "the folder is kept, the old playlist with its clip stays until the first new segment",
        dataclasses.replace(AT_REST, remade=False),
    ),
    Row(Steps.first_segment, "until the first new segment", Seen(runs=frozenset({"this", "idle"}))),
    Row(
        Steps.disconnect,
        "the closing playlist is written in place, 0644",
        Seen(playlists=CLOSED, clip_modes=OPEN, runs=frozenset({"this", "idle"})),
    ),
    Row(
        Steps.connect,
        "there the folder is kept at a reconnect, the old playlist with its clip stays",
        Seen(playlists=CLOSED, clip_modes=OPEN, runs=frozenset({"earlier", "idle"})),
    ),
    Row(Steps.first_segment, "until the first new segment", Seen(clip_modes=OPEN, runs=EARLIER)),
    Row(
        Steps.disconnect,
        "written in place, 0644",
        Seen(playlists=CLOSED, clip_modes=OPEN, runs=EARLIER),
    ),
    Row(Steps.wipe, "5 minutes after an end the folder is removed there too", AT_REST),
)


@pytest.mark.takes(20)
@pytest.mark.parametrize(("table", "older"), [(LIFE, False), (OLDER, True)], ids=["life", "older"])
async def test_the_folder_is_at_each_step_what_a_real_one_is(
    tmp_path: Path, table: tuple[Row, ...], *, older: bool
) -> None:
    """Each step leaves the folder as its row says; what another process left there goes at the start."""
    path = tmp_path / "hls"
    (path / "7").mkdir(parents=True)
    folder = HlsFolder(path)
    owncast = SimulatedOwncast(path, tmp_path / "work", idle_overlap=0 if older else OVERLAP, older=older)
    steps = Steps(owncast, folder)
    try:
        for number, row in enumerate(table):
            folder.begin_step()
            await row.step(steps)
            assert folder.look(owncast.run_id) == row.seen, f"{number}, {row.step.__name__}: {row.fact}"
    finally:
        await owncast.close()
        folder.close()


async def test_the_next_start_may_have_another_latency_level_and_other_variants(tmp_path: Path) -> None:
    """Both take effect at the next transcoder start; the levels are Owncast's own."""
    assert LATENCY_LEVELS == ((1, 25), (2, 15), (3, 10), (4, 8), (5, 5))
    async with SimulatedOwncast(tmp_path / "hls", tmp_path / "work") as owncast:
        folder = HlsFolder(tmp_path / "hls")
        await owncast.go_live()
        await owncast.wait_for_segments(1)
        assert "#EXT-X-TARGETDURATION:1\n" in folder.text("1")
        await owncast.stop_streaming()
        await owncast.go_live(segment_seconds=2, variants=RENDITIONS[:1])
        await owncast.wait_for_segments(1)
        seen = folder.look(owncast.run_id)
        folder.close()
        assert "#EXT-X-TARGETDURATION:2\n" in folder.text()
        assert (seen.variants, seen.multivariant) == (("0",), ("0/stream.m3u8",))


async def test_dates_in_playlists_are_ahead_of_the_clock(tmp_path: Path) -> None:
    """PROGRAM-DATE-TIME starts when ffmpeg has some seconds already: segments end before it says."""
    entry = re.compile(r"#EXTINF:([\d.]+),\n#EXT-X-PROGRAM-DATE-TIME:(\S+)\n(stream-.+\.ts)\n")
    async with SimulatedOwncast(tmp_path / "hls", tmp_path / "work") as owncast:
        await owncast.go_live()
        await owncast.wait_for_segments(4)
    found = entry.findall((tmp_path / "hls" / "0" / "stream.m3u8").read_text())
    ends = [datetime.fromisoformat(date).timestamp() + float(length) for length, date, _ in found]
    finished = [(tmp_path / "hls" / "0" / name).stat().st_mtime for _, _, name in found]
    assert len(found) >= 4
    assert max(end - at for end, at in zip(ends, finished, strict=True)) > 0


@pytest.mark.takes(10)
async def test_passed_through_video_is_cut_at_the_key_frames_of_its_source(tmp_path: Path) -> None:
    """A segment ends with the first key frame that is late enough; TARGETDURATION changes in mid-run."""
    key_frames = (0, 1, 2, 3.5, 4.5, 6.5, 7.5, 10)
    lengths = [f"{after - before:.6f}" for before, after in itertools.pairwise((*key_frames, 11))]
    async with SimulatedOwncast(
        tmp_path / "hls", tmp_path / "work", key_frames=key_frames, fps=12
    ) as owncast:
        folder = HlsFolder(tmp_path / "hls")
        await owncast.go_live()
        await owncast.wait_for_segments(1)
        assert "#EXT-X-TARGETDURATION:1\n" in folder.text()
        await owncast.wait_for_segments(len(lengths))
        folder.close()
        for variant in ("0", "1"):
            lines = folder.text(variant).splitlines()
            assert [line[8:-1] for line in lines if line.startswith("#EXTINF:")][: len(lengths)] == lengths
            assert "#EXT-X-TARGETDURATION:3" in lines or "#EXT-X-TARGETDURATION:2" in lines
