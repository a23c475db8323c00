"""Keeps a segment on disk until the bucket has it, and a power cut cannot make us forget that.

A hard link costs nothing and outlives Owncast's cleanup; across file systems it has to be a copy.

What the spool has and the catalog does not know: it was finished in the seconds before a power cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from broadcaster.aio import OwnThread
from broadcaster.catalog.records import LARGEST, Run, Segment, SourceFile, SourceSnapshot
from broadcaster.own_files import PIECE, own_folder
from broadcaster.source.media_clock import media_duration
from broadcaster.source.owncast_names import encoder_id

UNFINISHED = ".part"
SHORT = 100_000_000  # bytes: more than is let go of at any time
# ENOENT: its last name is gone, or there is no /proc.
NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOENT}
ATTEMPTS = 3  # to copy a file that its writer was not done with


class Spool:
    """A folder of our own. ``size`` is how many bytes wait; ``limit``, in bytes, is for others to heed.

    ``free`` is how many bytes were left on its file system when that was measured last; NaN where the system
    will not tell. Once it has resumed, a thread of its own does all that waits for a disk, in order.
    """

    free = math.nan

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._folder = folder
        self.size = 0
        self._sizes: dict[Path, int] = {}
        self._let_go: dict[Path, tuple[int, int]] = {}  # what the catalog was told by then, and the bytes
        self._thread = OwnThread("spool")
        self._measuring = Future[None]()
        self._measuring.set_result(None)
        own_folder(folder)
        self._measure()

    def resume(self, keys: Iterable[str]) -> list[str]:
        """Take over what an earlier process kept; returns the keys of what is there and not among these."""
        known, others = set(keys), []
        for path in sorted(self._folder.rglob("*"), reverse=True):  # files before their folders
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.is_symlink() or path.name.endswith(UNFINISHED) or not path.stat().st_size:
                path.unlink()
            else:
                self._note(path, path.stat().st_size)
                key = path.relative_to(self._folder).as_posix()
                others += [] if key in known else [key]
        return others

    def measure(self) -> None:
        """Find out again how much is free."""
        if self._measuring.done():
            self._measuring = self._thread.submit(self._measure)

    def find(self, key: str) -> Path | None:
        """Return what is kept under a key, None when there is nothing."""
        path = self._folder / key
        return path if path in self._sizes else None

    def open(self, key: str) -> Future[BinaryIO] | None:
        """What is kept under a key, opened before anything that is called later can remove it."""
        kept = self.find(key)
        return self._thread.submit(kept.open, "rb") if kept else None

    async def keep(self, file: SourceFile, key: str, *, copy: bool = False) -> Path:
        """Link a file into the spool under its object key, or copy it; returns where it is.

        Raises FileNotFoundError when it is gone or another one has its name, OSError when there is no room. A
        link has what a writer that was not done goes on to write; a copy is of the file as it was noticed.
        """
        kept = self._folder / key
        self._let_go.pop(kept, None)
        self.size -= self._sizes.pop(kept, 0)
        try:
            size = await self._thread.call(_take, file, kept, copy=copy)
        except asyncio.CancelledError:
            self._remove(kept)
            raise
        self._note(kept, size)
        return kept

    def drop(self, kept: Path) -> None:
        """Let go of a file: the bucket has it, or it is given up. What cannot be removed now is so later."""
        self.size -= self._sizes.pop(kept, 0)  # its folder stays: the next one may just be on its way there
        self._remove(kept)

    async def done(self) -> None:
        """Wait until all that was dropped is removed."""
        await self._thread.call(self._measure)

    def let_go(self, kept: Path, told: int) -> None:
        """Drop it once a power cut cannot take back what the catalog was ``told`` so far."""
        size = self._sizes.pop(kept, 0)
        self.size -= size
        self._let_go[kept] = told, size
        self._make_room()

    def settle(self, synced: float) -> None:
        """A power cut can take back nothing of the first so many transactions."""
        for kept in [one for one, (told, _) in self._let_go.items() if told <= synced]:
            del self._let_go[kept]
            self.drop(kept)

    def _make_room(self) -> None:
        """What is let go of takes none from what waits; a disk that is nearly full is for the catalog."""
        if self.free < SHORT or self.size + sum(size for _, size in self._let_go.values()) > self.limit:
            self.settle(math.inf)

    def _note(self, kept: Path, size: int) -> None:
        self._sizes[kept] = size
        self.size += size
        self._make_room()

    def _remove(self, kept: Path) -> None:
        self._thread.submit(_unlink, kept)
        self.measure()

    def _measure(self) -> None:
        try:
            self.free = shutil.disk_usage(self._folder).free
        except OSError:
            self.free = math.nan


def _unlink(kept: Path) -> None:
    with contextlib.suppress(OSError):
        kept.unlink()


def _take(file: SourceFile, kept: Path, *, copy: bool) -> int:
    """Link or copy what was noticed, by its descriptor; returns its size."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    descriptor = file.open(exact=copy)
    try:
        kept.unlink(missing_ok=True)
        if copy or not _link(descriptor, kept):
            _copy(descriptor, kept)
            if copy and not file.is_unchanged(os.fstat(descriptor)):
                kept.unlink()
                raise FileNotFoundError(errno.ENOENT, "it changed while it was copied", str(file.path))
        return kept.lstat().st_size
    finally:
        os.close(descriptor)


