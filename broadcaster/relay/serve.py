"""Runs the relay: one process, as there are no keys to be kept from those who talk to strangers.

The command line of ``broadcaster relay``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector
from pydantic import ByteSize, TypeAdapter, ValidationError

from broadcaster.download import Fetcher, Wanted
from broadcaster.http import address_of, bound, listening, raise_file_limit, serving
from broadcaster.http.server import HEALTH, Complaints, for_the_world
from broadcaster.ipc import HealthReport, Ping, Setup, View, change
from broadcaster.metrics import MetricsCollector, build_info
from broadcaster.notify import keep_watchdog_quiet, notify
from broadcaster.relay.events import Words
from broadcaster.relay.follower import Following
from broadcaster.relay.health import Standing, make_desk
from broadcaster.relay.origin import Origin, PageSettings
from broadcaster.relay.segments import Media, Prefetch
from broadcaster.relay.url_map import Listed, Listing
from broadcaster.viewer_server.app import ViewerServer
from broadcaster.viewer_server.playlists import NO_STORE

VIEWER_DIR = Path("viewer/dist")
LEAST_MEMORY = 2**24  # bytes: some segments, at least
MAX_PORT = 65_535

_sizes = TypeAdapter(ByteSize)
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator has chosen. Sizes are in bytes; without a ``cache`` nothing is kept on disk."""

    origin: str
    listen: Address = ("", 8080)
    admin: Address = ("127.0.0.1", 3001)
    cache: Path | None = None
    memory: int = 2**29
    disk: int = 10 * 2**30
    viewer: Path = VIEWER_DIR
    places: int = 2000  # connections
    waiters: int = 1000
    trusted_header: str | None = None  # that tells a viewer's address


def add_options(parser: argparse.ArgumentParser) -> None:
    """All but the origin's address, which comes first."""
    usual = Options("")
    parser.add_argument(
        "--listen", type=_address, default=usual.listen, metavar="[HOST]:PORT", help="for viewers (:8080)"
    )
    parser.add_argument(
        "--admin",
        type=_address,
        default=usual.admin,
        metavar="[HOST]:PORT",
        help="for the operator: dashboard and metrics, without a login (127.0.0.1:3001)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep what was fetched here, too, over a restart"
    )
    parser.add_argument(
        "--memory",
        type=_size,
        default=usual.memory,
        metavar="SIZE",
        help="of segments in memory (512MiB)",
    )
    parser.add_argument(
        "--disk", type=_size, default=usual.disk, metavar="SIZE", help="of segments on disk (10GiB)"
    )
    parser.add_argument(
        "--trusted-header",
        choices=("cf-connecting-ip", "x-forwarded-for", "none"),
        help="by which a proxy on this machine tells the address of a viewer (whichever it sends)",
    )
    parser.add_argument(
        "--viewer", type=Path, default=usual.viewer, metavar="DIR", help="the page (viewer/dist)"
    )


def options_of(parsed: argparse.Namespace) -> Options:
    """What was said on the command line."""
    return Options(
        origin=parsed.origin,
        listen=parsed.listen,
        admin=parsed.admin,
        cache=parsed.cache,
        memory=parsed.memory,
        disk=parsed.disk,
        viewer=parsed.viewer,
        trusted_header=parsed.trusted_header,
    )


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError("an address is [HOST]:PORT, as :8080 or 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _size(text: str) -> int:
    try:
        size = int(_sizes.validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError("a size is a number of bytes, or as 512MiB, 10GiB") from None
    if size < LEAST_MEMORY:
        raise argparse.ArgumentTypeError("less than 16MiB is too little")
    return size


logger = logging.getLogger(__name__)

PING_EVERY = 0.5  # seconds
LINE = 2**18  # bytes of an event that tells of all segments, with signed addresses
AT_ONCE, OLD_AT_ONCE = 8, 2  # objects on their way, and of those such as are not at the live edge
IN_FLIGHT = 2**26  # bytes on their way, half of them for the live edge
UNCHECKED_FOR = 60.0  # seconds for which an object is kept whose SHA-256 nobody has told
OF_THE_STREAM = {"main_playlist", "media_playlist", "events"}  # routes


async def relay(
    options: Options,
    stop: asyncio.Event,
    on_ready: Callable[[str, str], None] = lambda *_: None,
) -> None:
    """Follow the origin and serve what it has, until ``stop``.

    ``on_ready`` is told the public and the operator's address. Raises ConfigError when one cannot be had.
    """
    asyncio.get_running_loop().set_exception_handler(Complaints())
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, read_bufsize=LINE) as session,
        Fetcher(
            session,
            at_once=AT_ONCE,
            bytes_in_flight=IN_FLIGHT,
            largest=IN_FLIGHT // 2,
            reserved=IN_FLIGHT // 2,
            patient=OLD_AT_ONCE,
            unchecked_for=UNCHECKED_FOR,
            memory=options.memory,
            disk=options.cache and options.cache.absolute(),
            disk_bytes=options.disk,
        ) as fetcher,
    ):
        await _Relay(options, session, fetcher).run(stop, on_ready)


