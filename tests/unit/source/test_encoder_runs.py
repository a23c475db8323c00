"""One identity of the encoder's runs for all variants, and for nobody else."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.source.encoder_runs import EncoderRunTracker, TimelinePosition
from broadcaster.source.scanner import Scanner
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.judges.scanner_judge import positions

NOW = datetime(2026, 11, 22, 10, 10, 10, tzinfo=UTC)
TARGET = timedelta(seconds=2)


def spot(number: int, seconds: float) -> TimelinePosition:
    return TimelinePosition(number, NOW + timedelta(seconds=seconds), TARGET)


def test_two_broadcasters_share_no_run() -> None:
    """Started at one moment on one folder, they still give other ids, because a part is left to chance."""
    letters = iter(["k3f9", "a001"])
    trackers = [EncoderRunTracker(lambda: NOW, SourceSnapshot(), lambda: next(letters)) for _ in range(2)]
    ids = [tracker.place("0", "abc", spot(0, 0), breaks=False).id for tracker in trackers]
    assert ids == ["20261122T101010Z-0-k3f9-abc", "20261122T101010Z-0-a001-abc"]
    drawn = {
        EncoderRunTracker(lambda: NOW, SourceSnapshot()).place("0", "", spot(0, 0), breaks=False).id
        for _ in "12345"
    }
    assert len(drawn) > 1


class Writer(HlsWriter):
    """Writes segments named by ``pattern``, with times or without, and dates their files by its clock."""

    pattern = "stream-{encoder}-{number}.ts"
    is_dated = True

    def name(self, number: int) -> str:
        return self.pattern.format(encoder=self.encoder, number=number)

    def segment(self, number: int, packets: int = 3) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = super().segment(number, packets)
        finished = self.start.timestamp() + (number + 1) * self.seconds
        os.utime(path, (finished, finished))
        return path

    def text(self, numbers: range, *, extra: str = "", ended: bool = False) -> str:
        lines = super().text(numbers, extra=extra, ended=ended).splitlines(keepends=True)
        return "".join(line for line in lines if self.is_dated or "DATE-TIME" not in line)


class Stream:
    """Two variants in one folder, and a scanner that looks at them when the test says so."""

    def __init__(self, root: Path, names: tuple[str, str] = ("0", "1")) -> None:
        self.root = root
        self.writers = [Writer(root / name) for name in names]
        self.now = 100.0
        self.reported: list[Segment] = []
        self.start_process()

    def start_process(self) -> None:
        """Start anew, with what was written down of what was reported."""
        runs = {segment.run.number: segment.run for segment in self.reported}
        memory = SourceSnapshot(tuple(runs[number] for number in sorted(runs)), positions(self.reported))
        self.scanner = Scanner(self.root, lambda: datetime.now(UTC), memory)

    def name(self, pattern: str, *, is_dated: bool = True) -> None:
        for writer in self.writers:
            writer.pattern, writer.is_dated, writer.encoder = pattern, is_dated, writer.folder.name

    def look(self) -> list[Segment]:
        self.now += 0.2
        found = [segment for segment in self.scanner.scan(self.now) if isinstance(segment, Segment)]
        self.reported += found
        return found

    def write(self, numbers: range) -> list[Segment]:
        for writer in self.writers:
            writer.write(numbers)
        return self.look()

    def restart_encoder(self, after: float) -> None:
        """The folder is removed, and somebody else begins ``after`` so many seconds."""
        shutil.rmtree(self.root)
        for writer in self.writers:
            writer.start += timedelta(seconds=after)

    def of(self, variant: str) -> list[Segment]:
        return [segment for segment in self.reported if segment.variant == variant]

    def disagreements(self, since: int = 0) -> set[tuple[int, datetime]]:
        """The numbers of segments that have other runs in one variant than in the other."""
        places: dict[tuple[int, datetime], set[int]] = {}
        for segment in self.reported[since:]:
            places.setdefault((segment.sequence, segment.program_date_time), set()).add(segment.run.number)
        return {place for place, runs in places.items() if len(runs) > 1}


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path / "hls")


@pytest.mark.parametrize("pattern", ["seg{number}.ts", "stream-{encoder}-{number}.ts"])
@pytest.mark.parametrize("is_dated", [True, False])
@pytest.mark.parametrize("sees_the_first", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_names_that_are_used_again_begin_a_run(
    stream: Stream, pattern: str, *, is_dated: bool, sees_the_first: bool, count: int
) -> None:
    """Without ids in names, the next stream in the folder is another run, and no key is used again."""
    stream.name(pattern, is_dated=is_dated)
    assert {segment.run.number for segment in stream.write(range(count))} == {0}
    stream.restart_encoder(count * 2 + 5)
    if sees_the_first:
        stream.write(range(1))
    stream.write(range(count + 3))
    for variant in "01":
        assert [segment.sequence for segment in stream.of(variant)] == [*range(count), *range(count + 3)]
        assert [segment.run.number for segment in stream.of(variant)] == [0] * count + [1] * (count + 3)
    assert not any(segment.run.has_encoder_id for segment in stream.reported)
    assert len({(segment.run.id, segment.variant, segment.sequence) for segment in stream.reported}) == len(
        stream.reported
    )


def test_names_that_are_used_again_while_we_were_down(stream: Stream) -> None:
    """Nor is one used again when the broadcaster was restarted between the two streams."""
    stream.name("stream-{encoder}-{number}.ts")
    stream.write(range(4))
    stream.restart_encoder(60)
    stream.start_process()
    assert [segment.run.number for segment in stream.write(range(6))] == [1] * 12


@pytest.mark.parametrize("order", [1, -1])
def test_after_a_run_that_one_variant_saw_all_agree(stream: Stream, order: int) -> None:
    """Whichever variant is looked at first, the numbers of runs are the same again from the next one on."""
    stream.name("seg{number}.ts")
    stream.write(range(4))
    stream.restart_encoder(60)
    first, second = stream.writers[::order]
    first.write(range(3))
    assert {segment.run.number for segment in stream.look()} == {1}
    stream.restart_encoder(60)
    second.write(range(1))
    stream.look()
    assert {segment.run.number for segment in stream.write(range(4))} == {2}
    assert not stream.disagreements()


@pytest.mark.parametrize("late", [0, 1])
def test_a_break_in_one_variant_is_one_in_all(stream: Stream, late: int) -> None:
    """What one variant missed makes a discontinuity; the other takes it up, and numbers stay the same."""
    stream.write(range(4))
    for writer in stream.writers:
        writer.start += timedelta(hours=1)
    stream.writers[late].write(range(6, 8))
    stream.look()
    before = len(stream.reported)
    stream.writers[1 - late].write(range(4, 9))
    stream.look()
    stream.write(range(6, 12))
    stream.write(range(8, 14))
    assert not stream.disagreements(before)


@pytest.mark.parametrize("is_ours_new", [False, True])
def test_what_differs_between_variants_is_no_encoders_id(tmp_path: Path, *, is_ours_new: bool) -> None:
    """Where variants' names stand in those of their segments, both are of one run, also after a restart."""
    stream = Stream(tmp_path / "hls", ("hd", "sd"))
    for writer, encoder in zip(stream.writers, ("1080p", "360p"), strict=True):
        writer.encoder = encoder
    stream.write(range(3))
    stream.write(range(4))
    if is_ours_new:
        stream.start_process()
    before = len(stream.reported)
    stream.write(range(6))
    assert not stream.disagreements(before)
    stream.restart_encoder(60)
    runs = {segment.run for segment in stream.write(range(3))}
    assert len(runs) == 1
    assert not runs.pop().has_encoder_id
    assert not stream.disagreements(before)
    for variant, number in (("hd", 1), ("sd", 1)):
        names = [(segment.run.number, segment.sequence) for segment in stream.of(variant)]
        assert len(names) == len(set(names)) == 6 + 3 * number


