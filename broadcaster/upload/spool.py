"""The spool: keeps files of segments until the bucket and the catalog have the segments for good.

A hard link costs no space and outlives Owncast's cleanup; across file systems the file is copied. Spool
orphans are files that the catalog does not know: they were added in the last seconds before a power cut.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from broadcaster.aio import OwnThread
from broadcaster.catalog.records import LARGEST, Run, Segment, SourceFile, SourcePosition, SourceSnapshot
from broadcaster.own_files import own_folder
from broadcaster.source.media_clock import media_duration
from broadcaster.source.owncast_names import encoder_id

UNFINISHED = ".part"
LITTLE_SPACE = 100_000_000  # bytes: more than the files that wait for their release at any time
# ENOENT: its last name is gone, or there is no /proc.
NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOENT}
ATTEMPTS = 3  # to copy a file that changes meanwhile
PIECE = 2**20  # bytes that are copied at once


class Spool:
    """A private folder of files, by object key. ``size`` is in bytes, without released files.

    The owner keeps to ``limit``, in bytes. ``free`` is the free space in bytes at the latest measurement, NaN
    if unknown. After ``resume``, all calls that wait for a disk run in a thread, in order.
    """

    free = math.nan

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._folder = folder
        self.size = 0
        self._sizes: dict[Path, int] = {}
        self._released: dict[Path, tuple[int, int]] = {}  # transactions that must be durable; bytes
        self._released_size = 0  # bytes
        self._thread = OwnThread("spool")
        self._measuring = Future[None]()
        self._measuring.set_result(None)
        own_folder(folder)
        self._measure()

    def resume(self, keys: Iterable[str]) -> list[str]:
        """Take over the files of an earlier process; returns the keys of others than ``keys``."""
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
        """Measure the free space."""
        if self._measuring.done():
            self._measuring = self._thread.submit(self._measure)

    def find(self, key: str) -> Path | None:
        """The file with this key, None without one."""
        path = self._folder / key
        return path if path in self._sizes else None

    def open(self, key: str) -> Future[BinaryIO] | None:
        """The file with this key, opened before any later call can remove it."""
        path = self.find(key)
        return self._thread.submit(path.open, "rb") if path else None

    async def add(self, file: SourceFile, key: str, *, copy: bool = False) -> Path:
        """Link a file into the spool under its object key, or copy it; returns its path.

        Raises FileNotFoundError if the file is gone or replaced, OSError when there is no room. A link shares
        later writes of a writer that had not finished; a copy is of the file as it was noticed.
        """
        path = self._folder / key
        self._forget_release(path)
        self.size -= self._sizes.pop(path, 0)
        try:
            size = await self._thread.call(_add, file, path, copy=copy)
        except asyncio.CancelledError:
            self._remove(path)
            raise
        self._note(path, size)
        return path

    def discard(self, path: Path) -> None:
        """Remove a file."""
        self.size -= self._sizes.pop(path, 0)  # its folder stays: another file may be added to it now
        self._remove(path)

    async def done(self) -> None:
        """Wait until all discarded files are removed."""
        await self._thread.call(self._measure)

    def release(self, path: Path, queued: int) -> None:
        """Discard a file once the ``queued`` transactions of the catalog are durable."""
        size = self._sizes.pop(path, 0)
        self.size -= size
        self._forget_release(path)
        self._released[path] = queued, size
        self._released_size += size
        self._make_room()

    def release_durable(self, durable: float) -> None:
        """Discard released files: so many transactions of the catalog are durable."""
        for path in [path for path, (queued, _) in self._released.items() if queued <= durable]:
            self._forget_release(path)
            self.discard(path)

    def _forget_release(self, path: Path) -> None:
        self._released_size -= self._released.pop(path, (0, 0))[1]

    def _make_room(self) -> None:
        """Released files count toward the limit, and give way when the disk is nearly full."""
        if self.free < LITTLE_SPACE or self.size + self._released_size > self.limit:
            self.release_durable(math.inf)

    def _note(self, path: Path, size: int) -> None:
        self._sizes[path] = size
        self.size += size
        self._make_room()

    def _remove(self, path: Path) -> None:
        self._thread.submit(_unlink, path)
        self.measure()

    def _measure(self) -> None:
        try:
            self.free = shutil.disk_usage(self._folder).free
        except OSError:
            self.free = math.nan


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _add(file: SourceFile, path: Path, *, copy: bool) -> int:
    """Link or copy the file that was noticed, by its descriptor; returns its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.content is not None:
        with _new(path) as target:
            target.write(file.content)
            _date(target, file.modified_ns)
        return len(file.content)
    descriptor = file.open(exact=copy)
    try:
        path.unlink(missing_ok=True)
        if copy or not _link(descriptor, path):
            with _new(path) as target:
                copied = _copy_content(descriptor, target)
                _date(target, copied.st_mtime_ns)
                if copy and not file.is_unchanged(copied):
                    raise FileNotFoundError(
                        errno.ENOENT, "the file changed while it was copied", str(file.path)
                    )
        return path.lstat().st_size
    finally:
        os.close(descriptor)


