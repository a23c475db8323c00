"""Is a file finished? Owncast creates the final name and then copies into it, so a name alone says nothing.

The sure sign is a read lease: the kernel refuses it while anybody has the file open for writing and
grants it the moment the file is closed (fcntl(2), "Leases"). It needs the file's owner, root or CAP_LEASE,
and Linux; elsewhere a quiet time has to do, and the pipeline looks again after the upload.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

from broadcaster.catalog.records import LARGEST, FileIdentity, SourceFile
from broadcaster.descriptors import FOLDER, open_beneath, status_beneath
from broadcaster.errors import is_final
from broadcaster.hls.packets import PACKET

QUIET = 0.05  # seconds without a change, where leases are not to be had
NOT_THERE, WRITTEN = "is not there", "is still being written"
# Seconds until the next look at what changed last so many times as long ago: closing a file brings no
# notification, creating one does.
LOOK_AFTER_PART = 10
SHORTEST_PAUSE, LONGEST_PAUSE, MISSING_PAUSE = 0.001, 0.05, 0.25


class OutsideError(Exception):
    """The path leads out of the folder, or to what is not a regular file."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a file: the file if it is finished, else what is wrong with it."""

    file: SourceFile | None
    fault: str = ""
    hopeless: bool = False  # no later look will be better
    passing: bool = False  # a fault of the machine, and not of the file
    changed: float = -math.inf  # when the file was first seen as it is, monotonic


class CompletenessCheck:
    """Looks at one file again and again until it is finished."""

    def __init__(self, root: Path, path: Path, name: str) -> None:
        self._root = root
        self.path = path
        self._name = name
        self._seen: tuple[int, int] | None = None
        self._seen_since = 0.0

    def look(self, now: float, let_go: float = math.inf) -> Look:
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
            return Look(None, str(error), hopeless=True)
        except FileNotFoundError:
            return Look(None, NOT_THERE)
        except OSError as error:
            return Look(None, f"cannot be opened: {error.strerror}", passing=not is_final(error))
        if status.st_size > LARGEST:
            return Look(None, f"has {status.st_size} bytes, more than {LARGEST}", hopeless=True)
        state = (status.st_size, status.st_mtime_ns)
        if state != self._seen:
            self._seen, self._seen_since = state, now
        quiet = {True: let_go, None: QUIET, False: 0.0}[writing]
        fault = WRITTEN if now - self._seen_since < quiet else self._fault(status.st_size)
        file = None if fault else SourceFile(self._name, real, *state, status.st_ino)
        return Look(file, fault, changed=self._seen_since)

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
