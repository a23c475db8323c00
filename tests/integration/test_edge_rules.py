"""What the shipped nginx configuration does with each kind of request, in front of the real application."""

import asyncio
import itertools
import json
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import free_ports
from tests.support.fakes.pipeline_parts import START, variants_listed
from tests.support.fakes.viewer_app import MEDIA, ViewerApp
from tests.support.length import seconds
from tests.support.servers.edge import running_edge
from tests.support.servers.edge_fixture import Front, running_front, serving
from tests.support.servers.service import running_service
from tests.support.waiting import PATIENCE, eventually

MAIN = "/live/playlist.m3u8"
ACCEPT_ENCODINGS = ("gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "identity")
ORIGINS = ("https://live.example.com", "https://club.example.org", "null")


async def test_one_copy_for_all(front: Front) -> None:
    """Whatever browsers send besides, one request reaches the origin, and each gets what it can read."""
    version, bodies = front.site.server.stream.snapshot("0"), defaultdict[bool, set[bytes]](set)
    assert version
    for number, encoding in enumerate([*ACCEPT_ENCODINGS, ""]):
        origin, cookie = ORIGINS[number % len(ORIGINS)], f"session={number}"
        request = {"Accept-Encoding": encoding, "Origin": origin, "Cookie": cookie}
        status, body, headers = await front.get(f"{MEDIA}?cache-buster={number}", **request)
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers.get("Content-Encoding") == ("gzip" if "gzip" in encoding else None)
        bodies["gzip" in encoding].add(body)
    assert front.asked() == 1
    assert bodies == {False: {version.full.body}, True: {version.full.gzipped}}


async def test_age_can_be_computed(front: Front) -> None:
    """A copy from the cache has the Date of its making, and a browser that has it already gets a 304."""
    _, _, first = await front.get(MEDIA)
    await asyncio.sleep(1.1)  # Date is in whole seconds
    _, _, second = await front.get(MEDIA)
    assert (first["X-Cache"], second["X-Cache"]) == ("MISS", "HIT")
    assert second["Date"] == first["Date"]
    status, _, headers = await front.get(MEDIA, **{"If-None-Match": first["Etag"]})
    assert (status, headers["X-Cache"]) == (304, "HIT")


async def test_directives_have_copies_of_their_own(front: Front) -> None:
    """An answer to a blocking reload is never taken for the plain playlist, however the query is spelt."""
    for _ in range(2):
        for query in ("", "?_HLS_msn=1", "?x=1&_HLS_msn=1&y=2", "?_HLS_msn=1&_HLS_msn=3", "?%5FHLS_msn=3"):
            status, _, headers = await front.get(MEDIA + query)
            blocking = "?_" in query or "&_" in query
            assert (status, headers["Cache-Control"]) == (200, f"public, max-age={24 if blocking else 4}")
    assert front.asked() == 2
    for _ in range(2):
        assert (await front.get(f"{MEDIA}?_HLS_part=0"))[0] == 400
    assert front.asked(400) == 1


async def test_a_long_wait_is_shared(front: Front) -> None:
    """Those who wait for longer than nginx's usual five seconds have one request at the origin in common.

    The one for whom it was made leaves; the answer is for the others all the same.
    """
    path = f"{MEDIA}?_HLS_msn=2"
    leaver = asyncio.create_task(front.get(path))
    await eventually(front.somebody_waits)
    others = [asyncio.create_task(front.get(path)) for _ in range(50)]
    await asyncio.sleep(1)
    leaver.cancel()
    await asyncio.sleep(6)
    front.site.publish("0")
    answers = await asyncio.gather(*others)
    assert {status for status, _, _ in answers} == {200}
    assert front.asked() == 1


async def test_a_pause_of_the_encoder_is_answered_to_all_together(tmp_path: Path) -> None:
    """Viewers who wait in vain get their answers together, not each after three more target durations."""
    site = ViewerApp(tmp_path)
    site.channel.list_variants(variants_listed("0"))
    site.publish(seconds=1)
    loop = asyncio.get_running_loop()
    async with running_front(tmp_path, site) as front:

        async def wait_in_vain() -> float:
            assert (await front.get(f"{MEDIA}?_HLS_msn=2"))[0] == 503
            return loop.time()

        async with asyncio.timeout(PATIENCE):
            times = await asyncio.gather(*(wait_in_vain() for _ in range(20)))
        print(f"20 were answered within {max(times) - min(times):.2f} s")
        assert max(times) - min(times) < seconds(3, 30)  # one after another would take a minute
        assert front.asked(503) == 1
        site.publish(seconds=1)
        # The 503 is kept for a second, or two by nginx's clock.
        await eventually(lambda: front.get(f"{MEDIA}?_HLS_msn=2"), lambda answer: answer[0] != 503)


async def test_what_may_not_be_kept_is_not_queued_for(tmp_path: Path) -> None:
    """Before a stream, hundreds of pages that ask at once get their answers together."""
    site = ViewerApp(tmp_path)
    async with running_front(tmp_path, site) as front:
        async with asyncio.timeout(PATIENCE):  # one after another, at two a second, they would take minutes
            answers = await asyncio.gather(*(front.get(MAIN) for _ in range(400)))
        assert {(status, headers["Cache-Control"]) for status, _, headers in answers} == {(404, "no-store")}
        site.go_live("0")
        assert (await front.get(MAIN))[0] == 200


async def test_a_service_that_is_away(tmp_path: Path) -> None:
    """While the service is restarted, players that poll get what the edge has; what it never had is a 502."""
    site, (port,) = ViewerApp(tmp_path), free_ports(1)
    site.go_live("0", "1")
    async with (
        running_edge(tmp_path, f"http://127.0.0.1:{port}") as edge,
        aiohttp.ClientSession() as session,
    ):
        front = Front(site, edge, session)
        async with serving(site, port):
            site.now = START + timedelta(seconds=5)  # the next segment is overdue: kept for a second only
            assert (await front.get(MEDIA))[0] == 200

        async def x_cache() -> str:
            return (await front.get(MEDIA))[2]["X-Cache"]

        assert await eventually(x_cache, lambda found: found != "HIT") == "STALE"
        assert await x_cache() == "STALE"
        assert (await front.get("/live/1/playlist.m3u8"))[0] == 502


async def test_a_service_that_is_full(tmp_path: Path) -> None:
    """While the service has no place for another request, players that poll get what the edge has."""
    statuses = itertools.chain([200], itertools.repeat(503))

    async def answer(_: web.Request) -> web.Response:
        status = next(statuses)
        return web.Response(
            status=status, headers={"Cache-Control": "max-age=1" if status == 200 else "no-store"}
        )

    app = web.Application()
    app.router.add_get(MEDIA, answer)
    async with (
        TestServer(app) as origin,
        running_edge(tmp_path, str(origin.make_url(""))) as edge,
        aiohttp.ClientSession() as session,
    ):
        last = await eventually(
            lambda: look(session, edge.address + MEDIA),
            lambda answer: answer not in ((200, "MISS"), (200, "HIT")),
        )
        assert last == (200, "STALE")


async def look(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Status, and what the cache had to do with it."""
    async with session.get(url) as answer:
        return answer.status, answer.headers["X-Cache"]


async def test_what_is_not_a_playlist(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Events and the tracker pass at once, the page is fetched once, the operator's addresses are closed."""
    async with (
        running_service(tmp_path, tmp_path / "hls", bucket) as service,
        running_edge(tmp_path, service.address) as edge,
        aiohttp.ClientSession() as session,
    ):
        async with asyncio.timeout(PATIENCE), session.get(f"{edge.address}/live/events") as events:
            assert events.content_type == "text/event-stream"
            assert b"state" in await events.content.readuntil(b"\n\n")
        async with session.ws_connect(f"{edge.address}/live/tracker") as tracker:
            announce = {"action": "announce", "info_hash": "x" * 20, "peer_id": "y" * 20, "offers": []}
            await tracker.send_json(announce)
            assert json.loads(await tracker.receive_str(timeout=PATIENCE))["action"] == "announce"
        for _ in range(2):
            async with session.get(f"{edge.address}/") as page:
                assert "<!doctype html>" in (await page.text()).lower()
                cached = page.headers["X-Cache"]
        assert cached == "HIT"
        async with session.post(f"{edge.address}/live/beacon", data=b"{}") as beacon:
            assert (beacon.status, "X-Cache" in beacon.headers) == (400, False)
        for path in ("/metrics", "/dashboard", "/dashboard/data"):
            async with session.get(edge.address + path) as closed:
                assert closed.status == 404
        await edge.stop()
    passed = {request.uri for request in edge.log() if request.from_origin}
    assert passed == {"/live/events", "/live/tracker", "/live/beacon", "/"}
