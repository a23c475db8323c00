"""Wires and runs the relay, reports its health, and reads its command-line options.

A relay is a single process, because it has no keys.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path

import aiohttp
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.process_collector import ProcessCollector
from pydantic import ByteSize, TypeAdapter, ValidationError

from broadcaster.download import Fetcher, FetchRequest
from broadcaster.http import address_of, listening, listening_sockets, raise_file_limit, serving
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.http.server import (
    ADMIN_HEADERS,
    HEALTH,
    LoopErrorHandler,
    allow_hosts,
    health,
    public_health,
)
from broadcaster.ipc.messages import HealthReport, Ping, Setup, State, View, ViewerProblem, view_delta
from broadcaster.logs import feed_watchdog, notify
from broadcaster.metrics import Metric, MetricsCollector, build_info
from broadcaster.own_files import VIEWER_DIR
from broadcaster.relay.events import OriginEvents
from broadcaster.relay.follower import OriginFollower
from broadcaster.relay.origin import Origin, PageSettings
from broadcaster.relay.segments import Prefetch, SegmentHandler
from broadcaster.relay.url_map import MappedObject, UrlMap
from broadcaster.viewer_server.app import ViewerServer
from broadcaster.viewer_server.playlists import NO_STORE

logger = logging.getLogger(__name__)

MIN_MEMORY = 2**24  # bytes
MAX_PORT = 65_535

_sizes = TypeAdapter(ByteSize)
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Options of a relay. Sizes are in bytes; without ``cache`` nothing is stored on disk."""

    origin: str
    listen: Address = ("", 8080)
    admin: Address = ("127.0.0.1", 3001)
    cache: Path | None = None
    memory: int = 2**29
    disk: int = 10 * 2**30
    viewer: Path = VIEWER_DIR
    connections: int = 2000
    waiters: int = 1000  # blocked requests
    trusted_header: str | None = None  # has the viewer's address


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options but the origin's address."""
    usual = RelayOptions("")
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
        "--cache", type=Path, metavar="DIR", help="store fetched segments here, to have them after a restart"
    )
    parser.add_argument(
        "--memory",
        type=_size,
        default=usual.memory,
        metavar="SIZE",
        help="for segments in memory (512MiB)",
    )
    parser.add_argument(
        "--disk", type=_size, default=usual.disk, metavar="SIZE", help="for segments on disk (10GiB)"
    )
    parser.add_argument(
        "--trusted-header",
        choices=("cf-connecting-ip", "x-forwarded-for", "none"),
        help="in which a proxy on this machine sends a viewer's address (default: either)",
    )
    parser.add_argument("--viewer", type=Path, default=usual.viewer, metavar="DIR", help="the page")


def options_of(parsed: argparse.Namespace) -> RelayOptions:
    """The options on the command line."""
    names = {field.name for field in fields(RelayOptions)}
    return RelayOptions(**{name: value for name, value in vars(parsed).items() if name in names})


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError("an address is [HOST]:PORT, such as :8080 or 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _size(text: str) -> int:
    try:
        size = int(_sizes.validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError("a size is a number of bytes, or like 512MiB, 10GiB") from None
    if size < MIN_MEMORY:
        raise argparse.ArgumentTypeError("less than 16MiB is too little")
    return size


PING_EVERY = 0.5  # seconds
LINE = 2**18  # bytes of the longest event: all segments, with signed URLs
AT_ONCE, OLD_AT_ONCE = 8, 2  # parallel fetches, and of those the fetches outside the live edge
IN_FLIGHT = 2**26  # bytes of unfinished fetches, half of them for the live edge
UNCHECKED_FOR = 60.0  # seconds for which an object without a known SHA-256 is cached
STREAM_ROUTES = {"main_playlist", "media_playlist", "events"}


async def relay(
    options: RelayOptions,
    stop: asyncio.Event,
    on_ready: Callable[[str, str], None] = lambda *_: None,
) -> None:
    """Follow the origin and serve its stream until ``stop``.

    ``on_ready`` is called with the public and the admin address. Raises ConfigError if an address is not
    available.
    """
    asyncio.get_running_loop().set_exception_handler(LoopErrorHandler())
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, read_bufsize=LINE) as session,
        Fetcher(
            session,
            at_once=AT_ONCE,
            bytes_in_flight=IN_FLIGHT,
            largest=IN_FLIGHT // 2,
            reserved=IN_FLIGHT // 2,
            background_at_once=OLD_AT_ONCE,
            unchecked_for=UNCHECKED_FOR,
            memory=options.memory,
            disk=options.cache and options.cache.absolute(),
            disk_bytes=options.disk,
        ) as fetcher,
    ):
        await _Relay(options, session, fetcher).run(stop, on_ready)


