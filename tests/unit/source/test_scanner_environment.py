"""A fault of the machine is no fault of a segment: the scanner waits, and reports it."""

import asyncio
import errno
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.errors import is_final
from broadcaster.events import SourceEvent, SourceFault, VariantsListed
from broadcaster.source.readiness import OWN_FAULT_AFTER
from broadcaster.source.scanner import FAULT_AFTER, Scanner
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.faults.broken_files import broken

PASSING = [
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EIO,
    errno.ESTALE,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EAGAIN,
    errno.ETIMEDOUT,
]
NAMES = [errno.errorcode[number] for number in PASSING]


class Folder:
    """A folder with two variants, and a scanner that looks at it at times the test chooses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writers = [HlsWriter(root / name) for name in "01"]
        self.scanner = Scanner(root, lambda: datetime.now(UTC), SourceSnapshot())
        self.now = 100.0

    def write(self, numbers: range) -> None:
        for writer in self.writers:
            writer.write(numbers)

    def scan(self, after: float = 0.2, times: int = 1) -> list[SourceEvent]:
        events: list[SourceEvent] = []
        for _ in range(times):
            self.now += after
            events += self.scanner.scan(self.now)
        return events


def taken(events: list[SourceEvent]) -> dict[str, list[tuple[int, bool]]]:
    """What came, by variant: numbers, and whether they are gaps."""
    segments = [event for event in events if isinstance(event, Segment)]
    return {
        variant: [(segment.sequence, segment.gap) for segment in segments if segment.variant == variant]
        for variant in "01"
    }


def whole(numbers: range) -> dict[str, list[tuple[int, bool]]]:
    return {variant: [(number, False) for number in numbers] for variant in "01"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "hls")
    made.write(range(3))
    assert taken(made.scan()) == whole(range(3))
    return made


def test_only_what_is_not_there_is_final() -> None:
    """There is no such file, or it is none: nothing else says so."""
    final = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
    assert all(is_final(OSError(number, "")) for number in final)
    assert not any(is_final(OSError(number, "")) for number in PASSING)


@pytest.mark.parametrize("number", PASSING, ids=NAMES)
@pytest.mark.parametrize("where", ["everywhere", "playlists", "segments", "folders", "some"])
def test_a_broken_file_system_costs_nothing(folder: Folder, number: int, where: str) -> None:
    """However long it lasts, nothing is lost, no variant goes, and the end of the stream is seen."""
    calls, below = {
        "everywhere": (("open", "stat", "lstat", "scandir"), folder.root),
        "playlists": (("open",), folder.root / "0" / "stream.m3u8"),
        "segments": (("open",), folder.root / "0" / folder.writers[0].name(3)),
        "folders": (("scandir", "stat"), folder.root),
        "some": (("open",), folder.root / "0"),
    }[where]
    folder.write(range(8))
    for writer in folder.writers:
        writer.playlist(range(8), ended=True)
    with broken(below, number, calls=calls) as failed:
        events = folder.scan(0.5, times=60)
    assert failed
    assert not [event for event in events if isinstance(event, VariantsListed)]
    events += folder.scan(times=3)
    assert taken(events) == whole(range(3, 8))


@pytest.mark.parametrize("number", PASSING, ids=NAMES)
def test_what_was_missed_meanwhile_is_found(folder: Folder, number: int) -> None:
    """The files of segments that rolled off unseen are there, though nobody can look at them now."""
    for writer in folder.writers:
        for line in range(3, 10):
            writer.segment(line)
        writer.playlist(range(8, 10))
    with broken(folder.root / "0" / folder.writers[0].name(5), number):
        events = folder.scan(times=10)
    assert taken(events)["0"] == []
    assert taken(events + folder.scan(times=3)) == whole(range(3, 10))


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_new_run_begins_whole(folder: Folder, number: int) -> None:
    """What a new encoder had finished before it was met is taken although it cannot be looked at at once."""
    new = [HlsWriter(writer.folder, "new") for writer in folder.writers]
    for writer in new:
        for line in range(5):
            writer.segment(line)
        writer.playlist(range(3, 5))
    with broken(folder.root / "0" / new[0].name(1), number):
        assert taken(folder.scan(times=5))["0"] == []
    found = [event for event in folder.scan(times=3) if isinstance(event, Segment) and event.variant == "0"]
    assert [(line.sequence, line.gap, line.run.number) for line in found] == [
        (number, False, 1) for number in range(5)
    ]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EIO, errno.ESTALE])
def test_a_lease_that_cannot_be_asked_for_now(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """That is no answer: who takes it for one publishes half a segment after a moment without a change."""

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("broadcaster.source.file_checks.fcntl.fcntl", fail)
    folder.write(range(5))
    assert taken(folder.scan(times=20)) == whole(range(0))
    monkeypatch.undo()
    assert taken(folder.scan(times=2)) == whole(range(3, 5))


def test_a_file_with_a_fault_of_its_own_is_a_gap_in_the_end(folder: Folder) -> None:
    """One that cannot be read while those after it can does not hold its variant up for ever."""
    folder.write(range(5))
    with broken(folder.root / "0" / folder.writers[0].name(3), errno.EIO):
        assert taken(folder.scan(1, times=int(OWN_FAULT_AFTER) - 1))["0"] == []
        assert taken(folder.scan(1, times=5))["0"] == [(3, True), (4, False)]


def test_a_fault_that_lasts_is_logged_once(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is asked how the service is says so; the log has a line at its beginning and one at its end."""
    caplog.set_level(logging.INFO)
    folder.write(range(5))
    with broken(folder.root, errno.EMFILE):
        assert folder.scan(FAULT_AFTER / 2, times=2) == []
        (fault,) = folder.scan(0.25, times=4000)
    assert isinstance(fault, SourceFault)
    assert "Too many open files" in str(fault.message)
    assert SourceFault(None) in folder.scan()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("broadcaster")]
    assert len([line for line in said if "Too many open files" in line]) == 1
    assert len([line for line in said if "no longer" in line]) == 1


def test_a_short_fault_is_nobodys_business(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """A fault that passes at once is not reported."""
    for count in range(4, 20):
        folder.write(range(count))
        with broken(folder.root, errno.EMFILE):
            assert folder.scan() == []
        assert taken(folder.scan()) == whole(range(count - 1, count))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    yield found
    assert len(found) < 60, "a fault of the machine must not fill the log"


async def test_without_descriptors(tmp_path: Path, lines: list[str]) -> None:
    """A process that has no descriptor left loses nothing of what is finished meanwhile."""
    writer = HlsWriter(tmp_path / "hls" / "0")
    writer.write(range(2))
    module = "tests.support.faults.broken_files"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, str(tmp_path / "hls")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert child.stdin
    assert child.stdout

    async def until(*wanted: str) -> None:
        missing = set(wanted)
        while missing:
            assert child.stdout
            line = (await child.stdout.readline()).decode().strip()
            assert line, lines
            lines.append(line)
            missing -= {word for word in missing if line.startswith(word)}

    async with asyncio.timeout(120):
        await until(*(f"segment {writer.name(number)} whole" for number in range(2)))
        child.stdin.write(b"take them\n")
        await until("none left")
        for number in range(2, 12):
            writer.segment(number)
            writer.playlist(range(number + 1))
        await until("fault")
        child.stdin.write(b"give them back\n")
        await until("fault over", *(f"segment {writer.name(number)} whole" for number in range(2, 12)))
        child.stdin.close()
        await child.wait()
    assert not [line for line in lines if line.endswith("gap")]
