"""Encoders that start over, and playlists that only look so: files and the media's clock distinguish them."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.source.scanner import Scanner
from tests.support.fakes.timed_media import mp4_fragment, mp4_init, transport_stream
from tests.support.judges.scanner_judge import positions

NOW = datetime.now(UTC)
LASTS = 2.0  # seconds, of each segment


@dataclass(frozen=True)
class Form:
    """How an encoder names, numbers and dates what it writes, in its first run and in its second one."""

    names: tuple[str, str]
    second: int  # the number that its second run begins with
    first: int = 0
    dated: bool = True
    window: int = 5
    numbered: bool = True  # it writes EXT-X-MEDIA-SEQUENCE
    keeps_clock: bool = False  # its dates begin anew as well, as on a machine that does not know the time
    pause: float = 30.0  # seconds


RESTARTS = {
    "ids": Form(("stream-abc-{n}", "stream-def-{n}"), 0),
    "ids, undated": Form(("stream-abc-{n}", "stream-def-{n}"), 0, dated=False),
    "plain": Form(("seg{n}", "seg{n}"), 0),
    "plain, undated": Form(("seg{n}", "seg{n}"), 0, dated=False),
    "plain with zeros": Form(("{n:05d}", "{n:05d}"), 0),
    "looks like an id": Form(("stream-main-{n}", "stream-main-{n}"), 0),
    "looks like an id, undated": Form(("stream-main-{n}", "stream-main-{n}"), 0, dated=False),
    "looks like an id, at once": Form(("stream-main-{n}", "stream-main-{n}"), 0, pause=1.0),
    "date and time": Form(("stream-20260101-12{n:04d}", "stream-20260101-13{n:04d}"), 0),
    "date and time, undated": Form(
        ("stream-20260101-12{n:04d}", "stream-20260101-13{n:04d}"), 0, dated=False
    ),
    "number goes on": Form(("seg{n}", "seg{n}"), 12),
    "number goes on, undated": Form(("seg{n}", "seg{n}"), 12, dated=False),
    "id, and the number goes on": Form(("stream-main-{n}", "stream-main-{n}"), 12),
    "epoch": Form(("seg{n}", "seg{n}"), 1_700_000_054, first=1_700_000_000),
    "epoch, undated": Form(("seg{n}", "seg{n}"), 1_700_000_054, first=1_700_000_000, dated=False),
    "epoch, and looks like an id": Form(
        ("stream-main-{n}", "stream-main-{n}"), 1_700_000_054, first=1_700_000_000
    ),
    "jumps by a thousand": Form(("seg{n}", "seg{n}"), 1000, dated=False),
    "other names": Form(("a{n}", "b{n}"), 0),
    "other names, number goes on": Form(("a{n}", "b{n}"), 12, dated=False),
    "no numbers": Form(("a{n}", "b{n}"), 0, numbered=False),
    "no numbers, undated": Form(("a{n}", "b{n}"), 0, numbered=False, dated=False),
    "long list": Form(("seg{n}", "seg{n}"), 0, window=100),
    "long list, number goes on": Form(("seg{n}", "seg{n}"), 12, window=100, dated=False),
    "clock begins anew": Form(("seg{n}", "seg{n}"), 0, keeps_clock=True),
    "clock begins anew, and looks like an id": Form(
        ("stream-main-{n}", "stream-main-{n}"), 0, keeps_clock=True
    ),
}


class Encoder:
    """Writes a run of a form after another into a folder, a segment at a time."""

    def __init__(self, folder: Path, form: Form, kind: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.form, self.suffix = folder, form, kind
        self.run = -1
        self.made = 0.0  # seconds since the start of all
        self.written: list[str] = []
        self.lines: list[tuple[int, str]] = []
        self.begin_run()

    def begin_run(self) -> None:
        self.run += 1
        self.made += self.form.pause if self.run else 0
        self.media = 1.4  # seconds on the media's clock
        self.number = self.form.second if self.run else self.form.first
        self.began = self.made
        self.lines.clear()

    def write(self, *, listed: bool = True) -> str:
        form = self.form
        name = form.names[self.run].format(n=self.number) + self.suffix
        is_ts = self.suffix == ".ts"
        content = transport_stream(self.media, LASTS) if is_ts else mp4_fragment(self.media)
        self.put(name, content + (b"" if not is_ts else bytes(188 * (self.run + 1)).replace(b"\0", b"\xff")))
        if not is_ts:
            self.put("init.mp4", mp4_init())
        dated = self.made - self.began if form.keeps_clock else self.made
        date = NOW - timedelta(minutes=5) + timedelta(seconds=dated)
        line = f"#EXT-X-PROGRAM-DATE-TIME:{date:%Y-%m-%dT%H:%M:%S.%f}Z\n" if form.dated else ""
        self.lines.append((self.number, f"#EXTINF:{LASTS:.6f},\n{line}{name}\n"))
        self.number, self.media, self.made = self.number + 1, self.media + LASTS, self.made + LASTS
        self.written.append(name)
        if listed:
            self.list(self.lines[-form.window :])
        return name

    def put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.write_bytes(content)
        finished = NOW.timestamp() - 300 + self.made + LASTS
        os.utime(path, (finished, finished))

    def list(self, lines: list[tuple[int, str]], *, sequence: int | None = None) -> None:
        head = f"#EXTM3U\n#EXT-X-TARGETDURATION:{LASTS:.0f}\n"
        if self.form.numbered:
            head += f"#EXT-X-MEDIA-SEQUENCE:{lines[0][0] if sequence is None else sequence}\n"
        if self.suffix == ".m4s":
            head += '#EXT-X-MAP:URI="init.mp4"\n'
        (self.folder / "stream.m3u8").write_text(head + "".join(text for _, text in lines))


class Reader:
    """The service's own reader, and all that it has reported."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 100.0
        self.reported: list[Segment] = []
        self.start_process()

    def start_process(self) -> None:
        runs = {segment.run.number: segment.run for segment in self.reported}
        found = {
            name: replace(
                check,
                files={
                    segment.sequence: segment.file.identity
                    for segment in self.reported
                    if segment.variant == name and segment.sequence in check.known and segment.file
                },
            )
            for name, check in positions(self.reported).items()
        }
        memory = SourceSnapshot(tuple(runs[number] for number in sorted(runs)), found)
        self.scanner = Scanner(self.root, lambda: datetime.now(UTC), memory)

    def look(self, after: float = 0.2) -> None:
        self.now += after
        self.reported += [segment for segment in self.scanner.scan(self.now) if isinstance(segment, Segment)]

    def runs(self) -> list[tuple[str, int]]:
        return [(segment.name, segment.run.number) for segment in self.reported]


