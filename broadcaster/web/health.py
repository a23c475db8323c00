"""How the service is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from broadcaster.feed import HealthReport

Health = Callable[[], HealthReport]

NOT_TOLD = "/health on the operator's listener says why"

HEALTH: web.AppKey[Callable[[], HealthReport]] = web.AppKey("HEALTH")


def for_the_world(report: Health) -> Health:
    """How the service is, for the world: reasons name the bucket and the account, so they are not told."""

    def told() -> HealthReport:
        now = report()
        return replace(now, reason=now.reason and NOT_TOLD, warning=now.warning and NOT_TOLD)

    return told


async def health(request: web.Request) -> web.Response:
    """200 while ingest and storage work or no stream is on, 503 when one is on and does not get through."""
    report = request.app[HEALTH]()
    body = {
        "status": "failing" if report.reason else "ok",
        "stream": report.stream,
        "reason": report.reason,
        "warning": report.warning,
        "chunks": report.published,
        "manifestChunks": report.listed,
        "backlog": report.backlog,
        "peers": report.peers,
        "torrents": report.torrents,
        "signaling": report.signaling,
    }
    return web.json_response(
        body, status=503 if report.reason else 200, headers={"Cache-Control": "no-store"}
    )
