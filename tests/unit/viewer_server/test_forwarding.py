"""A standby gives the leader's answers, and none of its own."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDictProxy

from broadcaster.http import listening
from broadcaster.ipc.messages import AccessMode, HealthReport, Ping, Setup, State
from broadcaster.owncast import open_session
from broadcaster.service.standby import STANDS_BY, why_not_leader
from broadcaster.tracker.protocol import info_hash, stream_index
from broadcaster.tracker.tracker import Tracker
from broadcaster.viewer_server import forwarding
from broadcaster.viewer_server.forwarding import Forwarder
from tests.support.fakes.private_site import Site
from tests.support.fakes.viewer_app import MEDIA, ViewerApp
from tests.support.fakes.webtorrent_clients import announce
from tests.support.judges.gate_cases import token
from tests.support.waiting import PATIENCE, eventually

STANDBY = HealthReport(State.OFFLINE, 0, None, "stands by", standby=True)
REPORT = {"id": "a" * 16, "variant": "0", "seconds": 1, "stalls": 0}
GIVEN = {"Accept-Encoding": "gzip", "X-Forwarded-For": "192.0.2.1", "X-Broadcaster-Gate": "path forged"}


class Both:
    """A leader's application at an address, and a standby that passes requests on to it."""

    def __init__(self, leader: web.Application) -> None:
        self.asked = Counter[str]()
        self.headers: list[CIMultiDictProxy[str]] = []
        self.leader = leader
        leader.middlewares.append(self._count)
        self.session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        self.there = self.here = ""
        self.forwarder: Forwarder

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked[request.path_qs] += 1
        self.headers.append(request.headers)
        return await handler(request)

    @property
    def waiting(self) -> float:
        """How many requests wait at the standby."""
        (found,) = (metric for metric in self.forwarder.metrics() if metric.name == "long_requests")
        return sum(found.samples.values())

    async def get(self, path: str, **headers: str) -> tuple[int, CIMultiDictProxy[str], bytes]:
        """The standby's answer."""
        async with self.session.get(self.here + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.read()


@asynccontextmanager
async def both(
    leader: web.Application, *, seen: bool = True, access: AccessMode = "public"
) -> AsyncIterator[Both]:
    found = Both(leader)
    async with found.session, listening(leader, "127.0.0.1", 0, "") as found.there:
        setup = Setup(Path("none"), leader=found.there, trusted_header="x-forwarded-for", access=access)
        found.forwarder = Forwarder(setup)
        if seen:
            found.forwarder.handle(Ping(STANDBY, others=("127.0.0.1",)))
        async with listening(found.forwarder.app, "127.0.0.1", 0, "") as found.here:
            yield found


@pytest.fixture
def site(tmp_path: Path) -> ViewerApp:
    found = ViewerApp(tmp_path)
    found.go_live("0")
    return found


async def test_answers_are_the_leaders(site: ViewerApp) -> None:
    """Bytes, status, validators, codings and cache times are those of the leader; HEAD, 304 and 404 too."""
    async with both(site.app) as found:
        for path, headers in (
            ("/", {}),
            (MEDIA, {}),
            (f"{MEDIA}?_HLS_skip=YES", {"Accept-Encoding": "gzip"}),
            ("/live/events/now", {"Accept-Encoding": "gzip"}),
            ("/main.js", {"Accept-Encoding": "br, gzip"}),
            ("/live/9/playlist.m3u8", {}),
            ("/%2e%2e/secret.txt", {}),
            ("/metrics", {}),
            ("/api/lead", {}),
            ("/dashboard", {"Host": "localhost"}),
        ):
            status, answer, body = await found.get(path, **headers)
            async with found.session.get(found.there + path, headers=headers) as direct:
                own = {name: value for name, value in direct.headers.items() if name != "Date"}
                assert (status, body) == (direct.status, await direct.read()), path
            assert {name: value for name, value in answer.items() if name != "Date"} == own
            async with found.session.head(found.here + path, headers=headers) as head:
                assert (head.status, head.headers["Content-Length"]) == (status, own["Content-Length"])
        tag = (await found.get(MEDIA))[1]["ETag"]
        assert (await found.get(MEDIA, **{"If-None-Match": tag}))[0] == 304


async def test_equal_requests_are_one(site: ViewerApp) -> None:
    """All viewers that wait for a version are one request at the leader, whoever leaves."""
    async with both(site.app) as found:
        path = f"{MEDIA}?_HLS_msn=2"
        waiting = [asyncio.create_task(found.get(path, **GIVEN)) for _ in range(20)]
        await eventually(lambda: found.waiting == 20)
        waiting.pop(0).cancel()
        site.publish()
        answers = await asyncio.gather(*waiting)
        assert {(status, body) for status, _, body in answers} == {(200, answers[0][2])}
        assert found.asked[path] == 1
        assert not {"X-Forwarded-For", "X-Broadcaster-Gate"} & set(found.headers[-1])
        async with found.session.get(f"{found.here}/live/events", headers=GIVEN) as events:
            assert events.content_type == "text/event-stream"
            assert await events.content.readline()
        del answers
        await eventually(lambda: found.forwarder.bytes_held == 0)


async def test_a_report_has_its_viewers_address(site: ViewerApp) -> None:
    """The leader gets a page's report with the address that the standby's own proxy has seen."""
    async with both(site.app) as found:
        forged = {"X-Forwarded-For": "192.0.2.1, 203.0.113.7", "Content-Type": "application/json"}
        url = f"{found.here}/live/beacon"
        async with found.session.post(url, data=json.dumps(REPORT), headers=forged) as answer:
            assert answer.status in (204, 400)
        assert found.headers[-1]["X-Forwarded-For"] == "203.0.113.7"
        async with found.session.post(url, data=b"a" * 2**17, headers=forged) as answer:
            assert answer.status == 413
        assert found.asked["/live/beacon"] == 1


async def test_sharing_viewers_meet_at_the_leader(tmp_path: Path) -> None:
    """Two peers, one of them through the standby, find each other; the leader counts the viewer's address."""
    site, swarm = ViewerApp(tmp_path, tracker=Tracker()), info_hash("r0", stream_index(None))
    site.go_live("0")
    async with both(site.app) as found:
        forged = {"X-Forwarded-For": "192.0.2.1, 203.0.113.7"}
        async with (
            found.session.ws_connect(f"{found.here}/live/tracker", headers=forged, autoping=False) as here,
            found.session.ws_connect(f"{found.there}/live/tracker") as there,
        ):
            assert found.headers[0]["X-Forwarded-For"] == "203.0.113.7"
            await here.send_str(announce("here", 1, swarm=swarm))
            assert json.loads(await here.receive_str(timeout=PATIENCE))["incomplete"] == 1
            await there.send_str(announce("there", 1, swarm=swarm))
            assert "offer" in json.loads(await here.receive_str(timeout=PATIENCE))
            await here.ping(b"still here")
            message = await here.receive(timeout=PATIENCE)
            assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"still here")
            await found.forwarder.stop(found.forwarder.app)
            assert (await here.receive(timeout=PATIENCE)).type is aiohttp.WSMsgType.CLOSE
        status, headers, _ = await found.get("/live/tracker", Upgrade="websocket", Connection="Upgrade")
        assert (status, headers["Retry-After"]) == (503, "1")


