"""A private event at the edge's Worker: the gate of the service and nginx, and what guests get."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.edge import encode
from broadcaster.errors import EdgeError
from tests.integration.test_private_event import WORDS, check_flood, enter, read, set_passphrase
from tests.support.fakes.edge_pushes import PLAYLIST, push_of
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.fakes.private_site import answer, check_opened, check_table
from tests.support.judges.gate_cases import (
    FAULTS,
    GRANT,
    OPENED,
    SECRET,
    WAITS,
    Case,
    bad_tokens,
    cases,
    cookie_cases,
    opened_cases,
    page_cases,
    token,
)
from tests.support.judges.gate_cases import (
    OTHER as OTHER_RECORDING,
)
from tests.support.judges.timing import check_forged_tokens
from tests.support.length import SOAK
from tests.support.servers.service import running_service
from tests.support.servers.worker import WORKER, Worker, running_worker
from tests.support.waiting import PATIENCE, eventually

TITLE = "The stream's own title"
LEAKS = (TITLE, "EXTM3U", "viewers", "recordings", "live", "offline", "0/playlist", SECRET.hex())
HTML = {"Accept": "text/html", "Accept-Language": "de-CH, en"}
OTHER = "1" * 16
REVOKED_WITHIN = 2.0  # seconds, at full length
TRIED_WITHIN = 8.0  # seconds, after which the Worker answers a passphrase by itself
PATHS = (
    *(
        "/",
        "/config.json",
        "/recordings",
        "/recordings/newest.json",
        "/watch/x",
        "/c/x",
        "/oembed/watch/x",
        "/gate",
        "/live/gate",
    ),
    *("/live/playlist.m3u8", "/live/0/playlist.m3u8", "/live/events", "/live/events/now", "/live/events/1"),
    *("/live/segments/now", "/live/beacon", "/live/tracker", "/live/clips", "/access", "/access.html"),
    *("/index.html", "/recordings.html", "/health/", "/t/x", "/origin", "/origin/v1", "/origin/v2/view"),
)


def recording(name: str) -> dict[str, object]:
    """An entry of the list."""
    page = {"id": name, "parts": [f"https://v.example/{name}.m3u8"]}
    return {"path": f"/watch/{name}", "listed": True, "tags": f"<title>Recorded {name}</title>", "told": page}


def texts(*grants: str, opened: Sequence[str] = ()) -> dict[str, object]:
    """What the Worker has of a private event besides its playlists."""
    settings = {"id": "x", "playlist": "/t/-/recordings/x.m3u8"}
    pages = {
        name: [f"<title>{name}</title>{fault}" for fault in ("", *FAULTS.values())] for name in ("en", "de")
    }
    found = {
        "page": {
            "settings": {
                "recordings": True,
                "title": TITLE,
                "eventsUrl": "/t/+/live/events",
                "playlistUrl": "/t/-/live/playlist.m3u8",
            },
            "tags": f"<title>{TITLE}</title>",
            "list": "<title>All</title>",
            "mark": "/t/+/",
            "opened": {"recordings": None, "eventsUrl": None},
        },
        "recordings": [
            *[{"path": "/watch/x", "listed": True, "tags": "<title>x</title>", "told": settings}] * 50,
            *map(recording, (OPENED, OTHER_RECORDING)),
        ],
        "health": {"status": "ok", "stream": "live", "reason": None},
        "swarms": [],
        "gate": {
            "secret": SECRET.hex(),
            "grants": dict.fromkeys(grants),
            "waiting": {WAITS: None},
            "opened": opened,
            "asking": {"pages": pages, "plain": "guests only\n", "policy": "default-src 'none'"},
        },
    }
    return {name: {"ops": [json.dumps(text)]} for name, text in found.items()}


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """A Worker with a private event that is live."""
    async with running_worker(tmp_path) as worker:
        await push_grants(worker, 1, GRANT, OTHER)
        yield worker


async def push_grants(worker: Worker, serial: int, *grants: str, opened: Sequence[str] = ()) -> None:
    """Push a view whose guests have these grants."""
    push = push_of(serial, serial, base=None)
    # The main playlist as well, which cases of the table ask for.
    push["texts"] |= {**texts(*grants, opened=opened), "live/playlist.m3u8": push["texts"][PLAYLIST]}
    async with worker.client() as client:
        assert (await client.push(encode(push))).is_taken
    await asyncio.sleep(1.1)  # what the Worker knows of grants is a second old at most


async def test_the_table(worker: Worker) -> None:
    """Each case of the table is answered as the service does, and nobody may keep an answer."""
    now = int(time.time())
    await check_table(worker.address, [*cases(now), *cookie_cases(now), *page_cases(now)], LEAKS)


async def test_a_recording_that_is_opened(worker: Worker) -> None:
    """Strangers watch it, and nothing else, until it is closed again."""
    now = int(time.time())
    await push_grants(worker, 2, GRANT, opened=[OPENED])
    await check_table(worker.address, [*opened_cases(now, signs=False), *page_cases(now)], LEAKS)
    await check_opened(worker.address)
    _, body, _ = await answer(worker.address, Case("", f"/t/{token(now=now)}/watch/{OPENED}", passes=True))
    assert b"/live/playlist.m3u8" in body
    await push_grants(worker, 3, GRANT)
    assert (await answer(worker.address, Case("", f"/watch/{OPENED}", passes=False)))[0] == 401
    await check_table(worker.address, [case for case in opened_cases(now) if not case.passes], LEAKS)


def routes_of_worker() -> list[str]:
    """Patterns of all paths for which the Worker has code, of its source."""
    source = (WORKER / "worker.mjs").read_text()
    found = re.search(r"const PATHS = /\^\\/\((.*)\)\$/;", source)
    assert found
    alternatives = re.split(r"\|(?![^()]*\))", found[1])
    routes = {*alternatives, *map(re.escape, re.findall(r'path === "/([^"]+)"', source))}
    assert len(routes) > 10
    return sorted(routes - {"health"})  # which strangers get


def test_every_route_is_asked_for() -> None:
    """The crawl of the Worker has a path for each route of its source."""
    unasked = [
        route for route in routes_of_worker() if not any(re.fullmatch(route, path[1:]) for path in PATHS)
    ]
    assert unasked == []


async def test_every_route_is_behind_it(worker: Worker) -> None:
    """Whatever the Worker has a route for is closed to strangers, and they learn nothing of the event."""
    bad = bad_tokens(int(time.time()))
    for path in PATHS:
        for begin in ("", f"/t/{bad['forged']}", f"/t/{bad['revoked']}"):
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
                status, body, headers = await answer(
                    worker.address, Case("", begin + path, passes=False, method=method, headers=HTML)
                )
                assert status == 401, (method, begin + path)
                assert not [leak for leak in LEAKS if leak.encode() in body]
                assert not [leak for leak in LEAKS if leak in str(headers)]
    status, body, _ = await answer(worker.address, Case("", "/health", passes=False))
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert (await answer(worker.address, Case("", "/origin/v1/view/gate", passes=False)))[0] == 401


async def test_what_a_guest_gets(worker: Worker) -> None:
    """Pages have the guest's own token in the paths that a player hands on, and a link becomes a cookie."""
    now = int(time.time())
    for seconds in (600, 700):
        own = token(now=now, seconds=seconds)
        cookie = {"Cookie": f"broadcaster_access={own}"}
        for target, headers, events in (
            (f"/t/{own}/", {}, f"/t/{own}/live/events"),
            ("/", cookie, "/live/events"),
        ):
            _, body, _ = await answer(worker.address, Case("", f"{target}config.json", True, headers=headers))
            found = json.loads(body)
            assert (found["eventsUrl"], found["playlistUrl"]) == (events, f"/t/{own}/live/playlist.m3u8")
            for page in ("", "recordings", "watch/x", "watch/missing", "recordings/x.json"):
                _, body, _ = await answer(worker.address, Case("", target + page, True, headers=headers))
                assert own.encode() in body, page
                assert b"/t/-" not in body
                assert b"/t/+" not in body
        opened = Case("", f"/t/{own}/watch/x?a=1", passes=True, headers=HTML)
        status, _, headers = await answer(worker.address, opened)
        assert (status, headers["Location"]) == (303, "/watch/x")
        assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(headers["Set-Cookie"].split("; "))
        assert f"broadcaster_access={own};" in headers["Set-Cookie"]
        kept = int(headers["Set-Cookie"].partition("Max-Age=")[2].partition(";")[0])
        assert 86_400 < kept <= 86_400 + seconds  # the page can say that the access is over
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{worker.address}/t/{own}/live/beacon", json={"seconds": seconds}) as response,
        ):
            assert response.status == 204
    async with worker.client() as client:
        found = (await client.push(encode(push_of(2, 2)))).status
        assert (found.opened, found.grants) == ({GRANT: 2}, (GRANT, GRANT))
        assert [json.loads(text) for _, text in found.reports] == [{"seconds": 600}, {"seconds": 700}]
        found = (await client.push(encode(push_of(3, 3)))).status
        assert (found.opened, found.grants) == ({}, ())


