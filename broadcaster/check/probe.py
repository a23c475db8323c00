"""The objects that the checks put into the bucket for some seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broadcaster.errors import StorageError, StorageUnavailable
from broadcaster.storage import ObjectStore

PUT_DEADLINE = 3.0  # seconds
CLEANUP = 2.0  # seconds


class ProbeObjects:
    """Objects under a name that nobody else has, below the service's prefix; ``remove`` deletes them all."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self.folder = f"{prefix}/check-{secrets.token_hex(8)}/0"
        self._store = store
        self._keys: list[str] = []

    def key(self, name: str) -> str:
        """The key of an object; it ends as a segment's does, so that an edge treats it as one."""
        return f"{self.folder}/{name}.ts"

    async def url(self, name: str) -> str:
        """Where viewers read the object; signed, where the bucket is private."""
        return await self._store.url(self.key(name))

    async def put(self, name: str, size: int, *, deadline: float = PUT_DEADLINE) -> bytes:
        """Store ``size`` bytes that cannot be compressed and return them; raises StorageError."""
        body = os.urandom(size)
        self._keys.append(self.key(name))  # even when no answer comes, the bucket may have it
        try:
            async with asyncio.timeout(deadline):
                await self._store.put(self.key(name), body)
        except TimeoutError:
            raise StorageUnavailable(f"PUT: no answer within {deadline:.0f} s") from None
        return body

    async def remove(self) -> int:
        """Delete what may be there, once, and return how much that was; raises StorageError."""
        keys, self._keys = self._keys, []
        if keys:
            await self._store.delete(keys, deadline=CLEANUP)
        return len(keys)


@asynccontextmanager
async def probing(store: ObjectStore, prefix: str) -> AsyncIterator[ProbeObjects]:
    """Objects that are gone at the end, whatever happens."""
    objects = ProbeObjects(store, prefix)
    try:
        yield objects
    finally:
        with contextlib.suppress(StorageError):  # said by the last check, or nobody waits for an answer
            await objects.remove()
