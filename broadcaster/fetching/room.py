"""A bound on bytes: who wants more than there is waits, the eldest first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """Room for so many bytes, which shares of it take as the bytes come.

    ``taken`` is how many are. The eldest share never waits, as all others wait for what it brings: one object
    more than there is room for can be there. A share that brings nothing for now steps back.
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

    def step_back(self, share: Share) -> None:
        """Make it the youngest; what it has it keeps."""
        self._shares[share] = self._shares.pop(share)
        self._notify()

    def step_forward(self, share: Share) -> None:
        """Make it the eldest."""
        self._shares = {share: None, **self._shares}
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
        self.room = room

    async def need(self, size: int) -> None:
        """Wait until it has so many bytes in all."""
        if size > self.size:
            await self.room.take(self, size - self.size)

    def step_back(self) -> None:
        """Let others be the eldest: nothing comes until they have had their turn."""
        self.room.step_back(self)

    def step_forward(self) -> None:
        """Wait for no other: they wait for this one."""
        self.room.step_forward(self)
