"""What is being sent: each object once in memory, however many it is sent to, and all within a bound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from broadcaster.audience.places import Full
from broadcaster.relay.listing import Listed

SLOW = 1.0  # times as long as it plays: who watches reads an object faster
RESERVED = 4  # a part of so many is for the live edge alone


@dataclass(slots=True)
class _Held:
    """A body, how long it plays (seconds), and since when it is sent to whom."""

    body: bytes
    seconds: float
    live: bool
    readers: dict[web.RequestHandler, float] = field(default_factory=dict)


class Sending:
    """All have ``most`` bytes together, however slowly they are read; ``clock`` is monotonic.

    ``is_newest`` tells what is newest. That is always sent: it needs little, as all who watch are sent the
    same. ``is_live`` tells what a player begins with besides, a map and what comes before: that takes the
    place of what is older.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float],
        is_newest: Callable[[Listed], bool],
        is_live: Callable[[Listed], bool],
    ) -> None:
        self._most = most
        self._clock = clock
        self._is_newest = is_newest
        self._is_live = is_live
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
        live = self._is_live(listed)
        if listed.token not in self._held:
            self._require_room(1, listed, live=live)
            body = await fetch(listed)
            if listed.token not in self._held:  # nobody else brought it meanwhile
                self._require_room(len(body), listed, live=live)
                self._held[listed.token] = _Held(body, listed.seconds, live)
        held = self._held[listed.token]
        held.readers[request.protocol] = self._clock()
        try:
            yield held.body
        finally:
            held.readers.pop(request.protocol, None)
            if not held.readers and self._held.get(listed.token) is held:
                del self._held[listed.token]

    def _require_room(self, size: int, listed: Listed, *, live: bool) -> None:
        """Raises Full unless so many bytes more may be sent; one body alone always may, as what is newest."""
        most = self._most if live else self._most - self._most // RESERVED
        if self._held and self.size + size > most:
            self.end_slow()
        if live and self.size + size > most:
            self._end_others(self.size + size - most)
        if self._held and self.size + size > most and not self._is_newest(listed):
            raise Full("memory", "Too many different segments are being sent")

    def end_slow(self) -> bool:
        """End who reads slower than it plays, as nobody does who watches; whether there was anybody."""
        found = False
        for token, held in list(self._held.items()):
            slow = [one for one, since in held.readers.items() if self._clock() - since > SLOW * held.seconds]
            self._end(token, held, slow)
            found = found or bool(slow)
        return found

    def _end_others(self, size: int) -> None:
        """Make room for what is live: by what is not, the longest sent first."""
        for token, held in list(self._held.items()):
            if size <= 0:
                return
            if not held.live:
                self._end(token, held, list(held.readers))
                size -= len(held.body)

    def _end(self, token: str, held: _Held, readers: list[web.RequestHandler]) -> None:
        for reader in readers:
            del held.readers[reader]
            if reader.transport:
                reader.transport.abort()
        if not held.readers:
            self._held.pop(token, None)
