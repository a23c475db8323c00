"""A folder, written as carelessly as Owncast writes it, becomes segments: complete, in order, each once."""

import asyncio
import errno
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from broadcaster.catalog.records import LARGEST, Segment, SourcePosition, SourceSnapshot
from broadcaster.events import SourceEnded, SourceEvent, SourceIdle, SourceRefused, VariantsListed
from broadcaster.own_files import open_beneath
from broadcaster.source import FolderSource
from broadcaster.source.file_checks import LONGEST_PAUSE, SHORTEST_PAUSE, is_open_for_writing, open_inside
from broadcaster.source.follower import Follower
from broadcaster.source.owncast_names import variant_name
from broadcaster.source.scanner import IDLE_FOR, MAX_PLAYLISTS, Scanner
from tests.support.fakes.hls_writer import START, HlsWriter, age
from tests.support.waiting import eventually


class Folder:
    """A folder with one variant, and a scanner that looks at it at times the test chooses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writer = HlsWriter(root / "0")
        self.scanner = Scanner(root, lambda: datetime.now(UTC), SourceSnapshot())
        self.now = 100.0

    def scan(self, after: float = 0.2) -> list[SourceEvent]:
        """Everything but what is said of the variants."""
        return [event for event in self.look(after) if not isinstance(event, VariantsListed)]

    def look(self, after: float = 0.2) -> list[SourceEvent]:
        self.now += after
        return self.scanner.scan(self.now)

    def names(self, after: float = 0.2) -> list[str]:
        return [event.name for event in self.scan(after) if isinstance(event, Segment)]

    def segments(self, after: float = 0.2) -> list[Segment]:
        return [event for event in self.scan(after) if isinstance(event, Segment)]

    @contextmanager
    def half_written(self) -> Iterator[BinaryIO]:
        """The second segment, with one packet in it, as long as its writer has it open."""
        self.writer.write(range(1))
        assert len(self.names()) == 1
        path = self.writer.folder / self.writer.name(1)
        with path.open("wb") as file:
            file.write(bytes(188))
            file.flush()
            yield file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr("broadcaster.source.scanner.LONG", math.inf)  # on a busy machine each look takes long
    return Folder(tmp_path / "hls")


def test_segments_come_in_order_and_once(folder: Folder) -> None:
    """What is listed and complete comes in order, with the source's facts; nothing comes twice."""
    folder.writer.write(range(3))
    segments = folder.segments()
    assert [segment.name for segment in segments] == [folder.writer.name(number) for number in range(3)]
    assert segments[0].program_date_time == START
    assert segments[0].target_duration == 2
    assert segments[0].independent
    assert segments[0].file
    assert segments[0].file.size == 3 * 188
    assert {segment.run.number for segment in segments} == {0}
    assert "abc" in segments[0].run.id
    folder.writer.write(range(1, 5))
    assert folder.names() == [folder.writer.name(3), folder.writer.name(4)]
    assert folder.scan() == []


def test_the_folder_may_come_later_and_vanish(folder: Folder) -> None:
    """A folder that is not there is no error, and no end; with another encoder's id it is a new run."""
    shutil.rmtree(folder.root)
    assert folder.scan() == []
    HlsWriter(folder.root / "0").write(range(2))
    first = folder.segments()
    assert len(first) == 2
    shutil.rmtree(folder.root)
    assert folder.scan() == []
    assert folder.scan(300) == []
    HlsWriter(folder.root / "0", "new").write(range(1))
    second = folder.segments()
    assert [segment.name for segment in second] == ["stream-new-0.ts"]
    assert second[0].run.number == first[0].run.number + 1


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs file leases")
def test_a_file_open_for_writing_is_not_complete(folder: Folder) -> None:
    """NumberedSegment is not enough: a segment counts the moment its writer closes it."""
    with folder.half_written() as file:
        folder.writer.playlist(range(2))
        assert folder.names() == []
        assert folder.scanner.pause is not None
        assert folder.names(0.1) == []
    assert folder.names(0.002) == [Path(file.name).name]
    assert folder.scanner.pause is None


def test_without_leases_a_quiet_time_decides(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not say who writes, size and time have to stay the same for a while."""
    monkeypatch.setattr("broadcaster.source.file_checks.is_open_for_writing", lambda _: None)
    folder.writer.write(range(1))
    assert folder.names() == []
    path = folder.writer.segment(0, packets=7)
    assert folder.names(0.04) == []
    assert folder.names(0.04) == []
    assert folder.names(0.02) == [path.name]


def test_a_writer_that_never_lets_go_does_not_stop_the_stream(folder: Folder) -> None:
    """A file that stays open, and does not change, is taken when the playlist has long gone on past it."""
    with folder.half_written() as file:
        folder.writer.playlist(range(2))
        assert folder.names() + folder.names(60) == []
        folder.writer.segment(2)
        folder.writer.playlist(range(3))
        assert folder.names() == [Path(file.name).name, folder.writer.name(2)]


def test_a_stalled_writers_half_segment_is_waited_for(folder: Folder) -> None:
    """While somebody has it open for writing it is not finished, however many whole packets it has."""
    with folder.half_written() as file:
        folder.writer.segment(2)
        folder.writer.playlist(range(3))
        assert [folder.names(1.5) for _ in range(5)] == [[]] * 5
        file.write(bytes(188))
        file.flush()
        assert [folder.names(1.5) for _ in range(5)] == [[]] * 5
        file.write(bytes(188))
    late, _ = folder.segments()
    assert late.file
    assert late.file.size == 3 * 188


def test_a_late_segment_that_grows_is_no_gap(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without leases too, patience counts from its last change, not from when it was listed."""
    monkeypatch.setattr("broadcaster.source.file_checks.is_open_for_writing", lambda _: None)
    folder.writer.write(range(1))
    assert len(folder.names() + folder.names()) == 1
    path = folder.writer.folder / folder.writer.name(1)
    folder.writer.playlist(range(2))
    for size in range(100, 1000, 100):
        path.write_bytes(bytes(size))
        assert folder.names(1.5) == []
    path.write_bytes(bytes(5 * 188))
    (late,) = folder.segments() + folder.segments()
    assert late.file


def test_what_is_missing_is_not_looked_for_all_the_time(folder: Folder) -> None:
    """Looks follow a change at once, and get fewer the longer nothing changes."""
    folder.writer.write(range(1))
    assert len(folder.names()) == 1
    folder.writer.playlist(range(2))
    pauses = []
    for after in (0.001, 0.1, 0.4, 1.0):
        folder.scan(after)
        pauses.append(folder.scanner.pause or 0)
    assert pauses[0] == SHORTEST_PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] > 0.1
    with (folder.writer.folder / folder.writer.name(1)).open("wb") as file:
        file.write(bytes(188))
        file.flush()
        folder.scan(0.001)
        assert folder.scanner.pause == SHORTEST_PAUSE
        folder.scan(5)
        assert folder.scanner.pause == LONGEST_PAUSE
    assert folder.names() == [folder.writer.name(1)]


