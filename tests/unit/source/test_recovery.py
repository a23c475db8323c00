"""Segments that no playlist lists any more: taken in from their files, or gaps in their places."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import Run, Segment, SourcePosition, SourceSnapshot
from broadcaster.hls import MediaSegment
from broadcaster.source.recovery import interpolate_missing, sibling, trailing_unlisted
from broadcaster.source.scanner import Scanner
from tests.support.fakes.hls_writer import START, HlsWriter, age

SECONDS = timedelta(seconds=2)


def listed(number: int, *, after: timedelta | None = None) -> MediaSegment:
    time = START + (number * SECONDS if after is None else after)
    return MediaSegment(f"stream-abc-{number}.ts", SECONDS, program_date_time=time)


class Folder:
    """A folder with one variant, and a scanner that was there when ``seen`` segments were listed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writer = HlsWriter(root / "0")
        self.now = 100.0
        self.scanner = self.new_scanner(SourceSnapshot())

    def new_scanner(self, memory: SourceSnapshot) -> Scanner:
        return Scanner(self.root, lambda: datetime.now(UTC), memory)

    def segments(self, after: float = 0.2) -> list[Segment]:
        self.now += after
        return [event for event in self.scanner.scan(self.now) if isinstance(event, Segment)]

    def write_unseen(self, numbers: range) -> None:
        for number in numbers:
            self.writer.segment(number)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "hls")
    made.writer.write(range(3))
    assert len(made.segments()) == 3
    return made


def names(segments: list[Segment]) -> list[str]:
    return [segment.name for segment in segments]


def test_files_between_two_playlists_are_taken_in(folder: Folder) -> None:
    """What was listed only while nobody looked is reported in its place, with its time and duration."""
    folder.write_unseen(range(3, 12))
    folder.writer.playlist(range(8, 12))
    segments = folder.segments()
    assert names(segments) == [folder.writer.name(number) for number in range(3, 12)]
    assert [segment.sequence for segment in segments] == list(range(3, 12))
    assert [segment.program_date_time for segment in segments] == [
        START + number * SECONDS for number in range(3, 12)
    ]
    assert {segment.duration for segment in segments} == {SECONDS}
    assert {segment.run.number for segment in segments} == {0}
    assert all(segment.file for segment in segments)
    assert folder.segments() == []


def test_a_file_between_that_is_gone_is_a_gap(folder: Folder) -> None:
    """What Owncast has cleaned away already is a gap of the right time and duration, in its place."""
    folder.write_unseen(range(4, 8))
    folder.writer.playlist(range(6, 8))
    segments = folder.segments()
    assert names(segments) == [folder.writer.name(number) for number in range(3, 8)]
    assert [segment.file is None for segment in segments] == [True, False, False, False, False]
    assert segments[0].program_date_time == START + 3 * SECONDS
    assert segments[0].duration == SECONDS
    assert segments[0].fault


def test_absolute_urls_mean_files_here_too(folder: Folder) -> None:
    """With a serving endpoint configured the files beside the playlist are meant, also those not listed."""
    folder.write_unseen(range(3, 8))
    text = folder.writer.text(range(6, 8)).replace("stream-abc", "https://cdn.example/hls/0/stream-abc")
    (folder.writer.folder / "stream.m3u8").write_text(text)
    segments = folder.segments()
    assert names(segments) == [folder.writer.name(number) for number in range(3, 8)]
    assert all(segment.file for segment in segments)


def test_a_long_pause_is_a_discontinuity(folder: Folder) -> None:
    """Where the numbers do not fill the time between, nothing is made up: a new run begins."""
    folder.writer.start = START + timedelta(hours=1)
    folder.write_unseen(range(5, 7))
    folder.writer.playlist(range(5, 7))
    segments = folder.segments()
    assert names(segments) == [folder.writer.name(5), folder.writer.name(6)]
    assert {segment.run.number for segment in segments} == {1}


def test_what_a_predecessor_left_is_taken_in(folder: Folder) -> None:
    """When a new run has replaced the playlist, files of the old run beyond what was seen come first."""
    folder.write_unseen(range(3, 6))
    folder.writer.encoder = "new"
    folder.writer.start = START + timedelta(minutes=1)
    folder.writer.write(range(2))
    segments = folder.segments()
    assert names(segments) == [
        *(f"stream-abc-{number}.ts" for number in range(3, 6)),
        "stream-new-0.ts",
        "stream-new-1.ts",
    ]
    assert [segment.run.number for segment in segments] == [0, 0, 0, 1, 1]
    assert [segment.program_date_time for segment in segments[:3]] == [
        START + number * SECONDS for number in range(3, 6)
    ]