async def test_strangers_are_asked(worker: Worker) -> None:
    """In their language, by the page that the service has made; another one when a token is refused."""
    for headers, text in ((HTML, "de"), (HTML | {"Accept-Language": "xx"}, "en"), ({}, "guests only")):
        _, body, answered = await answer(worker.address, Case("", "/watch/x", passes=False, headers=headers))
        assert text in body.decode()
        assert answered["WWW-Authenticate"] == "Invitation"
        assert ("Content-Security-Policy" in answered) is bool(headers)
    _, body, _ = await answer(worker.address, Case("", "/t/x/", passes=False, headers=HTML))
    assert body.decode() == f"<title>de</title>{FAULTS['over']}"
    post = Case("", "/access", passes=False, method="POST", headers=HTML)
    assert (await answer(worker.address, post))[1] == b"<title>de</title>"


async def test_revocation(worker: Worker) -> None:
    """Whose grant is gone is a stranger within two seconds, and his socket at the tracker is closed."""
    now = int(time.time())
    gone, stays = (f"/t/{token(now=now, grant=grant)}" for grant in (GRANT, OTHER))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{worker.address}{gone}/live/tracker") as socket,
        session.ws_connect(f"{worker.address}{stays}/live/tracker") as other,
    ):
        assert (await read(f"{worker.address}{gone}/live/playlist.m3u8"))[0] == 200
        loop = asyncio.get_running_loop()
        began = loop.time()
        pushing = asyncio.create_task(push_grants(worker, 2, OTHER))
        await eventually(
            lambda: read(f"{worker.address}{gone}/live/playlist.m3u8"), lambda found: found[0] == 401
        )
        took = loop.time() - began
        print(f"refused after {took:.3f} s")
        assert took < REVOKED_WITHIN or not SOAK
        message = await socket.receive(timeout=PATIENCE)
        assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
        await pushing
        assert (await read(f"{worker.address}{stays}/live/playlist.m3u8"))[0] == 200
        assert not other.closed
    push = push_of(3, 3, base=None)
    async with worker.client() as client:
        assert (await client.push(encode(push))).is_taken
    await eventually(lambda: read(f"{worker.address}/{PLAYLIST}"), lambda found: found[0] == 200)


