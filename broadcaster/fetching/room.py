"""A bound on bytes: who wants more than there is waits, first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """Room for so many bytes; what is larger has all of it, alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._line = asyncio.Lock()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Wait for so many bytes of it, and have them."""
        size = min(size, self._size)
        async with self._line:
            while self._taken + size > self._size:
                self._left.clear()
                await self._left.wait()
            self._taken += size
        try:
            yield
        finally:
            self._taken -= size
            self._left.set()
