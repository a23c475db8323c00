"""Stands before the service and counts all that reaches it: requests, bytes of both ways, connections.

It passes bytes on as they come. A request begins where a client's bytes begin with a request line: nobody
here sends the next one before the answer to the last.
"""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.servers.tcp import TcpConnection, TcpServer, connected

REQUEST = re.compile(rb"[A-Z]+ (\S+) HTTP/1\.[01]\r\n")
PLAYLISTS, EVENTS, SEGMENTS, REPORTS, STREAMS, PAGE = (
    *("playlists", "events", "segments", "reports", "server-sent events", "page"),
)
ROUTES = (
    (re.compile(r"/live/(\S+/)?(playlist|iframes|kept)\.m3u8"), PLAYLISTS),
    (re.compile(r"/live/events/"), EVENTS),
    (re.compile(r"/live/segments/"), SEGMENTS),
    (re.compile(r"/live/events$"), STREAMS),
    (re.compile(r"/live/beacon"), REPORTS),
    (re.compile(r"/live/tracker"), "tracker"),
    (re.compile(r"/(health|metrics|dashboard)"), "operator"),
    (re.compile(r"/recordings|/clips|/live/clips"), "recordings"),
)


def route_of(path: str) -> str:
    """The route of a path, by which is counted."""
    return next((name for pattern, name in ROUTES if pattern.match(path)), PAGE)


@dataclass
class Count:
    """What a route has cost the origin; ``up`` and ``down`` are bytes to it and from it, heads included."""

    requests: int = 0
    up: int = 0
    down: int = 0
    most_open: int = 0

    @property
    def bytes(self) -> int:
        return self.up + self.down


@dataclass
class Traffic:
    """All that reached the origin in a time; ``asked`` has the path of each request, and when it came."""

    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    routes: defaultdict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    asked: list[tuple[float, str]] = field(default_factory=list)
    most_open: int = 0
    open_seconds: float = 0.0

    @property
    def mean_open(self) -> float:
        """Connections that were open, on average."""
        return self.open_seconds / max(self.seconds, 1e-9)

    def requests(self, *routes: str) -> int:
        """How many requests there were, of these routes; without any, in all."""
        return sum(route.requests for name, route in self.routes.items() if name in routes or not routes)

    @property
    def bytes(self) -> int:
        return sum(route.bytes for route in self.routes.values())

    def paths(self, route: str) -> Counter[str]:
        """How often each path of a route was asked for."""
        return Counter(path for _, path in self.asked if route_of(path) == route)

    def by_second(self, route: str) -> Counter[int]:
        """How many requests of a route came in each second that had some."""
        return Counter(int(at - self.begun) for at, path in self.asked if route_of(path) == route)


@dataclass(eq=False)
class _Open:
    """A connection; ``route`` is that of its last request."""

    route: str = PAGE


class CountedOrigin:
    """``address`` stands for the service at ``origin``."""

    def __init__(self, origin: str) -> None:
        self.server = TcpServer(self._serve)
        self._port = urlsplit(origin).port or 80
        self._open: set[_Open] = set()
        self._traffic = Traffic()
        self._changed = self._traffic.begun

    @property
    def address(self) -> str:
        return self.server.url

    def take(self) -> Traffic:
        """What there was since the last time."""
        self._note_time()
        taken, self._traffic = self._traffic, Traffic()
        taken.seconds = self._traffic.begun - taken.begun
        self._note_open()
        return taken

    async def _serve(self, client: TcpConnection) -> None:
        connection = _Open()
        async with connected(self._port) as service:
            self._note_time()
            self._open.add(connection)
            ways = [
                asyncio.create_task(self._up(client, service, connection)),
                asyncio.create_task(self._down(service, client, connection)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._note_time()
                self._open.discard(connection)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self, client: TcpConnection, service: TcpConnection, connection: _Open) -> None:
        while data := await client.read():
            if begin := REQUEST.match(data):
                path = begin[1].decode("latin-1")
                self._traffic.asked.append((time.monotonic(), path))
                connection.route = route_of(path)
                self._traffic.routes[connection.route].requests += 1
                self._note_open()
            self._traffic.routes[connection.route].up += len(data)
            await service.write(data)

    async def _down(self, service: TcpConnection, client: TcpConnection, connection: _Open) -> None:
        while data := await service.read():
            self._traffic.routes[connection.route].down += len(data)
            await client.write(data)

    def _note_open(self) -> None:
        self._traffic.most_open = max(self._traffic.most_open, len(self._open))
        for name, count in Counter(connection.route for connection in self._open).items():
            route = self._traffic.routes[name]
            route.most_open = max(route.most_open, count)

    def _note_time(self) -> None:
        now = time.monotonic()
        self._traffic.open_seconds += len(self._open) * (now - self._changed)
        self._changed = now


@asynccontextmanager
async def counted_origin(origin: str) -> AsyncIterator[CountedOrigin]:
    """One before the service at this address."""
    counted = CountedOrigin(origin)
    async with counted.server:
        yield counted