class _Relay:
    """The parts of a relay."""

    def __init__(self, options: RelayOptions, session: aiohttp.ClientSession, fetcher: Fetcher) -> None:
        self._options = options
        self._origin = origin = Origin(session, options.origin)
        self._fetcher = fetcher
        self._page = PageSettings(origin)
        connections = raise_file_limit(options.connections)
        viewer = options.viewer.absolute()
        setup = Setup(
            viewer,
            self._page.now,
            max_waiters=options.waiters,
            max_connections=connections,
            tracker=True,
            media=True,
            trusted_header=options.trusted_header,
        )
        self._audience = audience = ViewerServer(setup)
        self._url_map = url_map = UrlMap()
        self._prefetch = prefetch = Prefetch(self._fetch)
        self._follower = follower = OriginFollower(
            origin, url_map, self._show, prefetch.announce, audience.stream.clock
        )
        self._events = OriginEvents(origin, follower, url_map, audience.handle, prefetch.announce)
        segments = SegmentHandler(
            url_map,
            self._fetch,
            prefetch.on_request,
            most=options.memory,
            is_cached=self._is_cached,
            wait_for_metadata=self._events.wait_for_metadata,
        )
        self._health = RelayHealth(origin, follower, segments, fetcher.metrics, lambda: self._events.trouble)
        segments.add_to(audience.app)
        audience.app.middlewares.append(_unless_unknown(origin))
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        sources = (build_info, audience.metrics, segments.metrics, fetcher.metrics, self._health.metrics)
        self._registry.register(MetricsCollector(*sources))

    async def run(self, stop: asyncio.Event, on_ready: Callable[[str, str], None]) -> None:
        """Serve until ``stop``."""
        sockets = listening_sockets(*self._options.listen, "--listen")
        names = os.environ.get("BROADCASTER_ADMIN_NAMES", "").replace(",", " ").split()
        admin_app = make_admin_app(self._report, self._health, self._registry, names)
        async with (
            serving(self._audience.app, sockets),
            listening(admin_app, *self._options.admin, "--admin") as admin_address,
            asyncio.TaskGroup() as group,
        ):
            work = (
                self._follower.run(),
                self._events.run(),
                self._prefetch.run(),
                self._page.run(),
                self._ping(),
                feed_watchdog(lambda: True),
            )
            tasks = [group.create_task(coroutine) for coroutine in work]
            gc.collect()
            gc.freeze()
            if not self._options.viewer.is_dir():
                logger.warning("%s does not exist, so there is no page: set --viewer", self._options.viewer)
            logger.info("relaying %s at %s", self._origin.address, address_of(sockets))
            logger.info("dashboard at %s/dashboard, metrics at %s/metrics", admin_address, admin_address)
            notify("READY=1")
            on_ready(address_of(sockets), admin_address)
            await stop.wait()
            notify("STOPPING=1")
            for task in tasks:
                task.cancel()

    def _show(self, view: View) -> None:
        self._audience.handle(view_delta(self._audience.stream.view, view))

    async def _fetch(self, target: MappedObject) -> bytes:
        """The object, from the cache or the origin."""
        return await self._fetcher.get(_fetch_request(target), urgent=self._url_map.is_at_the_edge(target))

    async def _is_cached(self, target: MappedObject) -> bool:
        return await self._fetcher.has(_fetch_request(target))

    async def _ping(self) -> None:
        """Send pings with the health to the viewer server, as ingest does; log interruptions."""
        unreachable = False
        report = public_health(self._health.report)
        while True:
            self._audience.handle(Ping(report()))
            if self._health.is_unreachable is not unreachable:
                unreachable = not unreachable
                logger.warning("%s", self._health.uplink)
            await asyncio.sleep(PING_EVERY)

    def _report(self) -> HealthReport:
        """The health report for the operator."""
        public, report = self._audience.app[HEALTH](), self._health.report()
        return replace(
            report, viewers=public.viewers, peers=public.peers, torrents=public.torrents, signaling=True
        )