Lines = list[tuple[int, str]]
BREAK = "#EXT-X-DISCONTINUITY\n"


@pytest.mark.parametrize(("kind", "sees"), [(".ts", "each"), (".ts", "the third"), (".m4s", "each")])
@pytest.mark.parametrize("form", RESTARTS)
def test_an_encoder_that_starts_over(tmp_path: Path, form: str, kind: str, sees: str) -> None:
    """Each segment comes once, those after the restart in a run of their own, with no gap besides."""
    encoder, reader = Encoder(tmp_path / "hls/0", RESTARTS[form], kind), Reader(tmp_path / "hls")
    for _ in range(12):
        encoder.write()
        reader.look()
    encoder.begin_run()
    for number in range(8):
        encoder.write()
        if sees == "each" or number >= 2:
            reader.look()
    reader.look(10.0)
    assert reader.runs() == [(name, int(number >= 12)) for number, name in enumerate(encoder.written)]
    assert not [segment for segment in reader.reported if segment.fault]


@pytest.mark.parametrize("kind", [".ts", ".m4s"])
@pytest.mark.parametrize("form", RESTARTS)
def test_an_encoder_that_starts_over_after_the_clock_was_set_back(
    tmp_path: Path, form: str, kind: str
) -> None:
    """Dates and times of files from before mean nothing where the list goes on growing."""
    encoder = Encoder(tmp_path / "hls/0", replace(RESTARTS[form], pause=-3600.0), kind)
    reader = Reader(tmp_path / "hls")
    for count in (12, 4):
        for _ in range(count):
            encoder.write()
            reader.look()
        if not encoder.run:
            encoder.begin_run()
    reader.look(10.0)
    assert reader.runs() == [(name, int(number >= 12)) for number, name in enumerate(encoder.written)]


