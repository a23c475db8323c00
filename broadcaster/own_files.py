"""Creates and opens private folders, locks and files safely where other users can write.

No symbolic link is followed. The open descriptor is checked, because a path can be replaced at any time.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
from pathlib import Path

PRIVATE, OTHERS, OTHERS_WRITE = 0o700, 0o077, 0o022
SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LARGEST = 4096  # bytes of a file that holds a word
_PACKAGE = Path(__file__).resolve().parent
# The folder of page and dashboard: in a wheel inside the package, else beside it in the source tree.
VIEWER = next((folder for folder in [_PACKAGE / "viewer"] if folder.is_dir()), _PACKAGE.parent / "viewer")
VIEWER_DIR, DASHBOARD_DIR = VIEWER / "dist", VIEWER / "dashboard"


class NotOursError(PermissionError):
    """A file or folder is, or may be, another user's. ``strerror`` says what to do."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(errno.EPERM, message, str(path))


def own_folder(folder: Path) -> None:
    """Make a folder for our user alone, or close an existing folder to other users.

    Raises NotOursError if the folder is another user's, or other users may have written into it; OSError.
    """
    mode = mode_of_own(folder)
    foreign = mode & OTHERS_WRITE and any(folder.iterdir())
    if mode & OTHERS and not foreign:
        folder.chmod(PRIVATE)
        foreign = mode & OTHERS_WRITE and any(folder.iterdir())
    if foreign:
        raise NotOursError(
            folder, f"other users could write into it (mode {mode:o}): remove it, or choose another"
        )


def mode_of_own(folder: Path) -> int:
    """The mode of a folder, which is made if it does not exist. Raises NotOursError, OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=PRIVATE)
    except FileExistsError:
        if not folder.is_symlink() and not folder.is_dir():
            raise
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise NotOursError(folder, "is a symbolic link, whose target may be changed: remove it")
    if status.st_uid != os.geteuid():
        raise NotOursError(
            folder,
            f"belongs to the user with id {status.st_uid}: choose another, or give it and all in it to the"
            f" user with id {os.geteuid()} (chown -R)",
        )
    return stat.S_IMODE(status.st_mode)


def own_lock(path: Path) -> int:
    """The descriptor of a locked file, whose content stays as it is.

    Raises BlockingIOError while another process has the lock, NotOursError if the file is another user's.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | SAFE, 0o600)
    try:
        if not _is_ours(os.fstat(descriptor), OTHERS_WRITE):
            raise NotOursError(path, "is not ours alone: remove it")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_own(path: Path, closed_to: int = OTHERS_WRITE, most: int = LARGEST) -> str:
    """The text of a small private file; empty if there is no such file, or it may be another user's.

    ``closed_to`` are bits that its mode must not have; of more than ``most`` bytes the rest is left out.
    Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return ""
        raise
    try:
        ours = _is_ours(os.fstat(descriptor), closed_to)
        return os.pread(descriptor, most, 0).decode(errors="replace").strip() if ours else ""
    finally:
        os.close(descriptor)


def write_own(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file by a new one of this mode, as a whole even if the process is killed."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)  # whatever the umask is
        file.write(text)
    new.replace(path)


def _is_ours(status: os.stat_result, closed_to: int) -> bool:
    """Whether this is a regular file of our user with a single name and without the bits ``closed_to``."""
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
    return ours and not status.st_mode & closed_to


OPENAT2 = 437  # the system call's number, the same on all architectures that have it
NO_SYMLINKS, BENEATH = 0x04, 0x08  # linux/openat2.h
HOW = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve
# Kernels before 5.6, and containers whose seccomp filter does not know the call.
LACKS_OPENAT2 = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EAGAIN, errno.EINTR})
NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | NO_LINK  # a FIFO without a writer does not block
LOOK = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | NO_LINK  # does not open the file itself
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(root: Path, path: Path, flags: int = READ) -> int:
    """A descriptor of ``path``, opened without links below ``root``. The root itself may be a link.

    Raises OSError: ELOOP for a link, EXDEV for a path that leads out of the root.
    """
    folder, name = str(root), str(path)  # as text: Path's own comparison takes half of the time of a look
    if name == folder:
        below = "."
    elif name.startswith(above := folder.rstrip("/") + "/") and ".." not in name[len(above) :].split("/"):
        below = name.removeprefix(above)
    else:
        raise OSError(errno.EXDEV, "leads out of the folder", name)
    base = os.open(folder, FOLDER)
    try:
        return open_at(base, below, flags)
    finally:
        os.close(base)


def status_beneath(root: Path, path: Path) -> os.stat_result:
    """The status of ``path``, found as by ``open_beneath``. Raises OSError."""
    descriptor = open_beneath(root, path, LOOK)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def read_all(descriptor: int, size: int) -> bytes:
    """The first ``size`` bytes of the file, or all if it has fewer."""
    body = os.pread(descriptor, size, 0)  # as a rule all of it: it is not copied again
    while len(body) < size and (piece := os.pread(descriptor, size - len(body), len(body))):
        body += piece
    return body


def begin_writing_back(descriptor: int, offset: int, size: int) -> None:
    """Have the kernel write this part of a file to the disk from now on: a later fsync takes less time."""
    with contextlib.suppress(AttributeError):  # Linux alone has sync_file_range(2)
        _libc.sync_file_range(
            ctypes.c_int(descriptor), ctypes.c_int64(offset), ctypes.c_int64(size), SYNC_FILE_RANGE_WRITE
        )


def open_at(base: int, name: str, flags: int) -> int:
    """A descriptor of a path below the open folder ``base``. Raises OSError."""
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
    """Open each folder of the path by itself, for kernels without openat2."""
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


def text_encoding(file: Path) -> str:
    """The encoding of a text file: UTF-8, or UTF-16 as written by Windows' tools; UTF-8 where there is none.

    Raises OSError, or UnicodeDecodeError for a file in neither encoding.
    """
    data = file.read_bytes() if file.is_file() else b""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:  # without a byte order mark, UTF-16 has a zero in the first two bytes
        encoding = {1: "utf-16-le", 0: "utf-16-be"}.get(data[:2].find(0), "utf-8-sig")
    data.decode(encoding)
    return encoding
