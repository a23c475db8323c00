"""A bound on bytes: who wants more than there is waits, the eldest first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """Room for so many bytes, which shares of it take as the bytes come.

    ``taken`` is how many are. The eldest share never waits, as all others wait for what it brings: one object
    more than there is room for can be there.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.taken = 0
        self._shares: dict[Share, None] = {}  # the eldest first
        self._changed = asyncio.Event()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A share that has nothing yet; what it takes is given back at the end."""
        share = Share(self)
        self._shares[share] = None
        try:
            yield share
        finally:
            del self._shares[share]
            self.taken -= share.size
            self._notify()

    async def take(self, share: Share, size: int) -> None:
        """Wait for so many bytes more."""
        while self.taken + size > self._size and share is not next(iter(self._shares)):
            await self._changed.wait()
        self.taken += size
        share.size += size

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Share:
    """What one object has of a room: ``size`` bytes."""

    def __init__(self, room: Room) -> None:
        self.size = 0
        self._room = room

    async def need(self, size: int) -> None:
        """Wait until it has so many bytes in all."""
        if size > self.size:
            await self._room.take(self, size - self.size)