def _link(descriptor: int, kept: Path) -> bool:
    """Give the open file a second name, where that can be done: its path may lead to another one by now."""
    try:
        # With a folder's descriptor, which an absolute path does not use, Python calls linkat.
        os.link(f"/proc/self/fd/{descriptor}", kept, src_dir_fd=descriptor, follow_symlinks=True)
    except OSError as error:
        if error.errno not in NOT_LINKABLE:
            raise
        return False
    return True


def _copy(descriptor: int, kept: Path) -> None:
    """Copy under another name first: neither a killed process nor a power cut leaves half a segment."""
    unfinished = kept.with_name(kept.name + UNFINISHED)
    unfinished.unlink(missing_ok=True)
    try:
        with unfinished.open("xb") as target:
            before = _pour(descriptor, target)
            target.flush()
            os.utime(target.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
            os.fsync(target.fileno())
        unfinished.replace(kept)
        _sync(kept.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _pour(descriptor: int, target: BinaryIO) -> os.stat_result:
    """Write all of a file that does not change meanwhile; returns what it was like."""
    for _ in range(ATTEMPTS):
        before = os.fstat(descriptor)
        if before.st_size > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        target.seek(0)
        target.truncate()
        pieces = range(0, before.st_size, PIECE)
        target.writelines(os.pread(descriptor, min(PIECE, before.st_size - at), at) for at in pieces)
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return before
    raise OSError(errno.EBUSY, "it goes on changing")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# A run's id has its number in it, a segment's name ends with its own. What a fragment of MP4 begins with is
# known by its playlist alone.
KEY = re.compile(
    r"(?P<run>\d{8}T\d{6}Z-(?P<count>\d+)\b[^/]*)/(?P<variant>[^/]+)/(?P<name>.*?(?P<number>\d+)\.ts)"
)
LAST_NUMBER = re.compile(r".*?(\d+)\.\w+")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a variant stands: its newest segment, and the number in its name.

    A run has one numbering and one clock for all its variants (RFC 8216, 6.2.4).
    """

    run: Run
    sequence: int
    number: int
    time: datetime
    target_duration: int
    independent: bool


def recover_spool_orphans(
    keys: Iterable[str], folder: Path, prefix: str, memory: SourceSnapshot
) -> Iterator[Segment]:
    """The segments that these files below ``folder`` are, in order: their paths say what they are.

    Those that are not after all that is known of their variant cannot be told.
    """
    found = [(match, key) for key in keys if (match := KEY.fullmatch(key.removeprefix(f"{prefix}/")))]
    places = {variant: place for variant in memory.positions if (place := _place(variant, memory))}
    for match, key in sorted(found, key=lambda one: (int(one[0]["count"]), int(one[0]["number"]))):
        variant, place = match["variant"], places.get(match["variant"])
        if place is None or place.run.id != match["run"]:
            if place and int(match["count"]) <= place.run.number:
                continue
            # Another variant may have met the run before.
            place = next((one for one in places.values() if one.run.id == match["run"]), place)
        elif int(match["number"]) <= place.number:
            continue
        segment = _segment(match, folder / key, place)
        if segment:
            places[variant] = _Place(
                segment.run,
                segment.sequence,
                int(match["number"]),
                segment.program_date_time,
                segment.target_duration,
                segment.independent,
            )
            yield segment


def _place(variant: str, memory: SourceSnapshot) -> _Place | None:
    position = memory.positions[variant]
    sequence = max(position.known)
    uri, time = position.known[sequence]
    match = LAST_NUMBER.fullmatch(uri)
    if match is None:
        return None
    number = int(match[1])
    return _Place(position.run, sequence, number, time, position.target_duration, position.independent)


def _segment(match: re.Match[str], kept: Path, place: _Place | None) -> Segment | None:
    number, name, status = int(match["number"]), match["name"], kept.stat()
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    duration = media_duration(kept) or timedelta(seconds=place.target_duration if place else 1)
    if place and place.run.id == match["run"]:
        steps = number - place.number
        run, sequence, time = place.run, place.sequence + steps, place.time + steps * duration
        if not run.has_encoder_id:
            name = name.partition("-")[2]
    else:
        encoder = encoder_id(name)
        if not encoder:
            return None
        run = Run(int(match["count"]), match["run"], f"{encoder}#0")
        sequence, time = number, modified - duration
    return Segment(
        variant=match["variant"],
        run=run,
        sequence=sequence,
        uri=name,
        name=name,
        duration=duration,
        program_date_time=time,
        target_duration=place.target_duration if place else max(1, round(duration.total_seconds())),
        independent=place.independent if place else True,
        noticed=modified,
        file=SourceFile(name, kept, status.st_size, status.st_mtime_ns),
    )
