"""Is a file finished? Owncast creates the final name and then copies into it, so a name alone says nothing.

The sure sign is a read lease: the kernel refuses it while anybody has the file open for writing and
grants it the moment the file is closed (fcntl(2), "Leases"). It needs the file's owner, root or CAP_LEASE,
and Linux; elsewhere a quiet time has to do, and the pipeline looks again after the upload.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

from broadcaster.catalog.records import SourceFile

TS_PACKET = 188  # bytes, ISO 13818-1
QUIET = 0.05  # seconds without a change, where leases are not to be had
QUIET_WHILE_OPEN = 1.0  # seconds without a change, when a writer never lets go
NOT_THERE = "is not there"


class OutsideError(Exception):
    """The path leads out of the folder, or to what is not a regular file."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a file: the file if it is finished, else what is wrong with it."""

    file: SourceFile | None
    fault: str = ""
    hopeless: bool = False  # no later look will be better


class CompletenessCheck:
    """Looks at one file again and again until it is finished."""

    def __init__(self, root: Path, path: Path, name: str) -> None:
        self._root = root
        self._path = path
        self._name = name
        self._seen: tuple[int, int] | None = None
        self._seen_since = 0.0

    def exists(self) -> bool:
        """Whether there is anything under the name, finished or not."""
        try:
            return self._path.exists()
        except OSError:
            return False

    def look(self, now: float) -> Look:
        """Look once; ``now`` is monotonic, in seconds."""
        try:
            real = Path(os.path.realpath(self._path, strict=True))
            descriptor = open_inside(self._root, real)
        except OutsideError as error:
            return Look(None, str(error), hopeless=True)
        except FileNotFoundError:
            return Look(None, NOT_THERE)
        except OSError as error:
            return Look(None, f"cannot be opened: {error.strerror}")
        try:
            return self._judge(real, is_open_for_writing(descriptor), os.fstat(descriptor), now)
        finally:
            os.close(descriptor)

    def _judge(self, real: Path, writing: bool | None, status: os.stat_result, now: float) -> Look:  # noqa: FBT001 - three states
        state = (status.st_size, status.st_mtime_ns)
        if state != self._seen:
            self._seen, self._seen_since = state, now
        quiet = now - self._seen_since
        if (writing and quiet < QUIET_WHILE_OPEN) or (writing is None and quiet < QUIET):
            return Look(None, "is still being written")
        if status.st_size == 0:
            return Look(None, "is empty")
        if self._name.endswith(".ts") and status.st_size % TS_PACKET:
            return Look(None, f"has {status.st_size} bytes, not whole transport packets of {TS_PACKET}")
        return Look(SourceFile(self._name, real, status.st_size, status.st_mtime_ns, status.st_ino))


def open_inside(root: Path, real: Path) -> int:
    """Open a resolved path for reading; returns the descriptor.

    Raises OutsideError when it lies outside ``root`` or is not a regular file, OSError when it cannot
    be opened.
    """
    if not real.is_relative_to(root.resolve()):
        raise OutsideError("leads out of the folder")
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutsideError("is not a regular file")
    return descriptor


def is_open_for_writing(descriptor: int) -> bool | None:
    """Whether anybody has the file open for writing; None where the kernel will not tell."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        # A writer that comes while we hold the lease makes the kernel send a signal, SIGIO by default,
        # which would end the process. SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
