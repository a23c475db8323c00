"""The operator's dashboard: its page and the JSON data that the page draws."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from aiohttp import hdrs, web

from broadcaster.errors import OwncastError
from broadcaster.http.server import HEALTH
from broadcaster.http.static import StaticFiles
from broadcaster.ipc.messages import HealthPart

Row = dict[str, float | None]  # values at a time, by name of the series
STEP = 5.0  # seconds from one row to the next
ROWS = 720  # an hour
# Dollars; egress is free (developers.cloudflare.com/r2/pricing).
R2_PRICES = {"storagePerGbMonth": 0.015, "classAPerMillion": 4.5, "classBPerMillion": 0.36}


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The sources of the dashboard.

    ``folder`` has its page, ``vendor`` the npm packages. ``rows`` returns the rows that are newer than a time
    in milliseconds since the epoch. ``egress_price`` is the price in dollars of a gigabyte that the server
    itself sends. ``picture`` returns the latest picture as a JPEG or raises OwncastError.
    """

    folder: Path
    vendor: Path
    rows: Callable[[float], list[Row]]
    egress_price: float
    picture: Callable[[], Awaitable[bytes]] | None = None
    own: Callable[[], dict[str, Any]] = dict  # further fields of data.json

    @property
    def prices(self) -> dict[str, float]:
        """Prices in dollars, for the dashboard and the viewers' page."""
        return {**R2_PRICES, "compareEgressPerGb": self.egress_price}


DASHBOARD = web.AppKey("DASHBOARD", Dashboard)


def add_dashboard(app: web.Application, dashboard: Dashboard) -> None:
    """Add the routes below ``/dashboard`` to an application that has a health report."""
    app[DASHBOARD] = dashboard
    app.router.add_get("/dashboard", _redirect, name="dashboard")
    app.router.add_get("/dashboard/data.json", _data, name="dashboard_data")
    if dashboard.picture:
        app.router.add_get("/dashboard/picture.jpg", _picture, name="dashboard_picture")
    files = StaticFiles(("", dashboard.folder), ("vendor/", dashboard.vendor))
    app.router.add_get("/dashboard/{path:.*}", files.answer, name="dashboard_files")


async def _redirect(_: web.Request) -> web.Response:
    return web.Response(status=308, headers={hdrs.LOCATION: "/dashboard/"})


async def _data(request: web.Request) -> web.Response:
    """The rows newer than ``since`` (milliseconds since the epoch) and the present state."""
    dashboard, report = request.app[DASHBOARD], request.app[HEALTH]()
    try:
        since = float(request.query.get("since", "0"))
    except ValueError:
        return web.Response(status=400, text="since has to be a number of milliseconds.\n")
    body = {
        "now": time.time() * 1000,
        "step": STEP,
        "rows": dashboard.rows(since),
        "health": asdict(report),
        "verdict": {
            "severity": report.severity,
            "sentence": report.sentence,
            "parts": {part: report.parts.get(part, "ok") for part in get_args(HealthPart)},
        },
        "variants": report.qualities or report.variants,
        "targetDuration": report.target_duration,
        "listed": report.listed,
        "prices": dashboard.prices,
        "picture": dashboard.picture is not None,
        **dashboard.own(),
    }
    return web.json_response(body, headers={hdrs.CACHE_CONTROL: "no-store"})


async def _picture(request: web.Request) -> web.Response:
    """Owncast's latest picture of the stream; 502 with the reason when there is none."""
    picture = request.app[DASHBOARD].picture
    try:
        body = await picture() if picture else b""
    except OwncastError as error:
        return web.Response(status=502, text=f"Owncast: {error}.\n")
    return web.Response(body=body, content_type="image/jpeg", headers={hdrs.CACHE_CONTROL: "no-store"})
