"""The public listener: all routes that viewers need, and none that they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry

from broadcaster.figures import Figures
from broadcaster.live import Channel
from broadcaster.web import playlists
from broadcaster.web.beacon import BEACON, Beacon, beacon
from broadcaster.web.connections import CONNECTIONS, Connections
from broadcaster.web.dashboard import Dashboard, add_dashboard
from broadcaster.web.event_stream import EVENT_STREAM, EventStream, events
from broadcaster.web.health import CHANNEL, HEALTH, Health, for_the_world, health
from broadcaster.web.page import PAGE, VIEWER_DIR, index, page_config
from broadcaster.web.playlists import WAITING_ROOM
from broadcaster.web.tracker_socket import Signaling
from broadcaster.web.traffic import Traffic
from broadcaster.web.waiting import WaitingRoom

# Players' requests are small. What is larger is an attempt to make us hold it.
MAX_BODY_BYTES = 65_536

TRAFFIC = web.AppKey("TRAFFIC", Traffic)


@dataclass(frozen=True, slots=True)
class PublicOptions:
    """How the public listener is set up.

    ``viewer_dir`` is served at ``/`` if it is there, ``page`` is what its page is told. Up to
    ``max_waiters`` requests wait for a later version of a playlist at a time, on at most ``max_connections``.
    ``signaling`` is the tracker, where it is on; ``dashboard`` the operator's, if all the world may see it.
    """

    viewer_dir: Path
    page: Mapping[str, object] = field(default_factory=dict)
    max_waiters: int = 5000
    max_connections: int = 10_000
    signaling: Signaling | None = None
    dashboard: Dashboard | None = None


def make_public_app(
    channel: Channel,
    report: Health,
    event_stream: EventStream,
    registry: CollectorRegistry,
    options: PublicOptions,
) -> web.Application:
    """What the world sees: playlists, events, the page, and whether the service is well."""
    traffic = Traffic(registry)
    room = WaitingRoom(options.max_waiters, traffic.woke_up, channel.clock)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[CHANNEL], app[TRAFFIC], app[WAITING_ROOM] = channel, traffic, room
    app[HEALTH] = for_the_world(report)  # /health, and the dashboard if it is shown
    app[EVENT_STREAM], app[BEACON] = event_stream, Beacon()
    app[CONNECTIONS] = Connections(options.max_connections)
    sources = [
        traffic.figures,
        room.figures,
        event_stream.figures,
        app[BEACON].figures,
        app[CONNECTIONS].figures,
    ]
    sources += [options.signaling.figures] if options.signaling else []
    registry.register(Figures(*sources))
    app[VIEWER_DIR], app[PAGE] = options.viewer_dir, dict(options.page)
    app.on_response_prepare.append(_on_answer)
    app.on_shutdown.extend((room.close, event_stream.close))
    app.router.add_get("/live/playlist.m3u8", playlists.main, name="main_playlist")
    app.router.add_get("/live/{variant}/playlist.m3u8", playlists.media, name="media_playlist")
    app.router.add_get("/live/events", events, name="events", allow_head=False)
    app.router.add_post("/live/beacon", beacon, name="beacon")
    if options.signaling:
        app.on_shutdown.append(options.signaling.close)
        app.router.add_get("/live/tracker", options.signaling.handle, name="tracker", allow_head=False)
    app.router.add_route(hdrs.METH_OPTIONS, "/live/{path:.*}", playlists.preflight, name="preflight")
    app.router.add_get("/health", health, name="health")
    if options.dashboard:
        add_dashboard(app, options.dashboard)
    if options.viewer_dir.is_dir():
        app.router.add_get("/", index, name="index")
        app.router.add_get("/config.json", page_config, name="page_config")
        app.router.add_static("/", options.viewer_dir, name="viewer")
    return app


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)
    request.app[TRAFFIC].answered(request, response)
    headers = response.headers
    headers[hdrs.SERVER] = "broadcaster"
    headers["X-Content-Type-Options"] = "nosniff"
    # The page's own files: ask each time whether they changed.
    headers.setdefault(hdrs.CACHE_CONTROL, "no-cache")
