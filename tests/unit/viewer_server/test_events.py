"""The events for pages, and their reports."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp_sse import EventSourceResponse

from broadcaster.ipc.messages import Ended, HealthReport, Started
from broadcaster.viewer_server.events import HEARTBEAT, REMEMBERED_MESSAGES, Reader
from broadcaster.viewer_server.reports import MAX_NETWORKS, MAX_SECONDS, ImplausibleReport, PlaybackReports
from tests.api_schemas import check_event
from tests.support.fakes.playback_reports import beacon_of, name_of
from tests.support.fakes.viewer_app import Client, ViewerApp
from tests.support.waiting import eventually


@pytest.fixture
def site(tmp_path: Path) -> ViewerApp:
    return ViewerApp(tmp_path, max_waiters=1)


async def next_event(stream: ClientResponse) -> tuple[dict[str, str], Any]:
    """The fields of the next event, and its data."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(60):
        while line := (await stream.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
    data = json.loads(fields["data"])
    check_event(fields["event"], data)
    return fields, data


async def test_a_page_gets_each_event(site: ViewerApp, client: Client) -> None:
    """First how things stand, then each event as it comes, with ids that rise."""
    stream = await client.get("/live/events")
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.headers["Access-Control-Allow-Origin"] == "*"
    fields, state = await next_event(stream)
    assert fields["event"] == "state"
    assert int(fields["retry"]) > 0
    assert state["state"] == "offline"
    assert state["segments"] == []
    site.go_live("0")
    fields, starting = await next_event(stream)
    assert (fields["event"], starting) == ("starting", {"now": site.now.timestamp() * 1000})
    first, segment = await next_event(stream)
    assert first["event"] == "segment"
    assert segment["sequence"] == 1
    assert segment["url"] == "https://b/1.ts"
    assert segment["sha256"] == "abc"
    assert segment["size"] == 1000
    assert segment["programDateTime"] == site.now.timestamp() * 1000
    assert segment["encoderOffset"] == 4000  # four seconds of video, finished when it began
    second, started = await next_event(stream)
    assert (second["event"], started["variants"], started["run"]) == ("started", ["0"], "r0")
    assert int(second["id"]) == int(first["id"]) + 1
    site.channel.end()
    fields, ended = await next_event(stream)
    assert fields["event"] == "ended"
    assert ended == {"now": site.now.timestamp() * 1000, "goingOn": False}


async def test_new_playlists_follow_at_once(site: ViewerApp, client: Client) -> None:
    """A page can distinguish such an end from that of the stream, whether it was there or comes meanwhile."""
    stream = await client.get("/live/events")
    assert (await next_event(stream))[1]["goingOn"] is False
    site.server.handle(Ended(site.now, going_on=True))
    assert (await next_event(stream))[1]["goingOn"] is True
    stream.close()
    site.server.event_stream.most += 1
    stream = await client.get("/live/events")
    assert (await next_event(stream))[1]["goingOn"] is True
    site.server.handle(Started(("0",), 4, "s", site.now))
    await next_event(stream)
    assert site.server.event_stream.state()["goingOn"] is False


async def test_a_viewer_problem_is_sent_when_it_changes(site: ViewerApp, client: Client) -> None:
    """Once for each change, in the words that the world may know, and to whoever comes meanwhile."""
    stream = await client.get("/live/events")
    assert (await next_event(stream))[1]["trouble"] is None
    site.report(HealthReport("live", 0, None))
    site.report(HealthReport("live", 3, "bucket b-1 denies access", trouble="delivery"))
    site.report(HealthReport("live", 4, "bucket b-1 denies access", trouble="delivery"))
    fields, data = await next_event(stream)
    assert fields["event"] == "trouble"
    assert data == {"now": site.now.timestamp() * 1000, "trouble": "delivery"}
    assert site.server.event_stream.state()["trouble"] == "delivery"
    site.report(HealthReport("live", 0, None, trouble="encoder"))
    assert (await next_event(stream))[1]["trouble"] == "encoder"
    site.report(HealthReport("live", 0, None))
    assert (await next_event(stream))[1]["trouble"] is None


@pytest.mark.parametrize(("live", "trouble"), [(True, "delivery"), (False, None)])
def test_a_silent_ingest_is_trouble(
    site: ViewerApp, monkeypatch: pytest.MonkeyPatch, trouble: str | None, *, live: bool
) -> None:
    """Without a word of it nothing new can come, which matters while a stream is on."""
    if live:
        site.go_live("0")
    site.report(HealthReport("live", 0, None))
    monkeypatch.setattr("broadcaster.viewer_server.app.SILENT", -1.0)
    site.server.refresh_status()
    assert site.server.event_stream.state()["trouble"] == trouble


class Busy(EventSourceResponse):
    """A page's connection that takes what it is sent when it is ``ready``."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()
        self.names: list[str | None] = []

    async def send(
        self,
        data: str,  # noqa: ARG002
        id: str | None = None,  # noqa: A002, ARG002 - as its base has it
        event: str | None = None,
        retry: int | None = None,  # noqa: ARG002
    ) -> None:
        await self.ready.wait()
        self.names.append(event)

    def has_all(self) -> bool:
        return self.names == ["state", "starting", "segment", "started", "ended"]


async def test_nothing_waits_for_the_next_event(site: ViewerApp) -> None:
    """What happens while a page still gets another event follows right after."""
    busy = Busy()
    reader = Reader(site.server.event_stream, busy)
    reading = asyncio.create_task(reader.run(site.channel.clock))
    await asyncio.sleep(0)  # it is being sent the state
    site.go_live("0")
    site.channel.end()
    busy.ready.set()
    await eventually(busy.has_all, within=HEARTBEAT / 2)
    reading.cancel()


async def test_a_page_that_comes_later(site: ViewerApp, client: Client) -> None:
    """It gets events of the segments that are listed, and of no others."""
    site.go_live("0")
    for _ in range(9):
        site.publish()
    _, state = await next_event(await client.get("/live/events"))
    assert state["state"] == "live"
    assert state["run"] == "r0"
    assert state["targetDuration"] == 4
    assert [segment["sequence"] for segment in state["segments"]] == [5, 6, 7, 8, 9, 10]


async def test_a_page_that_falls_behind_gets_the_newest_state(site: ViewerApp, client: Client) -> None:
    """There is no queue that could grow: what was missed is left out."""
    stream = await client.get("/live/events")
    await next_event(stream)
    site.go_live("0")
    for _ in range(2 * REMEMBERED_MESSAGES):  # before the reader gets to run
        site.publish()
    fields, state = await next_event(stream)
    assert fields["event"] == "state"
    assert state["segments"][-1]["sequence"] == 2 * REMEMBERED_MESSAGES + 1


async def test_the_limit_of_event_streams(site: ViewerApp, client: Client) -> None:
    """One more than there are places is turned away; one that leaves makes room."""
    stream = await client.get("/live/events")
    await next_event(stream)
    refused = await client.get("/live/events")
    assert refused.status == 503
    assert refused.headers["Cache-Control"] == "no-store"
    assert refused.headers["Retry-After"]
    stream.close()
    await eventually(lambda: site.server.event_stream.readers == 0)
    assert (await client.get("/live/events")).status == 200


async def test_the_service_stops(site: ViewerApp, client: Client) -> None:
    """The stream ends in order."""
    stream = await client.get("/live/events")
    await next_event(stream)
    await site.app.shutdown()
    async with asyncio.timeout(60):
        assert await stream.content.read() == b""


async def test_reports_are_added_up(site: ViewerApp, client: Client) -> None:
    """Bytes by where they came from, and the time that was watched."""
    report = {"httpBytes": 3000, "p2pBytes": 7000, "uploadedBytes": 10, "seconds": 30}
    for _ in range(2):
        assert (await client.post("/live/beacon", data=json.dumps(report))).status == 204
    metrics = site.metrics()
    assert 'broadcaster_viewer_bytes_total{source="bucket"} 6000.0' in metrics
    assert 'broadcaster_viewer_bytes_total{source="peers"} 14000.0' in metrics
    assert "broadcaster_viewer_seconds_total 60.0" in metrics


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("[]", 400),
        ("[" * 1000, 400),
        ("{}", 400),
        ('{"seconds": -1}', 400),
        ('{"seconds": 1, "httpBytes": 1e300}', 400),
        ('{"seconds": 1, "httpBytes": NaN}', 400),
        ('{"seconds": true}', 400),
        ('{"seconds": 1, "p2pBytes": "9"}', 400),
        ('{"seconds": 1, "p2pBytes": 7500000000}', 429),
        ('{"seconds": 1, "uploadedBytes": 7500000000}', 429),
        ("x" * 2000, 413),
    ],
)
async def test_reports_that_cannot_be_true(site: ViewerApp, client: Client, body: str, status: int) -> None:
    """Nobody bends the figures at will, and nothing of a false report counts."""
    assert (await client.post("/live/beacon", data=body)).status == status
    assert "broadcaster_viewer_seconds_total 0.0" in site.metrics()


def test_no_more_than_pages_can_play() -> None:
    """However many reports a site sends, in sum they are what its pages can have played meanwhile."""
    now, bandwidth = 0.0, 8e6  # a megabyte in a second
    beacon = beacon_of(lambda: bandwidth, lambda: now)

    def open_pages(site: str, numbers: range) -> None:
        for number in numbers:
            beacon.add(json.dumps({"seconds": 0, "viewer": name_of(number)}), site)

    def reported(site: str | None, seconds: float, megabytes: float) -> float:
        before = sums(beacon)
        for _ in range(2000):
            with suppress(ImplausibleReport):
                beacon.add(json.dumps({"seconds": seconds, "httpBytes": megabytes * 1e6}), site)
        return sums(beacon) - before

    open_pages("b", range(3))
    assert reported("a", 10, 10) == MAX_SECONDS
    assert reported("b", 10, 10) == 3 * MAX_SECONDS
    assert reported("c", 0, 10) == MAX_SECONDS
    assert reported(None, 0, 10) == 3 * MAX_SECONDS  # as all pages that there are
    now += 60
    assert reported("a", 10, 10) == 60
    assert reported("b", 1, 1) == 180
    open_pages("a", range(10, 12))  # a second viewer has come
    assert reported("a", 1, 1) == MAX_SECONDS
    refused = next(metric for metric in beacon.metrics() if metric.name == "viewer_reports_refused")
    assert refused.samples[()] > 1000


def sums(beacon: PlaybackReports) -> float:
    """Megabytes from the bucket."""
    (figure,) = (metric for metric in beacon.metrics() if metric.name == "viewer_bytes")
    return figure.samples["bucket",] / 1e6


def test_sites_are_forgotten() -> None:
    """Whoever has many addresses takes no more memory than there is for them."""
    beacon = beacon_of(lambda: 1e6, lambda: 0.0)
    for number in range(MAX_NETWORKS + 100):
        beacon.add('{"seconds": 1}', str(number))
    assert len(vars(beacon)["_budgets"]) == MAX_NETWORKS
