"""What the operator's dashboard is given to draw."""

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.admin import Dashboard, History, VariantTable, make_operator_app
from broadcaster.admin.history import ROWS
from broadcaster.errors import EncoderError
from broadcaster.events import SegmentLost, SegmentPublished, SegmentUploaded
from broadcaster.hls import MultivariantPlaylist, Variant
from broadcaster.http.server import NOT_PUBLIC, public_health
from broadcaster.ipc.messages import HealthReport, Ping, Setup, Version, View
from broadcaster.viewer_server.app import ViewerServer
from tests.support.fakes.pipeline_parts import START, stored_segment
from tests.support.fakes.viewer_app import ViewerApp


class DashboardFixture:
    """A viewer server, its history, and the admin application with a dashboard."""

    def __init__(self, folder: Path) -> None:
        self.site = ViewerApp(folder)
        self.history = History(self.site.registry, lambda: self.site.now)
        page = folder / "dashboard"
        page.mkdir()
        (page / "index.html").write_text("<title>dashboard</title>")
        self.app: web.Application = make_operator_app(
            self.site.reported,
            self.site.registry,
            Dashboard(page, folder / "vendor", self.history.since, 0.09),
        )

    def sample(self, later: float = 5) -> None:
        self.site.now += timedelta(seconds=later)
        self.history.sample()


@pytest.fixture
def fixture(tmp_path: Path) -> DashboardFixture:
    return DashboardFixture(tmp_path)


async def test_rows(fixture: DashboardFixture, aiohttp_client: AiohttpClient) -> None:
    """Each row has the metrics as they stood and the last minute's times; none comes twice."""
    client = await aiohttp_client(fixture.app)
    fixture.sample()
    fixture.site.go_live("0")
    for seconds in (0.2, 0.4, 0.3):
        fixture.history(SegmentUploaded("0", "key", 1000, seconds))
    fixture.sample()
    fixture.sample(61)
    answer = await client.get("/dashboard/data.json")
    assert answer.headers["Cache-Control"] == "no-store"
    body = await answer.json()
    assert [row["published"] for row in body["rows"]] == [0, 1, 1]
    assert [row["uploadTime50"] for row in body["rows"]] == [None, 0.3, None]
    assert [row["uploadTime95"] for row in body["rows"]] == [None, 0.4, None]
    assert body["variants"] == ["0"]
    parts = dict.fromkeys(("encoder", "service", "bucket", "viewers"), "ok")
    assert body["verdict"] == {
        "severity": "ok",
        "sentence": "no stream is on",
        "faults": [],
        "parts": parts,
    }
    assert abs(body["now"] / 1000 - time.time()) < 60
    assert body["prices"]["compareEgressPerGb"] == 0.09
    since = body["rows"][1]["time"]
    newer = await (await client.get("/dashboard/data.json", params={"since": since})).json()
    assert newer["rows"] == body["rows"][2:]


def test_each_variant_has_its_figures() -> None:
    """Its bit rate, the age of its last segment, and what was lost, also after a restart."""
    now = START
    table = VariantTable(lambda: now)
    nothing = {"bitrate": None, "age": None, "gaps": 0}
    assert table.row("0") == nothing
    table(
        SegmentPublished(stored_segment("0.ts", size=250_000, seconds=2), START)
    )  # noticed before a restart
    table(SegmentLost("0", "0.ts", "is broken"))
    table(SegmentPublished(stored_segment("0.ts", gap=True), START))
    now += timedelta(seconds=3)
    assert table.row("0") == {"bitrate": 1e6, "age": 3.0, "gaps": 1}
    assert table.row("1") == nothing


async def test_the_path_of_the_token(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The path of the token is in the dashboard's data, which the viewers' listener does not have."""
    site = ViewerApp(tmp_path)
    (tmp_path / "dashboard").mkdir()
    dashboard = Dashboard(tmp_path / "dashboard", tmp_path / "vendor", lambda _: [], 0.09)
    own = replace(dashboard, page=lambda: "/state/operator-token", own=lambda _, page: {"tokenFile": page})
    app = make_operator_app(site.reported, site.registry, own)
    path = "/dashboard/data.json"
    data = await (await (await aiohttp_client(app)).get(path)).json()
    assert data["tokenFile"] == "/state/operator-token"
    public = ViewerServer(Setup(tmp_path / "viewer")).app
    assert (await (await aiohttp_client(public)).get(path)).status == 404


async def test_the_page(fixture: DashboardFixture, aiohttp_client: AiohttpClient) -> None:
    """It is served below its own address, and a wrong question gets a clear answer."""
    client = await aiohttp_client(fixture.app)
    assert "dashboard" in await (await client.get("/dashboard")).text()
    assert (await client.get("/dashboard/data.json?since=x")).status == 400
    assert (await client.get("/dashboard/data.json?since=nan")).status == 200


async def test_the_picture(fixture: DashboardFixture, tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """What the encoder sends is there where Owncast is known, and why not where that does not answer."""
    client = await aiohttp_client(fixture.app)
    assert (await (await client.get("/dashboard/data.json")).json())["picture"] is False
    assert (await client.get("/dashboard/picture.jpg")).status == 404
    pictures = [b"jpeg"]

    async def newest() -> bytes:
        if not pictures:
            raise EncoderError("it refuses connections")
        return pictures.pop()

    dashboard = Dashboard(tmp_path, tmp_path, fixture.history.since, 0.09, newest)
    client = await aiohttp_client(make_operator_app(fixture.site.reported, fixture.site.registry, dashboard))
    assert (await (await client.get("/dashboard/data.json")).json())["picture"] is True
    answer = await client.get("/dashboard/picture.jpg")
    assert (answer.content_type, await answer.read()) == ("image/jpeg", b"jpeg")
    answer = await client.get("/dashboard/picture.jpg")
    assert (answer.status, await answer.text()) == (502, "No picture: it refuses connections.\n")


async def test_it_is_the_operators_alone(fixture: DashboardFixture, aiohttp_client: AiohttpClient) -> None:
    """The viewers' listener has no dashboard."""
    client = await aiohttp_client(fixture.site.app)
    assert (await client.get("/dashboard")).status == 404


async def test_viewers_health_names_no_account(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """The viewers' /health names neither the bucket nor the account."""
    server = ViewerServer(Setup(tmp_path))
    report = HealthReport("live", 3, "bucket b-1 denies access", "account a-1 is nearly full")
    server.handle(Ping(public_health(lambda: report)()))
    answer = await (await aiohttp_client(server.app)).get("/health")
    body = await answer.json()
    assert (answer.status, body["reason"], body["warning"]) == (503, NOT_PUBLIC, NOT_PUBLIC)


def test_the_history_is_bounded(fixture: DashboardFixture) -> None:
    """The last hour is kept, and nothing older."""
    for _ in range(ROWS + 5):
        fixture.sample()
    rows = fixture.history.since(0)
    assert len(rows) == ROWS
    assert rows[0]["time"] == (fixture.site.now.timestamp() - 5 * (ROWS - 1)) * 1000


def test_variants_are_called_as_people_do() -> None:
    """By height and rate, as far as that is known; an only variant has no playlist that would say so."""
    variants = (Variant("0", 2_549_000, resolution=(1280, 720)), Variant("1", 900_000, 750_000))
    view = View(main=Version(MultivariantPlaylist(variants), START, 2))
    assert view.qualities == ("720p, 2.5 Mbit/s", "750 kbit/s")
    assert View().qualities == ()
