"""A private event behind nginx with the shipped files: guests share one copy, strangers get nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from broadcaster.access import proxy_key
from broadcaster.access.keeper import GateFile
from broadcaster.http import listening
from broadcaster.ipc.messages import AccessMode, PassphraseAnswer
from tests.support import length
from tests.support.fakes.private_site import LEAKS, Site, answer, check_opened, check_table, grants_of
from tests.support.judges.gate_cases import (
    FAULTS,
    GRANT,
    OPENED,
    SECRET,
    Case,
    bad_tokens,
    cases,
    cookie_cases,
    opened_cases,
    page_cases,
    token,
)
from tests.support.judges.simulated_pages import SimulatedPages
from tests.support.judges.timing import check_forged_tokens
from tests.support.servers.edge import Edge, running_edge
from tests.support.waiting import eventually

HTML = {"Accept": "text/html"}
OTHER = "1" * 16
REVOKED_WITHIN = 2.0  # seconds, at full length
VIEWERS, SECONDS = (150, 60) if length.SOAK else (30, 4)


@dataclass
class Front:
    """The event, nginx in front of it, and the file by which nginx knows who may watch."""

    site: Site
    edge: Edge
    file: GateFile

    async def get(
        self, target: str, method: str = "GET", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        return await answer(self.edge.address, Case("", target, passes=True, method=method, headers=headers))

    def admit(self, *grants: str) -> None:
        """Let these in, and no others."""
        self.site.admit(*grants)
        self.file.update(grants_of(*grants))


@asynccontextmanager
async def fronted(folder: Path, access: AccessMode = "passphrase") -> AsyncIterator[Front]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    site, where = Site(folder, clock=time.time, access=access), folder / "gate.json"
    file = GateFile(where, grants_of(GRANT))
    writing = asyncio.create_task(file.run())
    await eventually(lambda: asyncio.sleep(0, where.is_file()))
    async with (
        listening(site.server.app, "127.0.0.1", 0, "port") as site.address,
        running_edge(folder, site.address, gate_file=None if access == "public" else where) as edge,
    ):
        yield Front(site, edge, file)
    writing.cancel()


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    """All of it, at work."""
    async with fronted(tmp_path) as found:
        yield found


async def test_the_table(front: Front) -> None:
    """Each case of the table is answered as the service does, and nobody behind may keep an answer."""
    now = int(time.time())

    def refusal(case: Case) -> int:  # what has a zero byte in it, nginx itself refuses as no request
        return 400 if "%00" in case.target else 401

    table = [*cases(now), *cookie_cases(now), *page_cases(now)]
    await check_table(front.edge.address, table, refusal=refusal)


async def test_a_recording_that_is_opened(front: Front) -> None:
    """Strangers watch it, and nothing else, until it is closed again; nginx keeps one copy of its page."""
    now = int(time.time())
    front.file.show_recordings(front.site.open(OPENED))
    # Until nginx has the new file the service answers strangers itself, which no cache keeps.
    await eventually(lambda: front.get(f"/watch/{OPENED}"), lambda found: found[2].get("X-Cache") == "HIT")
    await check_table(front.edge.address, opened_cases(now))
    await check_opened(front.edge.address)
    status, body, _ = await front.get(f"/t/{token(now=now)}/watch/{OPENED}")
    assert (status, b"/live/playlist.m3u8" in body) == (200, True)
    front.file.show_recordings(front.site.open())
    await eventually(lambda: front.get(f"/watch/{OPENED}"), lambda found: found[0] == 401)
    await check_table(front.edge.address, [case for case in opened_cases(now) if not case.passes])


async def test_every_route_is_behind_it(front: Front) -> None:
    """A crawl of the router: what guests have already put into the cache is closed to strangers."""
    now, paths = int(time.time()), set()
    for resource in front.site.server.app.router.resources():
        info = resource.get_info()
        paths.add(info.get("path") or re.sub(r"\{\w+\}", "0", info["formatter"]))
    paths -= {"/access", "/health", "/live/tracker"}
    assert len(paths) > 15
    for path in paths - {"/live/events"}:
        assert (await front.get(f"/t/{token(now=now)}{path}"))[0] != 401 or path.startswith("/access"), path
    bad = bad_tokens(now)
    targets = [
        f"{begin}{path}" for path in paths for begin in ("", f"/t/{bad['forged']}", f"/t/{bad['expired']}")
    ]
    for target in targets:
        for method in ("GET", "POST"):
            status, body, _ = await front.get(target, method)
            assert status == 401, (method, target)
            assert not [leak for leak in LEAKS if leak.encode() in body], target


async def test_guests_are_one(front: Front) -> None:
    """Two guests have one copy of each thing; no token is in cache, logs, or what another guest gets."""
    now = int(time.time())
    tokens = [token(now=now, seconds=seconds) for seconds in (600, 700)]
    shared = ("/live/playlist.m3u8", "/live/0/playlist.m3u8", "/live/events/now")
    for own, other in (tokens, tokens[::-1]):
        cookie = {"Cookie": f"broadcaster_access={own}"}
        for path in (*shared, "/config.json", "/", "/recordings"):
            for target, headers in ((f"/t/{own}{path}", {}), (path, cookie)):
                status, body, answered = await front.get(target, **headers)
                assert status == 200, path
                assert other.encode() not in body
                assert b"/t/-/" not in body
                assert (own.encode() in body) is (path not in shared), path
                # A copy may have expired meanwhile: /live/events/now is kept for a second.
                assert own is tokens[0] or answered["X-Cache"] in {"HIT", "EXPIRED"}, path
        _, body, _ = await front.get(f"/t/{own}/config.json")
        assert json.loads(body)["eventsUrl"] == f"/t/{own}/live/events"
        found = json.loads((await front.get("/config.json", **cookie))[1])
        assert (found["eventsUrl"], found["playlistUrl"]) == ("/live/events", f"/t/{own}/live/playlist.m3u8")
        leaky = {"Referer": f"http://x/t/{own}/"} | cookie
        for target in (f"/t/{own}/live/events/1?t={own}", f"/t/{own}0/no", f"/t/{own}/live/clips"):
            await front.get(target, **leaky)
    await front.edge.stop()
    files = [file.read_bytes() for file in front.edge.folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    for secret in (*tokens, SECRET.hex(), proxy_key(SECRET)):
        assert not any(secret.encode() in text for text in files)
        assert secret not in repr(front.site.server.pong())


async def test_revocation(front: Front) -> None:
    """Whose grant is gone is a stranger within two seconds, whatever he has open; others go on."""
    now = int(time.time())
    front.admit(GRANT, OTHER)
    gone, stays = (f"/t/{token(now=now, grant=grant)}" for grant in (GRANT, OTHER))
    media = "/live/0/playlist.m3u8"
    assert (await front.get(gone + media))[0] == 200
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{front.edge.address}{gone}/live/events") as events,
    ):
        await events.content.readany()
        loop = asyncio.get_running_loop()
        began = loop.time()
        front.admit(OTHER)
        await eventually(lambda: front.get(gone + media), lambda found: found[0] == 401)
        took = loop.time() - began
        with contextlib.suppress(aiohttp.ClientError):
            while await events.content.readany():
                pass
        print(f"refused after {took:.3f} s, cut after {loop.time() - began:.3f} s")
    assert took < REVOKED_WITHIN or not length.SOAK
    assert (await front.get(stays + media))[0] == 200


async def test_from_the_page_that_asks(front: Front) -> None:
    """A browser's way: asked, let in by the passphrase with a cookie, and a link becomes a cookie too."""
    status, body, _ = await front.get("/watch/x", **HTML)
    assert status == 401
    assert b'name="to" value="/watch/x"' in body
    given = token(now=int(time.time()))

    async def decided() -> bool:
        for passphrase in front.site.server.pong().passphrases:
            front.site.server.handle(PassphraseAnswer(passphrase.id, given))
            return True
        return False

    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(eventually(decided))
        async with session.post(
            f"{front.edge.address}/access",
            data={"passphrase": "right", "to": "/"},
            headers={**HTML, "X-Forwarded-Proto": "https"},
            allow_redirects=False,
        ) as response:
            assert (response.status, response.headers["Location"]) == (303, "/")
            assert f"broadcaster_access={given}" in response.headers["Set-Cookie"]
            assert "Secure" in response.headers["Set-Cookie"]
    status, _, headers = await front.get(f"/t/{given}/watch/x?a=1", **HTML)
    assert (status, headers["Location"]) == (303, "/watch/x")
    assert given in headers["Set-Cookie"]
    status, body, _ = await front.get("/", **HTML, Cookie="broadcaster_access=0")
    assert status == 401
    assert FAULTS["over"].encode() in body


