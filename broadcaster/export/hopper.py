"""What was fetched, on its way from the event loop to a thread."""

from __future__ import annotations

import asyncio
from queue import SimpleQueue

from broadcaster.errors import ExportError


class Hopper:
    """Holds objects of so many bytes, or a larger one alone; made where the loop runs."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held = 0
        self._bodies: SimpleQueue[bytes | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._taken = asyncio.Event()

    async def put(self, body: bytes) -> None:
        """Wait for room, and put it in."""
        while self._held and self._held + len(body) > self._size:
            self._taken.clear()
            await self._taken.wait()
        self._held += len(body)
        self._bodies.put(body)

    def take(self) -> bytes:
        """In the thread: the next one, once it is there; raises ExportError when it was closed."""
        body = self._bodies.get()
        if body is None:
            self._bodies.put(None)  # whoever asks again is told so again
            raise ExportError("stopped")
        self._loop.call_soon_threadsafe(self._left, len(body))
        return body

    def close(self) -> None:
        """Nothing comes any more."""
        self._bodies.put(None)

    def _left(self, size: int) -> None:
        self._held -= size
        self._taken.set()
