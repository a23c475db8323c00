"""Folders, files and locks of our own, in places where somebody else may have prepared some before us."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

PRIVATE, OTHERS, OTHERS_WRITE = 0o700, 0o077, 0o022
SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LARGEST = 4096  # bytes of a file that holds one word


class NotOursError(PermissionError):
    """Something in our place is another user's, or may be. ``strerror`` says what to do."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(errno.EPERM, message, str(path))


def own_folder(folder: Path) -> None:
    """Make the folder for our user alone, or close the one that is there to others; links are not followed.

    Raises NotOursError where it is another user's, or others could have put something into it; OSError where
    it cannot be made.
    """
    mode = mode_of_own(folder)
    foreign = mode & OTHERS_WRITE and any(folder.iterdir())
    if mode & OTHERS and not foreign:
        folder.chmod(PRIVATE)
        foreign = mode & OTHERS_WRITE and any(folder.iterdir())
    if foreign:
        raise NotOursError(folder, f"others could write into it (mode {mode:o}): remove it, or take another")


def mode_of_own(folder: Path) -> int:
    """The mode of a folder, which is made where there is none. Raises NotOursError where it is not ours."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=PRIVATE)
    except FileExistsError:
        if not folder.is_symlink() and not folder.is_dir():
            raise
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise NotOursError(folder, "is a link, and somebody may change where it leads: remove it")
    if status.st_uid != os.geteuid():
        raise NotOursError(
            folder,
            f"belongs to the user with id {status.st_uid}: choose another, or give it and all in it to the"
            f" user with id {os.geteuid()} (chown -R)",
        )
    return stat.S_IMODE(status.st_mode)


def own_lock(path: Path) -> int:
    """The descriptor of a lock that we hold; what is in the file stays as it is.

    Raises BlockingIOError while another process holds it, NotOursError where it is another user's.
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


def read_own(path: Path, closed_to: int = OTHERS_WRITE) -> str:
    """What is in a small file of our own; nothing where there is none, or where it is not ours alone.

    ``closed_to`` are bits that its mode may not have. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return ""
        raise
    try:
        ours = _is_ours(os.fstat(descriptor), closed_to)
        return os.pread(descriptor, LARGEST, 0).decode(errors="replace").strip() if ours else ""
    finally:
        os.close(descriptor)


def write_own(path: Path, text: str) -> None:
    """Put a file of our own in the place of whatever is there; a killed process leaves no half of it."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.replace(path)


def _is_ours(status: os.stat_result, closed_to: int) -> bool:
    """Whether nobody else has made it, has a name of it, or may do with it what the bits of the mode tell."""
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
    return ours and not status.st_mode & closed_to
