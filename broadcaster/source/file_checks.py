"""Checks whether a segment file is finished, and reads playlist files that are rewritten in place.

Owncast creates a file under its final name and then copies into it. A read lease is certain: the kernel
refuses it while a process has the file open for writing (fcntl(2), "Leases"). It needs Linux, and the file's
owner, root or CAP_LEASE. Elsewhere a file is finished after a time without changes.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import logging
import math
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

from broadcaster.aio import HoldTimer
from broadcaster.catalog.records import LARGEST, FileIdentity, SourceFile
from broadcaster.errors import PlaylistError, is_final
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, PlaylistParser
from broadcaster.hls.mpegts import PACKET
from broadcaster.own_files import FOLDER, open_beneath, read_all, status_beneath
from broadcaster.printable import printable
from broadcaster.source.media_clock import LARGEST_BOX

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 1024 * 1024  # a day of segments of one second
TORN_FOR = 1.0  # seconds after which an unreadable playlist is not torn, but wrong
REPORT_AFTER = 6.0  # seconds until that is logged: two transcoders of Owncast may write at once
# By the beginning of a playlist; UTF-32 first, whose mark begins as UTF-16's does.
WIDE_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    "#E".encode("utf-16-le"): "utf-16-le",
    "#E".encode("utf-16-be"): "utf-16-be",
}
FORBIDDEN = (
    "cannot be read: permission denied. Owncast makes its closing playlist readable by its own user alone: "
    "what it finished is taken by its files. If this is said in the middle of a stream, run the service as "
    "Owncast's user, or as one of its group with files of mode 0640 or more"
)

QUIET = 0.05  # seconds without a change, where there are no leases
NOT_THERE, WRITTEN = "is not there", "is still being written"
UNFINISHED = ".tmp"  # ends a file's name until it is complete: ffmpeg's temp_file, and what is pushed
# The next look at a file comes after this part of the time since its latest change: closing a file brings no
# notification.
LOOK_AFTER_PART = 10
SHORTEST_PAUSE, LONGEST_PAUSE, MISSING_PAUSE = 0.001, 0.05, 0.25


class OutsideError(Exception):
    """The path leads out of the folder, or to no regular file."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One look at a file: the file if it is finished, else its fault."""

    file: SourceFile | None
    fault: str = ""
    permanent: bool = False  # the fault will stay
    transient: bool = False  # a fault of the machine, not of the file
    changed: float = -math.inf  # when the file was first seen in this state, monotonic


class CompletenessCheck:
    """Checks one file until it is finished; that of an EXT-X-MAP ``is_map``, and is read at each look."""

    def __init__(self, root: Path, path: Path, name: str, *, is_map: bool = False) -> None:
        self._root = root
        self.path = path
        self._name = name
        self._is_map = is_map
        self._seen: tuple[int, int] | None = None
        self._seen_since = 0.0

    def inspect(self, now: float, let_go: float = math.inf) -> FileCheck:
        """Look once; an open file is finished after ``let_go`` seconds without a change."""
        try:
            descriptor = open_inside(self._root, self.path)
            try:
                before = os.fstat(descriptor)
                is_read = self._is_map and before.st_size <= LARGEST_BOX
                content = read_all(descriptor, before.st_size) if is_read else None
                writing, status = is_open_for_writing(descriptor), os.fstat(descriptor)
            finally:
                os.close(descriptor)
            real = Path(os.path.realpath(self._root, strict=True), self.path.relative_to(self._root))
        except OutsideError as error:
            return FileCheck(None, str(error), permanent=True)
        except FileNotFoundError:
            return self._inspect_unfinished(now)
        except OSError as error:
            return FileCheck(None, f"cannot be opened: {error.strerror}", transient=not is_final(error))
        if status.st_size > LARGEST:
            return FileCheck(None, f"has {status.st_size} bytes, more than {LARGEST}", permanent=True)
        state = (status.st_size, status.st_mtime_ns)
        if state != self._seen:
            self._seen, self._seen_since = state, now
        quiet = {True: let_go, None: QUIET, False: 0.0}[writing]
        fault = ""
        if now - self._seen_since < quiet or state != (before.st_size, before.st_mtime_ns):
            fault = WRITTEN
        elif status.st_size == 0:
            fault = "is empty"
        elif self._name.endswith(".ts") and status.st_size % PACKET:
            fault = f"has {status.st_size} bytes, not whole transport packets of {PACKET}"
        file = None if fault else SourceFile(self._name, real, *state, status.st_ino, content)
        return FileCheck(file, fault, changed=self._seen_since)

    def _inspect_unfinished(self, now: float) -> FileCheck:
        """The state of a file that has not got its name yet, or of none."""
        try:
            found = identity(self._root, self.path.with_name(self.path.name + UNFINISHED))
        except OSError:
            found = None
        if found is None:
            return FileCheck(None, NOT_THERE)
        if (state := (found.size, found.modified_ns)) != self._seen:
            self._seen, self._seen_since = state, now
        return FileCheck(None, WRITTEN, changed=self._seen_since)

    def is_there(self) -> bool:
        """Whether the file exists; False if that is unknown now."""
        try:
            return identity(self._root, self.path) is not None
        except OSError:
            return False


def pause(age: float, longest: float = LONGEST_PAUSE) -> float:
    """Seconds until the next look at a file that has not changed for ``age`` seconds."""
    return min(max(SHORTEST_PAUSE, age / LOOK_AFTER_PART), longest)