UNEVEN = (3, 6, 4, 3, 9, 6.5, 3.1, 4.9, 6.2, 5.1, 3.3, 8.8)  # seconds: a source with key frames as it likes


@pytest.mark.parametrize(
    "say", [round, math.ceil, math.floor, lambda _: 6], ids=["near", "up", "down", "same"]
)
@pytest.mark.parametrize("sound_only", [False, True])
def test_durations_that_are_not_true_break_nothing(
    tmp_path: Path, say: Callable[[float], int], *, sound_only: bool
) -> None:
    """Where the media's clock is not where a playlist puts it, the segment before is measured."""
    encoder, reader = Encoder(tmp_path / "hls/0", Form(("seg{n}", ""), 0), ".ts"), Reader(tmp_path / "hls")
    for seconds in UNEVEN * 2:
        name = encoder.write(listed=False)
        encoder.put(name, transport_stream(encoder.media - LASTS, seconds, sound_only=sound_only))
        encoder.lines[-1] = (encoder.lines[-1][0], f"#EXTINF:{say(seconds)},\n{name}\n")
        encoder.media += seconds - LASTS
        encoder.list(encoder.lines[-5:])
        reader.look()
    reader.look(30.0)
    assert reader.runs() == [(name, 0) for name in encoder.written]


@pytest.mark.parametrize("kind", [".ts", ".m4s"])
def test_time_stamps_that_begin_anew_in_each_segment(tmp_path: Path, kind: str) -> None:
    """Sound and pictures begin together in some segments, and in others they do not."""
    encoder, reader = Encoder(tmp_path / "hls/0", Form(("seg{n}", ""), 0), kind), Reader(tmp_path / "hls")
    for number in range(20):
        encoder.media = 0.04 * (number * number % 3)
        encoder.write()
        reader.look()
    reader.look(10.0)
    assert reader.runs() == [(name, 0) for name in encoder.written]


@pytest.mark.parametrize("kind", [".ts", ".m4s"])
@pytest.mark.parametrize("restarts_after", range(3, 9))
def test_a_restart_of_ours_amid_uneven_segments(tmp_path: Path, kind: str, restarts_after: int) -> None:
    """How long the newest segment lasts, of which the catalog knows the beginning, the playlist says."""
    encoder, reader = Encoder(tmp_path / "hls/0", Form(("seg{n}", ""), 0), kind), Reader(tmp_path / "hls")
    for number, seconds in enumerate(UNEVEN):
        name = encoder.write(listed=False)
        if kind == ".ts":
            encoder.put(name, transport_stream(encoder.media - LASTS, seconds))
        line = encoder.lines[-1][1].replace(f"{LASTS:.6f}", f"{seconds:.6f}")
        encoder.lines[-1] = (number, line)
        encoder.media += seconds - LASTS
        encoder.made += seconds - LASTS
        encoder.list(encoder.lines[-5:])
        reader.look()
        if number == restarts_after:
            reader.look(20.0)
            reader.start_process()
    reader.look(30.0)
    assert reader.runs() == [(name, 0) for name in encoder.written]