def test_a_file_that_the_crash_cut_short_is_a_gap(folder: Folder) -> None:
    """The last file of an encoder that died may be half: it is a gap, and the new run is not held up long."""
    folder.write_unseen(range(3, 4))
    (folder.writer.folder / folder.writer.name(4)).write_bytes(bytes(100))
    folder.writer.encoder = "new"
    folder.writer.write(range(1))
    assert names(folder.segments()) == ["stream-abc-3.ts"]
    segments = folder.segments(after=5)
    assert names(segments) == ["stream-abc-4.ts", "stream-new-0.ts"]
    assert segments[0].file is None


def test_after_a_restart(folder: Folder) -> None:
    """A process that starts again takes in what appeared meanwhile, after what its predecessor had seen."""
    folder.write_unseen(range(3, 9))
    folder.writer.playlist(range(6, 9))
    known = {number: (folder.writer.name(number), START + number * SECONDS) for number in range(3)}
    run = Run(0, "20260101T120000Z-0-abc", "abc#0")
    folder.scanner = folder.new_scanner(
        SourceSnapshot((run,), {"0": SourcePosition(run, known, 2, independent=True)})
    )
    segments = folder.segments()
    assert names(segments) == [folder.writer.name(number) for number in range(3, 9)]
    assert {segment.run for segment in segments} == {run}
    assert segments[0].program_date_time == START + 3 * SECONDS


def test_after_a_restart_that_knows_another_time(folder: Folder) -> None:
    """A run with an id goes on by its files where the times of what is known do not fit."""
    folder.write_unseen(range(3, 7))
    folder.writer.playlist(range(5, 7))
    late = START + timedelta(minutes=1)  # as of what was adopted after a power cut: by its file's time
    known = {number: (folder.writer.name(number), late + number * SECONDS) for number in range(3)}
    run = Run(0, "20260101T120000Z-0-abc", "abc#0")
    folder.scanner = folder.new_scanner(
        SourceSnapshot((run,), {"0": SourcePosition(run, known, 2, independent=True)})
    )
    segments = folder.segments()
    assert names(segments) == [folder.writer.name(number) for number in range(3, 7)]
    assert [segment.sequence for segment in segments] == list(range(3, 7))
    assert segments[0].program_date_time == START + 3 * SECONDS


def test_after_a_restart_into_another_run(folder: Folder) -> None:
    """So it does when the encoder was restarted too; a length that nobody knows is a target duration."""
    folder.write_unseen(range(3, 5))
    folder.writer.encoder = "new"
    folder.writer.start = START + timedelta(minutes=1)
    folder.writer.write(range(2))
    known = {number: (f"stream-abc-{number}.ts", START + number * SECONDS) for number in range(3)}
    run = Run(0, "20260101T120000Z-0-abc", "abc#0")
    folder.scanner = folder.new_scanner(
        SourceSnapshot((run,), {"0": SourcePosition(run, known, 2, independent=True)})
    )
    segments = folder.segments()
    assert [(segment.name, segment.run.number) for segment in segments] == [
        ("stream-abc-3.ts", 0),
        ("stream-abc-4.ts", 0),
        ("stream-new-0.ts", 1),
        ("stream-new-1.ts", 1),
    ]
    assert segments[0].duration == SECONDS


def test_what_a_run_began_with_is_taken_in(folder: Folder) -> None:
    """A run that began while nobody looked is whole, as far as its files are there, with its times."""
    shutil.rmtree(folder.root)
    folder.writer = HlsWriter(folder.root / "0", "new")
    folder.write_unseen(range(1, 6))
    folder.writer.playlist(range(4, 6))
    segments = folder.segments()
    assert names(segments) == [folder.writer.name(number) for number in range(1, 6)]
    assert [segment.sequence for segment in segments] == list(range(1, 6))
    assert [segment.program_date_time for segment in segments] == [
        START + number * SECONDS for number in range(1, 6)
    ]
    assert {segment.run.number for segment in segments} == {1}
    assert folder.segments() == []


def test_what_began_since_we_look_is_whole(tmp_path: Path) -> None:
    """So is the first run of all, if it began while we were there and looked too late."""
    folder = Folder(tmp_path / "hls")
    assert folder.segments() == []
    folder.write_unseen(range(6))
    folder.writer.playlist(range(2, 6))
    assert names(folder.segments()) == [folder.writer.name(number) for number in range(6)]


def test_what_was_finished_just_before_us_is_taken_in(tmp_path: Path) -> None:
    """So it is where the service was killed before it had seen anything, and started again."""
    folder = Folder(tmp_path / "hls")
    folder.write_unseen(range(6))
    for path in folder.writer.folder.iterdir():
        age(path, 30)
    folder.writer.playlist(range(2, 6))
    folder.scanner = folder.new_scanner(SourceSnapshot())
    assert names(folder.segments()) == [folder.writer.name(number) for number in range(6)]


