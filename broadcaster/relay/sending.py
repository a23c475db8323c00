"""What is being sent: each object once in memory, however many it is sent to, and all within a bound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from broadcaster.audience.places import Full
from broadcaster.relay.listing import Listed

# Seconds for an object, after which its reader gives way where there is no room: who watches is quicker.
SLOW = 30.0


@dataclass(slots=True)
class _Held:
    """A body, and since when it is sent to whom."""

    body: bytes
    readers: dict[web.RequestHandler, float] = field(default_factory=dict)


class Sending:
    """All have ``most`` bytes together, however slowly they are read; ``clock`` is monotonic."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._held: dict[str, _Held] = {}

    @property
    def size(self) -> int:
        """Bytes, of all of them."""
        return sum(len(one.body) for one in self._held.values())

    @asynccontextmanager
    async def body(
        self, request: web.BaseRequest, listed: Listed, fetch: Callable[[Listed], Awaitable[bytes]]
    ) -> AsyncIterator[bytes]:
        """The object, the same bytes for all who are sent it; raises Full, and what ``fetch`` does."""
        if listed.token not in self._held:
            self._require_room(1)
            body = await fetch(listed)
            if listed.token not in self._held:  # nobody else brought it meanwhile
                self._require_room(len(body))
                self._held[listed.token] = _Held(body)
        held = self._held[listed.token]
        held.readers[request.protocol] = self._clock()
        try:
            yield held.body
        finally:
            del held.readers[request.protocol]
            if not held.readers:
                self._held.pop(listed.token, None)

    def _require_room(self, size: int) -> None:
        """Raises Full unless so many bytes more may be sent; one body alone always may."""
        if self._held and self.size + size > self._most:
            self._end_slow()
            raise Full("memory", "Too many different segments are being sent")

    def _end_slow(self) -> None:
        """Whoever comes again then finds room."""
        for held in self._held.values():
            for reader, since in held.readers.items():
                if reader.transport and self._clock() - since > SLOW:
                    reader.transport.abort()