def test_a_time_stamp_at_the_end_of_all_time(tmp_path: Path) -> None:
    """A clock beyond all dates is none, and costs no segment."""
    encoder, reader = Encoder(tmp_path / "hls/0", Form(("seg{n}", ""), 0), ".m4s"), Reader(tmp_path / "hls")
    encoder.media = timedelta.max.total_seconds() - 5 * LASTS
    for _ in range(6):
        encoder.write()
        reader.look()
    reader.look(10.0)
    assert reader.runs() == [(name, 0) for name in encoder.written]


@pytest.mark.parametrize("kind", [".ts", ".m4s"])
@pytest.mark.parametrize("form", [name for name, form in RESTARTS.items() if form.numbered])
def test_an_encoder_that_starts_over_while_we_do(tmp_path: Path, form: str, kind: str) -> None:
    """After a restart of ours as well no segment is reported twice, or lost."""
    encoder, reader = Encoder(tmp_path / "hls/0", RESTARTS[form], kind), Reader(tmp_path / "hls")
    for _ in range(12):
        encoder.write()
        reader.look()
    reader.start_process()
    reader.look()
    assert len(reader.reported) == 12
    encoder.begin_run()
    for _ in range(5):
        encoder.write()
        reader.look()
    reader.look(10.0)
    assert [segment.name for segment in reader.reported] == encoder.written
    assert not [segment for segment in reader.reported if segment.fault]


class Rewriter(Encoder):
    """One run, whose playlist is written in an odd way: nothing is ever new but the next segment."""

    def odd(self, change: Callable[[str], str], every: int) -> None:
        odd = len(self.written) % every == 0
        self.list([(number, change(text) if odd else text) for number, text in self.lines[-5:]])


def numbered(number: Callable[[int, int], int]) -> Callable[[Rewriter], None]:
    """The media sequence number of a version, of its count and the right number."""

    def write(encoder: Rewriter) -> None:
        lines = encoder.lines[-5:]
        encoder.list(lines, sequence=number(len(encoder.written), lines[0][0]))

    return write


def renamed(change: Callable[[str, int], str], every: int = 2) -> Callable[[Rewriter], None]:
    """Each second version has its names written in another way; of the line and the version's count."""

    def write(encoder: Rewriter) -> None:
        version = len(encoder.written)
        encoder.odd(lambda text: change(text, version), every)

    return write


def listed(choose: Callable[[Lines, int], Lines]) -> Callable[[Rewriter], None]:
    """What a version lists, of all lines and its count."""

    def write(encoder: Rewriter) -> None:
        encoder.list(choose(encoder.lines, len(encoder.written)))

    return write


def rotate(encoder: Rewriter) -> None:
    """The newest is always the first by its name: all files are renamed when the next one comes."""
    count = len(encoder.written)
    newest = encoder.folder / encoder.written[-1]
    for age in range(min(count, 6) - 1, 0, -1):
        (encoder.folder / f"live{age - 1}{encoder.suffix}").rename(
            encoder.folder / f"live{age}{encoder.suffix}"
        )
    newest.rename(encoder.folder / f"live0{encoder.suffix}")
    ages = range(min(count, 5) - 1, -1, -1)
    shown = encoder.lines[-5:]
    encoder.list(
        [
            (number, text.replace(encoder.written[number], f"live{age}{encoder.suffix}"))
            for age, (number, text) in zip(ages, shown, strict=True)
        ]
    )


def dated_anew(encoder: Rewriter) -> None:
    """The encoder's clock is set, and it dates all that it lists by the new time."""
    zone = "-01:00" if len(encoder.written) > 6 else "Z"
    encoder.list([(number, text.replace("Z\n", f"{zone}\n")) for number, text in encoder.lines[-5:]])


def touch(encoder: Rewriter) -> None:
    encoder.list(encoder.lines[-5:])
    for name in encoder.written[-5:]:
        os.utime(encoder.folder / name)


