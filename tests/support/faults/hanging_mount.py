"""A file system that does not answer, as a network drive whose server is away."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LAZILY = 2  # MNT_DETACH


@contextmanager
def hanging_mount(folder: Path) -> Iterator[None]:
    """Inside, whoever touches ``folder`` waits; then they get an error. Skips where it cannot be mounted.

    It is a FUSE file system that nobody serves.
    """
    libc = ctypes.CDLL(None)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error.strerror}")
    options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
    try:
        if libc.mount(b"hanging", os.fsencode(folder), b"fuse", 0, options.encode()):
            pytest.skip("a file system cannot be mounted here")
        try:
            yield
        finally:
            libc.umount2(os.fsencode(folder), LAZILY)
    finally:
        os.close(device)
