"""Checks whether a segment file is finished, and reads playlist files that are rewritten in place.

Owncast creates a file under its final name and then copies into it, so the name alone says nothing. A read
lease is certain: the kernel refuses it while a process has the file open for writing (fcntl(2), "Leases"). It
needs Linux, and the file's owner, root or CAP_LEASE. Elsewhere a file counts as finished after a time without
changes.
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
from broadcaster.own_files import FOLDER, open_beneath, status_beneath
from broadcaster.printable import printable

QUIET = 0.05  # seconds without a change, where leases are not to be had
NOT_THERE, WRITTEN = "is not there", "is still being written"
# Seconds until the next look at what changed last so many times as long ago: closing a file brings no
# notification, creating one does.
LOOK_AFTER_PART = 10
SHORTEST_PAUSE, LONGEST_PAUSE, MISSING_PAUSE = 0.001, 0.05, 0.25


class OutsideError(Exception):
    """The path leads out of the folder, or to what is not a regular file."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One look at a file: the file if it is finished, else what is wrong with it."""

    file: SourceFile | None
    fault: str = ""
    permanent: bool = False  # no later look will be better
    transient: bool = False  # a fault of the machine, and not of the file
    changed: float = -math.inf  # when the file was first seen as it is, monotonic


class CompletenessCheck:
    """Looks at one file again and again until it is finished."""

    def __init__(self, root: Path, path: Path, name: str) -> None:
        self._root = root
        self.path = path
        self._name = name
        self._seen: tuple[int, int] | None = None
        self._seen_since = 0.0

    def look(self, now: float, let_go: float = math.inf) -> FileCheck:
        """Look once; ``now`` is monotonic, in seconds.

        A file that is still open is taken for finished when it has not changed for ``let_go`` seconds.
        """
        try:
            descriptor = open_inside(self._root, self.path)
            try:
                writing, status = is_open_for_writing(descriptor), os.fstat(descriptor)
            finally:
                os.close(descriptor)
            real = Path(os.path.realpath(self._root, strict=True), self.path.relative_to(self._root))
        except OutsideError as error:
            return FileCheck(None, str(error), permanent=True)
        except FileNotFoundError:
            return FileCheck(None, NOT_THERE)
        except OSError as error:
            return FileCheck(None, f"cannot be opened: {error.strerror}", transient=not is_final(error))
        if status.st_size > LARGEST:
            return FileCheck(None, f"has {status.st_size} bytes, more than {LARGEST}", permanent=True)
        state = (status.st_size, status.st_mtime_ns)
        if state != self._seen:
            self._seen, self._seen_since = state, now
        quiet = {True: let_go, None: QUIET, False: 0.0}[writing]
        fault = WRITTEN if now - self._seen_since < quiet else self._fault(status.st_size)
        file = None if fault else SourceFile(self._name, real, *state, status.st_ino)
        return FileCheck(file, fault, changed=self._seen_since)

    def is_there(self) -> bool:
        """Whether there is such a file; no, if it cannot be told."""
        try:
            return identity(self._root, self.path) is not None
        except OSError:
            return False

    def _fault(self, size: int) -> str:
        if size == 0:
            return "is empty"
        if self._name.endswith(".ts") and size % PACKET:
            return f"has {size} bytes, not whole transport packets of {PACKET}"
        return ""


def pause(age: float, longest: float = LONGEST_PAUSE) -> float:
    """How many seconds to wait before the next look at what has not changed for ``age`` seconds."""
    return min(max(SHORTEST_PAUSE, age / LOOK_AFTER_PART), longest)


