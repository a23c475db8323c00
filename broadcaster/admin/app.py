"""The operator's HTTP application and its dashboard, on a listener that no public tunnel exposes.

The operator's token is a file in the state folder.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import stat
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urljoin

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from broadcaster.access.invitations import Invitation, card
from broadcaster.access.keeper import Keeper
from broadcaster.admin.history import STEP, Row
from broadcaster.errors import ConfigError, EncoderError, NotPossible
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.http.server import ADMIN_HEADERS, HEALTH, Health, allow_hosts, health
from broadcaster.http.static import StaticFiles
from broadcaster.ipc.messages import HealthPart, HealthReport
from broadcaster.own_files import LARGEST, OTHERS, READ, read_own, write_own
from broadcaster.recordings.admin_api import Call, RecordingsAdmin, add_recordings, authorized, refusal

MAX_CONNECTIONS = 100
MAX_BODY_BYTES = 65_536
REFRESHED = {"metrics", "health", "dashboard_data"}  # routes whose metrics are fetched for each request
NO_STORE = {hdrs.CACHE_CONTROL: "no-store"}
# Dollars; egress is free (developers.cloudflare.com/r2/pricing).
R2_PRICES = {"storagePerGbMonth": 0.015, "classAPerMillion": 4.5, "classBPerMillion": 0.36}
TOKEN_FILE = "operator-token"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The sources of the dashboard.

    ``folder`` has its page, ``vendor`` the npm packages. ``rows`` returns the rows that are newer than a time
    in milliseconds since the epoch. ``egress_price`` is in dollars for a gigabyte that the server itself
    sends. ``picture`` returns the latest picture as a JPEG or raises EncoderError. ``page`` reads the address
    with which links begin; with it, ``own`` returns further fields of data.json, of the moment of the report.
    """

    folder: Path
    vendor: Path
    rows: Callable[[float], list[Row]]
    egress_price: float
    picture: Callable[[], Awaitable[bytes]] | None = None
    own: Callable[[HealthReport, str], dict[str, Any]] = lambda _, __: {}
    page: Callable[[], str] = str

    @property
    def prices(self) -> dict[str, float]:
        """Prices in dollars, for the dashboard and the viewers' page."""
        return {**R2_PRICES, "compareEgressPerGb": self.egress_price}


@dataclass(frozen=True, slots=True)
class Lead:
    """The request for the lead, which needs the operator's token. ``want`` raises NotPossible."""

    token: str
    want: Callable[[], None]


REGISTRY = web.AppKey("REGISTRY", CollectorRegistry)
ASK_OWNCAST: web.AppKey[Callable[[], None]] = web.AppKey("ASK_OWNCAST")
DASHBOARD = web.AppKey("DASHBOARD", Dashboard)


def make_operator_app(  # noqa: PLR0913 - the parts that the service has and tests leave out
    report: Health,
    registry: CollectorRegistry,
    dashboard: Dashboard | None = None,
    *,
    ask_owncast: Callable[[], None] | None = None,
    names: Collection[str] = (),
    refresh: Callable[[], Awaitable[None]] | None = None,
    recordings: RecordingsAdmin | None = None,
    access: Access | None = None,
    lead: Lead | None = None,
) -> web.Application:
    """The application: ``/metrics``, ``/health``, the dashboard, the recordings' API, Owncast's webhook.

    ``ask_owncast`` queries Owncast at once; without it there is no webhook. ``names`` are further host names
    that requests may have. ``refresh`` fetches the viewer server's metrics. ``access`` is of a private event.
    ``lead`` asks for the lead; without ``recordings`` this broadcaster stands by.
    """
    middlewares = [allow_hosts(names), *([_refreshing(refresh)] if refresh else [])]
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
    app[CONNECTIONS] = Connections(MAX_CONNECTIONS)
    app.on_response_prepare.append(_on_answer)
    app[HEALTH], app[REGISTRY] = report, registry
    app.router.add_get("/metrics", _metrics, name="metrics")
    app.router.add_get("/health", health, name="health")
    if dashboard:
        _add_dashboard(app, dashboard)
    if ask_owncast:
        app[ASK_OWNCAST] = ask_owncast
        app.router.add_post("/owncast/webhook", _webhook, name="owncast_webhook")
    if lead:
        app.router.add_post("/api/lead", partial(_lead, lead))
        if not recordings:
            app.router.add_route("*", "/api/{path:.*}", partial(_elsewhere, lead))
    if recordings:
        add_recordings(app, recordings)
        for method, path, call in (
            ("GET", "access", _access),
            ("PUT", "access/passphrase", _set_passphrase),
            ("PUT", "access/doors", _set_doors),
            ("GET", "access/invitations", _invitations),
            ("POST", "access/invitations", _invite),
            ("GET", "access/invitations/{id}", _card),
            ("DELETE", "access/invitations/{id}", _revoke),
        ):
            guarded: Call = partial(call, access or Access(None))
            app.router.add_route(method, f"/api/{path}", partial(authorized, guarded, recordings))
    return app


