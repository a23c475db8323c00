"""What the operator sees: a listener of its own, so that no tunnel can show it to the world by accident."""

from __future__ import annotations

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broadcaster.channel import Channel
from broadcaster.web.connections import CONNECTIONS, Connections
from broadcaster.web.dashboard import Dashboard, add_dashboard
from broadcaster.web.health import CHANNEL, HEALTH, Health, health

MAX_CONNECTIONS = 100

REGISTRY = web.AppKey("REGISTRY", CollectorRegistry)


def make_operator_app(
    channel: Channel, report: Health, registry: CollectorRegistry, dashboard: Dashboard | None = None
) -> web.Application:
    """``/metrics`` for Prometheus, ``/health``, and the dashboard."""
    app = web.Application()
    app[CONNECTIONS] = Connections(MAX_CONNECTIONS)
    app.on_response_prepare.append(_on_answer)
    app[CHANNEL], app[HEALTH], app[REGISTRY] = channel, report, registry
    app.router.add_get("/metrics", _metrics, name="metrics")
    app.router.add_get("/health", health, name="health")
    if dashboard:
        add_dashboard(app, dashboard)
    return app


async def _on_answer(request: web.Request, _: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)


async def _metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[REGISTRY])
    return web.Response(
        body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.CACHE_CONTROL: "no-store"}
    )