def open_inside(root: Path, path: Path) -> int:
    """Open a file below ``root`` for reading; returns the descriptor, of which all else is to be told.

    Raises OutsideError when it lies outside ``root`` or behind a link, is not a regular file, or is not
    theirs who write there; OSError when it cannot be opened.
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
    """Which file is at a path below ``root``, None where there is none; raises OSError."""
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
    """Whether others may not read it, and it has a second name, which they may have given it.

    Where the kernel does not forbid that (fs.protected_hardlinks), whoever can reach a file can link it.
    """
    return status.st_nlink > 1 and status.st_uid == os.geteuid() and not status.st_mode & stat.S_IROTH


def _owner(root: Path, folder: Path) -> int:
    descriptor = open_beneath(root, folder, FOLDER)
    try:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def is_open_for_writing(descriptor: int) -> bool | None:
    """Whether anybody has the file open for writing; None where the kernel never tells.

    Raises OSError when it cannot tell now.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        # A writer that comes while we hold the lease makes the kernel send a signal, SIGIO by default,
        # which would end the process. SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EIO, errno.ESTALE):
            raise
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 1024 * 1024  # a day of segments of one second, and a bound for what is kept of it
TORN_FOR = 1.0  # seconds after which an unreadable playlist is not torn, but wrong
# Seconds after which that is said: two transcoders of Owncast may write it at once, until one writes again.
REPORT_AFTER = 6.0
# By what a playlist begins with in them; with UTF-32 first, whose mark begins as UTF-16's does.
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


class PlaylistFile:
    """One playlist on disk.

    ``unsettled`` asks for another look soon; ``unreadable`` says that its latest version cannot be read,
    because it may not or because it stays torn.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(root).as_posix().encode(errors="backslashreplace").decode()
        self.modified = 0.0  # seconds since the epoch, of what was read last
        self.written = 0.0  # the same, of the file as it was at the latest look
        self.unsettled = False
        self.unreadable = False
        self._root = root
        self._read: tuple[int, int, int] | None = None
        self._read_at = 0.0
        self._torn_since: float | None = None
        self._reader = PlaylistParser()
        self._fault = ""
        self._wrong = HoldTimer(REPORT_AFTER)

    def read(self, now: float) -> MediaPlaylist | MultivariantPlaylist | None:
        """The playlist if it changed since it was read last, else None; ``now`` is monotonic, in seconds.

        Raises OSError when the file is gone, and when it cannot be read now: then it is as it was.
        """
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
            # Owncast may read a playlist at the moment when it is rewritten, and close an empty one.
            self.unreadable = text.rstrip().endswith("#EXT-X-ENDLIST")
            if self.unreadable:
                self._read, self.unsettled, self._fault = signature, False, ""
                logger.info("%s is closed without what it has listed", self.name)
            else:
                self._torn(error, signature, now)
            return None
        self.unreadable, self._fault = False, ""
        self._report(now)
        if signature != self._read:
            self._read_at = now
        # What is there of a playlist still being written is a prefix of the new one: true, but not all.
        quiet = QUIET if writing is None else TORN_FOR
        self.unsettled = writing is not False and now - self._read_at < quiet
        self._read, self._torn_since, self.modified = signature, None, status.st_mtime
        return playlist

    @property
    def refusal(self) -> str:
        """Why it cannot be followed, once that has lasted; empty while it can, or may not be read."""
        return self._fault if self._wrong.counts and self._fault != FORBIDDEN else ""

    def read_again(self) -> None:
        """The next look is at the same version once more."""
        self._read, self.unsettled = None, False

    def pause(self, now: float) -> float | None:
        """How many seconds from ``now`` to look again, None when it is settled."""
        return pause(now - self._read_at) if self.unsettled else None

    def _load(self) -> tuple[str, bool | None, os.stat_result]:
        """The text; whether it is still being written, None where that cannot be known; the file's status."""
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
        """Say what is wrong, once, when it has lasted."""
        if self._wrong.note(now, on=bool(self._fault)):
            logger.warning("%s %s", self.name, self._fault)


def decoded(data: bytes) -> str:
    """The text of a playlist; what Windows' tools write may be UTF-16."""
    for mark, encoding in WIDE_ENCODINGS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    return data.decode(errors="backslashreplace")


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