async def test_without_a_leader(site: ViewerApp) -> None:
    """503 that says when to ask again: before the leader has answered, when it does not, and at the end."""
    async with both(site.app, seen=False) as found:
        status, headers, _ = await found.get(MEDIA)
        assert (status, headers["Retry-After"], headers["Cache-Control"]) == (503, "1", "no-store")
        status, headers, body = await found.get("/health")
        assert (status, json.loads(body)["status"]) == (503, "standby")
        assert "X-Client-Address" in headers
        assert not found.asked
        found.forwarder.handle(Ping(STANDBY))
        status, _, body = await found.get("/health")
        assert (status, json.loads(body)["status"], json.loads(body)["warning"]) == (
            200,
            "standby",
            "stands by",
        )
        held = asyncio.create_task(found.get(f"{MEDIA}?_HLS_msn=2"))
        await eventually(lambda: found.asked[f"{MEDIA}?_HLS_msn=2"])
        await found.forwarder.stop(found.forwarder.app)
        status, headers, _ = await held
        assert (status, headers["Retry-After"]) == (503, "1")
    gone = Forwarder(Setup(Path("none"), leader=found.there))
    gone.handle(Ping(STANDBY))
    async with (
        listening(gone.app, "127.0.0.1", 0, "") as address,
        aiohttp.ClientSession() as session,
        session.get(address + MEDIA) as answer,
    ):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_a_large_answer(monkeypatch: pytest.MonkeyPatch, site: ViewerApp) -> None:
    """An answer of more than there is room for is 503, and the room is free again."""
    monkeypatch.setattr(forwarding, "MOST_BYTES", 100)
    async with both(site.app) as found:
        assert (await found.get(MEDIA))[0] == 503
        assert found.forwarder.bytes_held == 0


async def test_a_private_leader(tmp_path: Path) -> None:
    """The leader's gate decides: strangers see the page that asks, a guest's path and cookie let in."""
    site = Site(tmp_path)
    async with both(site.server.app, access="passphrase") as found:
        valid = token()
        status, headers, body = await found.get("/health")
        assert (status, json.loads(body)) == (200, {"status": "standby"})
        assert "X-Client-Address" in headers
        for path in (MEDIA, "/live/playlist.m3u8", "/live/events/now", "/config.json"):
            status, _, body = await found.get(path, **GIVEN)
            assert status == 401, path
            assert b"EXTM3U" not in body
            assert (await found.get(f"/t/{valid}{path}"))[0] == 200
        cookie = f"broadcaster_access={valid}"
        assert (await found.get(MEDIA, Cookie=cookie))[0] == 200
        assert (await found.get(MEDIA))[0] == 401


async def test_who_is_a_leader(site: ViewerApp) -> None:
    """Requests are passed on to no operator's listener, and to no broadcaster that stands by."""
    async with open_session() as session, both(site.app) as found:
        assert await why_not_leader(session, found.there) is None
        assert await why_not_leader(session, found.here) == STANDS_BY
        found.forwarder.handle(Ping(replace(STANDBY, reason="the leader is silent")))
        assert await why_not_leader(session, found.here) == STANDS_BY
        async with listening(site.operator_app, "127.0.0.1", 0, "") as admin:
            assert await why_not_leader(session, admin) == "is not a broadcaster's listener for viewers"
    async with open_session() as session:
        assert "cannot be reached" in str(await why_not_leader(session, found.there))