def test_what_was_on_before_us_begins_with_what_is_listed(tmp_path: Path) -> None:
    """Who is started in the middle of a stream does not bring what its viewers have long seen."""
    folder = Folder(tmp_path / "hls")
    folder.write_unseen(range(6))
    for path in folder.writer.folder.iterdir():
        os.utime(path, (START.timestamp(), START.timestamp()))
    folder.writer.playlist(range(2, 6))
    assert names(folder.segments()) == [folder.writer.name(number) for number in range(2, 6)]


def test_a_variant_that_is_met_late_begins_with_the_others(folder: Folder) -> None:
    """What was finished before a restart is taken in from where another variant of the run was."""
    late = HlsWriter(folder.root / "1")
    for number in range(6):
        path = late.segment(number)
        os.utime(path, (START.timestamp(), START.timestamp()))
    late.playlist(range(2, 6))
    known = {number: (folder.writer.name(number), START + number * SECONDS) for number in range(1, 3)}
    run = Run(0, "20260101T120000Z-0-abc", "abc#0")
    folder.scanner = folder.new_scanner(
        SourceSnapshot((run,), {"0": SourcePosition(run, known, 2, independent=True)})
    )
    found = [segment for segment in folder.segments() if segment.variant == "1"]
    assert names(found) == [late.name(number) for number in range(1, 6)]


def test_an_encoder_that_comes_back_brings_nothing_twice(folder: Folder) -> None:
    """What lies before its playlist may have been seen when it was on before."""
    folder.writer.encoder = "backup"
    folder.writer.write(range(2))
    assert len(folder.segments()) == 2
    folder.writer.encoder = "abc"
    folder.writer.segment(3)
    folder.writer.playlist(range(3, 4))
    assert names(folder.segments()) == ["stream-abc-3.ts"]


def test_times_between_are_spread_evenly(tmp_path: Path) -> None:
    """Without their playlist, the time between two known segments is divided among those in between."""
    found = interpolate_missing(tmp_path, listed(0), listed(4, after=timedelta(seconds=10)), 4, 2)
    assert found is not None
    assert [segment.duration for segment in found] == [timedelta(seconds=2.5)] * 3
    assert [segment.program_date_time for segment in found] == [
        START + timedelta(seconds=seconds) for seconds in (2.5, 5.0, 7.5)
    ]
    assert [segment.gap for segment in found] == [True] * 3


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        (listed(0), listed(4, after=timedelta(minutes=5)), 4),  # a pause
        (listed(4), listed(6, after=timedelta()), 2),  # a clock that was set back
        (listed(0), listed(2000), 2000),  # more than is sensible
        (MediaSegment("stream-abc-0.ts", SECONDS), listed(3), 3),  # no times
        (listed(0), MediaSegment("stream-abc-3.ts", SECONDS), 3),
    ],
)
def test_what_does_not_belong_together(
    tmp_path: Path, before: MediaSegment, after: MediaSegment, steps: int
) -> None:
    """Where numbers and times do not fit together, the break is a discontinuity, not a row of guesses."""
    assert interpolate_missing(tmp_path, before, after, steps, 2) is None


@pytest.mark.parametrize("uri", ["live.ts", "../stream-abc-3.ts", "stream-abc-9.ts?v=1"])
def test_names_that_lead_to_no_other_file(tmp_path: Path, uri: str) -> None:
    """A name without a number of its own, or out of the folder, never makes one file stand for others."""
    folder = tmp_path / "0"
    folder.mkdir()
    for path in (folder / "live.ts", folder / "stream-abc-9.ts", tmp_path / "stream-abc-2.ts"):
        path.write_bytes(bytes(188))
    after = MediaSegment(uri, SECONDS, program_date_time=START + 3 * SECONDS)
    found = interpolate_missing(folder, listed(0), after, 3, 2)
    assert found is not None
    assert [segment.gap for segment in found] == [True, True]
    assert trailing_unlisted(folder, MediaSegment(uri, SECONDS), SECONDS) == []


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        ("stream-ab-c_d-9.ts", 1, "stream-ab-c_d-10.ts"),
        ("stream-x1-10.ts", -1, "stream-x1-9.ts"),
        ("seg00009.m4s", 1, "seg00010.m4s"),
        ("seg00010.m4s", -1, "seg00009.m4s"),
        ("0.ts", -1, None),
        ("1.ts", -1, "0.ts"),
        ("video.ts", 1, None),
        ("7", 1, None),
    ],
)
def test_siblings(name: str, steps: int, expected: str | None) -> None:
    """The last number in a name counts, with its leading zeros, and never falls below zero."""
    assert sibling(name, steps) == expected
