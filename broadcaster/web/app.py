"""All routes of the service in one application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broadcaster.channel import Channel
from broadcaster.web import playlists
from broadcaster.web.playlists import CHANNEL, NO_STORE

# cloudflared keeps idle connections for 90 s; the side that closes first must not be ours.
KEEPALIVE_TIMEOUT = 120.0  # seconds
SHUTDOWN_TIMEOUT = 2.0  # seconds


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


def make_app(
    channel: Channel, health: Health, registry: CollectorRegistry, viewer_dir: Path
) -> web.Application:
    """The application; ``viewer_dir`` is served at ``/`` if it is there."""
    app = web.Application()
    app[CHANNEL], app[HEALTH], app[REGISTRY], app[VIEWER_DIR] = channel, health, registry, viewer_dir
    app.on_response_prepare.append(_common_headers)
    app.router.add_get("/live/playlist.m3u8", playlists.main)
    app.router.add_get("/live/{variant}/playlist.m3u8", playlists.media)
    app.router.add_route(hdrs.METH_OPTIONS, "/live/{path:.*}", playlists.preflight)
    app.router.add_get("/health", _health)
    app.router.add_get("/metrics", _metrics)
    if viewer_dir.is_dir():
        app.router.add_get("/", _index)
        app.router.add_static("/", viewer_dir)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """The server around the application."""
    return web.AppRunner(
        app, access_log=None, keepalive_timeout=KEEPALIVE_TIMEOUT, shutdown_timeout=SHUTDOWN_TIMEOUT
    )


async def _common_headers(_: web.Request, response: web.StreamResponse) -> None:
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