async def test_how_long_a_refusal_takes(worker: Worker) -> None:
    """A forged token is refused as fast whichever byte is wrong."""
    await check_forged_tokens(worker.address)


async def test_what_has_ended_is_forgotten(worker: Worker) -> None:
    """A view without a stream, as at the opening of the doors, leaves no address of a segment."""
    begin = f"{worker.address}/t/{token(now=int(time.time()))}/live/"
    assert json.loads((await read(f"{begin}segments/now"))[1])["segments"]
    push = push_of(2, 2, base=None, texts=texts(GRANT), segments=[])
    async with worker.client() as client:
        assert (await client.push(encode(push))).is_taken
    assert json.loads((await read(f"{begin}segments/now"))[1])["segments"] == []
    assert (await read(f"{begin}0/playlist.m3u8"))[0] == 404


async def attempt(worker: Worker, address: str = "", **form: str) -> tuple[int, str, str]:
    """Type a passphrase: the status, the page, and where the answer leads with which cookie."""
    headers = {"Accept": "text/html"} | ({"CF-Connecting-IP": address} if address else {})
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{worker.address}/access", data=form, headers=headers, allow_redirects=False) as answer,
    ):
        leads = answer.headers.get("Location", "") + " " + answer.headers.get("Set-Cookie", "")
        return answer.status, await answer.text(), leads


async def test_what_was_known_long_ago_lets_nobody_in(tmp_path: Path) -> None:
    """Of requests at a time, one asks who may watch; the others do not go by what was so before a pause."""
    async with running_worker(tmp_path) as worker:
        assert (await attempt(worker, passphrase="x"))[0] == 405, "the Worker knows of no private event"
        await push_grants(worker, 1, GRANT)
        await asyncio.sleep(1)  # and of nothing that is two seconds old
        found = await asyncio.gather(*(attempt(worker, passphrase="x") for _ in range(20)))
    assert {status for status, _, _ in found} == {401}


async def get_in(worker: Worker, guest: str) -> int:
    """The status of the right passphrase. A try is over after 8 s, as on a busy machine, and made again."""
    while True:
        begun = time.monotonic()
        status, _, _ = await attempt(worker, guest, passphrase="right")
        if status != 429 or time.monotonic() - begun < TRIED_WITHIN:
            return status


