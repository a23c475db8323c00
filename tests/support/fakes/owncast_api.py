"""A stand-in for Owncast's own interface: ``/api/status`` in all its phases, or with what can go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from aiohttp import web

from tests.support.judges.check_command import listening
from tests.support.waiting import PATIENCE

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
VERSION = "0.1.3"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status(
    *, online: bool, connected: datetime | None = None, disconnected: datetime | None = None
) -> dict[str, object]:
    """An answer as Owncast writes it: times in RFC 3339, in whole seconds."""
    return {
        "serverTime": "2026-01-01T12:10:00.123456789+01:00",
        "lastConnectTime": connected and connected.isoformat(timespec="seconds"),
        "lastDisconnectTime": disconnected and disconnected.isoformat(timespec="seconds"),
        "versionNumber": VERSION,
        "streamTitle": "A title",
        "online": online,
    }


class FakeOwncast:
    """What it says is in ``status``, unless ``answer`` is set, which then answers in its place."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.answer: Answer | None = None
        self.status: dict[str, object] = status(online=False)
        self._time = START
        self._saved: datetime | None = None  # the last disconnect, which outlives a restart
        self._arrived = asyncio.Condition()

    def connect(self) -> None:
        """An encoder connects: for the first seconds only ``lastConnectTime`` says so."""
        self.status = status(online=False, connected=self._pass())

    def show(self) -> None:
        """The stream is shown to viewers."""
        self.status = {**self.status, "online": True}

    def disconnect(self) -> None:
        """The encoder goes."""
        self._saved = self._pass()
        self.status = status(online=False, disconnected=self._saved)

    def restart(self) -> None:
        """Owncast starts again: it has no encoder, and knows only the disconnect that it saved."""
        self.status = status(online=False, disconnected=self._saved)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        assert request.method == "GET"
        assert request.path == "/api/status"
        self.requests += 1
        async with self._arrived:
            self._arrived.notify_all()
        if self.answer:
            return await self.answer(request)
        return web.Response(text=json.dumps(self.status), content_type="application/json")

    async def until_asked(self, count: int) -> None:
        """Wait until there have been so many requests in all."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: self.requests >= count)

    async def until_heard(self) -> None:
        """Wait until what is said now has been heard by whoever asks one thing after the other."""
        await self.until_asked(self.requests + 2)

    def _pass(self) -> datetime:
        self._time += timedelta(minutes=1)
        return self._time


@asynccontextmanager
async def fake_owncast() -> AsyncIterator[FakeOwncast]:
    """An Owncast without an encoder, at an address of its own."""
    fake = FakeOwncast()
    async with listening(fake.handle) as fake.url:
        yield fake
