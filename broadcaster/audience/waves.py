"""Wakes a crowd in waves, so that who asks for something short meanwhile need not wait for all of it."""

from __future__ import annotations

import asyncio
from itertools import cycle

WAVES = 16


class Waves:
    """Like an asyncio.Event that is set once; those who wait for it wake a part at a time."""

    def __init__(self) -> None:
        self._events = [asyncio.Event() for _ in range(WAVES)]
        self._next = cycle(self._events)
        self._waiting = 0

    def is_set(self) -> bool:
        """Whether it was set, though not everybody may have woken yet."""
        return self._events[0].is_set()

    async def wait(self) -> None:
        """Wait until it is set, and one's turn has come."""
        self._waiting += 1
        try:
            await next(self._next).wait()
        finally:
            self._waiting -= 1

    def set(self) -> None:
        """Wake the first part now, each other one when the loop has looked what else there is to do."""
        self._wake(0)

    def _wake(self, number: int) -> None:
        self._events[number].set()
        if number + 1 == WAVES:
            return
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake, number + 1)
        else:
            self._wake(number + 1)