class _Relay:
    """All parts together."""

    def __init__(self, options: Options, session: aiohttp.ClientSession, fetcher: Fetcher) -> None:
        self._options = options
        self._origin = origin = Origin(session, options.origin)
        self._fetcher = fetcher
        self._page = PageSettings(origin)
        places = raise_file_limit(options.places)
        viewer = options.viewer.absolute()
        setup = Setup(
            viewer,
            self._page.now,
            waiters=options.waiters,
            places=places,
            tracker=True,
            media=True,
            trusted_header=options.trusted_header,
        )
        self._audience = audience = ViewerServer(setup)
        self._listing = listing = Listing()
        self._prefetch = prefetch = Prefetch(self._fetch)
        self._following = following = Following(
            origin, listing, self._show, prefetch.announce, audience.stream.clock
        )
        self._words = Words(origin, following, listing, audience.take, prefetch.announce)
        media = Media(
            listing,
            self._fetch,
            prefetch.asked,
            most=options.memory,
            is_here=self._is_here,
            told=self._words.told,
        )
        self._standing = Standing(origin, following, media, fetcher.metrics, lambda: self._words.trouble)
        media.add_to(audience.app)
        audience.app.middlewares.append(_unless_unknown(origin))
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        sources = (build_info, audience.metrics, media.metrics, fetcher.metrics, self._standing.metrics)
        self._registry.register(MetricsCollector(*sources))

    async def run(self, stop: asyncio.Event, on_ready: Callable[[str, str], None]) -> None:
        """Serve until ``stop``."""
        sockets = bound(*self._options.listen, "--listen")
        names = os.environ.get("BROADCASTER_ADMIN_NAMES", "").replace(",", " ").split()
        desk = make_desk(self._report, self._standing, self._registry, names)
        async with (
            serving(self._audience.app, sockets),
            listening(desk, *self._options.admin, "--admin") as admin_address,
            asyncio.TaskGroup() as group,
        ):
            work = (
                self._following.run(),
                self._words.run(),
                self._prefetch.run(),
                self._page.run(),
                self._ping(),
                keep_watchdog_quiet(lambda: True),
            )
            tasks = [group.create_task(one) for one in work]
            gc.collect()
            gc.freeze()
            if not self._options.viewer.is_dir():
                logger.warning(
                    "%s is not there, so there is no page: name it by --viewer", self._options.viewer
                )
            logger.info("relaying %s at %s", self._options.origin, address_of(sockets))
            logger.info("dashboard at %s/dashboard, metrics at %s/metrics", admin_address, admin_address)
            notify("READY=1")
            on_ready(address_of(sockets), admin_address)
            await stop.wait()
            notify("STOPPING=1")
            for one in tasks:
                one.cancel()

    def _show(self, view: View) -> None:
        self._audience.take(change(self._audience.stream.view, view))

    async def _fetch(self, listed: Listed) -> bytes:
        """An object, by its address without the signature, which changes."""
        return await self._fetcher.get(_wanted(listed), urgent=self._listing.is_at_the_edge(listed))

    async def _is_here(self, listed: Listed) -> bool:
        return await self._fetcher.has(_wanted(listed))

    async def _ping(self) -> None:
        """Tell the audience how all is, as ingest does."""
        away = False
        told = for_the_world(self._standing.report)
        while True:
            self._audience.take(Ping(told()))
            if self._standing.is_away is not away:
                away = not away
                logger.warning("%s", self._standing.uplink)
            await asyncio.sleep(PING_EVERY)

    def _report(self) -> HealthReport:
        """How all is, for the operator."""
        shown, report = self._audience.app[HEALTH](), self._standing.report()
        return replace(
            report, viewers=shown.viewers, peers=shown.peers, torrents=shown.torrents, signaling=True
        )


def _wanted(listed: Listed) -> Wanted:
    return Wanted(listed.url, size=listed.size, sha256=listed.sha256, name=listed.token)


def _unless_unknown(origin: Origin) -> Middleware:
    """Until the origin has answered nobody knows whether a stream is on, and nobody is told so."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if origin.answered or request.match_info.route.name not in OF_THE_STREAM:
            return await handler(request)
        headers = {**NO_STORE, hdrs.RETRY_AFTER: "1"}
        return web.Response(status=503, text="The origin has not answered yet.\n", headers=headers)

    return check