def _fetch_request(target: MappedObject) -> FetchRequest:
    return FetchRequest(target.url, size=target.size, sha256=target.sha256, name=target.token)


def _unless_unknown(origin: Origin) -> Middleware:
    """Answer 503 to requests for the stream until the origin has answered once."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if origin.answered or request.match_info.route.name not in STREAM_ROUTES:
            return await handler(request)
        headers = {**NO_STORE, hdrs.RETRY_AFTER: "1"}
        return web.Response(status=503, text="The origin has not answered yet.\n", headers=headers)

    return check


UNREACHABLE_AFTER = 3.0  # seconds without an answer after a failed request
# Seconds without any answer, in addition to the time for which a blocking request may wait (§6.2.5.2).
SILENT, PATIENCE_TARGET_DURATIONS = 5.0, 3
USUAL_TARGET_DURATION = 5  # seconds, before there is a stream


@dataclass(frozen=True, slots=True)
class Savings:
    """Answers and bytes sent to viewers, and objects and bytes fetched over the uplink for them."""

    answers: int
    fetched: int
    sent: int
    received: int

    @property
    def hit_rate(self) -> float:
        """The share of answers that needed no fetch."""
        return max(0.0, 1 - self.fetched / self.answers) if self.answers else 0.0

    @property
    def bytes(self) -> int:
        """Bytes that were sent without being fetched again."""
        return max(0, self.sent - self.received)


class RelayHealth:
    """Reads the state of the relay's parts.

    ``fetching`` returns the fetcher's metrics, ``trouble`` the problem that the origin reports.
    """

    def __init__(
        self,
        origin: Origin,
        follower: OriginFollower,
        media: SegmentHandler,
        fetching: Callable[[], Iterable[Metric]],
        trouble: Callable[[], ViewerProblem | None],
    ) -> None:
        self._origin = origin
        self._follower = follower
        self._media = media
        self._fetching = fetching
        self._trouble = trouble

    @property
    def is_unreachable(self) -> bool:
        """Whether the origin does not answer."""
        silence = self._origin.silence
        if silence > self._patience:
            return True
        return self._origin.fault is not None and silence > UNREACHABLE_AFTER

    @property
    def uplink(self) -> str:
        """A sentence about the connection to the origin."""
        origin = self._origin
        if not self.is_unreachable:
            return f"{origin.address} answers"
        why = f" ({origin.fault})" if origin.fault else ""
        return f"{origin.address} has not answered for {origin.silence:.0f} s{why}: reconnecting to it"

    @property
    def savings(self) -> Savings:
        """Savings since the start."""
        metrics = {metric.name: metric.value for metric in self._fetching()}
        fetched, received = metrics["fetch_misses"], metrics["fetch_received_bytes"]
        assert isinstance(fetched, int | float)  # noqa: S101 - for the type checker
        assert isinstance(received, int | float)  # noqa: S101 - for the type checker
        return Savings(self._media.answers, int(fetched), self._media.sent, int(received))

    def report(self) -> HealthReport:
        """The report for ``/health`` and the page."""
        view, trouble, warning = self._follower.view, self._trouble(), None
        on = view.state in (State.LIVE, State.STARTING)
        reason = self._reason() if on else None
        if self.is_unreachable and not on:
            warning = self.uplink
        elif on and trouble and not reason:
            warning = f"the origin reports a problem: {trouble}"
        return HealthReport(
            view.state,
            0,
            reason,
            warning=warning,
            listed=sum(len(version.playlist.segments) for version in view.playlists.values()),
            variants=tuple(view.playlists),
            qualities=view.qualities,
            target_duration=view.target_duration,
            trouble="delivery" if reason else trouble,
            parts={"service": "failing" if reason else "warning"} if reason or warning else {},
        )

    @property
    def _patience(self) -> float:
        target_duration = self._follower.view.target_duration or USUAL_TARGET_DURATION
        return SILENT + PATIENCE_TARGET_DURATIONS * target_duration

    def _reason(self) -> str | None:
        """Why viewers do not get the running stream; None if they do."""
        if self.is_unreachable:
            return f"{self.uplink}; cached segments are still served"
        if self._media.fault:
            return f"segments cannot be fetched: {self._media.fault}"
        # Requests may be answered without new segments. A problem of the origin is not this relay's.
        silence = self._follower.silence
        if silence <= self._patience or self._trouble():
            return None
        return f"{self._origin.address} answers, but has had nothing new for {silence:.0f} s"

    def metrics(self) -> Iterator[Metric]:
        """The state and the savings for Prometheus."""
        savings = self.savings
        yield Metric("relay_uplink_up", "1 while the origin answers", not self.is_unreachable)
        yield Metric(
            "relay_origin_silent_seconds",
            "Seconds since the latest answer of the origin",
            self._origin.silence,
        )
        yield Metric("relay_hit_ratio", "Share of answers that needed no fetch", savings.hit_rate)
        yield Metric("relay_saved_bytes", "Bytes sent without being fetched again", savings.bytes)
        yield Metric("relay_live", "1 while a stream is live", self._follower.view.state is State.LIVE)
        text = "1 while a stream is live and does not reach viewers"
        yield Metric("relay_failing", text, self.report().reason is not None)


MAX_CONNECTIONS = 100
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width">
<title>{sentence}</title>
<style>
body {{ font: 1.1rem/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }}
h1 {{ font-size: 1.4rem }} th {{ text-align: left; padding-right: 2rem; font-weight: normal }}
td {{ font-variant-numeric: tabular-nums }}
</style>
<h1>{sentence}</h1>
<table>{rows}</table>
"""