async def _lead(lead: Lead, request: web.Request) -> web.Response:
    """Ask the broadcaster that leads for the lead: 202."""
    if answer := refusal(lead.token, request):
        return answer
    try:
        lead.want()
    except NotPossible as error:
        return web.json_response({"error": str(error)}, status=error.status)
    return web.json_response({}, status=202, headers=NO_STORE)


async def _elsewhere(lead: Lead, request: web.Request) -> web.Response:
    """Where a standby's recordings and guests are managed: 409."""
    error = NotPossible("this broadcaster stands by: give this command on the machine of the one that leads")
    return refusal(lead.token, request) or web.json_response({"error": str(error)}, status=error.status)


class NewPassphrase(BaseModel):
    """The passphrase of a private event."""

    model_config = ConfigDict(extra="forbid")

    passphrase: str


class NewDoors(BaseModel):
    """Whether the doors are open. ``keep``: guests may see what was before. ``opens``: when they open."""

    model_config = ConfigDict(extra="forbid")

    open: bool
    keep: bool = False
    opens: AwareDatetime | None = None


class NewInvitation(BaseModel):
    """An invitation for a guest, or for all guests; ``crew``: also while the doors are closed."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    until: AwareDatetime
    crew: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """What the API of a private event uses; without a ``keeper`` the event is public.

    ``event`` reads the page's settings; ``address`` is that of the viewers' listener.
    """

    keeper: Keeper | None
    event: Callable[[], Mapping[str, object]] = dict
    address: str = ""

    @property
    def its_keeper(self) -> Keeper:
        """The keeper. Raises NotPossible."""
        if self.keeper is None:
            raise NotPossible("the event is public: set BROADCASTER_ACCESS, and restart the service")
        return self.keeper

    def link(self, path: str, event: Mapping[str, object]) -> str:
        """The URL of a path of the viewers' listener, as guests reach it."""
        page = event.get("pageUrl")
        is_known = isinstance(page, str) and page.startswith(("http://", "https://"))
        return urljoin(page if isinstance(page, str) and is_known else self.address, path)

    def described(self, invitation: Invitation, event: Mapping[str, object]) -> dict[str, Any]:
        """An invitation as JSON."""
        keeper = self.its_keeper
        path = keeper.path_of(invitation)
        return {
            "id": invitation.grant,
            "name": invitation.name,
            "created": datetime.fromtimestamp(invitation.created, UTC).isoformat(),
            "until": datetime.fromtimestamp(invitation.until, UTC).isoformat(),
            "crew": invitation.crew,
            "opened": invitation.opened,
            "watching": keeper.watching.get(invitation.grant, 0),
            "path": path,
            "link": self.link(path, event),
        }


async def _access(access: Access, _: RecordingsAdmin, __: web.Request) -> web.Response:
    keeper = access.keeper
    opens = keeper.doors.opens if keeper and not keeper.doors.open else None
    body = {
        "access": keeper.mode if keeper else "public",
        "passphrase": bool(keeper and keeper.has_passphrase),
        "doors": "open" if keeper is None or keeper.doors.open else "closed",
        "opens": opens and datetime.fromtimestamp(opens, UTC).isoformat(),
    }
    return web.json_response(body, headers=NO_STORE)


async def _set_passphrase(access: Access, _: RecordingsAdmin, request: web.Request) -> web.Response:
    change = NewPassphrase.model_validate_json(await request.read())
    await access.its_keeper.set_passphrase(change.passphrase)
    return web.json_response({}, headers=NO_STORE)


async def _set_doors(access: Access, _: RecordingsAdmin, request: web.Request) -> web.Response:
    change = NewDoors.model_validate_json(await request.read())
    if change.open:
        await access.its_keeper.open_doors(keep=change.keep)
    else:
        await access.its_keeper.close_doors(change.opens.timestamp() if change.opens else None)
    return web.json_response({}, headers=NO_STORE)


async def _invitations(access: Access, _: RecordingsAdmin, __: web.Request) -> web.Response:
    event = await asyncio.to_thread(access.event)
    found = [access.described(invitation, event) for invitation in access.its_keeper.invitations]
    return web.json_response({"invitations": found}, headers=NO_STORE)


