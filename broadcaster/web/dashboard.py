"""The operator's dashboard: its page, and the figures that it draws."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import hdrs, web

from broadcaster.web.health import CHANNEL, HEALTH
from broadcaster.web.history import STEP, History

# Dollars; egress is free (developers.cloudflare.com/r2/pricing).
R2_PRICES = {"storagePerGbMonth": 0.015, "classAPerMillion": 4.5, "classBPerMillion": 0.36}


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the dashboard is made of.

    ``folder`` has its page, ``vendor`` what npm brought; ``egress_price`` is
    what a gigabyte would cost, in dollars, if the server itself sent it.
    """

    folder: Path
    vendor: Path
    history: History
    egress_price: float


DASHBOARD = web.AppKey("DASHBOARD", Dashboard)


def add_dashboard(app: web.Application, dashboard: Dashboard) -> None:
    """Serve it at ``/dashboard``; of an application that has a channel and its health."""
    app[DASHBOARD] = dashboard
    app.router.add_get("/dashboard", _redirect, name="dashboard")
    app.router.add_get("/dashboard/", _page, name="dashboard_page")
    app.router.add_get("/dashboard/data.json", _data, name="dashboard_data")
    for path, folder in (("/dashboard/vendor/", dashboard.vendor), ("/dashboard/", dashboard.folder)):
        if folder.is_dir():
            app.router.add_static(path, folder)


async def _redirect(_: web.Request) -> web.Response:
    return web.Response(status=308, headers={hdrs.LOCATION: "/dashboard/"})


async def _page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(request.app[DASHBOARD].folder / "index.html")


async def _data(request: web.Request) -> web.Response:
    """Rows that are newer than ``since`` (milliseconds since the epoch), and how everything stands now."""
    dashboard, channel = request.app[DASHBOARD], request.app[CHANNEL]
    try:
        since = float(request.query.get("since", "0"))
    except ValueError:
        return web.Response(status=400, text="since has to be a number of milliseconds.\n")
    body = {
        "step": STEP,
        "rows": dashboard.history.since(since),
        "health": asdict(request.app[HEALTH]()),
        "variants": channel.variants,
        "targetDuration": channel.target_duration,
        "listed": channel.listed,
        "prices": {**R2_PRICES, "compareEgressPerGb": dashboard.egress_price},
    }
    return web.json_response(body, headers={hdrs.CACHE_CONTROL: "no-store"})
