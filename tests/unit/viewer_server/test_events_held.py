"""Held events: all pages wait for one serial, and no answer that a cache keeps can be asked for in a loop."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse

from broadcaster.ipc.messages import HealthReport
from broadcaster.viewer_server import events as event_stream
from tests.support.fakes.playback_reports import name_of
from tests.support.fakes.viewer_app import Client, ViewerApp
from tests.support.waiting import eventually


@pytest.fixture
def site(tmp_path: Path) -> ViewerApp:
    return ViewerApp(tmp_path)


async def read(client: Client, path: str) -> dict[str, Any]:
    """An answer's JSON, with the seconds for which a cache may keep it."""
    async with asyncio.timeout(60):
        response = await client.get(path)
    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    return {**await response.json(), "kept": kept(response)}


def kept(response: ClientResponse) -> int:
    """Seconds for which a cache may keep an answer."""
    found = re.fullmatch(r"public, max-age=(\d+)", response.headers["Cache-Control"])
    return int(found[1]) if found else 0


async def test_events_come_as_they_happen(site: ViewerApp, client: Client) -> None:
    """The state first, then what came after its serial, once for all that wait."""
    first = await read(client, "/live/events/now")
    assert first["state"]["state"] == "offline"
    assert "segments" not in first["state"]
    assert (first["events"], first["share"], first["every"], first["kept"]) == ([], 1.0, 25, 1)
    waiting = [asyncio.create_task(read(client, f"/live/events/{first['serial']}")) for _ in range(20)]
    log = site.server.event_stream.held
    await eventually(lambda: log.waiting == 20)
    site.go_live("0")
    answers = await asyncio.gather(*waiting)
    answer = answers[0]
    assert [name for name, _ in answer["events"]] == ["starting", "started"]
    assert answers == [answer] * 20
    assert (answer["serial"], answer["kept"]) == (first["serial"] + 2, 60)
    assert answer["encoderOffset"] == 4000
    assert log.waiting == 0
    site.channel.end()
    (name, ended), *_ = (await read(client, f"/live/events/{answer['serial']}"))["events"]
    assert (name, ended) == ("ended", {"now": site.now.timestamp() * 1000, "goingOn": False})


async def test_segments_are_sent_to_pages_that_ask(site: ViewerApp, client: Client) -> None:
    """A new segment is no event; those of all variants that come at once wake a page once."""
    site.go_live("0", "1")
    serial = (await read(client, "/live/events/now"))["serial"]
    first = await read(client, "/live/segments/now")
    assert [segment["variant"] for segment in first["segments"]] == ["0", "1"]
    waiting = asyncio.create_task(read(client, f"/live/segments/{first['serial']}"))
    await eventually(lambda: site.server.event_stream.held_segments.waiting == 1)
    site.publish("0")
    site.publish("1")
    answer = await waiting
    assert [(segment["variant"], segment["sha256"]) for segment in answer["segments"]] == [
        ("0", "abc"),
        ("1", "abc"),
    ]
    assert answer["serial"] == first["serial"] + 1
    assert (await read(client, "/live/events/now"))["serial"] == serial


async def test_a_serial_rises_although_nothing_happens(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that waits in vain gets the time: no cache keeps an answer that is asked for again."""
    monkeypatch.setattr(event_stream, "HOLD", 0.05)
    for path in ("events", "segments"):
        serial = (await read(client, f"/live/{path}/now"))["serial"]
        answer = await read(client, f"/live/{path}/{serial}")
        assert answer["serial"] == serial + 1
        assert answer.get("segments", []) == []
        assert [name for name, _ in answer.get("events", [])] == (["time"] if path == "events" else [])


async def test_no_answer_can_be_asked_for_in_a_loop(
    site: ViewerApp, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer that a cache may keep leads to a later serial, or is a refusal, after which pages pause."""
    monkeypatch.setattr(event_stream, "HOLD", 0.05)
    site.go_live("0")
    for number in range(event_stream.KEPT + 20):
        site.report(HealthReport("live", 0, None, trouble="delivery" if number % 2 else None))
        site.publish()
    for log in (site.server.event_stream.held, site.server.event_stream.held_segments):
        path = "/live/events/" if log is site.server.event_stream.held else "/live/segments/"
        latest = log.serial
        keys = [0, 1, latest - 1000, *range(latest - 70, latest + 3), 10**15, 10**16 - 1]
        for key in keys:
            response = await client.get(f"{path}{key}")
            assert kept(response)
            if response.status == 200:
                answer = await response.json()
                assert answer["serial"] > key
                assert kept(response) == 1 or "state" not in answer
            else:
                assert (response.status, kept(response)) == (404, 1)
                assert key > latest
    await site.app.shutdown()
    response = await client.get(f"/live/events/{site.server.event_stream.held.serial}")
    assert (response.status, kept(response), response.headers["Retry-After"]) == (503, 1, "2")


async def test_a_page_of_the_process_before_gets_the_state(site: ViewerApp, client: Client) -> None:
    """Serials begin at the clock, so that those of a process before are older, and are not used again."""
    latest = site.server.event_stream.held.serial
    answer = await read(client, f"/live/events/{latest - 5000}")
    assert (answer["serial"], answer["state"]["state"], answer["kept"]) == (latest, "offline", 1)


async def test_requests_end_when_the_service_stops(site: ViewerApp, client: Client) -> None:
    """Those that wait are refused; a cache gives the refusal to all that wait for it."""
    serial = site.server.event_stream.held.serial
    waiting = asyncio.create_task(client.get(f"/live/events/{serial}"))
    await eventually(lambda: site.server.event_stream.held.waiting == 1)
    await site.app.shutdown()
    response = await waiting
    assert (response.status, kept(response)) == (503, 1)


async def test_what_is_no_serial_is_not_there(client: Client) -> None:
    """Nothing else is an address: each would be one more copy in a cache."""
    for serial in ("-1", "1e3", "next", "1" * 17, "\uff11"):
        assert (await client.get(f"/live/events/{serial}")).status == 404


async def test_the_number_of_viewers_comes_with_the_time(
    site: ViewerApp, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are woken once in 20 s for both, and at once for a share of reports that has changed by much."""
    site.server.event_stream.send_starting(site.now)
    serial = site.server.event_stream.held.serial
    for number in range(40):
        report = json.dumps({"seconds": 0, "viewer": name_of(number)})
        assert (await client.post("/live/beacon", data=report)).status == 204
    site.server.refresh_status()
    assert site.server.event_stream.held.serial == serial
    monkeypatch.setattr(event_stream, "HOLD", 0.05)
    assert (await read(client, f"/live/events/{serial}"))["events"] == [["viewers", {"viewers": 40}]]
    site.server.event_stream.send_viewers(10_000)
    answer = await read(client, f"/live/events/{serial + 1}")
    assert answer["events"] == [["reports", {"share": 0.064, "every": 400}]]
    assert (answer["share"], answer["every"]) == (0.064, 400)
    assert event_stream.VIEWERS_EVERY == 20
