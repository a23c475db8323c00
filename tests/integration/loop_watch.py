"""Notes what the event loop's own thread asks of a disk."""

import io
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broadcaster import own_files as descriptors

# By path; what an open descriptor is asked comes after one of these.
CALLS = (
    *(
        "open",
        "stat",
        "lstat",
        "statvfs",
        "access",
        "scandir",
        "listdir",
        "mkdir",
        "rmdir",
        "unlink",
        "remove",
    ),
    *("rename", "replace", "link", "symlink", "utime", "chmod", "readlink", "truncate"),
)
BY_DESCRIPTOR = ("fsync", "fdatasync", "pread", "pwrite")


@contextmanager
def watching_disks(*folders: Path) -> Iterator[list[str]]:
    """Yields what this thread asks of the ``folders``, with where it does."""
    thread, asked = threading.get_ident(), list[str]()

    def is_ours(path: object) -> bool:
        if isinstance(path, int):
            try:
                path = Path(f"/proc/self/fd/{path}").readlink()
            except OSError:
                return False
        return isinstance(path, str | Path) and any(Path(path).is_relative_to(folder) for folder in folders)

    def noting(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def note(*args: object, **kwargs: object) -> object:
            if threading.get_ident() == thread and any(map(is_ours, args[:2])):
                where = "".join(traceback.format_stack(limit=8)[:-1])
                asked.append(f"{name} {args[:2]}\n{where}")
            return call(*args, **kwargs)

        return note

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS + BY_DESCRIPTOR:
            patch.setattr(os, name, noting(name, getattr(os, name)))
        patch.setattr(io, "open", noting("io.open", io.open))
        patch.setattr(descriptors, "open_at", noting("open_at", descriptors.open_at))
        yield asked