def test_lease_is_refused_while_written_and_harmless(tmp_path: Path) -> None:
    """The lease tells open from closed, and a writer that comes later is not disturbed."""
    path = tmp_path / "file"
    with path.open("wb"):
        descriptor = os.open(path, os.O_RDONLY)
        assert is_open_for_writing(descriptor) is True
    assert is_open_for_writing(descriptor) is False
    path.write_bytes(b"again")
    os.close(descriptor)


def test_listed_before_its_bytes_are_there(folder: Folder) -> None:
    """A playlist that overtakes its segment makes us wait, and the order is kept."""
    folder.writer.write(range(1))
    folder.names()
    folder.writer.segment(2)
    folder.writer.playlist(range(3))
    assert folder.names() == []
    folder.writer.segment(1)
    assert folder.names() == [folder.writer.name(1), folder.writer.name(2)]


def test_what_never_comes_is_reported_as_broken(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """A segment that is missing, empty or no whole number of packets becomes a gap, each with one line."""
    folder.writer.write(range(1))
    folder.names()
    (folder.writer.folder / folder.writer.name(2)).write_bytes(b"")
    (folder.writer.folder / folder.writer.name(3)).write_bytes(bytes(189))
    folder.writer.segment(4)
    folder.writer.playlist(range(5))
    assert folder.names() == []
    segments = folder.segments(5)
    assert [(segment.fault or "fine").split()[0:2] for segment in segments] == [
        ["is", "not"],
        ["is", "empty"],
        ["has", "189"],
        ["fine"],
    ]
    assert [segment.file is None for segment in segments] == [True, True, True, False]
    for number in (1, 2, 3):
        assert sum(folder.writer.name(number) in record.getMessage() for record in caplog.records) == 1


def test_torn_playlist_is_read_again(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """An empty or half playlist is no reason to complain: what it lists is true, the rest comes later."""
    whole = folder.writer.text(range(3))
    for number in range(3):
        folder.writer.segment(number)
    path = folder.writer.folder / "stream.m3u8"
    seen = []
    for length in (0, 5, 40, len(whole) // 2, len(whole) - 3, len(whole)):
        path.write_text(whole[:length])
        seen += folder.names(0.15)
    assert seen == [folder.writer.name(number) for number in range(3)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_playlist_that_grows_while_it_is_opened_is_torn(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was empty when it was looked at and is half when it is read: that it lists less begins nothing."""
    folder.writer.encoder = ""
    folder.writer.write(range(4))
    assert len(folder.names()) == 4
    with (folder.writer.folder / "stream.m3u8").open("w") as file:
        assert folder.names(2) == []

        def opened(root: Path, path: Path) -> int:
            file.write(folder.writer.text(range(1, 3)))
            file.flush()
            return open_inside(root, path)

        monkeypatch.setattr("broadcaster.source.file_checks.open_inside", opened)
        assert folder.names(0.001) == []
        monkeypatch.undo()
    folder.writer.write(range(1, 5))
    assert [segment.run.number for segment in folder.segments()] == [0]


def test_no_final_line_break(folder: Folder) -> None:
    """The last line of a finished file counts without its line break, but not while somebody writes on."""
    for number in range(2):
        folder.writer.segment(number)
    path = folder.writer.folder / "stream.m3u8"
    with path.open("w") as writer:
        writer.write(folder.writer.text(range(2))[:-1])
        writer.flush()
        assert folder.names() == [folder.writer.name(0)]
    assert folder.names() == [folder.writer.name(1)]


def test_a_long_playlist_is_read(folder: Folder) -> None:
    """What lists a day takes megabytes, and is followed as any other."""
    folder.writer.segment(0)
    text = folder.writer.text(range(1)) + ("#" + "x" * 255 + "\n") * 30_000
    (folder.writer.folder / "stream.m3u8").write_text(text)
    assert folder.names() == [folder.writer.name(0)]


def test_garbage_playlist_is_reported_once(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """A playlist that stays unreadable is named in one line and hurts nothing else."""
    other = HlsWriter(folder.root / "1")
    other.write(range(1))
    (folder.writer.folder / "stream.m3u8").write_bytes(b"\x00\xff garbage\n")
    seen = folder.names()
    for _ in range(20):
        seen += folder.names()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    for _ in range(20):
        seen += folder.names()
    assert seen == [other.name(0)]
    assert sum("0/stream.m3u8" in record.getMessage() for record in caplog.records) == 1
    folder.writer.write(range(2))
    assert len(folder.names()) == 2


def test_one_bad_duration_is_one_gap(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """A segment whose EXTINF cannot be is a gap in its place, which is said once; the others go on."""
    folder.writer.write(range(4))
    path = folder.writer.folder / "stream.m3u8"
    bad = path.read_text().replace("EXTINF:2.000000", "EXTINF:nan", 1)
    path.write_text(bad)
    segments = folder.segments() + folder.segments()
    assert [(segment.sequence, segment.file is None) for segment in segments] == [
        (0, True),
        (1, False),
        (2, False),
        (3, False),
    ]
    assert sum("EXTINF" in record.getMessage() for record in caplog.records) == 1


HOSTILE_NAMES = {
    "parent folder": b"../../secret.ts",
    "absolute": b"/etc/hostname",
    "absolute parent folder": b"/hls/../secret.ts",
    "encoded parent folder": b"%2e%2e/%2e%2e/secret.ts",
    "symlink out of the folder": b"link.ts",
    "symlink in a loop": b"loop.ts",
    "symlinked folder": b"out/secret.ts",
    "pipe": b"pipe.ts",
    "folder": b"folder.ts",
    "not UTF-8": b"stream-\xff-1.ts",
    "null byte": b"a%00b.ts",
    "line break": b"a%0Ab.ts",
    "backslash": b"..\\secret.ts",
    "too long": b"x" * 300 + b".ts",
}


@pytest.mark.parametrize("kind", HOSTILE_NAMES)
def test_hostile_names(folder: Folder, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A name that leads out of the folder, or is none, is logged once and hurts nothing else."""
    (folder.root.parent / "secret.ts").write_bytes(bytes(188))
    (folder.writer.folder / "link.ts").symlink_to(folder.root.parent / "secret.ts")
    (folder.writer.folder / "loop.ts").symlink_to("loop.ts")
    (folder.writer.folder / "out").symlink_to(folder.root.parent)
    os.mkfifo(folder.writer.folder / "pipe.ts")
    (folder.writer.folder / "folder.ts").mkdir()
    folder.writer.write(range(1))
    folder.names()
    text = folder.writer.text(range(3)).encode()
    text = text.replace(folder.writer.name(1).encode(), HOSTILE_NAMES[kind])
    (folder.writer.folder / "stream.m3u8").write_bytes(text)
    folder.writer.segment(2)
    segments = folder.segments() + folder.segments(5)
    assert [segment.file is None for segment in segments] == [True, False]
    assert segments[1].name == folder.writer.name(2)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].isascii()
    assert warnings[0].isprintable()


@pytest.mark.parametrize("base", ["https://cdn.example", ""])
def test_absolute_urls_mean_the_file_of_that_name(folder: Folder, base: str) -> None:
    """With a serving endpoint, or ffmpeg's base URL, URIs are absolute: the file beside it is meant."""
    folder.writer.segment(0)
    text = folder.writer.text(range(1)).replace("stream-abc", f"{base}/hls/0/stream-abc")
    (folder.writer.folder / "stream.m3u8").write_text(text)
    main = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{base}/hls/0/stream.m3u8\n"
    (folder.root / "stream.m3u8").write_text(main)
    events = folder.look(0)
    listed = [event for event in events if isinstance(event, VariantsListed)]
    assert [variant.uri for event in listed for variant in event.playlist.variants] == ["0"]
    assert [event.name for event in events if isinstance(event, Segment)] == [folder.writer.name(0)]


def test_restarted_encoder_is_a_new_run(folder: Folder) -> None:
    """A new id with numbers from 0 is a new run; both variants agree on it."""
    other = HlsWriter(folder.root / "1")
    for writer in (folder.writer, other):
        writer.write(range(5))
    assert {segment.run.number for segment in folder.segments()} == {0}
    for writer in (folder.writer, other):
        writer.encoder = "ab-c_d-7"
        writer.write(range(2))
    second = folder.segments()
    assert [(segment.variant, segment.name) for segment in second] == [
        (variant, f"stream-ab-c_d-7-{number}.ts") for variant in "01" for number in range(2)
    ]
    assert len({segment.run for segment in second}) == 1
    assert second[0].run.number == 1
    assert "ab-c_d-7" in second[0].run.id


def test_restart_under_the_same_names(folder: Folder) -> None:
    """A writer without ids that starts over is recognised by its times, and by numbers that fall."""
    folder.writer.encoder = ""
    folder.writer.write(range(4))
    assert len(folder.names()) == 4
    folder.writer.start = START.replace(hour=13)
    folder.writer.write(range(2))
    again = folder.segments()
    assert [segment.run.number for segment in again] == [1, 1]
    folder.writer.write(range(50, 60))
    assert {segment.run.number for segment in folder.segments()} == {1}
    folder.writer.write(range(1))
    assert [segment.run.number for segment in folder.segments()] == [2]


def test_discontinuity_of_the_source_is_a_new_run(folder: Folder) -> None:
    """Where the source itself marks a break, so do we."""
    folder.writer.write(range(1))
    folder.names()
    folder.writer.segment(7)
    extra = f"#EXT-X-DISCONTINUITY\n#EXTINF:2.0,\n{folder.writer.name(7)}\n"
    folder.writer.playlist(range(1), extra=extra)
    assert [segment.run.number for segment in folder.segments()] == [1]


IDLE = """#EXTM3U
#EXT-X-TARGETDURATION:8
#EXT-X-PLAYLIST-TYPE:EVENT
#EXTINF:8.000000,
stream-offline-0.ts
#EXT-X-ENDLIST
"""


def offline_end(clip: str = "offline.ts") -> str:
    return f"#EXT-X-DISCONTINUITY\n#EXTINF:8.000000,\n{clip}\n"


def test_end_of_stream_is_reported_after_its_last_segment(folder: Folder) -> None:
    """ENDLIST with the offline clip ends the stream; the clip itself is not part of it."""
    folder.writer.write(range(2))
    folder.names()
    folder.writer.segment(2)
    (folder.writer.folder / "offline.ts").write_bytes(bytes(188))
    folder.writer.playlist(range(3), extra=offline_end(), ended=True)
    events = folder.scan()
    assert [type(event) for event in events] == [Segment, SourceEnded]
    assert folder.scan() == []
    folder.writer.encoder = "next"
    folder.writer.write(range(1))
    assert [segment.run.number for segment in folder.segments()] == [1]


def test_idle_clip_and_finished_playlists_are_no_stream(folder: Folder) -> None:
    """The idle clip, a finished recording and a long abandoned playlist are left alone until they move."""
    (folder.writer.folder / "stream.m3u8").write_text(IDLE)
    (folder.writer.folder / "stream-offline-0.ts").write_bytes(bytes(188))
    recording = HlsWriter(folder.root / "1", "old")
    recording.write(range(2))
    recording.playlist(range(2), ended=True)
    abandoned = HlsWriter(folder.root / "2", "dead")
    abandoned.write(range(2))
    age(abandoned.folder / "stream.m3u8", 100)
    assert folder.scan() == []
    abandoned.write(range(3))
    assert len(folder.names()) == 3


@pytest.mark.parametrize("clip", ["offline-v2.ts", "offline-v2-3141592653.m4s"])
def test_an_idle_clip_that_stays_is_the_end(folder: Folder, clip: str) -> None:
    """When the idle clip alone has been there for long, there is no stream; that is said once."""
    folder.writer.write(range(2))
    folder.names()
    folder.writer.playlist(range(2), extra=offline_end(clip), ended=True)
    assert [type(event) for event in folder.scan()] == [SourceEnded]
    shutil.rmtree(folder.root)
    assert folder.scan(IDLE_FOR + 1) == []
    folder.writer.folder.mkdir(parents=True)
    (folder.writer.folder / "stream.m3u8").write_text(IDLE)
    assert folder.scan() == []
    assert folder.scan(IDLE_FOR - 1) == []
    assert folder.scan(1) == [SourceIdle()]
    assert folder.scan(IDLE_FOR) == []


def test_an_idle_clip_over_a_live_playlist_is_looked_past(folder: Folder) -> None:
    """Its transcoder goes on for a while beside a stream's: when the live playlist is back, nothing broke."""
    folder.writer.write(range(3))
    first = folder.segments()
    for numbers in (range(4), range(6), range(9)):
        (folder.writer.folder / "stream.m3u8").write_text(IDLE)
        assert folder.scan(2) == []
        folder.writer.write(numbers)
        first += folder.segments()
    assert [segment.name for segment in first] == [folder.writer.name(number) for number in range(9)]
    assert {segment.run.number for segment in first} == {0}
    assert folder.scan(IDLE_FOR + 1) == []


@pytest.mark.parametrize("listed", [None, 2])
def test_a_playlist_closed_while_it_was_rewritten(
    folder: Folder, caplog: pytest.LogCaptureFixture, listed: int | None
) -> None:
    """Owncast reads it just when ffmpeg empties it, or just before: the last segment is taken by its file."""
    folder.writer.write(range(2))
    assert len(folder.names()) == 2
    folder.writer.segment(2)
    path = folder.writer.playlist(range(listed or 0), extra=offline_end(), ended=True)
    if listed is None:
        path.write_text(offline_end() + "#EXT-X-ENDLIST\n")
    assert folder.names(0.01) == [folder.writer.name(2)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_idle_clip_over_the_closing_playlist_hides_no_segment(folder: Folder) -> None:
    """What was finished beside it is taken by its file."""
    folder.writer.write(range(2))
    assert len(folder.names()) == 2
    folder.writer.segment(2)
    (folder.writer.folder / "stream.m3u8").write_text(IDLE)
    assert folder.names() == [folder.writer.name(2)]
    folder.writer.write(range(4))
    assert folder.names() == [folder.writer.name(3)]


def test_what_was_taken_by_its_file_is_listed_later(folder: Folder) -> None:
    """Its time was estimated: when the live playlist is back with others, it is still the same segment."""
    folder.writer.write(range(2))
    assert len(folder.names()) == 2
    for number in (2, 3):
        folder.writer.segment(number)
        (folder.writer.folder / "stream.m3u8").write_text(IDLE)
        assert folder.names() == [folder.writer.name(number)]
    folder.writer.seconds = 5
    folder.writer.write(range(5))
    assert [(segment.name, segment.run.number) for segment in folder.segments()] == [
        (folder.writer.name(4), 0)
    ]


def test_hidden_when_an_earlier_process_ended(folder: Folder) -> None:
    """After a restart beside the idle clip too, what is taken by its file is of its run when it is listed."""
    folder.writer.write(range(1))
    (first,) = folder.segments()
    known = {0: (first.uri, first.program_date_time)}
    memory = SourceSnapshot((first.run,), {"0": SourcePosition(first.run, known, 2, independent=True)})
    folder.scanner = Scanner(folder.root, lambda: datetime.now(UTC), memory)
    folder.writer.segment(1)
    (folder.writer.folder / "stream.m3u8").write_text(IDLE)
    (hidden,) = folder.segments()
    assert (hidden.sequence, hidden.duration, hidden.independent) == (1, timedelta(seconds=2), True)
    folder.writer.write(range(3))
    assert [(segment.name, segment.run) for segment in folder.segments()] == [
        (folder.writer.name(2), first.run)
    ]


def test_an_old_stream_is_no_live_one_after_a_restart(folder: Folder) -> None:
    """What another encoder finished long ago, unseen, is left alone; what it has finished just now is not."""
    folder.writer.write(range(1))
    (first,) = folder.segments()
    known = {0: (first.uri, first.program_date_time)}
    memory = SourceSnapshot((first.run,), {"0": SourcePosition(first.run, known, 2, independent=True)})
    for seconds, count in ((1000, 0), (1, 3)):
        folder.scanner = Scanner(folder.root, lambda: datetime.now(UTC), memory)
        folder.writer.encoder = "missed"
        folder.writer.write(range(3))
        age(folder.writer.playlist(range(3), extra=offline_end(), ended=True), seconds)
        assert len(folder.names()) == count


def test_a_live_playlist_is_remembered_among_many(folder: Folder) -> None:
    """Those that never brought anything give way to others first, and one too many is followed later."""
    folder.writer.write(range(1))
    assert len(folder.names()) == 1
    finished = [HlsWriter(folder.root / f"old{number}") for number in range(MAX_PLAYLISTS - 1)]
    for writer in finished:
        writer.playlist(range(1), ended=True)
    folder.names()
    shutil.rmtree(folder.writer.folder)
    shutil.rmtree(finished[0].folder)
    HlsWriter(folder.root / "new").playlist(range(1), ended=True)
    folder.names()
    folder.writer.folder.mkdir()
    folder.writer.write(range(1, 2))
    assert folder.names() == [folder.writer.name(1)]


def test_a_folder_that_may_not_be_read_is_named(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once what to do about it, and the others are followed."""
    (folder.root / "1").mkdir()

    def forbidding(root: Path, path: Path, flags: int) -> int:
        if path.name == "1":
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_beneath(root, path, flags)

    monkeypatch.setattr("broadcaster.source.scanner.open_beneath", forbidding)
    for count in (1, 2):
        folder.writer.write(range(count))
        assert len(folder.names()) == 1
    (said,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "the folder 1 may not be read" in said


def test_a_folder_that_comes_back_as_it_was_goes_on(folder: Folder) -> None:
    """A file system that is away for minutes has not begun anything new."""
    folder.writer.write(range(3))
    assert len(folder.names()) == 3
    away = folder.root.rename(folder.root.with_name("away"))
    assert folder.scan(100) == []
    away.rename(folder.root)
    assert folder.scan() == []
    folder.writer.write(range(1, 5))
    assert [segment.run.number for segment in folder.segments()] == [0, 0]


def test_a_playlist_of_two_writers_at_once_is_looked_past(folder: Folder) -> None:
    """The head of the idle clip's playlist and the tail of the live one number nothing and begin no run."""
    folder.writer.write(range(6))
    first = folder.segments()
    folder.writer.segment(6)
    mixed = IDLE + folder.writer.text(range(2, 7)).partition(folder.writer.name(3) + "\n")[2]
    (folder.writer.folder / "stream.m3u8").write_text(mixed)
    first += folder.segments()
    folder.writer.write(range(3, 8))
    first += folder.segments()
    assert [segment.name for segment in first] == [folder.writer.name(number) for number in range(8)]
    assert {segment.run.number for segment in first} == {0}


def test_a_playlist_that_stays_torn_hides_no_segment(folder: Folder) -> None:
    """A playlist that two had written at once cannot be read by anybody."""
    folder.writer.write(range(2))
    assert len(folder.names()) == 2
    folder.writer.segment(2)
    torn = bytes(300) + f"ts\n{offline_end()}".encode()
    (folder.writer.folder / "stream.m3u8").write_bytes(torn)
    assert folder.names() == []
    assert folder.names(1.1) == [folder.writer.name(2)]


def test_an_older_version_of_a_playlist_begins_nothing(folder: Folder) -> None:
    """Ffmpeg's playlists race each other to the disk; an encoder with an id never starts over under it."""
    folder.writer.write(range(6))
    assert len(folder.names()) == 6
    folder.writer.playlist(range(4))
    assert folder.names() == []
    folder.writer.write(range(1, 7))
    assert [segment.run.number for segment in folder.segments()] == [0]


def test_a_playlist_of_the_same_tick_as_its_folder(folder: Folder) -> None:
    """The kernel dates folders by ticks of milliseconds: what comes later in one that was seen is found."""
    folder.writer.segment(0)
    dated = folder.writer.folder.stat().st_mtime_ns
    assert folder.names() == []
    folder.writer.playlist(range(1))
    os.utime(folder.writer.folder, ns=(dated, dated))
    assert folder.names(0.002) == [folder.writer.name(0)]


def test_a_playlist_of_the_same_second_as_its_folder(folder: Folder) -> None:
    """Some file systems date folders by whole seconds: what comes later in one that was seen is found."""
    second = int(time.time()) * 10**9
    folder.writer.segment(0)
    os.utime(folder.writer.folder, ns=(second, second))
    assert folder.names() == []
    assert folder.names(0.5) == []
    folder.writer.playlist(range(1))
    os.utime(folder.writer.folder, ns=(second, second))
    assert folder.names(0.3) == [folder.writer.name(0)]


def test_what_went_with_the_folder_holds_nothing_up(folder: Folder) -> None:
    """A segment that was listed and never seen is a gap as soon as the next run is there."""
    folder.writer.write(range(2))
    folder.names()
    folder.writer.playlist(range(3))
    assert folder.names() == []
    shutil.rmtree(folder.root)
    assert folder.names() == []
    HlsWriter(folder.root / "0", "next").write(range(1))
    segments = folder.segments()
    assert [(segment.file is None, segment.run.number) for segment in segments] == [(True, 0), (False, 1)]


class ClosedToUs:
    """A playlist that may not be read, as Owncast's closing one by another user than its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: set[Path] = set()

        def checked(root: Path, path: Path) -> int:
            if path in self.paths:
                raise PermissionError(errno.EACCES, "Permission denied")
            return open_inside(root, path)

        monkeypatch.setattr("broadcaster.source.file_checks.open_inside", checked)


def test_the_last_segment_is_taken_by_its_file(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the closing playlist is for Owncast's user alone, what it would list is found; it is said why."""
    closed = ClosedToUs(monkeypatch)
    for number, encoder in enumerate(("first", "second")):
        closed.paths.clear()
        folder.writer.encoder = encoder
        folder.writer.write(range(3))
        assert len(folder.segments()) == 3
        folder.writer.segment(3)
        playlist = folder.writer.playlist(range(4), extra=offline_end(), ended=True)
        (folder.writer.folder / "offline.ts").write_bytes(bytes(188))
        closed.paths.add(playlist)
        (last,) = folder.segments()
        assert (last.name, last.run.number) == (folder.writer.name(3), number)
        assert last.program_date_time == START + 3 * timedelta(seconds=2)
        assert last.file
        assert folder.segments(20) == []
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 2
    assert all("0/stream.m3u8" in segment and "permission denied" in segment for segment in said)


def test_start_in_the_middle_of_a_stream(folder: Folder) -> None:
    """What rolled off the disk before we came is left out; the segment at the live edge is waited for."""
    for number in range(3, 6):
        folder.writer.segment(number)
    folder.writer.playlist(range(7))
    assert folder.names() == [folder.writer.name(number) for number in range(3, 6)]
    folder.writer.segment(6)
    assert folder.names() == [folder.writer.name(6)]


def test_map_is_carried(folder: Folder) -> None:
    """With fMP4 each segment brings its EXT-X-MAP file, and sizes are not whole packets."""
    (folder.writer.folder / "init.mp4").write_bytes(b"init")
    (folder.writer.folder / "1.m4s").write_bytes(b"segment")
    text = '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI="init.mp4"\n#EXTINF:2,\n1.m4s\n'
    (folder.writer.folder / "stream.m3u8").write_text(text)
    (segment,) = folder.segments()
    assert segment.map_file
    assert segment.map_file.name == "init.mp4"
    assert segment.file


def test_a_map_is_what_it_was_when_its_segment_was_complete(folder: Folder) -> None:
    """The next run writes into the same file, while segments of the last one wait for their predecessors."""
    media = folder.writer.folder
    (media / "init.mp4").write_bytes(b"of run 0")
    (media / "0.m4s").write_bytes(b"segment")
    (media / "2.m4s").write_bytes(b"segment")
    head = '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI="init.mp4"\n'
    segments = (f"#EXTINF:2,\n{number}.m4s\n" for number in range(3))
    (media / "stream.m3u8").write_text(head + "".join(segments))
    assert [segment.name for segment in folder.segments()] == ["0.m4s"]
    (media / "init.mp4").write_bytes(b"of run 1")
    (media / "1.m4s").write_bytes(b"segment")
    first, second = folder.segments()
    assert first.map_file
    assert second.map_file
    (media / "init.mp4").write_bytes(b"of run 2")
    assert (first.map_file.read(), second.map_file.read()) == (b"of run 1", b"of run 0")


def test_multivariant_playlist_names_variants(folder: Folder) -> None:
    """Attributes pass, and absolute addresses are reduced to the variant's name."""
    folder.writer.write(range(1))
    text = (
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=640x360\n0/stream.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=500\nhttps://cdn.example/hls/1/stream.m3u8\n"
    )
    (folder.root / "stream.m3u8").write_text(text)
    (listed,) = [event for event in folder.look() if isinstance(event, VariantsListed)]
    found = [(variant.uri, variant.bandwidth) for variant in listed.playlist.variants]
    assert found == [("0", 1000), ("1", 500)]


def test_variants_in_the_folder(folder: Folder) -> None:
    """A folder that is still empty will be a variant's; what never holds media is none."""
    HlsWriter(folder.root / "1", "old").playlist(range(2), ended=True)
    (folder.root / "2").mkdir()
    (folder.root / "pictures").mkdir()
    (folder.root / "pictures" / "a.jpg").write_bytes(b"picture")
    folder.writer.write(range(1))
    (listed,) = [event for event in folder.look() if isinstance(event, VariantsListed)]
    assert listed.present == {"0", "2"}
    HlsWriter(folder.root / "2").write(range(1))
    assert not [event for event in folder.look() if isinstance(event, VariantsListed)]
    shutil.rmtree(folder.root / "2")
    (listed,) = [event for event in folder.look() if isinstance(event, VariantsListed)]
    assert listed.present == {"0"}


def test_a_torn_multivariant_playlist_is_no_variant(folder: Folder) -> None:
    """What an Owncast that was killed has left of it takes no place; a media playlist beside it does."""
    folder.writer.write(range(1))
    (folder.root / "stream.m3u8").write_text("#EXTM3U\n#EXT-X-VER")
    (listed,) = [event for event in folder.look() if isinstance(event, VariantsListed)]
    assert listed.present == {"0"}
    (folder.root / "flat.m3u8").write_text(folder.writer.text(range(1)))
    (listed,) = [event for event in folder.look() if isinstance(event, VariantsListed)]
    assert listed.present == {"0", "flat"}


def test_the_idle_clips_multivariant_playlist_leaves_no_variant_out(folder: Folder) -> None:
    """What is of the same encoder run belongs to the stream, whoever wrote the multivariant playlist."""
    (folder.root / "stream.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n")
    folder.writer.write(range(1))
    other = HlsWriter(folder.root / "1")
    other.write(range(1))
    segments = folder.segments() + folder.segments()
    assert {segment.variant for segment in segments} == {"0", "1"}
    assert len({segment.run for segment in segments}) == 1


def test_the_idle_clips_multivariant_playlist_describes_no_stream(folder: Folder) -> None:
    """Known from before the stream, it is not believed when it comes over the stream's."""
    root = folder.root / "stream.m3u8"
    described = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={}\n0/stream.m3u8\n"
    root.write_text(described.format(7))
    (folder.writer.folder / "stream.m3u8").write_text(IDLE)
    folder.look()
    shutil.rmtree(folder.root)
    folder.writer.folder.mkdir(parents=True)
    folder.look()
    reported = []
    for bandwidth in (7, 1000, 7, 1001):
        folder.writer.write(range(1))
        root.write_text(described.format(bandwidth))
        reported += [
            segment.playlist.variants for segment in folder.look() if isinstance(segment, VariantsListed)
        ]
    assert [variant.bandwidth for variants in reported for variant in variants] == [7, 1000, 1001]


def test_the_idle_clips_playlists_leave_no_variant_out(folder: Folder) -> None:
    """When the clip is over each playlist that the multivariant one names, that one is the clip's as well."""
    (folder.writer.folder / "stream.m3u8").write_text(IDLE)
    (folder.root / "stream.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n")
    other = HlsWriter(folder.root / "1")
    other.write(range(1))
    assert [segment.name for segment in folder.segments() + folder.segments()] == [other.name(0)]


def test_what_the_multivariant_playlist_leaves_out_is_not_followed(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside a stream, a playlist that is not part of it is left alone, which is said once."""
    (folder.root / "stream.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n")
    other = HlsWriter(folder.root / "other", "stranger")
    for numbers in (range(1), range(2), range(3)):
        folder.writer.write(numbers)
        other.write(numbers)
        assert folder.names(4) == [folder.writer.name(numbers.stop - 1)]
    assert sum("other/stream.m3u8" in record.getMessage() for record in caplog.records) == 1
    (folder.root / "stream.m3u8").unlink()
    assert folder.names() == [other.name(number) for number in range(3)]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("0/stream.m3u8", "0"),
        ("video_720.m3u8", "video_720"),
        ("a/video.m3u8", "a-video"),
        ("a b/stream.m3u8", None),
        ("\udcff/stream.m3u8", None),
        ("../stream.m3u8", None),
    ],
)
def test_variant_names(path: str, name: str | None) -> None:
    """A variant's name is fit for a URL, or the playlist is not followed."""
    assert variant_name(path) == name


async def test_a_change_is_noticed_at_once(tmp_path: Path) -> None:
    """The running source hands on a segment when its playlist is written, and stops when cancelled."""
    root = tmp_path / "hls"
    writer = HlsWriter(root / "0")
    writer.write(range(1))
    seen: asyncio.Queue[Segment] = asyncio.Queue()

    async def take(event: SourceEvent) -> None:
        if isinstance(event, Segment):
            await seen.put(event)

    task = asyncio.create_task(FolderSource(root, lambda: datetime.now(UTC)).run(take))
    async with asyncio.timeout(60):
        first = await seen.get()
        writer.segment(1)
        writer.playlist(range(2))
        second = await seen.get()
        shutil.rmtree(root)
        HlsWriter(root / "0", "again").write(range(1))
        third = await seen.get()
    task.cancel()
    await asyncio.wait([task])
    assert [segment.name for segment in (first, second, third)] == [
        writer.name(0),
        writer.name(1),
        "stream-again-0.ts",
    ]


async def test_nobody_waits_for_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notification makes a change known: the next look by itself would be in an hour."""
    monkeypatch.setattr("broadcaster.source.watcher.POLL_SECONDS", 3600.0)
    await check_each_is_noticed(tmp_path)


async def test_without_notifications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the kernel has none to give the source looks by itself, and says so once."""

    def too_many(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("broadcaster.source.watcher.POLL_SECONDS", 0.01)
    monkeypatch.setattr("broadcaster.source.watcher.INotify", too_many)
    await check_each_is_noticed(tmp_path)
    (said,) = (record.message for record in caplog.records if "no notifications" in record.message)
    assert "fs.inotify.max_user_instances" in said


async def test_a_private_folder_is_looked_at_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes of a folder that nobody else writes into are reported: it is looked at then, else seldom."""
    monkeypatch.setattr("broadcaster.source.watcher.POLL_SECONDS", 0.0)
    monkeypatch.setattr("broadcaster.source.watcher.PRIVATE_POLL_SECONDS", 3600.0)
    source, seen = FolderSource(tmp_path, lambda: datetime.now(UTC), is_private=True), asyncio.Event()

    async def take(event: SourceEvent) -> None:
        if isinstance(event, Segment):
            seen.set()

    task = asyncio.create_task(source.run(take))
    async with asyncio.timeout(60):
        begin = source.last_scan
        await eventually(lambda: source.scanned_at > begin)
        looked_at = source.last_scan
        HlsWriter(tmp_path / "0").write(range(1))
        await asyncio.sleep(0.1)
        assert source.last_scan == looked_at
        source.note_change()
        await seen.wait()
    task.cancel()
    await asyncio.wait([task])


async def check_each_is_noticed(folder: Path) -> None:
    writer, seen = HlsWriter(folder / "0"), asyncio.Queue[str]()

    async def take(event: SourceEvent) -> None:
        if isinstance(event, Segment):
            await seen.put(event.name)

    task = asyncio.create_task(FolderSource(folder, lambda: datetime.now(UTC)).run(take))
    async with asyncio.timeout(60):
        for number in range(5):
            writer.write(range(number + 1))
            assert await seen.get() == writer.name(number)
    task.cancel()
    await asyncio.wait([task])


async def test_a_folder_that_hangs_holds_up_nothing_else(tmp_path: Path) -> None:
    """While a look hangs the loop goes on, the time of the last one stands still, and an end is at once."""
    HlsWriter(tmp_path / "0").write(range(1))
    loop, hanging, seen = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    back = threading.Event()

    def clock() -> datetime:
        """Asked at the start, and then in the middle of a look, where there is a new segment."""
        if threading.current_thread() is not threading.main_thread():
            loop.call_soon_threadsafe(hanging.set)
            back.wait(30)
        return datetime.now(UTC)

    async def take(_: SourceEvent) -> None:
        seen.set()

    source = FolderSource(tmp_path, clock)
    task = asyncio.create_task(source.run(take))
    async with asyncio.timeout(20):
        await hanging.wait()
        assert source.scanning
        last_scan = source.last_scan
        back.set()
        await seen.wait()
        back.clear()
        hanging.clear()
        HlsWriter(tmp_path / "0", "again").write(range(1))
        await hanging.wait()
        assert source.last_scan > last_scan
        task.cancel()
        await asyncio.wait([task])
    back.set()
    assert task.cancelled()
    assert not source.scanning


def test_an_encoder_id_that_comes_back_is_a_new_run(folder: Folder) -> None:
    """Fail-over to another encoder and back gives three runs, in rising order, the same in every variant."""
    other = HlsWriter(folder.root / "1")
    runs = []
    for encoder in ("main", "backup", "main"):
        for writer in (folder.writer, other):
            writer.encoder = encoder
            writer.start = writer.start.replace(hour=writer.start.hour + 1)
            writer.write(range(2))
        runs.append({segment.run.number for segment in folder.segments()})
    assert runs == [{0}, {1}, {2}]


def test_those_behind_a_broken_segment_are_not_broken(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without leases too, one broken segment costs itself alone, however many wait behind it."""
    monkeypatch.setattr("broadcaster.source.file_checks.is_open_for_writing", lambda _: None)
    folder.writer.write(range(1))
    assert folder.segments(0.1) + folder.segments(0.1)
    for number in range(2, 6):
        folder.writer.segment(number)
    (folder.writer.folder / folder.writer.name(1)).write_bytes(bytes(100))
    folder.writer.playlist(range(6))
    seen: list[Segment] = []
    for _ in range(40):
        seen += folder.segments(0.1)
    assert [segment.file is None for segment in seen] == [True, False, False, False, False]


def test_a_playlist_that_is_away_for_a_moment(folder: Folder) -> None:
    """A playlist that cannot be read once, and is back as it was, is the same stream."""
    folder.writer.write(range(3))
    assert len(folder.names()) == 3
    path = folder.writer.folder / "stream.m3u8"
    hidden = path.rename(path.with_suffix(".away"))
    assert folder.scan() == []
    hidden.rename(path)
    assert folder.scan() == []
    folder.writer.write(range(1, 4))
    assert [segment.run.number for segment in folder.segments()] == [0]


def test_goes_on_where_an_earlier_process_stood(folder: Folder) -> None:
    """What was known is not reported again, although it is known of a part of the list alone."""
    folder.writer.write(range(6))
    segments = folder.segments()
    known = {segment.sequence: (segment.uri, segment.program_date_time) for segment in segments[2:]}
    run = segments[0].run
    memory = SourceSnapshot((run,), {"0": SourcePosition(run, known, 2, independent=True)})
    folder.scanner = Scanner(folder.root, lambda: datetime.now(UTC), memory)
    assert folder.scan() == []
    folder.writer.write(range(2, 7))
    (segment,) = folder.segments()
    assert (segment.name, segment.run) == (folder.writer.name(6), run)


@pytest.mark.parametrize(
    "line",
    ["http://[x/seg1.ts", "https://cdn.example/" + "x" * 300, "é" * 200 + ".ts", "seg" + "9" * 5000 + ".ts"],
)
@pytest.mark.parametrize("kind", ["segment", "variant"])
def test_what_no_library_can_read_stops_nothing(folder: Folder, line: str, kind: str) -> None:
    """Addresses that make parsers raise hurt nothing but themselves, in a playlist of either kind."""
    other = HlsWriter(folder.root / "1")
    if kind == "segment":
        text = folder.writer.text(range(3)).replace(folder.writer.name(1), line)
        (folder.writer.folder / "stream.m3u8").write_text(text)
    else:
        folder.writer.write(range(3))
        variants = "".join(
            f"#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}\n" for uri in (line, "0/stream.m3u8", "1/stream.m3u8")
        )
        (folder.root / "stream.m3u8").write_text("#EXTM3U\n" + variants)
    for number in range(3):
        folder.writer.segment(number)
    other.write(range(2))
    segments = folder.segments() + folder.segments(5)
    expected = {f"0/{folder.writer.name(number)}" for number in (0, 2)} | {
        f"1/{other.name(number)}" for number in (0, 1)
    }
    assert {f"{segment.variant}/{segment.name}" for segment in segments if segment.file} >= expected


def test_a_defect_is_reported_as_long_as_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A playlist that our own code fails at is named until that is over; others bring their segments."""
    folder, update, broken = Folder(tmp_path), Follower.update, True

    def fail(follower: Follower, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if broken and follower.variant == "1":
            raise ZeroDivisionError("a defect")
        update(follower, *args, **kwargs)

    monkeypatch.setattr(Follower, "update", fail)
    found = list[SourceEvent]()
    for count in (2, 3, 4):
        for variant in ("0", "1"):
            HlsWriter(tmp_path / variant).write(range(count))
        found += folder.scan()
    assert {segment.variant for segment in found if isinstance(segment, Segment)} == {"0"}
    (refused,) = (segment.message for segment in found if isinstance(segment, SourceRefused))
    assert refused == "1/stream.m3u8 cannot be followed (ZeroDivisionError); please report this"
    assert caplog.text.count("Traceback") == 1
    broken = False
    found = folder.scan() + folder.scan()
    assert [segment.name for segment in found if isinstance(segment, Segment)] == [
        HlsWriter(tmp_path / "1").name(number) for number in range(4)
    ]
    assert [segment.message for segment in found if isinstance(segment, SourceRefused)] == [None]


def test_a_file_too_large_to_be_a_segment(folder: Folder) -> None:
    """It is a gap at once, and never read: an upload has it in memory."""
    folder.writer.write(range(2))
    os.truncate(folder.writer.folder / folder.writer.name(0), LARGEST + 1)
    assert [segment.gap for segment in folder.segments()] == [True, False]


def test_a_file_that_grows_without_end(folder: Folder) -> None:
    """It is waited for while it may be finished, and is a gap when others have been for a minute."""
    folder.writer.write(range(2))
    with (folder.writer.folder / folder.writer.name(0)).open("ab") as file:
        segments: list[Segment] = []
        for seconds in range(120):
            file.write(bytes(188))
            file.flush()
            segments += folder.segments(1)
            assert seconds > 30 or not segments
    assert [segment.gap for segment in segments] == [True, False]