async def test_how_long_a_refusal_takes(front: Front) -> None:
    """A forged token is refused as fast whichever byte is wrong, at nginx and at the service."""
    for address in (front.edge.address, front.site.address):
        await check_forged_tokens(address)


async def test_a_file_that_is_not_there(front: Front) -> None:
    """Without its file the gate is closed."""
    assert front.edge.gate_file
    front.edge.gate_file.unlink()
    assert (await front.get(f"/t/{token(now=int(time.time()))}/live/playlist.m3u8"))[0] == 401


@pytest.mark.takes(20)
async def test_guests_cost_what_the_public_does(tmp_path: Path) -> None:
    """Viewers with a token each are answered from the cache as often as without; at full length 150."""
    ratios = {}
    now = int(time.time())
    tokens = [token(now=now, seconds=3600 + number) for number in range(VIEWERS)]
    for access in ("public", "passphrase"):
        async with fronted(tmp_path / access, access) as front:
            pages = SimulatedPages(front.edge.address, tokens=tokens if access != "public" else ())
            async with pages.open(VIEWERS, join_within=1):
                await eventually(lambda: all(page.last >= 0 for page in pages.pages))  # noqa: B023
                for _ in range(SECONDS):
                    front.site.publish()
                    await asyncio.sleep(1)
            assert pages.figures.requests() > SECONDS * VIEWERS
        log = front.edge.log()
        passed = sum(request.from_origin for request in log)
        ratios[access] = 1 - passed / len(log)
        print(f"{access}: {len(log)} requests, {passed} at the service, hit ratio {ratios[access]:.4f}")
        assert {status for (_, status) in pages.figures.answers} <= {200, 204, 404, 0}
    assert ratios["passphrase"] >= 0.95 * ratios["public"]
