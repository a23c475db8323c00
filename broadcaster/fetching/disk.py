"""The objects read last, in a folder: after a restart they are still there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from broadcaster.errors import StorageUnavailable
from broadcaster.retrying import Retrying
from broadcaster.threads import OwnThread

ANSWER = 5.0  # seconds for the disk to give an object; a fetch takes less
REST = 60.0  # seconds for which a disk that failed is left alone
WAITING = 16 * 2**20  # bytes that may wait to be written
DIGEST = 32  # bytes of SHA-256, in front of each object
NEW = ".new"  # how the name of a file ends that is being written


class DiskCache:
    """Keeps so many bytes of them in a folder, which is its own alone. A disk that fails is done without."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._files = _Files(folder, limit)
        self._thread = OwnThread("disk cache")
        self._waiting = 0  # bytes to be written
        self._retrying = Retrying(f"reading and writing in {folder}")
        self._away_until = 0.0

    @property
    def size(self) -> int:
        """Bytes that it has."""
        return self._files.size

    async def open(self) -> None:
        """Find out what is there."""
        self._thread.__enter__()
        try:
            async with asyncio.timeout(ANSWER):
                await self._thread.call(self._files.open)
        except OSError as error:  # TimeoutError is one
            self._failed(error)

    async def close(self) -> None:
        """Write what waits, for a while, and let others have the folder."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER):
                await self._thread.call(self._files.close)
        self._thread.__exit__()

    async def get(self, key: Hashable) -> bytes | None:
        """One of them, if it is whole."""
        name = _name(key)
        if name not in self._files or self._is_away:
            return None
        try:
            async with asyncio.timeout(ANSWER):
                return await self._thread.call(self._files.read, name)
        except OSError as error:
            self._failed(error)
            return None

    def put(self, key: Hashable, body: bytes) -> None:
        """Keep it, if the disk keeps up."""
        if self._is_away or self._waiting + len(body) > WAITING:
            return
        self._waiting += len(body)
        future = asyncio.wrap_future(self._thread.submit(self._files.write, _name(key), body))
        future.add_done_callback(lambda done: self._written(done, len(body)))

    @property
    def _is_away(self) -> bool:
        return asyncio.get_running_loop().time() < self._away_until

    def _written(self, done: asyncio.Future[None] | Future[None], size: int) -> None:
        self._waiting -= size
        if done.cancelled():
            return
        if error := done.exception():
            self._failed(error)
        else:
            self._retrying.worked()

    def _failed(self, error: BaseException) -> None:
        self._away_until = asyncio.get_running_loop().time() + REST
        reason = getattr(error, "strerror", None) or f"no answer within {ANSWER:.0f} s"
        self._retrying.failed(StorageUnavailable(f"{reason}; it goes on without"))


class _Files:
    """The files, which one thread alone touches; what it knows to be there, any may ask.

    ``open``, ``read`` and ``write`` raise OSError.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.size = 0
        self._folder = folder
        self._limit = limit
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by name; what was asked for longest ago is first
        self._lock: BinaryIO | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = (self._folder / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise OSError(error.errno, "another process has it") from None
        self._lock = lock
        self._sizes.clear()
        self.size = 0
        found: list[tuple[int, str, int]] = []
        for entry in os.scandir(self._folder):
            if entry.name.endswith(NEW):
                os.unlink(entry.path)  # noqa: PTH108 - a scan gives no Path
            elif len(entry.name) == 2 * DIGEST:
                status = entry.stat()
                found.append((status.st_mtime_ns, entry.name, status.st_size))
        for _, name, size in sorted(found):
            self._sizes[name] = size
            self.size += size
        self._make_room(0)

    def close(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None

    def read(self, name: str) -> bytes | None:
        if self._lock is None:
            self.open()
        if name not in self._sizes:
            return None
        try:
            found = (self._folder / name).read_bytes()
        except FileNotFoundError:
            found = b""
        digest, body = found[:DIGEST], found[DIGEST:]
        if hashlib.sha256(body).digest() != digest:  # a power cut, or somebody's hand
            self._drop(name)
            return None
        self._sizes.move_to_end(name)
        os.utime(self._folder / name)
        return body

    def write(self, name: str, body: bytes) -> None:
        if self._lock is None:
            self.open()
        size = DIGEST + len(body)
        if size > self._limit or name in self._sizes:
            return
        self._make_room(size)
        new = self._folder / (name + NEW)
        try:
            with new.open("wb") as file:
                file.write(hashlib.sha256(body).digest())
                file.write(body)
            new.replace(self._folder / name)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        self._sizes[name] = size
        self.size += size

    def _make_room(self, size: int) -> None:
        while self.size + size > self._limit and self._sizes:
            self._drop(next(iter(self._sizes)))

    def _drop(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)
        self.size -= self._sizes.pop(name)


def _name(key: Hashable) -> str:
    """The name of a file; an address in it would show a signature."""
    return hashlib.sha256(repr(key).encode()).hexdigest()
