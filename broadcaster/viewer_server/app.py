"""The application of the viewer server: its state, its routes, and its answers to ingest."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from broadcaster.access.gate import AskingPage, Gate, hide
from broadcaster.aio import EventLoopLag, boot_time
from broadcaster.hls import MultivariantPlaylist
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.http.server import GATE, HEALTH, health
from broadcaster.http.static import StaticFiles
from broadcaster.ipc.messages import (
    MOST_GRANTS,
    ClipAnswer,
    EdgeReports,
    Grants,
    GuestCount,
    HealthReport,
    PassphraseAnswer,
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
from broadcaster.tracker.tracker import Tracker, TrackerLimits
from broadcaster.viewer_server import playlists
from broadcaster.viewer_server.admission import ADMISSION, NO_HEADER, AdmissionControl, client_network
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
    ReportSampling,
    ViewerCounter,
    beacon,
)
from broadcaster.viewer_server.snapshots import STREAM, ServedStream, now
from broadcaster.viewer_server.tracker_socket import TrackerSockets

MAX_BODY_BYTES = 65_536  # requests of players are small
LOWEST_BANDWIDTH = 1e6  # bits per second, while no bandwidth is known
SILENT = 5.0  # seconds without a ping, which ingest sends twice a second
REFRESH_EVERY = 1.0  # seconds
READS, STREAM_PATH = (hdrs.METH_GET, hdrs.METH_HEAD), "/live/"


class ViewerServer:
    """The state of the viewer server. ``clock`` gives the wall time."""

    def __init__(
        self, setup: Setup, clock: Callable[[], datetime] = now, tracker: Tracker | None = None
    ) -> None:
        self.stream = ServedStream(clock)
        sampling = ReportSampling(setup.reports_per_second)
        self.event_stream = EventStream(setup.max_waiters, self.stream, sampling)
        self.report = HealthReport("offline", 0, None)
        self.signaling: TrackerSockets | None = None
        if setup.tracker:  # with half of the connections at most
            limits = TrackerLimits(connections=max(1, setup.max_connections // 2))
            self.signaling = TrackerSockets(self.stream, tracker or Tracker(limits))
        self.lag = EventLoopLag()
        self._viewers = ViewerCounter(sampling)
        self._qoe = QoEMetrics(lambda: self.stream.view.playlists)
        self._pinged = time.monotonic()
        self._leads_until = -math.inf if setup.fenced else math.inf  # ``boot_time``
        self._recordings: RecordingPages | None = None
        self._clips: ClipRequests | None = None
        self._signed: SignedPlaylists | None = None
        self.gate = Gate() if setup.access != "public" else None
        self._asking: AskingPage | None = None
        self.app = self._make_app(setup)
        if self.gate and self._recordings:
            self.gate.opens = self._recordings.opens
        self._sources: list[Callable[[], Iterable[Metric]]] = [
            self.app[REQUEST_METRICS].metrics,
            self.app[BLOCKING_RELOADS].metrics,
            self.app[PLAYBACK_REPORTS].metrics,
            self._viewers.metrics,
            self._qoe.metrics,
            self.app[CONNECTIONS].metrics,
            self.app[ADMISSION].metrics,
            self.event_stream.metrics,
        ]
        self._sources += [part.metrics for part in (self.signaling, self._clips) if part]

    def handle(self, message: Update) -> None:
        """Handle a message of ingest; raises ValueError if it does not fit the earlier messages."""
        match message:
            case ViewDelta():
                self._apply(message)
            case Ping():
                self._pinged, self.report = time.monotonic(), message.report
                self._leads_until = math.inf if message.leads_until is None else message.leads_until
                self.app[ADMISSION].proxies = frozenset(message.others)
                self.refresh_status()
            case RecordingsDelta():
                self._update_recordings(message)
            case ClipAnswer() if self._clips:
                self._clips.handle_answer(message)
            case SignedPlaylist() if self._signed:
                self._signed.add(message)
            case EdgeReports():
                self.app[PLAYBACK_REPORTS].add_all(
                    (text, client_network(address, {}, NO_HEADER), grant)
                    for address, text, grant in message.reports
                )
            case Grants() | PassphraseAnswer():
                self._handle_access(message)
            case ClipAnswer() | SignedPlaylist():
                raise ValueError("an answer without a request")
            case _:
                self.event_stream(message)

    def _apply(self, message: ViewDelta) -> None:
        before = self.stream.state
        self.stream.apply(message)
        if not self.stream.view.playlists:
            self.event_stream.forget()
        if self.stream.state is State.STARTING is not before:
            self.event_stream.send_starting(self.stream.clock())

    def _handle_access(self, message: Grants | PassphraseAnswer) -> None:
        if self.gate is None or self._asking is None:
            raise ValueError("the event is public")
        if isinstance(message, Grants):
            self.gate.update(message)
            self._viewers.keep_guests(message.ends)
        else:
            self._asking.handle_answer(message)

    def _update_recordings(self, message: RecordingsDelta) -> None:
        if self._recordings:
            self._recordings.update(message)
        if self._clips:
            self._clips.note_recordings()

    def refresh_status(self) -> None:
        """Send pages the number of viewers and the viewer problem, if these have changed."""
        report = self._health()
        self.event_stream.send_problem(report.trouble, self.stream.clock())
        self.event_stream.send_viewers(report.viewers)

    def pong(self) -> Pong:
        """The answer to a ping."""
        report = self._health()
        pictures = self._viewers.pictures
        return Pong(
            tuple(map(sent_metric, self.metrics())),
            report.viewers,
            report.peers,
            report.torrents,
            clip_requests=self._clips.take_unsent() if self._clips else (),
            max_viewer_delay=self._viewers.delay,
            playlists_to_sign=self._signed.to_sign if self._signed else (),
            pages_with_picture=pictures.with_picture,
            pages_without_picture=pictures.without_picture,
            pages_undecodable=pictures.undecodable,
            viewers_error=report.viewers_error,
            passphrases=self._asking.take_unsent() if self._asking else (),
            guests=tuple(self._guest_counts()),
            **self.event_stream.reports(),
        )

    def _guest_counts(self) -> Iterator[GuestCount]:
        if self.gate:
            opened, watching = self.gate.take_opened(), self._viewers.by_grant
            for grant in list(opened | watching)[:MOST_GRANTS]:
                yield GuestCount(grant, opened[grant], watching.get(grant, 0))

    def metrics(self) -> Iterator[Metric]:
        """The metrics of all parts."""
        for source in self._sources:
            yield from source()

    def _health(self) -> HealthReport:
        report = replace(self.report, viewers=len(self._viewers), viewers_error=self._viewers.error)
        if time.monotonic() - self._pinged > SILENT:
            on = self.stream.state in (State.STARTING, State.LIVE)
            problem: ViewerProblem | None = "delivery" if on else None
            reason = "ingest is silent"
            report = replace(report, reason=reason, trouble=problem, parts={"service": "failing"})
        tracker = self.signaling
        if tracker is None:
            return report
        return replace(report, peers=tracker.peers, torrents=tracker.torrents, signaling=True)

    def _stream_settings(self) -> dict[str, str | None]:
        return {"title": self.report.title, "poster": self.report.poster}

    def _bandwidth(self) -> float:
        """The highest bit rate that a page can play."""
        main = self.stream.view.main
        variants = main.playlist.variants if main and isinstance(main.playlist, MultivariantPlaylist) else ()
        highest = max((variant.bandwidth for variant in variants), default=0)
        return max(highest, self.event_stream.bandwidth, LOWEST_BANDWIDTH)

    @web.middleware
    async def _if_leading(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """503 for the stream while another broadcaster may lead, whose playlists may be newer.

        The time is compared again afterwards: the request may have been held, and the process frozen.
        """
        if request.method not in READS or not request.path.startswith(STREAM_PATH):
            return await handler(request)
        response = await handler(request) if boot_time() < self._leads_until else None
        if response and (response.prepared or boot_time() < self._leads_until):
            return response
        return playlists.refuse(503, "Another broadcaster may lead")

    async def _run_tasks(self, _: web.Application) -> AsyncIterator[None]:
        works = [self.lag.run(), self._keep_status(), *([self.gate.run()] if self.gate else [])]
        tasks = [asyncio.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()

    async def _keep_status(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_EVERY)
            self.refresh_status()

    def _make_app(self, setup: Setup) -> web.Application:
        request_metrics = RequestMetrics()
        reloads = BlockingReloadQueue(setup.max_waiters, request_metrics.woke_up, self.stream.clock)
        fence = [self._if_leading] if setup.fenced else []
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=fence)
        app[STREAM], app[REQUEST_METRICS], app[BLOCKING_RELOADS] = self.stream, request_metrics, reloads
        app[HEALTH] = self._health
        app[EVENT_STREAM] = self.event_stream
        app[CONNECTIONS] = Connections(setup.max_connections)
        app[ADMISSION] = AdmissionControl(
            setup.max_connections, self.lag, setup.trusted_header, media=setup.media
        )
        app[PLAYBACK_REPORTS] = PlaybackReports(self._bandwidth, self._viewers, self._qoe)
        app.cleanup_ctx.append(self._run_tasks)
        app.on_response_prepare.append(on_answer)
        app.on_shutdown.extend((reloads.close, self.event_stream.close))
        app.router.add_get("/live/playlist.m3u8", playlists.playlist, name="main_playlist")
        app.router.add_get("/live/{variant}/playlist.m3u8", playlists.playlist, name="media_playlist")
        app.router.add_get("/live/iframes.m3u8", playlists.iframes, name="main_iframe_playlist")
        app.router.add_get("/live/{variant}/iframes.m3u8", playlists.iframes, name="iframe_playlist")
        app.router.add_get("/live/kept.m3u8", playlists.dvr_playlist, name="kept_main_playlist")
        app.router.add_get("/live/{variant}/kept.m3u8", playlists.dvr_playlist, name="kept_playlist")
        app.router.add_get("/live/events", events, name="events", allow_head=False)
        held, segments = self.event_stream.held, self.event_stream.held_segments
        serial = "{serial:now|[0-9]{1,16}}"
        app.router.add_get(f"/live/events/{serial}", held.answer, name="held_events")
        app.router.add_get(f"/live/segments/{serial}", segments.answer, name="held_segments")
        if setup.reports_per_second:
            app.router.add_post("/live/beacon", beacon, name="beacon")
        if self.signaling:
            app.on_shutdown.append(self.signaling.close)
            app.router.add_get("/live/tracker", self.signaling.handle, name="tracker", allow_head=False)
        app.router.add_route(hdrs.METH_OPTIONS, "/live/{path:.*}", playlists.preflight, name="preflight")
        app.router.add_get("/health", health_and_address, name="health")
        page = Page(setup.page, setup.viewer_dir, self._stream_settings)
        if self.gate:
            app[GATE] = self.gate.__call__
            app.on_response_prepare.append(hide)
            self._asking = AskingPage(
                setup.viewer_dir,
                takes_passphrase=setup.access == "passphrase",
                settings=page.operator_settings,
                network=app[ADMISSION].network_text,
            )
            self._asking.add_to(app)
        if setup.viewer_dir.is_dir():
            if setup.recordings:
                self._recordings = RecordingPages(page, setup.viewer_dir)
                self._recordings.add_to(app)
                if setup.clips:
                    self._clips = ClipRequests(self._recordings.find)
                    self._clips.add_to(app)
                if setup.signed:
                    self._signed = SignedPlaylists(self._recordings.find)
                    self._signed.add_to(app)
            files = StaticFiles(("", setup.viewer_dir), missing=page.missing)
            page.add_to(app)
            app.router.add_get("/{path:.*}", files.answer, name="viewer")
        return app


def sent_metric(metric: Metric) -> SentMetric:
    """A metric as a message."""
    total = None if metric.total is None else tuple(metric.total.items())
    samples = tuple(metric.samples.items())
    return SentMetric(metric.name, metric.text, metric.labels, samples, metric.is_counter, total)


async def health_and_address(request: web.Request) -> web.Response:
    """``health`` with the client network that limits this request; the answer is not cached."""
    answer = await health(request)
    answer.headers["X-Client-Address"] = request.app[ADMISSION].network_text(request)
    return answer


async def on_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Count an answer, and give it the headers of all answers."""
    request.app[CONNECTIONS].complete(request)
    request.app[REQUEST_METRICS].answered(request, response.status)
    headers = response.headers
    headers.update(COMMON_HEADERS)
    # The default: caches revalidate.
    headers.setdefault(hdrs.CACHE_CONTROL, "no-cache")
