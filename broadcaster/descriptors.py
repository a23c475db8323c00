"""Opens files of folders that others write into: no link is followed, nothing is left to a second look.

What was opened is what is used from then on: a path can be swapped for another file at any time, a descriptor
cannot.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path

OPENAT2 = 437  # the system call's number, the same on all architectures that have it
NO_SYMLINKS, BENEATH = 0x04, 0x08  # linux/openat2.h
HOW = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve
# Kernels before 5.6, and containers whose seccomp filter does not know the call.
LACKS_OPENAT2 = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EAGAIN, errno.EINTR})
NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | NO_LINK  # a FIFO without a writer does not block
LOOK = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | NO_LINK  # opens nothing, not even a device
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
PIECE = 2**20  # bytes

_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(root: Path, path: Path, flags: int = READ) -> int:
    """A descriptor of ``path``, which no link below ``root`` leads to. The root itself may be a link.

    Raises OSError: ELOOP where a link is on the way, EXDEV where the path leads out of the root.
    """
    if not path.is_relative_to(root) or ".." in (parts := path.relative_to(root).parts):
        raise OSError(errno.EXDEV, "leads out of the folder", str(path))
    base = os.open(root, FOLDER)
    try:
        return open_at(base, "/".join(parts) or ".", flags)
    finally:
        os.close(base)


def status_beneath(root: Path, path: Path) -> os.stat_result:
    """What is at ``path``, as ``open_beneath`` finds it; raises OSError."""
    descriptor = open_beneath(root, path, LOOK)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def read_all(descriptor: int, size: int) -> bytes:
    """The first ``size`` bytes of the file, or all where it has fewer."""
    body = bytearray()
    while len(body) < size and (piece := os.pread(descriptor, min(PIECE, size - len(body)), len(body))):
        body += piece
    return bytes(body)


def open_at(base: int, name: str, flags: int) -> int:
    """A descriptor of what is below the folder that ``base`` is of; raises OSError."""
    try:
        return _openat2(base, name, flags)
    except OSError as error:
        if error.errno not in LACKS_OPENAT2:
            raise
        return _open_by_components(base, name, flags)


def _openat2(base: int, name: str, flags: int) -> int:
    how = HOW.pack(flags, 0, NO_SYMLINKS | BENEATH)
    descriptor = int(
        _libc.syscall(
            ctypes.c_long(OPENAT2), ctypes.c_int(base), os.fsencode(name), how, ctypes.c_size_t(HOW.size)
        )
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return descriptor


def _open_by_components(base: int, name: str, flags: int) -> int:
    """The same, where the kernel lacks the call: each folder on the way is opened by itself."""
    *folders, last = name.split("/")
    above = os.dup(base)
    try:
        for folder in folders:
            try:
                below = os.open(folder, FOLDER | os.O_NOFOLLOW, dir_fd=above)
            except NotADirectoryError:
                if stat.S_ISLNK(os.stat(folder, dir_fd=above, follow_symlinks=False).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
                raise
            os.close(above)
            above = below
        return os.open(last, flags, dir_fd=above)
    finally:
        os.close(above)
