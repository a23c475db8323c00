"""Blocking reloads and delta updates over HTTP."""

import asyncio
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientResponse
from pytest_aiohttp.plugin import AiohttpClient

from tests.support.fakes.viewer_app import MEDIA, Client, ViewerApp
from tests.support.waiting import eventually


@pytest.fixture
def site(tmp_path: Path) -> ViewerApp:
    site = ViewerApp(tmp_path, max_waiters=2)
    site.go_live("0")
    site.publish()  # the last number is 2
    return site


async def asked(
    site: ViewerApp, client: Client, *numbers: int, path: str = MEDIA
) -> list[asyncio.Task[ClientResponse]]:
    """Request these numbers and wait until all requests are blocked."""
    before = waiters(site)
    tasks = [asyncio.create_task(client.get(path, params={"_HLS_msn": number})) for number in numbers]
    await until_waiters(site, before + len(numbers))
    return tasks


def waiters(site: ViewerApp) -> int:
    found = re.search(r"^broadcaster_waiters (\d+)", site.metrics(), re.MULTILINE)
    assert found
    return int(found[1])


async def until_waiters(site: ViewerApp, count: int) -> None:
    await eventually(lambda: waiters(site) == count)


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_listed_number_is_answered_at_once(client: Client, number: int) -> None:
    """A number that is or was listed gets the current playlist, cached for six target durations."""
    response = await client.get(MEDIA, params={"_HLS_msn": number})
    assert response.status == 200
    assert (await response.text()).count("#EXTINF") == 2
    assert response.headers["Cache-Control"] == "public, max-age=24"


@pytest.mark.parametrize("path", [MEDIA, "/live/playlist.m3u8"])
async def test_the_next_segment_wakes_its_requests(site: ViewerApp, client: Client, path: str) -> None:
    """Requests for the next number are answered at its publication; later numbers go on waiting."""
    (next_one, one_after) = await asked(site, client, 3, 4, path=path)
    site.publish()
    response = await next_one
    assert "https://b/3.ts" in await response.text()
    assert response.headers["Cache-Control"] == "public, max-age=24"
    assert not one_after.done()
    site.publish()
    assert "https://b/4.ts" in await (await one_after).text()
    assert waiters(site) == 0
    assert "broadcaster_wake_up_seconds_count 2.0" in site.metrics()


@pytest.mark.parametrize(
    ("query", "cache"),
    [
        ("_HLS_msn=5", "no-store"),
        ("_HLS_msn=99999999999999", "no-store"),
        ("_HLS_part=0", "public, max-age=16"),
        ("_HLS_msn=x", "public, max-age=16"),
        ("_HLS_msn=-1", "public, max-age=16"),
        ("_HLS_msn=", "public, max-age=16"),
        ("_HLS_msn=%D9%A3", "public, max-age=16"),
        ("_HLS_msn=3&_HLS_part=x", "public, max-age=16"),
    ],
)
async def test_bad_requests(client: Client, query: str, cache: str) -> None:
    """An impossible number is a 400 at once, not cached if the number will be valid later."""
    response = await client.get(f"{MEDIA}?{query}")
    assert response.status == 400
    assert response.headers["Cache-Control"] == cache
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("query", ["x=_HLS_msn", "_HLS_push=1", "_HLS_skip=MAYBE", "_HLS_msn=2&_HLS_part=7"])
async def test_ignored_parameters(client: Client, query: str) -> None:
    """Unknown parameters are ignored, and each part of a listed segment is there."""
    assert (await client.get(f"{MEDIA}?{query}")).status == 200


async def test_the_end_answers_all_requests(site: ViewerApp, client: Client) -> None:
    """The end of the stream answers blocked requests; after it, directives are ignored."""
    (waiting,) = await asked(site, client, 3)
    site.channel.end()
    response = await waiting
    assert "#EXT-X-ENDLIST" in await response.text()
    assert response.headers["Cache-Control"] == "public, max-age=2"  # the next stream has the same address
    for query in ("_HLS_msn=3", "_HLS_msn=99", "_HLS_part=1", "_HLS_msn=x"):
        response = await client.get(f"{MEDIA}?{query}")
        assert response.status == 200
        assert response.headers["Cache-Control"] == "public, max-age=2"