def make_admin_app(
    report: Callable[[], HealthReport],
    relay_health: RelayHealth,
    registry: CollectorRegistry,
    names: Collection[str] = (),
) -> web.Application:
    """The application of the admin listener; ``names`` are further host names for which it answers."""

    async def page(_: web.Request) -> web.Response:
        now, savings = report(), relay_health.savings
        rows = {
            "Uplink": relay_health.uplink,
            "Viewers": str(now.viewers),
            "Hit rate": f"{savings.hit_rate:.1%} of {savings.answers} answers",
            "Fetched": f"{savings.fetched} objects, {savings.received / 1e6:,.1f} MB",
            "Sent to viewers": f"{savings.sent / 1e6:,.1f} MB",
            "Saved": f"{savings.bytes / 1e6:,.1f} MB",
        }
        lines = "".join(f"<tr><th>{name}<td>{escape(text)}" for name, text in rows.items())
        text = PAGE.format(sentence=escape(now.sentence), rows=lines)
        return web.Response(text=text, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})

    async def metrics(_: web.Request) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=generate_latest(registry), headers=headers)

    app = web.Application(middlewares=[allow_hosts(names)])
    app[CONNECTIONS], app[HEALTH] = Connections(MAX_CONNECTIONS), report
    app.on_response_prepare.append(_on_answer)
    app.router.add_get("/dashboard", page, name="dashboard")
    app.router.add_get("/health", health, name="health")
    app.router.add_get("/metrics", metrics, name="metrics")
    return app


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)
    response.headers.update(ADMIN_HEADERS)
    response.headers.pop(hdrs.SERVER, None)