def _link(descriptor: int, path: Path) -> bool:
    """Link the open file if possible. Its path in the source may be another file's by now."""
    try:
        # With a folder's descriptor, which an absolute path does not use, Python calls linkat.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    except OSError as error:
        if error.errno not in NOT_LINKABLE:
            raise
        return False
    return True


@contextlib.contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is on the disk: neither a kill nor a power cut leaves a part."""
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.unlink(missing_ok=True)
    try:
        with unfinished.open("xb") as target:
            yield target
            os.fsync(target.fileno())
        unfinished.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _date(target: BinaryIO, modified_ns: int) -> None:
    """Set the time of a file that is written."""
    target.flush()
    os.utime(target.fileno(), ns=(modified_ns, modified_ns))


def _copy_content(descriptor: int, target: BinaryIO) -> os.stat_result:
    """Copy a file that does not change meanwhile; returns its status."""
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


# A run's ID has the run's number, and a segment's name ends with its number. Fragments of MP4 cannot be
# recovered: only the playlist names their EXT-X-MAP.
KEY = re.compile(
    r"(?P<run>\d{8}T\d{6}Z-(?P<count>\d+)\b[^/]*)/(?P<variant>[^/]+)/([0-9a-f]{32}-)?"
    r"(?P<name>.*?(?P<number>\d+)\.ts)"
)
LAST_NUMBER = re.compile(r".*?(\d+)\.\w+")


def recover_spool_orphans(
    keys: Iterable[str], folder: Path, prefix: str, snapshot: SourceSnapshot
) -> Iterator[Segment]:
    """The segments of spool orphans below ``folder``, in order, by their keys.

    A file is left out if it is not newer than the known segments of its variant.
    """
    found = [(match, key) for key in keys if (match := KEY.fullmatch(key.removeprefix(f"{prefix}/")))]
    positions = {
        variant: position
        for variant, position in snapshot.positions.items()
        if LAST_NUMBER.fullmatch(position.known[max(position.known)][0])
    }
    for match, key in sorted(found, key=lambda file: (int(file[0]["count"]), int(file[0]["number"]))):
        variant, known = match["variant"], positions.get(match["variant"])
        if known is None or known.run.id != match["run"]:
            if known and int(match["count"]) <= known.run.number:
                continue
            # Another variant may know the run.
            known = next((other for other in positions.values() if other.run.id == match["run"]), known)
        elif int(match["number"]) <= _newest(known)[1]:
            continue
        segment = _segment(match, folder / key, known)
        if segment:
            newest = {segment.sequence: (segment.uri, segment.program_date_time)}
            positions[variant] = SourcePosition(
                segment.run, newest, segment.target_duration, segment.independent
            )
            yield segment


def _newest(position: SourcePosition) -> tuple[int, int, datetime]:
    """The sequence number of the newest segment, the number in its name, and its time.

    A run has the same numbers and the same clock for all variants (RFC 8216, 6.2.4).
    """
    sequence = max(position.known)
    uri, time = position.known[sequence]
    return sequence, int(LAST_NUMBER.sub(r"\1", uri)), time


def _segment(match: re.Match[str], path: Path, known: SourcePosition | None) -> Segment | None:
    number, name, status = int(match["number"]), match["name"], path.stat()
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    duration = media_duration(path.read_bytes()) or timedelta(seconds=known.target_duration if known else 1)
    if known and known.run.id == match["run"]:
        sequence, last, time = _newest(known)
        run, sequence, time = known.run, sequence + number - last, time + (number - last) * duration
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
        target_duration=known.target_duration if known else max(1, round(duration.total_seconds())),
        independent=known.independent if known else True,
        noticed=modified,
        file=SourceFile(name, path, status.st_size, status.st_mtime_ns),
    )