def copy_anew(encoder: Rewriter) -> None:
    """Somebody copies all files again and again, each to another inode."""
    encoder.list(encoder.lines[-5:])
    for name in encoder.written[-5:]:
        content = (encoder.folder / name).read_bytes()
        (encoder.folder / "copy").write_bytes(content)
        (encoder.folder / "copy").rename(encoder.folder / name)


def torn(encoder: Rewriter) -> None:
    encoder.list(encoder.lines[-5:])
    path = encoder.folder / "stream.m3u8"
    if len(encoder.written) % 2:
        path.write_text(path.read_text()[: 90 + 7 * len(encoder.written)])


def away(encoder: Rewriter) -> None:
    encoder.list(encoder.lines[-5:])
    if len(encoder.written) % 3 == 0:
        (encoder.folder / "stream.m3u8").unlink()


REWRITES: dict[str, Callable[[Rewriter], None]] = {
    "as it should be": numbered(lambda _, right: right),
    "resets": numbered(lambda version, right: right if version < 9 else right - 4),
    "resets to 0 each time": numbered(lambda _version, _right: 0),
    "resets twice": numbered(lambda version, right: right % 4 if version > 6 else right),
    "jumps": numbered(lambda version, right: right + 1000 * (version > 6)),
    "jumps to the epoch": numbered(lambda version, right: right + 1_700_000_000 * (version > 6)),
    "jumps by one": numbered(lambda version, right: right + (version > 6)),
    "jumps to and fro": numbered(lambda version, right: right + 100 * (version % 2)),
    "stays": numbered(lambda _version, _right: 7),
    "decreases": numbered(lambda version, _right: 100 - version),
    "counts versions twice": numbered(lambda version, right: right + version),
    "at random": numbered(lambda version, _right: version * 7919 % 101),
    "an event from 0": listed(lambda lines, version: lines if version > 6 else lines[-5:]),
    "an event from 0, renumbered": lambda encoder: encoder.list(
        encoder.lines[:] if len(encoder.written) > 6 else encoder.lines[-5:], sequence=0
    ),
    "a longer and a shorter list": listed(lambda lines, version: lines[-9:] if version % 2 else lines[-4:]),
    "the version before": listed(lambda lines, version: lines[-6:-1] if version % 3 == 0 else lines[-5:]),
    "torn": torn,
    "away at times": away,
    "the newest twice": listed(lambda lines, _: lines[-5:] + lines[-1:]),
    "each twice": listed(lambda lines, _: [segment for segment in lines[-5:] for _ in "12"]),
    "each three times": listed(lambda lines, _: [segment for segment in lines[-5:] for _ in "123"]),
    "the list twice": listed(lambda lines, _: lines[-5:] * 2),
    "the oldest again at the end": listed(lambda lines, _: lines[-5:] + lines[-5:-4]),
    "one left out": listed(lambda lines, version: lines[-5:-3] + lines[-2:] if version % 2 else lines[-5:]),
    "names rotate": rotate,
    "absolute": renamed(lambda text, _: text.replace("\ns", "\nhttp://cdn.example/live/0/s")),
    "absolute path": renamed(lambda text, _: text.replace("\ns", "\n/live/0/s")),
    "another host each time": renamed(lambda text, n: text.replace("\ns", f"\nhttps://cdn{n}.example/s"), 1),
    "another query each time": renamed(lambda text, n: text.replace("\ns", "\ns", 1)[:-1] + f"?t={n}\n", 1),
    "another fragment": renamed(lambda text, n: text[:-1] + f"#t={n}\n", 1),
    "a dot": renamed(lambda text, _: text.replace("\ns", "\n./s")),
    "two dots": renamed(lambda text, _: text.replace("\ns", "\n././s")),
    "percent signs": renamed(lambda text, _: text.replace("\ns", "\n%73")),
    "percent signs, small": renamed(lambda text, _: text.replace("\nseg", "\ns%65%67")),
    "dates in another zone": renamed(lambda text, _: text.replace("Z\n", "+00:00\n")),
    "undated at times": renamed(
        lambda text, _: "".join(line for line in text.splitlines(keepends=True) if "DATE" not in line)
    ),
    "dated anew": dated_anew,
    "a discontinuity anew": listed(
        lambda lines, _: [*((number, BREAK + text) for number, text in lines[-5:-4]), *lines[-4:]]
    ),
    "touched": touch,
    "copied anew": copy_anew,
}


