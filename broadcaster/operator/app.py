"""What the operator sees: a listener of its own, so that no tunnel can show it to the world by accident."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broadcaster.web.connections import CONNECTIONS, Connections
from broadcaster.web.dashboard import Dashboard, add_dashboard
from broadcaster.web.health import HEALTH, Health, health

MAX_CONNECTIONS = 100
MAX_BODY_BYTES = 65_536

REGISTRY = web.AppKey("REGISTRY", CollectorRegistry)
ASK_OWNCAST: web.AppKey[Callable[[], None]] = web.AppKey("ASK_OWNCAST")


def make_operator_app(
    report: Health,
    registry: CollectorRegistry,
    dashboard: Dashboard | None = None,
    ask_owncast: Callable[[], None] | None = None,
) -> web.Application:
    """``/metrics`` for Prometheus, ``/health``, the dashboard, and ``/owncast/webhook`` for Owncast.

    ``ask_owncast`` has Owncast asked how it is; without it there is no webhook.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES)
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
    return app


async def _on_answer(request: web.Request, _: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)


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
