"""The operator's HTTP application, on a listener of its own so that a public tunnel cannot expose it.

The operator's token is a file in the state folder.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broadcaster.admin.dashboard import Dashboard, add_dashboard
from broadcaster.errors import ConfigError
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.http.server import ADMIN_HEADERS, HEALTH, Health, allow_hosts, health
from broadcaster.own_files import LARGEST, OTHERS, READ, read_own, write_own
from broadcaster.recordings.admin_api import RecordingsAdmin, add_recordings

MAX_CONNECTIONS = 100
MAX_BODY_BYTES = 65_536

FIGURES = {"metrics", "health", "dashboard_data"}  # routes

REGISTRY = web.AppKey("REGISTRY", CollectorRegistry)
ASK_OWNCAST: web.AppKey[Callable[[], None]] = web.AppKey("ASK_OWNCAST")


def make_operator_app(  # noqa: PLR0913 - what differs between the service and its tests
    report: Health,
    registry: CollectorRegistry,
    dashboard: Dashboard | None = None,
    *,
    ask_owncast: Callable[[], None] | None = None,
    names: Collection[str] = (),
    refresh: Callable[[], Awaitable[None]] | None = None,
    recordings: RecordingsAdmin | None = None,
) -> web.Application:
    """``/metrics`` for Prometheus, ``/health``, the dashboard, and ``/owncast/webhook`` for Owncast.

    ``ask_owncast`` has Owncast asked how it is; without it there is no webhook. ``names`` are those of hosts
    under which it may be asked, besides its address and this machine's own. ``refresh`` brings figures up to
    date before they are told. ``recordings`` does what an operator with the token wants done.
    """
    middlewares = [allow_hosts(names), *([_up_to_date(refresh)] if refresh else [])]
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
    app[CONNECTIONS] = Connections(MAX_CONNECTIONS)
    app.on_response_prepare.append(_on_answer)
    app[HEALTH], app[REGISTRY] = report, registry
    app.router.add_get("/metrics", _metrics, name="metrics")
    app.router.add_get("/health", health, name="health")
    if dashboard:
        add_dashboard(app, dashboard)
    if ask_owncast:
        app[ASK_OWNCAST] = ask_owncast
        app.router.add_post("/owncast/webhook", _webhook, name="owncast_webhook")
    if recordings:
        add_recordings(app, recordings)
    return app


def _up_to_date(refresh: Callable[[], Awaitable[None]]) -> Middleware:
    """What is told is true at that moment."""

    @web.middleware
    async def ask_first(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.name in FIGURES:
            await refresh()
        return await handler(request)

    return ask_first


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)
    response.headers.update(ADMIN_HEADERS)
    response.headers.pop(hdrs.SERVER, None)


async def _metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[REGISTRY])
    return web.Response(
        body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.CACHE_CONTROL: "no-store"}
    )


async def _webhook(request: web.Request) -> web.Response:
    """Have Owncast asked at once: 204; 413 for more than 64 KiB.

    What is sent is not believed, so nobody can do more with a forged one than have Owncast asked.
    """
    await request.read()
    request.app[ASK_OWNCAST]()
    return web.Response(status=204, headers={hdrs.CACHE_CONTROL: "no-store"})


FILE = "operator-token"


def token_file(folder: Path) -> Path:
    """Where the token is."""
    return folder / FILE


def own_token(folder: Path) -> str:
    """The token of the service with this state folder, made at its first start; raises OSError."""
    path = token_file(folder)
    token = read_own(path, OTHERS)
    if not token:  # or it is another user's, or others may know it
        token = secrets.token_urlsafe(32)
        write_own(path, token)
    return token


def stored_token(folder: Path) -> str:
    """The same, for who asks the service; raises ConfigError."""
    try:
        descriptor = os.open(token_file(folder), READ)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "is not a regular file")
            return os.read(descriptor, LARGEST).decode(errors="replace").strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(
            f"BROADCASTER_STATE_DIR: {token_file(folder)}: {error.strerror}; run this as the service's user,"
            " after its first start"
        ) from None