async def test_a_full_queue(site: ViewerApp, client: Client) -> None:
    """Past the limit a request is refused, and blocked requests are still answered."""
    waiting = await asked(site, client, 3, 3)
    refused = await client.get(MEDIA, params={"_HLS_msn": 3})
    assert refused.status == 503
    assert refused.headers["Cache-Control"] == "no-store"
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await client.get(MEDIA)).status == 200
    assert "broadcaster_waiters_refused_total 1.0" in site.metrics()
    site.publish()
    assert [(await waiter).status for waiter in waiting] == [200, 200]


async def test_a_client_that_leaves(site: ViewerApp, client: Client) -> None:
    """A closed connection ends its blocked request."""
    (waiting,) = await asked(site, client, 3)
    waiting.cancel()
    await until_waiters(site, 0)


async def test_waiting_has_an_end(site: ViewerApp, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a new segment for some target durations the answer is a 503, cached for a second."""
    monkeypatch.setattr("broadcaster.viewer_server.playlists.PATIENCE_TARGET_DURATIONS", 0.3)
    site.channel.end()
    site.publish(seconds=1)
    site.channel.tick(0)
    site.channel.tick(10)
    began = time.monotonic()
    response = await client.get(MEDIA, params={"_HLS_msn": 4})
    assert time.monotonic() - began >= 0.3
    assert response.status == 503
    assert response.headers["Cache-Control"] == "public, max-age=1"
    assert waiters(site) == 0


async def test_the_service_stops(site: ViewerApp, client: Client) -> None:
    """Blocked requests are answered at once."""
    (waiting,) = await asked(site, client, 3)
    await site.app.shutdown()
    assert (await waiting).status == 503


async def test_delta_update(tmp_path: Path, aiohttp_client: AiohttpClient) -> None:
    """In a long window a delta update has the end only; the address without skip has the whole playlist."""
    site = ViewerApp(tmp_path, window=timedelta(seconds=120))
    site.go_live("0")
    for _ in range(29):
        site.publish()
    client = await aiohttp_client(site.app)
    full = await (await client.get(MEDIA)).text()
    assert "CAN-SKIP-UNTIL=24.000" in full
    assert full.count("#EXTINF") == 30
    for query in ("_HLS_skip=YES", "_HLS_skip=v2", "_HLS_msn=30&_HLS_skip=YES"):
        response = await client.get(f"{MEDIA}?{query}")
        delta = await response.text()
        assert "#EXT-X-SKIP:SKIPPED-SEGMENTS=24\n" in delta
        assert "#EXT-X-VERSION:9\n" in delta
        assert "#EXT-X-MEDIA-SEQUENCE:1\n" in delta
        assert full.endswith(delta[delta.index("#EXT-X-PROGRAM-DATE-TIME") :])
        assert delta.count("#EXTINF") == 6


async def test_short_windows_have_no_delta(client: Client) -> None:
    """Where a delta update would save nothing, it is neither announced nor made."""
    text = await (await client.get(MEDIA, params={"_HLS_skip": "YES"})).text()
    assert "CAN-SKIP-UNTIL" not in text
    assert "CAN-BLOCK-RELOAD=YES,HOLD-BACK=12.000" in text
    assert "EXT-X-SKIP" not in text


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, 4), (0.1, 4), (1.5, 3), (3.9, 1), (4, 1), (5.5, 1), (6.5, 2), (60, 2), (-3600, 4)],
)
async def test_a_plain_playlist_is_cached_until_the_next_is_due(
    site: ViewerApp, client: Client, seconds: float, age: int
) -> None:
    """The cache time is the time to the next version, or grows when it is overdue, and has limits."""
    site.now += timedelta(seconds=seconds)
    assert (await client.get(MEDIA)).headers["Cache-Control"] == f"public, max-age={age}"


async def test_an_unknown_variant(client: Client) -> None:
    """While a stream is on, an unknown variant is a 404 that is cached for a target duration."""
    response = await client.get("/live/9/playlist.m3u8")
    assert response.status == 404
    assert response.headers["Cache-Control"] == "public, max-age=4"
