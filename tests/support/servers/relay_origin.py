"""An origin for a relay: real playlists and events of segments that a test publishes, and their bucket."""

import asyncio
import contextlib
import hashlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from broadcaster.events import Event, VariantsListed
from broadcaster.hls import MultivariantPlaylist, Variant
from broadcaster.http import listening_sockets, serving
from broadcaster.ipc.messages import HealthReport, Ping, Setup, View, ViewerProblem, view_delta
from broadcaster.service.viewer_process import message_of
from broadcaster.viewer_server.app import ViewerServer
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import stored_segment
from tests.support.faults.fault_proxy import FaultProxy

HOST = "127.0.0.1"
TARGET = 2  # seconds
WINDOW = 6  # segments
LINK = 0.1  # seconds for an object over a thin link
SIZE = 200_000  # bytes of a segment


class SmallOrigin:
    """Lists what ``publish`` brings. ``asked`` counts how often each object was asked for, whole or in part.

    ``link`` is a thin link to the bucket, if there is one; ``begun`` are its objects as they were asked for.
    ``portal`` is what a captive portal answers in the place of each object, and its type, if there is one.
    ``public`` is where the relay reaches it, ``proxy`` what stands there; with ``signed`` its bucket gives an
    object to nobody who does not say that.
    """

    def __init__(self, variants: tuple[str, ...] = ("0", "1"), window: int = WINDOW) -> None:
        self.asked: Counter[str] = Counter()
        self.signed: str | None = None
        self.tells_sums = True
        self.link: asyncio.Semaphore | None = None
        self.begun: list[str] = []
        self.portal: tuple[bytes, str] | None = None
        self.size = SIZE
        self.public = ""
        self.proxy: FaultProxy
        self.port = 0  # behind it
        self.trouble: ViewerProblem | None = None
        self._start = datetime.now(UTC)
        self._numbers: Counter[str] = Counter()
        self._run = 0
        self.server = ViewerServer(Setup(Path("none"), tracker=True))
        self.server.app.router.add_get("/bucket/{path:.+}", self._object, name="bucket")
        self.channel = Channel(window, lambda: datetime.now(UTC), self._observe, show=self._show)
        self.name_variants(*variants)

    def name_variants(self, *names: str) -> None:
        """The stream has these from now on; the heavier one later."""
        self._variants = names
        named = tuple(Variant(name, 1000 * (index + 1)) for index, name in enumerate(names))
        self.channel.list_variants(VariantsListed(MultivariantPlaylist(named), frozenset(names)))

    def ping(self) -> None:
        """As ingest does twice a second."""
        report = HealthReport(self.channel.state, 0, None, trouble=self.trouble)
        self.server.handle(Ping(report))

    def publish(self, count: int = 1, *, run: int | None = None) -> None:
        """So many segments more of each variant."""
        self._run = self._run if run is None else run
        self.ping()
        for _ in range(count):
            for variant in self._variants:
                self._publish(variant)

    def end(self) -> None:
        """The stream is over."""
        self.channel.end()

    def path(self, variant: str, number: int, run: int | None = None) -> str:
        """Of the object, in the bucket."""
        return f"{self._run if run is None else run}/{variant}/s{number}.ts"

    def body(self, path: str) -> bytes:
        """The object."""
        return (path.encode() * (self.size // len(path) + 1))[: self.size]

    def _publish(self, variant: str) -> None:
        number = self._numbers[variant]
        self._numbers[variant] += 1
        path = self.path(variant, number)
        query = f"?Signature={self.signed}" if self.signed else ""
        segment = stored_segment(
            f"{self.public}/bucket/{path}{query}",
            number=number,
            variant=variant,
            run=self._run,
            target_duration=TARGET,
            time=self._start + timedelta(seconds=TARGET * number),
            size=self.size,
            sha256=hashlib.sha256(self.body(path)).hexdigest() if self.tells_sums else None,
        )
        self.channel.expect(variant)
        self.channel.publish(segment)

    def _observe(self, event: Event) -> None:
        if message := message_of(event):
            self.server.handle(message)

    def _show(self, view: View) -> None:
        self.server.handle(view_delta(self.server.stream.view, view))

    async def _object(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        assert request.transport  # whose buffer is small: on this machine that takes 40 ms for each packet
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self.asked[path] += 1
        if self.signed and request.query.get("Signature") != self.signed:
            return web.Response(status=403)
        self.begun.append(path)
        async with self.link or contextlib.nullcontext():
            await asyncio.sleep(LINK if self.link else 0)
        if self.portal:
            return web.Response(body=self.portal[0], content_type=self.portal[1])
        return web.Response(body=self.body(path), content_type="video/mp2t")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve, behind a proxy."""
        async with AsyncExitStack() as stack:
            sockets = listening_sockets(HOST, 0, "")
            await stack.enter_async_context(serving(self.server.app, sockets))
            port = sockets[0].getsockname()[1]
            self.port = port
            self.proxy = await stack.enter_async_context(FaultProxy(port))
            self.public = self.proxy.url
            yield