@pytest.mark.parametrize(
    "pattern", ["seg{number}.ts", "stream-{encoder}-{number}.ts", "stream-abc-{number}.ts"]
)
@pytest.mark.parametrize("is_dated", [True, False])
@pytest.mark.parametrize("away_first", [0, 1])
@pytest.mark.parametrize("is_ours_new", [False, True])
def test_a_playlist_that_is_away_while_its_segments_go_on(
    stream: Stream, pattern: str, *, is_dated: bool, away_first: int, is_ours_new: bool
) -> None:
    """Nothing is lost or listed twice, no run begins, and no variant's times jump."""
    stream.name(pattern, is_dated=is_dated)
    for number in range(4):
        stream.write(range(number + 1))
    away, other = stream.writers[away_first], stream.writers[1 - away_first]
    (away.folder / "stream.m3u8").unlink()
    for number in range(4, 9):
        away.segment(number)
        other.write(range(number - 2, number + 1))
        stream.look()
    if is_ours_new:
        stream.start_process()
    stream.write(range(7, 10))
    stream.write(range(8, 11))
    for variant in "01":
        segments = stream.of(variant)
        assert [segment.sequence for segment in segments] == list(range(11))
        assert all(segment.file for segment in segments)
        assert {segment.run.number for segment in segments} == {0}
        steps = {later.program_date_time - segment.program_date_time for segment, later in pairwise(segments)}
        assert steps == {timedelta(seconds=2)}


