"""All routes of the service in one application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broadcaster.channel import Channel
from broadcaster.web import playlists
from broadcaster.web.playlists import CHANNEL, NO_STORE, WAITING_ROOM
from broadcaster.web.traffic import Traffic
from broadcaster.web.waiting import WaitingRoom

# cloudflared keeps idle connections for 90 s; the side that closes first must not be ours.
KEEPALIVE_TIMEOUT = 120.0  # seconds
SHUTDOWN_TIMEOUT = 2.0  # seconds
# Players' requests are small. What is larger is an attempt to make us hold it.
MAX_LINE_BYTES = 4096
MAX_FIELD_BYTES = 4096
MAX_BODY_BYTES = 65_536
DEFAULT_MAX_WAITERS = 5000


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the service is. ``reason`` is why a stream that is on does not get through.

    ``warning`` is what viewers do not suffer from yet.
    """

    stream: str
    backlog: int
    reason: str | None
    warning: str | None = None


Health = Callable[[], HealthReport]

HEALTH: web.AppKey[Health] = web.AppKey("HEALTH")
REGISTRY = web.AppKey("REGISTRY", CollectorRegistry)
VIEWER_DIR = web.AppKey("VIEWER_DIR", Path)
TRAFFIC = web.AppKey("TRAFFIC", Traffic)


def make_app(
    channel: Channel,
    health: Health,
    registry: CollectorRegistry,
    viewer_dir: Path,
    *,
    max_waiters: int = DEFAULT_MAX_WAITERS,
) -> web.Application:
    """The application; ``viewer_dir`` is served at ``/`` if it is there.

    Up to ``max_waiters`` requests wait for a later version of a playlist at a time.
    """
    traffic = Traffic(registry)
    room = WaitingRoom(max_waiters, traffic.woke_up, channel.clock)
    traffic.watch(room)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[CHANNEL], app[HEALTH], app[REGISTRY], app[VIEWER_DIR] = channel, health, registry, viewer_dir
    app[TRAFFIC], app[WAITING_ROOM] = traffic, room
    app.on_response_prepare.append(_on_answer)
    app.on_shutdown.append(room.close)
    app.router.add_get("/live/playlist.m3u8", playlists.main, name="main_playlist")
    app.router.add_get("/live/{variant}/playlist.m3u8", playlists.media, name="media_playlist")
    app.router.add_route(hdrs.METH_OPTIONS, "/live/{path:.*}", playlists.preflight, name="preflight")
    app.router.add_get("/health", _health, name="health")
    app.router.add_get("/metrics", _metrics, name="metrics")
    if viewer_dir.is_dir():
        app.router.add_get("/", _index, name="index")
        app.router.add_static("/", viewer_dir, name="viewer")
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """The server around the application."""
    return web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # a client that leaves frees its place in the waiting room
        keepalive_timeout=KEEPALIVE_TIMEOUT,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
    )


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[TRAFFIC].answered(request, response)
    response.headers[hdrs.SERVER] = "broadcaster"
    response.headers.setdefault(
        hdrs.CACHE_CONTROL, "no-cache"
    )  # the viewer: ask each time whether it changed


async def _index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(request.app[VIEWER_DIR] / "index.html")


async def _metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[REGISTRY])
    return web.Response(
        body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.CACHE_CONTROL: "no-store"}
    )


async def _health(request: web.Request) -> web.Response:
    """200 while ingest and storage work or no stream is on, 503 when one is on and does not get through."""
    report = request.app[HEALTH]()
    channel = request.app[CHANNEL]
    body = {
        "status": "failing" if report.reason else "ok",
        "stream": report.stream,
        "reason": report.reason,
        "warning": report.warning,
        "chunks": channel.published,
        "manifestChunks": channel.listed,
        "backlog": report.backlog,
        "peers": 0,
        "torrents": 0,
        "signaling": False,
    }
    return web.json_response(body, status=503 if report.reason else 200, headers=NO_STORE)
