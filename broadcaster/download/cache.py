"""The objects read last, in a folder: after a restart they are still there.

The objects read last, in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path

from broadcaster.aio import OwnThread, Retrying
from broadcaster.download.download import Content
from broadcaster.download.packs import Packs
from broadcaster.errors import StorageUnavailable
from broadcaster.own_files import NotOursError

ANSWER = 5.0  # seconds for the disk to give an object; a fetch takes less
REST = 60.0  # seconds for which a disk that failed is left alone
WAITING = 16 * 2**20  # bytes that may wait to be written


Place = tuple[Path, int, int]  # a file, where an object begins in it, and its bytes


class DiskCache:
    """Keeps so many bytes of them in a folder, which is its own alone. A disk that fails is done without."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._packs = Packs(folder, limit)
        self._thread = OwnThread("disk cache")
        self._waiting = 0  # bytes to be written
        self._bodies: list[tuple[bytes, bytes]] = []
        self._writing: asyncio.Task[None] | None = None
        self._retrying = Retrying(f"reading and writing in {folder}")
        self._away_until = 0.0

    @property
    def size(self) -> int:
        """Bytes that it has."""
        return self._packs.size

    async def open(self) -> None:
        """Find out what is there. Raises NotOursError where the folder is not ours alone."""
        self._thread.__enter__()
        try:
            async with asyncio.timeout(ANSWER):
                await self._thread.call(self._packs.open)
        except NotOursError:
            raise
        except OSError as error:  # TimeoutError is one
            self._failed(error)

    async def close(self) -> None:
        """Write what waits, for a while, and let others have the folder."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(ANSWER):
                if self._writing:
                    await self._writing
                await self._thread.call(self._packs.close)
        self._thread.__exit__()

    async def get(self, key: Hashable) -> bytes | None:
        """One of them, if it is whole."""
        name = _name(key)
        if name not in self._packs or self._is_away:
            return None
        try:
            async with asyncio.timeout(ANSWER):
                return await self._thread.call(self._packs.read, name)
        except OSError as error:
            self._failed(error)
            return None

    async def has(self, key: Hashable) -> bool:
        """Whether one is there, and whole; it is not read into memory."""
        name = _name(key)
        if name not in self._packs or self._is_away:
            return False
        try:
            async with asyncio.timeout(ANSWER):
                return await self._thread.call(self._packs.check, name)
        except OSError as error:
            self._failed(error)
            return False

    def place(self, key: Hashable) -> Place | None:
        """Where one is, if it is."""
        return self._packs.place(_name(key))

    async def find(self, key: Hashable) -> Place | None:
        """Where one is, if it is, and whole; raises OSError. It is not read into memory."""
        if _name(key) in self._packs:
            await self._thread.call(self._packs.check, _name(key))
        return self.place(key)

    async def store(self, key: Hashable, content: Content) -> Place:
        """Keep what was fetched, and wait until it is there; raises OSError."""
        if content.path:
            sha256 = bytes.fromhex(await content.sha256())
            call = self._thread.call(self._packs.adopt, _name(key), content.path, sha256, len(content))
        else:
            call = self._thread.call(self._packs.write, _name(key), content.joined())
        await call
        if (place := self.place(key)) is None:
            raise OSError(errno.ENOSPC, "the cache is too small for an object")
        return place

    def put(self, key: Hashable, body: bytes) -> None:
        """Keep it, if the disk keeps up."""
        if self._is_away or self._waiting + len(body) > WAITING:
            return
        self._waiting += len(body)
        self._bodies.append((_name(key), body))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """All that waits at a time: to hand one over takes longer than to write it."""
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

    def _failed(self, error: BaseException) -> None:
        self._away_until = asyncio.get_running_loop().time() + REST
        reason = getattr(error, "strerror", None) or f"no answer within {ANSWER:.0f} s"
        self._retrying.failed(StorageUnavailable(f"{reason}; it goes on without"))


def _write(packs: Packs, bodies: list[tuple[bytes, bytes]]) -> None:
    for name, body in bodies:
        packs.write(name, body)


def _name(key: Hashable) -> bytes:
    """Not the address: that would show a signature."""
    return hashlib.sha256(repr(key).encode()).digest()


class MemoryCache:
    """Keeps so many bytes of them; what was asked for longest ago goes first."""

    def __init__(self, limit: int) -> None:
        self.size = 0  # bytes
        self._limit = limit
        self._bodies: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """One of them."""
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
        return body

    def drop(self, key: Hashable) -> None:
        """Forget one of them."""
        self.size -= len(self._bodies.pop(key, b""))

    def put(self, key: Hashable, body: bytes) -> None:
        """Keep it, unless it is larger than all may be."""
        if len(body) > self._limit:
            return
        self.size += len(body) - len(self._bodies.pop(key, b""))
        self._bodies[key] = body
        while self.size > self._limit:
            self.size -= len(self._bodies.popitem(last=False)[1])
