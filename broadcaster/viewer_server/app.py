"""All that this process shows to the world, and the routes to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial

from aiohttp import hdrs, web

from broadcaster.aio import EventLoopLag
from broadcaster.hls import MultivariantPlaylist
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.http.server import HEALTH, health
from broadcaster.http.static import StaticFiles
from broadcaster.ipc.messages import (
    ClipAnswer,
    HealthReport,
    Ping,
    Pong,
    RecordingsDelta,
    SentMetric,
    Setup,
    SignedPlaylist,
    State,
    Update,
    ViewDelta,
    ViewerProblem,
)
from broadcaster.metrics import Metric
from broadcaster.tracker import Tracker, TrackerLimits
from broadcaster.viewer_server import playlists
from broadcaster.viewer_server.admission import ADMISSION, AdmissionControl, RequestKind
from broadcaster.viewer_server.clips import ClipRequests, SignedPlaylists
from broadcaster.viewer_server.events import EVENT_STREAM, EventStream, events
from broadcaster.viewer_server.pages import Page, RecordingPages
from broadcaster.viewer_server.playlists import (
    BLOCKING_RELOADS,
    COMMON_HEADERS,
    REQUEST_METRICS,
    BlockingReloadQueue,
    RequestMetrics,
)
from broadcaster.viewer_server.reports import (
    PLAYBACK_REPORTS,
    PlaybackReports,
    QoEMetrics,
    ViewerCounter,
    beacon,
)
from broadcaster.viewer_server.snapshots import STREAM, Stream, now
from broadcaster.viewer_server.tracker_socket import Signaling

# Players' requests are small. What is larger is an attempt to make us hold it.
MAX_BODY_BYTES = 65_536
LOWEST_BANDWIDTH = 1e6  # bits per second, where nothing is known yet
SILENT = 5.0  # seconds without a word of ingest, which says something twice a second
LOOK_EVERY = 1.0  # seconds between two looks whether it is silent


class ViewerServer:
    """What the world sees. ``clock`` gives the wall time; ``tracker`` is there if viewers meet here."""

    def __init__(
        self, setup: Setup, clock: Callable[[], datetime] = now, tracker: Tracker | None = None
    ) -> None:
        self.stream = Stream(clock)
        self.event_stream = EventStream(setup.max_waiters)
        self.report = HealthReport("offline", 0, None)
        self.signaling: Signaling | None = None
        if setup.tracker:  # its sockets leave half of the places to everybody else
            limits = TrackerLimits(connections=max(1, setup.max_connections // 2))
            self.signaling = Signaling(self.stream, tracker or Tracker(limits))
        self.lag = EventLoopLag()
        self._viewers = ViewerCounter()
        self._experience = QoEMetrics(lambda: self.stream.view.playlists)
        self._heard = time.monotonic()
        self._gallery: RecordingPages | None = None
        self._clipping: ClipRequests | None = None
        self._signed: SignedPlaylists | None = None
        self.app = self._make_app(setup)
        self._sources: list[Callable[[], Iterable[Metric]]] = [
            self.app[REQUEST_METRICS].metrics,
            self.app[BLOCKING_RELOADS].metrics,
            self.app[PLAYBACK_REPORTS].metrics,
            self._viewers.metrics,
            self._experience.metrics,
            self.app[CONNECTIONS].metrics,
            self.app[ADMISSION].metrics,
            self.event_stream.metrics,
        ]
        self._sources += [one.metrics for one in (self.signaling, self._clipping) if one]

    def take(self, message: Update) -> None:
        """Take note of what ingest says; raises ValueError when it does not fit what came before."""
        match message:
            case ViewDelta():
                before = self.stream.state
                self.stream.apply(message)
                if self.stream.state is State.STARTING is not before:
                    self.event_stream.tell_starting(self.stream.clock())
            case Ping():
                self._heard, self.report = time.monotonic(), message.report
                self.look()
            case RecordingsDelta():
                if self._gallery:
                    self._gallery.take(message)
                if self._clipping:
                    self._clipping.look()
            case ClipAnswer() if self._clipping:
                self._clipping.take(message)
            case SignedPlaylist() if self._signed:
                self._signed.take(message)
            case ClipAnswer() | SignedPlaylist():
                raise ValueError("an answer to what was not asked for")
            case _:
                self.event_stream(message)

    def look(self) -> None:
        """Tell pages how many watch, and what keeps the stream from them: ingest says it, or is silent."""
        report = self._health()
        self.event_stream.tell_trouble(report.trouble, self.stream.clock())
        self.event_stream.tell_viewers(report.viewers)

    def pong(self) -> Pong:
        """A sign of life."""
        report = self._health()
        metrics = tuple(map(_sent, self.metrics()))
        wishes = self._clipping.wishes() if self._clipping else ()
        wanted = self._signed.wanted if self._signed else ()
        furthest = self._viewers.behind
        screens = self._viewers.screens
        return Pong(
            metrics,
            report.viewers,
            report.peers,
            report.torrents,
            wishes,
            furthest,
            wanted,
            screens.lit,
            screens.blind,
        )

    def metrics(self) -> Iterator[Metric]:
        """How it is used."""
        for source in self._sources:
            yield from source()

    def _health(self) -> HealthReport:
        report = replace(self.report, viewers=len(self._viewers))
        if time.monotonic() - self._heard > SILENT:
            trouble: ViewerProblem | None = None
            if self.stream.state in (State.STARTING, State.LIVE):
                trouble = "delivery"
            told = "ingest is silent"
            report = replace(report, reason=told, trouble=trouble, parts={"service": "failing"})
        tracker = self.signaling
        if tracker is None:
            return report
        return replace(report, peers=tracker.peers, torrents=tracker.torrents, signaling=True)

    def _of_the_stream(self) -> dict[str, str | None]:
        return {"title": self.report.title, "poster": self.report.poster}

    def _bandwidth(self) -> float:
        """Bits per second that a page can play at most."""
        main = self.stream.view.main
        variants = main.playlist.variants if main and isinstance(main.playlist, MultivariantPlaylist) else ()
        told = max((one.bandwidth for one in variants), default=0)
        return max(told, self.event_stream.bandwidth, LOWEST_BANDWIDTH)

    async def _help(self, _: web.Application) -> AsyncIterator[None]:
        helpers = [asyncio.create_task(one) for one in (self.lag.run(), self._keep_looking())]
        yield
        for one in helpers:
            one.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()

    def _make_app(self, setup: Setup) -> web.Application:
        traffic = RequestMetrics()
        room = BlockingReloadQueue(setup.max_waiters, traffic.woke_up, self.stream.clock)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app[STREAM], app[REQUEST_METRICS], app[BLOCKING_RELOADS] = self.stream, traffic, room
        app[HEALTH] = self._health
        app[EVENT_STREAM] = self.event_stream
        app[CONNECTIONS] = Connections(setup.max_connections)
        app[ADMISSION] = places = AdmissionControl(
            setup.max_connections, self.lag, setup.trusted_header, media=setup.media
        )
        app[PLAYBACK_REPORTS] = PlaybackReports(
            self._bandwidth, partial(places.count, RequestKind.EVENTS), self._viewers, self._experience
        )
        app.cleanup_ctx.append(self._help)
        app.on_response_prepare.append(_on_answer)
        app.on_shutdown.extend((room.close, self.event_stream.close))
        app.router.add_get("/live/playlist.m3u8", playlists.main, name="main_playlist")
        app.router.add_get("/live/{variant}/playlist.m3u8", playlists.media, name="media_playlist")
        app.router.add_get("/live/iframes.m3u8", playlists.main_iframes, name="main_iframe_playlist")
        app.router.add_get("/live/{variant}/iframes.m3u8", playlists.iframes, name="iframe_playlist")
        app.router.add_get("/live/kept.m3u8", playlists.kept_main, name="kept_main_playlist")
        app.router.add_get("/live/{variant}/kept.m3u8", playlists.kept, name="kept_playlist")
        app.router.add_get("/live/events", events, name="events", allow_head=False)
        app.router.add_post("/live/beacon", beacon, name="beacon")
        if self.signaling:
            app.on_shutdown.append(self.signaling.close)
            app.router.add_get("/live/tracker", self.signaling.handle, name="tracker", allow_head=False)
        app.router.add_route(hdrs.METH_OPTIONS, "/live/{path:.*}", playlists.preflight, name="preflight")
        app.router.add_get("/health", _health_and_address, name="health")
        if setup.viewer_dir.is_dir():
            page = Page(setup.page, setup.viewer_dir, self._of_the_stream)
            if setup.recordings:
                self._gallery = RecordingPages(page, setup.viewer_dir)
                self._gallery.add_to(app)
                if setup.clips:
                    self._clipping = ClipRequests(self._gallery.find)
                    self._clipping.add_to(app)
                if setup.signed:
                    self._signed = SignedPlaylists(self._gallery.find)
                    self._signed.add_to(app)
            app.router.add_get("/config.json", page.config, name="page_config")
            app.router.add_get("/", page.answer, name="page")
            app.router.add_get("/{path:.*}", StaticFiles(("", setup.viewer_dir)).answer, name="viewer")
        return app


def _sent(metric: Metric) -> SentMetric:
    total = None if metric.total is None else tuple(metric.total.items())
    samples = tuple(metric.samples.items())
    return SentMetric(metric.name, metric.text, metric.labels, samples, metric.is_counter, total)


async def _health_and_address(request: web.Request) -> web.Response:
    """As ``health``, with the address that this request counts for: nobody but who asks is told."""
    answer = await health(request)
    answer.headers["X-Client-Address"] = request.app[ADMISSION].address(request)
    return answer


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)
    request.app[REQUEST_METRICS].answered(request, response.status)
    headers = response.headers
    headers.update(COMMON_HEADERS)
    # Whatever says nothing of it: ask each time whether it changed.
    headers.setdefault(hdrs.CACHE_CONTROL, "no-cache")