async def test_a_passphrase(worker: Worker) -> None:
    """A try waits for the service, which gets it with an answer; a wrong try, and too many, have a page."""
    form, right = '<input name="to" value="/">', token(now=int(time.time()), seconds=600)
    gate = json.loads(cast("dict[str, list[str]]", texts(GRANT)["gate"])["ops"][0])
    pages = {"en": [form + fault for fault in ("", "over", "closed", "wrong", "often")]}
    gate["asking"] |= {"pages": pages, "takes": True}
    given: list[tuple[str, str, str]] = []
    async with worker.client() as client:

        async def push(serial: int, **more: object) -> int:
            answer = await client.push(encode(push_of(serial, serial, **more)))
            assert answer.is_taken
            given.extend(answer.status.tries)
            return len(given)

        await push(2, texts={"gate": {"ops": [json.dumps(gate)]}})
        await asyncio.sleep(1.1)  # what the Worker knows of the gate is a second old at most
        words = ("right", "/watch/x"), ("wrong", "/watch/x"), ("right", "//elsewhere.example")
        asked = [asyncio.create_task(attempt(worker, passphrase=text, to=to)) for text, to in words]
        serials = itertools.count(3)
        await eventually(lambda: push(next(serials)), lambda count: count == len(words))
        answers = [(name, right if text == "right" else None, False) for name, _, text in given]
        await push(next(serials), answers=[*answers, ("unknown", right, False)])
        cookie = f"broadcaster_access={right}; Max-Age="
        entered, refused, elsewhere = await asyncio.gather(*asked)
        assert entered[0] == elsewhere[0] == 303
        assert entered[2].startswith(f"/watch/x {cookie}")
        assert elsewhere[2].startswith(f"/ {cookie}")
        assert refused == (401, '<input name="to" value="/watch/x">wrong', " ")
        assert await attempt(worker, passphrase="x" * 201) == (401, f"{form}wrong", " ")
        many = [asyncio.create_task(attempt(worker, passphrase="wrong")) for _ in range(110)]
        done, _ = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in done} == {(429, f"{form}often", " ")}
        # Where there is no room for more, whoever has most makes room.
        crowd = [f"192.0.2.{number % 5}" for number in range(500)]
        many += [asyncio.create_task(attempt(worker, address, passphrase="wrong")) for address in crowd]
        guests = [f"198.51.100.{number}" for number in range(20)]
        given.clear()
        entering = asyncio.gather(*(get_in(worker, guest) for guest in guests))

        async def answer_all() -> bool:
            with suppress(EdgeError):  # on a busy machine an answer comes too late
                await push(next(serials))
                answers = [(name, right if text == "right" else None, False) for name, _, text in given]
                await push(next(serials), answers=answers)
            return entering.done()

        await eventually(answer_all)
        assert set(entering.result()) == {303}
        for task in many:
            task.cancel()


@pytest.mark.takes(15)
async def test_with_the_service(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A guest's path of the service is valid at the edge; a new passphrase ends it there, too."""
    writer = HlsWriter(tmp_path / "hls" / "0")
    settings = {"BROADCASTER_ACCESS": "passphrase", "BROADCASTER_RECORDINGS": "keep"}
    async with (
        running_worker(tmp_path) as worker,
        running_service(tmp_path, tmp_path / "hls", bucket, **settings, **worker.settings) as service,
    ):
        writer.write(range(4))
        await service.until_health(manifestChunks=4)
        await set_passphrase(service, WORDS)
        path = await enter(service.address)
        assert path
        await check_flood(worker.address, "CF-Connecting-IP", at_once=1000)
        at_the_edge = await enter(worker.address)
        assert at_the_edge
        assert (await read(f"{worker.address}{at_the_edge}config.json"))[0] == 200
        address = f"{worker.address}{path}"
        _, text = await eventually(
            lambda: read(f"{address}live/playlist.m3u8"), lambda found: found[0] == 200
        )
        assert text.count("#EXTINF") == 4
        _, body = await read(f"{address}config.json")
        assert json.loads(body)["playlistUrl"] == f"{path}live/playlist.m3u8"
        _, body = await read(address)
        assert f"{path}live/playlist.m3u8" in body
        _, asks, _ = await answer(worker.address, Case("", "/", passes=False, headers=HTML))
        assert "Ansehen</button>" in asks.decode()
        assert b"<form" in asks
        await set_passphrase(service, "another passphrase")
        await eventually(lambda: read(f"{address}live/playlist.m3u8"), lambda found: found[0] == 401)
    assert path.split("/")[2] not in service.log.read_text()
