"""What a relay's operator sees, on a listener of its own: one small page, ``/health`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from html import escape

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from broadcaster.feed import HealthReport
from broadcaster.relay.standing import Standing
from broadcaster.web.connections import CONNECTIONS, Connections
from broadcaster.web.health import HEALTH, health
from broadcaster.web.own_name import CLOSED, asked_by_name

MAX_CONNECTIONS = 100
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width">
<title>{sentence}</title>
<style>
body {{ font: 1.1rem/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }}
h1 {{ font-size: 1.4rem }} th {{ text-align: left; padding-right: 2rem; font-weight: normal }}
td {{ font-variant-numeric: tabular-nums }}
</style>
<h1>{sentence}</h1>
<table>{rows}</table>
"""


def make_desk(
    report: Callable[[], HealthReport],
    standing: Standing,
    registry: CollectorRegistry,
    names: Collection[str] = (),
) -> web.Application:
    """``report`` is how the relay is, with its viewers; ``names`` as those of the service's operator."""

    async def page(_: web.Request) -> web.Response:
        told, savings = report(), standing.savings
        rows = {
            "Uplink": standing.uplink,
            "Viewers": str(told.viewers),
            "Hit rate": f"{savings.hit_rate:.1%} of {savings.answers} answers",
            "Fetched": f"{savings.fetched} objects, {savings.received / 1e6:,.1f} MB",
            "Sent to viewers": f"{savings.sent / 1e6:,.1f} MB",
            "Saved": f"{savings.bytes / 1e6:,.1f} MB",
        }
        lines = "".join(f"<tr><th>{name}<td>{escape(text)}" for name, text in rows.items())
        text = PAGE.format(sentence=escape(told.sentence), rows=lines)
        return web.Response(text=text, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})

    async def metrics(_: web.Request) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=generate_latest(registry), headers=headers)

    app = web.Application(middlewares=[asked_by_name(names)])
    app[CONNECTIONS], app[HEALTH] = Connections(MAX_CONNECTIONS), report
    app.on_response_prepare.append(_on_answer)
    app.router.add_get("/dashboard", page, name="dashboard")
    app.router.add_get("/health", health, name="health")
    app.router.add_get("/metrics", metrics, name="metrics")
    return app


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)
    response.headers.update(CLOSED)
    response.headers.pop(hdrs.SERVER, None)
