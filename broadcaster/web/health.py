"""How the service is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web

from broadcaster.live import Channel


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the service is. ``reason`` is why a stream that is on does not get through.

    ``warning`` is what viewers do not suffer from yet. ``signaling`` is whether the tracker is on,
    ``torrents`` its swarms.
    """

    stream: str
    backlog: int
    reason: str | None
    warning: str | None = None
    peers: int = 0
    torrents: int = 0
    signaling: bool = False


Health = Callable[[], HealthReport]

NOT_TOLD = "/health on the operator's listener says why"

CHANNEL = web.AppKey("CHANNEL", Channel)
HEALTH: web.AppKey[Health] = web.AppKey("HEALTH")


def for_the_world(report: Health) -> Health:
    """How the service is, for the world: reasons name the bucket and the account, so they are not told."""

    def told() -> HealthReport:
        now = report()
        return replace(now, reason=now.reason and NOT_TOLD, warning=now.warning and NOT_TOLD)

    return told


async def health(request: web.Request) -> web.Response:
    """200 while ingest and storage work or no stream is on, 503 when one is on and does not get through."""
    channel, report = request.app[CHANNEL], request.app[HEALTH]()
    body = {
        "status": "failing" if report.reason else "ok",
        "stream": report.stream,
        "reason": report.reason,
        "warning": report.warning,
        "chunks": channel.published,
        "manifestChunks": channel.listed,
        "backlog": report.backlog,
        "peers": report.peers,
        "torrents": report.torrents,
        "signaling": report.signaling,
    }
    return web.json_response(
        body, status=503 if report.reason else 200, headers={"Cache-Control": "no-store"}
    )