@pytest.mark.parametrize("way", REWRITES)
@pytest.mark.parametrize(
    ("name", "kind", "dated"),
    [
        ("seg{n}", ".ts", True),
        ("seg{n}", ".m4s", False),
        ("stream-abc-{n}", ".m4s", True),
        ("stream-abc-{n}", ".ts", False),
    ],
)
def test_what_only_looks_new(tmp_path: Path, way: str, name: str, kind: str, *, dated: bool) -> None:
    """Whatever numbers and names say, a segment whose file is known is reported once, in its run."""
    encoder = Rewriter(tmp_path / "hls/0", Form((name, ""), 0, dated=dated), kind)
    reader = Reader(tmp_path / "hls")
    for _ in range(14):
        encoder.write(listed=False)
        REWRITES[way](encoder)
        reader.look()
        reader.look()
    if way != "names rotate":
        encoder.list(encoder.lines[-5:])
    reader.look()
    reader.look(10.0)
    if way == "names rotate":
        assert len(reader.reported) == len({segment.program_date_time for segment in reader.reported}) == 14
    else:
        assert [segment.name for segment in reader.reported] == encoder.written
    assert {segment.run.number for segment in reader.reported} == {0}
    assert not [segment for segment in reader.reported if segment.fault]


@pytest.mark.parametrize("kind", [".ts", ".m4s"])
@pytest.mark.parametrize("form", [name for name, form in RESTARTS.items() if form.numbered])
def test_all_variants_agree_on_the_runs(tmp_path: Path, form: str, kind: str) -> None:
    """A restart that only the media's clock tells of is one run, in every variant, in whatever order."""
    encoders = [Encoder(tmp_path / f"hls/{variant}", RESTARTS[form], kind) for variant in "01"]
    reader = Reader(tmp_path / "hls")
    for run in range(2):
        for number in range(7):
            for encoder in encoders[:: 1 if number % 2 else -1]:
                encoder.write()
                reader.look()
        for encoder in encoders if run == 0 else []:
            encoder.begin_run()
    for variant, encoder in zip("01", encoders, strict=True):
        runs = [
            (segment.name, segment.run.number) for segment in reader.reported if segment.variant == variant
        ]
        assert runs == [(name, int(number >= 7)) for number, name in enumerate(encoder.written)]


@pytest.mark.parametrize("kind", [".ts", ".m4s"])
@pytest.mark.parametrize("name", ["seg{n}", "stream-main-{n}"])
def test_names_that_are_listed_before_they_are_written_again(tmp_path: Path, name: str, kind: str) -> None:
    """A file of the run before is not taken for one of the next run that is listed already."""
    encoder, reader = Encoder(tmp_path / "hls/0", Form((name, name), 0), kind), Reader(tmp_path / "hls")
    for _ in range(4):
        encoder.write()
        reader.look()
    encoder.begin_run()
    for number in range(3):
        old = {name: (encoder.folder / name).read_bytes() for name in encoder.written[:4]}
        written = encoder.write()
        new = encoder.folder / written
        content, status = new.read_bytes(), new.stat()
        new.write_bytes(old[written])
        before = next(segment.file for segment in reader.reported if segment.name == written and segment.file)
        os.utime(new, ns=(before.modified_ns, before.modified_ns))
        reader.look()
        assert len(reader.reported) == 4 + number
        new.write_bytes(content)
        os.utime(new, ns=(status.st_mtime_ns, status.st_mtime_ns))
        reader.look()
    assert reader.runs() == [(name, int(number > 3)) for number, name in enumerate(encoder.written)]