async def _invite(access: Access, _: RecordingsAdmin, request: web.Request) -> web.Response:
    wanted = NewInvitation.model_validate_json(await request.read())
    invitation = await access.its_keeper.invite(wanted.name, int(wanted.until.timestamp()), crew=wanted.crew)
    event = await asyncio.to_thread(access.event)
    return web.json_response(access.described(invitation, event), status=201, headers=NO_STORE)


async def _card(access: Access, _: RecordingsAdmin, request: web.Request) -> web.Response:
    """An invitation, with its link as a QR code and the date for calendars."""
    invitation = _invitation(access.its_keeper, request)
    event = await asyncio.to_thread(access.event)
    link = access.link(access.its_keeper.path_of(invitation), event)
    found = await asyncio.to_thread(card, invitation, link, event, datetime.now(UTC))
    return web.json_response(access.described(invitation, event) | found, headers=NO_STORE)


async def _revoke(access: Access, _: RecordingsAdmin, request: web.Request) -> web.Response:
    await access.its_keeper.revoke(_invitation(access.its_keeper, request).grant)
    return web.json_response({}, headers=NO_STORE)


def _invitation(keeper: Keeper, request: web.Request) -> Invitation:
    try:
        return keeper.invitations[request.match_info["id"]]
    except KeyError:
        raise web.HTTPNotFound from None


def _add_dashboard(app: web.Application, dashboard: Dashboard) -> None:
    app[DASHBOARD] = dashboard
    app.router.add_get("/dashboard", _redirect, name="dashboard")
    app.router.add_get("/dashboard/data.json", _data, name="dashboard_data")
    if dashboard.picture:
        app.router.add_get("/dashboard/picture.jpg", _picture, name="dashboard_picture")
    files = StaticFiles(("", dashboard.folder), ("vendor/", dashboard.vendor))
    app.router.add_get("/dashboard/{path:.*}", files.answer, name="dashboard_files")


def _refreshing(refresh: Callable[[], Awaitable[None]]) -> Middleware:
    @web.middleware
    async def refresh_first(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.route.name in REFRESHED:
            await refresh()
        return await handler(request)

    return refresh_first


async def _on_answer(request: web.Request, response: web.StreamResponse) -> None:
    request.app[CONNECTIONS].complete(request)
    response.headers.update(ADMIN_HEADERS)
    response.headers.pop(hdrs.SERVER, None)


async def _metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[REGISTRY])
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, **NO_STORE})


async def _webhook(request: web.Request) -> web.Response:
    """Query Owncast at once: 204; 413 for more than 64 KiB.

    The body is not used, so a forged request can only cause a query.
    """
    await request.read()
    request.app[ASK_OWNCAST]()
    return web.Response(status=204, headers=NO_STORE)


async def _redirect(_: web.Request) -> web.Response:
    return web.Response(status=308, headers={hdrs.LOCATION: "/dashboard/"})


async def _data(request: web.Request) -> web.Response:
    """The rows newer than ``since`` (milliseconds since the epoch) and the present state."""
    dashboard = request.app[DASHBOARD]
    page = await asyncio.to_thread(dashboard.page)
    report = request.app[HEALTH]()
    try:
        since = float(request.query.get("since", "0"))
    except ValueError:
        return web.Response(status=400, text="since must be a number of milliseconds.\n")
    body = {
        "now": time.time() * 1000,
        "step": STEP,
        "rows": dashboard.rows(since),
        "health": asdict(report),
        "verdict": {
            "severity": report.severity,
            "sentence": report.sentence,
            "faults": [fault._asdict() for fault in report.faults],
            "parts": {part: report.parts.get(part, "ok") for part in get_args(HealthPart)},
        },
        "variants": report.qualities or report.variants,
        "targetDuration": report.target_duration,
        "listed": report.listed,
        "prices": dashboard.prices,
        "picture": dashboard.picture is not None,
        **dashboard.own(report, page),
    }
    return web.json_response(body, headers=NO_STORE)


async def _picture(request: web.Request) -> web.Response:
    """The latest picture of the stream; 502 with the reason when there is none."""
    picture = request.app[DASHBOARD].picture
    try:
        body = await picture() if picture else b""
    except EncoderError as error:
        return web.Response(status=502, text=f"No picture: {error}.\n")
    return web.Response(body=body, content_type="image/jpeg", headers=NO_STORE)


def token_file(folder: Path) -> Path:
    """The path of the token in the state folder."""
    return folder / TOKEN_FILE


def own_token(folder: Path) -> str:
    """The token of the service with this state folder, made at its first start. Raises OSError."""
    path = token_file(folder)
    token = read_own(path, OTHERS)
    if not token:  # or the file is another user's, or open to other users
        token = secrets.token_urlsafe(32)
        write_own(path, token)
    return token


def stored_token(folder: Path) -> str:
    """The token of a running service, for its clients. Raises ConfigError."""
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