@pytest.mark.parametrize("listed", [range(6, 12), range(20, 24)])
def test_without_times_they_go_on_after_downtime(stream: Stream, listed: range) -> None:
    """A writer without PROGRAM-DATE-TIME that goes on while we are down goes on in its times as well."""
    stream.name("seg{number}.ts", is_dated=False)
    stream.write(range(5))
    stream.start_process()
    for number in range(listed.stop):
        for writer in stream.writers:
            writer.segment(number)
    stream.write(listed)
    for variant in "01":
        segments = stream.of(variant)
        assert [segment.sequence for segment in segments] == list(range(listed.stop))
        assert {segment.run.number for segment in segments} == {0}
        assert [segment.program_date_time for segment in segments] == [
            segments[0].program_date_time + number * timedelta(seconds=2) for number in range(listed.stop)
        ]


@pytest.mark.parametrize("is_ours_new", [False, True])
def test_a_run_that_nobody_saw_is_taken_by_its_files(stream: Stream, *, is_ours_new: bool) -> None:
    """Where an encoder's start keeps the folder, what came and went unseen is listed, as a run of its own."""
    stream.restart_encoder(0)
    for writer in stream.writers:
        writer.encoder = "older"
        writer.start -= timedelta(hours=1)
        writer.segment(0)
        writer.encoder, writer.start = "first", writer.start + timedelta(hours=1)
    stream.write(range(3))
    if is_ours_new:
        stream.start_process()
    for encoder, numbers in (("offline", range(1)), ("unseen", range(4)), ("later-one", range(2))):
        for writer in stream.writers:
            writer.encoder = encoder
            writer.start += timedelta(minutes=1)
            for number in numbers:
                writer.segment(number)
    before = len(stream.reported)
    for writer in stream.writers:
        writer.encoder = "last"
        writer.start += timedelta(minutes=1)
    stream.write(range(2))
    for variant in "01":
        found = [
            (segment.name, segment.run.number)
            for segment in stream.reported[before:]
            if segment.variant == variant
        ]
        assert found == [
            *((f"stream-unseen-{number}.ts", 1) for number in range(4)),
            *((f"stream-later-one-{number}.ts", 2) for number in range(2)),
            *((f"stream-last-{number}.ts", 3) for number in range(2)),
        ]
    assert all(segment.file for segment in stream.reported)
    unseen = [segment.program_date_time for segment in stream.of("0") if "unseen" in segment.name]
    assert [later - earlier for earlier, later in pairwise(unseen)] == [timedelta(seconds=2)] * 3
    assert {segment.run.number for segment in stream.write(range(4))} == {3}


def test_a_run_that_comes_too_late_is_said(stream: Stream, caplog: pytest.LogCaptureFixture) -> None:
    """When viewers are past its place already, an unseen run is not listed behind the next; that is said."""
    stream.write(range(2))
    for number, encoder in enumerate(("unseen", "last")):
        for writer in stream.writers:
            writer.encoder = encoder
            writer.start += timedelta(minutes=1)
        if number == 0:
            stream.writers[1].segment(0)
            stream.writers[1].segment(1)
    names = [segment.name for segment in stream.write(range(2))]
    assert names == ["stream-last-0.ts", "stream-last-1.ts"] * 2
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "1: 2 segments of encoder unseen" in said


def test_a_variant_that_comes_with_a_run_is_whole(stream: Stream) -> None:
    """What a variant that was never there before had finished, when its playlist was met, is taken in."""
    _, new = stream.writers
    shutil.rmtree(new.folder)
    stream.writers[0].write(range(2))
    stream.look()
    stream.restart_encoder(60)
    for writer in stream.writers:
        writer.encoder = "next"
        writer.segment(0)
        writer.segment(1)
    stream.write(range(2, 4))
    assert [segment.sequence for segment in stream.of("1")] == [0, 1, 2, 3]
    assert [segment.run.number for segment in stream.of("1")] == [1] * 4
