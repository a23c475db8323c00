"""Caches of fetched objects: on disk, where they survive a restart, and in memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TypeVar

from broadcaster.aio import OwnThread, Retrying
from broadcaster.download.download import Content
from broadcaster.download.packs import PackFiles
from broadcaster.errors import StorageUnavailable
from broadcaster.own_files import NotOursError

ANSWER = 5.0  # seconds for a disk operation; a fetch takes less
REST = 60.0  # seconds without disk operations after a failure
WAITING = 16 * 2**20  # bytes that may wait to be written

T = TypeVar("T")
StoredObject = tuple[Path, int, int]  # file, offset and size


class DiskCache:
    """A cache of at most ``limit`` bytes in a folder of its own. It is not used while the disk fails."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._packs = PackFiles(folder, limit)
        self._thread = OwnThread("disk cache")
        self._waiting = 0  # bytes to be written
        self._bodies: list[tuple[bytes, bytes]] = []
        self._writing: asyncio.Task[None] | None = None
        self._retrying = Retrying(f"reading and writing in {folder}")
        self._away_until = 0.0

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return self._packs.size

    async def open(self) -> None:
        """Lock and index the folder. Raises NotOursError if others can write into the folder."""
        self._thread.__enter__()
        try:
            async with asyncio.timeout(ANSWER):
                await self._thread.call(self._packs.open)
        except NotOursError:
            raise
        except OSError as error:  # TimeoutError is one
            self._failed(error)

    async def close(self) -> None:
        """Write waiting objects, within a time limit, and unlock the folder."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER):
                if self._writing:
                    await self._writing
                await self._thread.call(self._packs.close)
        self._thread.__exit__()

    async def get(self, key: Hashable) -> bytes | None:
        """An undamaged object, or None."""
        return await self._call(self._packs.read, _name(key), default=None)

    async def has(self, key: Hashable) -> bool:
        """Whether the object is there and undamaged; does not load the object."""
        return await self._call(self._packs.check, _name(key), default=False)

    async def _call(self, function: Callable[[bytes], T], name: bytes, *, default: T) -> T:
        """Call a function with the name of a known object; ``default`` if the disk fails."""
        if name not in self._packs or self._is_away:
            return default
        try:
            async with asyncio.timeout(ANSWER):
                return await self._thread.call(function, name)
        except OSError as error:
            self._failed(error)
            return default

    async def find(self, key: Hashable) -> StoredObject | None:
        """Where an undamaged object is stored, or None; raises OSError. Does not load the object."""
        if _name(key) in self._packs:
            await self._thread.call(self._packs.check, _name(key))
        return self._packs.find(_name(key))

    async def store(self, key: Hashable, content: Content) -> StoredObject:
        """Write an object and return where it is stored; raises OSError."""
        if content.path:
            sha256 = bytes.fromhex(await content.sha256())
            await self._thread.call(self._packs.adopt, _name(key), content.path, sha256, len(content))
        else:
            await self._thread.call(self._packs.write, _name(key), content.joined())
        if (stored := self._packs.find(_name(key))) is None:
            raise OSError(errno.ENOSPC, "the cache is too small for an object")
        return stored

    def put(self, key: Hashable, body: bytes) -> None:
        """Write an object in the background; skipped while the disk is too slow."""
        if self._is_away or self._waiting + len(body) > WAITING:
            return
        self._waiting += len(body)
        self._bodies.append((_name(key), body))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Write waiting objects, in batches: a call of the thread takes longer than writing an object."""
        while self._bodies:
            bodies, self._bodies = self._bodies, []
            try:
                await self._thread.call(_write, self._packs, bodies)
                self._retrying.worked()
            except OSError as error:
                self._failed(error)
            finally:
                self._waiting -= sum(len(body) for _, body in bodies)

    @property
    def _is_away(self) -> bool:
        return asyncio.get_running_loop().time() < self._away_until

    def _failed(self, error: OSError) -> None:
        self._away_until = asyncio.get_running_loop().time() + REST
        reason = error.strerror or f"no answer within {ANSWER:.0f} s"
        self._retrying.failed(StorageUnavailable(f"{reason}; continuing without the cache on disk"))


def _write(packs: PackFiles, bodies: list[tuple[bytes, bytes]]) -> None:
    for name, body in bodies:
        packs.write(name, body)


def _name(key: Hashable) -> bytes:
    """A hash: the URL itself may be signed."""
    return hashlib.sha256(repr(key).encode()).digest()


class MemoryCache:
    """A cache of at most ``limit`` bytes; the least recently used object is dropped first."""

    def __init__(self, limit: int) -> None:
        self.size = 0  # bytes
        self._limit = limit
        self._bodies: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """The object, or None."""
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
        return body

    def drop(self, key: Hashable) -> None:
        """Remove the object."""
        self.size -= len(self._bodies.pop(key, b""))

    def put(self, key: Hashable, body: bytes) -> None:
        """Add an object, unless it is larger than the limit."""
        if len(body) > self._limit:
            return
        self.size += len(body) - len(self._bodies.pop(key, b""))
        self._bodies[key] = body
        while self.size > self._limit:
            self.size -= len(self._bodies.popitem(last=False)[1])