def open_inside(root: Path, path: Path) -> int:
    """Open a file below ``root`` for reading; returns the descriptor.

    Raises OutsideError if it lies outside ``root`` or behind a link, is no regular file, or is a private file
    of this service's user; OSError if it cannot be opened.
    """
    try:
        descriptor = open_beneath(root, path)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EXDEV):
            raise
        raise OutsideError("leads out of the folder, or is a link") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OutsideError("is not a regular file")
        if _is_ours_alone(status) and _owner(root, path.parent) not in (status.st_uid, 0):
            raise OutsideError("is another name of a file of this service's user")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def identity(root: Path, path: Path) -> FileIdentity | None:
    """The identity of the file at a path below ``root``, None without a file; raises OSError."""
    try:
        status = status_beneath(root, path)
    except OSError as error:
        if not is_final(error) and error.errno != errno.EXDEV:
            raise
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileIdentity(status.st_ino, status.st_mtime_ns, status.st_size)


def _is_ours_alone(status: os.stat_result) -> bool:
    """Whether it is private, and has a second name, perhaps by others (without fs.protected_hardlinks)."""
    return status.st_nlink > 1 and status.st_uid == os.geteuid() and not status.st_mode & stat.S_IROTH


def _owner(root: Path, folder: Path) -> int:
    descriptor = open_beneath(root, folder, FOLDER)
    try:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def is_open_for_writing(descriptor: int) -> bool | None:
    """Whether a process has the file open for writing; None without leases. Raises OSError."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        # If a writer opens the file meanwhile, the kernel sends a signal. SIGIO, the default, would end the
        # process; SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EIO, errno.ESTALE):
            raise
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


class PlaylistFile:
    """One playlist on disk."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(root).as_posix().encode(errors="backslashreplace").decode()
        self.modified = 0.0  # seconds since the epoch, of the version that was read last
        self.written = 0.0  # the same, of the file at the latest look
        self.unsettled = False  # another look has to follow soon
        self.unreadable = False  # the latest version is forbidden, or stays torn
        self._root = root
        self._read: tuple[int, int, int] | None = None
        self._read_at = 0.0
        self._torn_since: float | None = None
        self._reader = PlaylistParser()
        self._fault = ""
        self._wrong = HoldTimer(REPORT_AFTER)

    def read(self, now: float) -> MediaPlaylist | MultivariantPlaylist | None:
        """The playlist if it has changed, else None; raises OSError if it is gone, or cannot be read now."""
        status = status_beneath(self._root, self.path)
        self.written = status.st_mtime
        signature = _signature(status)
        if signature == self._read and not self.unsettled and self._fault != FORBIDDEN:
            self._report(now)
            return None
        text = ""
        try:
            text, writing, status = self._load()
            signature = _signature(status)
            settled = signature == self._read and now - self._read_at >= QUIET
            closed = settled if writing is None else not writing
            playlist = self._reader.read(text, closed=closed)
        except PermissionError:
            self.unreadable = True
            self._read, self.unsettled = signature, False
            self._fault, self._torn_since = FORBIDDEN, None
            self._report(now)
            return None
        except OSError:
            self.read_again()
            raise
        except (PlaylistError, OutsideError) as error:
            # If Owncast reads its playlist while ffmpeg rewrites it, Owncast closes an empty playlist.
            self.unreadable = text.rstrip().endswith("#EXT-X-ENDLIST")
            if self.unreadable:
                self._read, self.unsettled, self._fault = signature, False, ""
                logger.info("%s is closed without its segments", self.name)
            else:
                self._torn(error, signature, now)
            return None
        self.unreadable, self._fault = False, ""
        self._report(now)
        if signature != self._read:
            self._read_at = now
        # A playlist that is still being written is a prefix of the new version.
        quiet = QUIET if writing is None else TORN_FOR
        self.unsettled = writing is not False and now - self._read_at < quiet
        self._read, self._torn_since, self.modified = signature, None, status.st_mtime
        return playlist

    @property
    def refusal(self) -> str:
        """Why it cannot be followed, for some time already; empty if it can, or if it is forbidden."""
        return self._fault if self._wrong.counts and self._fault != FORBIDDEN else ""

    def read_again(self) -> None:
        """Read the same version again at the next look."""
        self._read, self.unsettled = None, False

    def pause(self, now: float) -> float | None:
        """Seconds from ``now`` until the next look, None if it is settled."""
        return pause(now - self._read_at) if self.unsettled else None

    def _load(self) -> tuple[str, bool | None, os.stat_result]:
        """The text, the result of ``is_open_for_writing``, and the file's status."""
        descriptor = open_inside(self._root, self.path)
        with os.fdopen(descriptor, "rb") as file:
            writing, status = is_open_for_writing(descriptor), os.fstat(descriptor)
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise PlaylistError(f"is larger than {MAX_BYTES} bytes")
        return decoded(data), writing, status

    def _torn(self, error: Exception, signature: tuple[int, int, int], now: float) -> None:
        """Read again what may be torn; report once what stays unreadable."""
        if signature != self._read or self._torn_since is None:
            self._read, self._read_at, self._torn_since = signature, now, now
        self.unsettled = now - self._torn_since < TORN_FOR
        self.unreadable = not self.unsettled
        self._fault = f"{printable(str(error))}; it is left out until it changes"
        self._report(now)  # it may change before each look

    def _report(self, now: float) -> None:
        if self._wrong.note(now, on=bool(self._fault)):
            logger.warning("%s %s", self.name, self._fault)


def decoded(data: bytes) -> str:
    """The text of a playlist; tools of Windows write UTF-16."""
    for mark, encoding in WIDE_ENCODINGS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    return data.decode(errors="backslashreplace")


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
