"""The gate of a private event: whoever has no valid token gets the page that asks, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pytest_aiohttp.plugin import AiohttpClient
from yarl import URL

from broadcaster.access import proxy_key
from broadcaster.access.gate import IN_FRONT
from broadcaster.http import listening
from broadcaster.http.static import TEXTS, text_of
from broadcaster.ipc.messages import AccessMode, GuestCount, HealthReport, PassphraseAnswer, Ping
from tests.support.fakes.private_site import LEAKS, Site, answer, check_opened, check_table
from tests.support.judges import gate_cases
from tests.support.judges.gate_cases import (
    BAD,
    GRANT,
    OPENED,
    SECRET,
    VALID,
    Case,
    cases,
    cookie_cases,
    opened_cases,
    page_cases,
    token,
)
from tests.support.waiting import eventually

HTML = {"Accept": "text/html"}
DAY = 86_400  # seconds
CREW = "c" * len(GRANT)


@pytest.fixture
async def private(tmp_path: Path) -> AsyncIterator[Site]:
    """A private event on a listener."""
    site = Site(tmp_path)
    async with listening(site.server.app, "127.0.0.1", 0, "port") as site.address:
        yield site


async def test_the_table(private: Site) -> None:
    """Each case of the table is answered as it says, and no answer may be kept by a cache."""
    table = [*cases(), *cookie_cases(), *page_cases()]
    assert len(table) >= 60
    await check_table(private.address, table)


async def test_a_recording_that_is_opened(private: Site) -> None:
    """Strangers watch it, and nothing else, until it is closed again."""
    private.open(OPENED)
    await check_table(private.address, [*opened_cases(), *page_cases()])
    await check_opened(private.address)
    private.open()
    await check_table(private.address, cases())
    assert (await answer(private.address, Case("", f"/watch/{OPENED}", passes=False)))[0] == 401


async def test_links_and_pages_are_counted_by_grant(private: Site) -> None:
    """An opened link, and each page that reports, count for the grant of their guest."""
    html = {"Accept": "text/html"}
    for _ in range(2):
        assert (await answer(private.address, Case("", f"/t/{VALID}/", passes=True, headers=html)))[0] == 303
    report = {"viewer": "0123456789abcdef", "seconds": 5}
    url = URL(f"{private.address}/t/{VALID}/live/beacon", encoded=True)
    async with aiohttp.ClientSession() as session, session.post(url, json=report) as response:
        assert response.status == 204
    assert private.server.pong().guests == (GuestCount(GRANT, opened=2, watching=1),)
    assert private.server.pong().guests == (GuestCount(GRANT, opened=0, watching=1),)


async def test_who_is_not_let_in_any_more_is_not_counted(private: Site) -> None:
    """When the doors close, a guest who watched a moment ago counts no longer, and one of the crew does."""
    private.admit(GRANT, CREW)
    async with aiohttp.ClientSession() as session:
        for index, token_of in enumerate((VALID, token(grant=CREW))):
            url = URL(f"{private.address}/t/{token_of}/live/beacon", encoded=True)
            async with session.post(url, json={"viewer": f"{index:016x}", "seconds": 5}) as response:
                assert response.status == 204
    assert private.server.pong().viewers == 2
    private.admit(CREW)
    pong = private.server.pong()
    assert (pong.viewers, pong.guests) == (1, (GuestCount(CREW, opened=0, watching=1),))


async def test_every_route_is_behind_it(private: Site) -> None:
    """A crawl of the router: each route refuses each bad token in the path, and any method without one."""
    paths = set()
    for resource in private.server.app.router.resources():
        info = resource.get_info()
        paths.add(info.get("path") or re.sub(r"\{\w+\}", "now", info["formatter"]))
    paths -= {"/access", "/health"}
    assert len(paths) > 15
    wanted = [
        Case("", path, passes=False, method=method) for path in paths for method in ("GET", "POST", "PUT")
    ]
    wanted += [Case("", f"/t/{bad}{path}", passes=False) for path in paths for bad in BAD.values()]
    for case in wanted:
        status, body, _ = await answer(private.address, case)
        assert status == 401, (case.method, case.target)
        assert not [leak for leak in LEAKS if leak.encode() in body], case.target


async def test_health_says_no_more_than_that_it_answers(private: Site) -> None:
    """Strangers see the same health whatever the event does; guests see what there is."""
    _, body, headers = await answer(private.address, Case("", "/health", passes=False))
    assert json.loads(body) == {"status": "ok"}
    assert headers["X-Client-Address"]
    private.server.handle(Ping(HealthReport("live", 7, "the bucket is away")))
    status, body, _ = await answer(private.address, Case("", "/health", passes=False))
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    status, body, _ = await answer(private.address, Case("", f"/t/{VALID}/health", passes=True))
    assert (status, json.loads(body)["backlog"]) == (503, 7)


async def test_before_ingest_says_who_may_watch(tmp_path: Path) -> None:
    """A viewer server that does not know the grants yet lets nobody in, not even with an empty secret."""
    site = Site(tmp_path, knows_grants=False)
    async with listening(site.server.app, "127.0.0.1", 0, "port") as site.address:
        for secret in (b"", SECRET):
            made = gate_cases.token(secret=secret)
            status, _, _ = await answer(site.address, Case("", f"/t/{made}/live/playlist.m3u8", passes=False))
            assert status == 401


async def test_without_its_gate(private: Site, aiohttp_client: AiohttpClient) -> None:
    """The application alone, on a listener that forgot the gate, refuses all."""
    client = await aiohttp_client(private.server.app)
    for path in ("/", "/live/playlist.m3u8", f"/t/{VALID}/live/playlist.m3u8"):
        assert (await client.get(path)).status == 401


@pytest.mark.parametrize(("way", "events"), [("path", "/t/-/live/events"), ("cookie", "/live/events")])
async def test_a_gate_in_front(private: Site, way: str, events: str) -> None:
    """By its key it passes without a token, learns how long it may keep an answer, and gets no token."""
    case = Case("", "/config.json", passes=True, headers={IN_FRONT: f"{way} {proxy_key(SECRET)}"})
    status, body, headers = await answer(private.address, case)
    assert (status, headers["X-Accel-Expires"]) == (200, "10")
    assert headers["Cache-Control"] == "private, no-store"
    found = json.loads(body)
    assert (found["eventsUrl"], found["playlistUrl"]) == (events, "/t/-/live/playlist.m3u8")
    _, _, headers = await answer(private.address, Case("", f"/t/{VALID}/config.json", passes=True))
    assert "X-Accel-Expires" not in headers
    for key in ("", "0" * 64, proxy_key(b""), SECRET.hex()):
        forged = {IN_FRONT: f"{way} {key}"}
        case = Case("", "/config.json", passes=False, headers=forged)
        assert (await answer(private.address, case))[0] == 401


async def test_a_link_becomes_a_cookie(private: Site) -> None:
    """A browser that opens a link gets the page without the token in its address bar, and a cookie."""
    target = f"/t/{VALID}/watch/x?a=1"
    status, _, headers = await answer(private.address, Case("", target, passes=True, headers=HTML))
    assert (status, headers["Location"]) == (303, "/watch/x")
    cookie = headers["Set-Cookie"]
    assert f"broadcaster_access={VALID}" in cookie
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert int(cookie.partition("Max-Age=")[2].partition(";")[0]) > DAY  # the page can say that it is over
    embedded = HTML | {"Sec-Fetch-Dest": "iframe"}
    status, _, _ = await answer(private.address, Case("", f"/t/{VALID}/", passes=True, headers=embedded))
    assert status == 200


async def test_settings_have_the_token(private: Site) -> None:
    """A page opened by its cookie has the token where a player hands an address on, else in all paths."""
    _, body, _ = await answer(private.address, Case("", f"/t/{VALID}/config.json", passes=True))
    found = json.loads(body)
    assert found["playlistUrl"] == f"/t/{VALID}/live/playlist.m3u8"
    assert found["eventsUrl"] == f"/t/{VALID}/live/events"
    headers = {"Cookie": f"broadcaster_access={VALID}"}
    _, body, _ = await answer(private.address, Case("", "/config.json", passes=True, headers=headers))
    found = json.loads(body)
    assert found["playlistUrl"] == f"/t/{VALID}/live/playlist.m3u8"
    assert found["eventsUrl"] == "/live/events"


async def test_playlists_are_the_same_for_all_guests(private: Site) -> None:
    """Nothing of a token is in a playlist: relative addresses inherit it."""
    other = gate_cases.token(seconds=60)
    texts = []
    for valid in (VALID, other):
        _, body, _ = await answer(private.address, Case("", f"/t/{valid}/live/playlist.m3u8", passes=True))
        texts.append(body)
    assert texts[0] == texts[1]
    assert b"/t/" not in texts[0]


@pytest.mark.parametrize("ends", ["revoked", "expired"])
@pytest.mark.parametrize("path", ["/live/events", "/live/0/playlist.m3u8?_HLS_msn=2", "/live/tracker"])
async def test_the_end_of_access(private: Site, path: str, ends: str) -> None:
    """Revocation and expiry cut what is open, and refuse what comes next."""
    target = f"{private.address}/t/{VALID}{path}"
    async with aiohttp.ClientSession() as session:

        async def lasts() -> None:
            if "tracker" in path:
                async with session.ws_connect(target) as socket:
                    message = await socket.receive()
                    assert message.type is aiohttp.WSMsgType.CLOSED
                return
            async with session.get(target) as response:
                async for _ in response.content:
                    pass

        reading = asyncio.ensure_future(lasts())
        gate = private.server.gate
        assert gate
        await eventually(lambda: asyncio.sleep(0, len(gate._open)))  # noqa: SLF001
        if ends == "revoked":
            private.admit("0" * 16)
        else:
            private.now += 3600
        results = await asyncio.wait_for(asyncio.gather(reading, return_exceptions=True), 30)
        assert results[0] is None or isinstance(results[0], aiohttp.ClientError)
        async with session.get(target) as response:
            assert response.status == 401


async def test_the_page_that_asks(private: Site) -> None:
    """It has a label for its field, the operator's start time, the viewer's language, and one script."""
    headers = HTML | {"Accept-Language": "fr;q=0.2, de-CH, en;q=0.9"}
    status, body, answered = await answer(
        private.address, Case("", "/watch/x", passes=False, headers=headers)
    )
    text = body.decode()
    assert status == 401
    assert '<html lang="de" dir="ltr">' in text
    assert '<label for="passphrase">Passwort</label>' in text
    start = "Donnerstag, 24. Dezember 2026, 20:00\u00a0UTC+01:00"
    assert f'<time datetime="2026-12-24T20:00:00+01:00">{start}</time>' in text
    assert 'name="to" value="/watch/x"' in text
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answered["Content-Security-Policy"]
    assert "default-src 'none'; style-src 'sha256-" in policy
    assert f"script-src 'sha256-{digest}'; img-src data:;" in policy
    assert "<img" not in text
    assert "$" not in text
    (private.folder / "config.json").write_text('{"language": "ja"}')
    _, body, answered = await answer(private.address, Case("", "/", passes=False, headers=headers))
    assert '<label for="passphrase">パスフレーズ</label>' in body.decode()
    assert answered["Content-Language"] == "ja"


def png(width: int, height: int) -> str:
    """The begin of a PNG of this size, as a setting."""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return f"data:image/png;base64,{base64.b64encode(head.ljust(40)).decode()}"


async def test_what_the_operator_shows_to_strangers(private: Site) -> None:
    """Host and blurred poster beside title and start; no picture that tells more than a blur."""
    event = {"title": "An <evening>", "performer": "The <Trio>", "startsAt": "2026-12-24T20:00"}

    async def shown(poster: object) -> str:
        settings = json.dumps(event | {"posterBlur": poster, "poster": "https://a.example/poster.jpg"})
        (private.folder / "config.json").write_text(settings)
        found = await answer(private.address, Case("", "/", passes=False, headers=HTML))
        return found[1].decode()

    text = await shown(png(24, 32))
    assert "<h1>An &lt;evening&gt;</h1>" in text
    assert '<p class="host">The &lt;Trio&gt;</p>' in text
    assert "<p>Begins: Thursday, 24 December 2026, 20:00</p>" in text  # in no zone: as it was given
    assert f'<img class="poster" src="{png(24, 32)}" alt="">' in text
    others = (png(33, 18), png(24, 640), "https://a.example/poster.jpg", png(24, 32) + '" onload="', 7, None)
    for poster in (*others, "data:image/png;base64," + "A" * 7001, "data:image/png;base64," + "A" * 41):
        assert "<img" not in await shown(poster)
    guest = await answer(private.address, Case("", f"/t/{VALID}/config.json", passes=True))
    assert "posterBlur" not in json.loads(guest[1])


@pytest.mark.parametrize("access", ["invitation", "passphrase"])
async def test_what_helps_whose_access_is_over(tmp_path: Path, access: AccessMode) -> None:
    """Each language says why and what to do, the same for each refused token: the page tells no two apart."""
    site = Site(tmp_path, access=access)
    advice = "gateRenewPassphrase" if access == "passphrase" else "gateRenewLink"
    async with listening(site.server.app, "127.0.0.1", 0, "port") as site.address:
        for language in TEXTS:
            headers = HTML | {"Accept-Language": language}
            pages = set()
            for name in ("expired", "revoked", "forged", "cut", "of another event"):
                case = Case("", f"/t/{BAD[name]}/", passes=False, headers=headers)
                pages.add((await answer(site.address, case))[1].decode())
            (page,) = pages
            assert page.count(text_of(language, "gateOver")) == 1
            assert page.count(text_of(language, advice)) == 1
            assert text_of(language, "gateInvited") not in page
            assert ("<form" in page) is (access == "passphrase")
            case = Case("", "/", passes=False, headers=headers)
            assert text_of(language, advice) not in (await answer(site.address, case))[1].decode()


@pytest.mark.parametrize(
    ("to", "location"),
    [("/watch/x", "/watch/x"), ("//evil.example", "/"), ("https://evil.example/", "/"), ("/\\evil", "/")],
)
async def test_a_right_passphrase(private: Site, to: str, location: str) -> None:
    """It gets a cookie and the page that was asked for, on this host alone; programs get the path."""
    for accept in ("text/html", "application/json"):
        trying = asyncio.ensure_future(post(private, "right", to, accept))
        await decide(private, VALID)
        status, headers, body = await trying
        if accept == "text/html":
            assert (status, headers["Location"]) == (303, location)
            assert VALID in headers["Set-Cookie"]
        else:
            assert json.loads(body) == {"path": f"/t/{VALID}/"}


async def test_wrong_passphrases_are_few(private: Site) -> None:
    """A network has ten tries in a minute; a right one does not count."""
    statuses = []
    for number in range(12):
        trying = asyncio.ensure_future(post(private, f"wrong {number}", "/", "text/html"))
        if number < 5:
            await decide(private, None)
        statuses.append((await trying)[0])
    assert statuses == [401] * 5 + [429] * 7


async def post(site: Site, text: str, to: str, accept: str) -> tuple[int, dict[str, str], bytes]:
    """What a form is answered."""
    headers = {"Accept": accept, "X-Forwarded-For": "192.0.2.7"}
    data = {"passphrase": text, "to": to}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{site.address}/access", data=data, headers=headers, allow_redirects=False) as response,
    ):
        return response.status, dict(response.headers), await response.read()


async def decide(site: Site, token: str | None) -> None:
    """Ingest's answer to the next try."""

    async def tries() -> bool:
        for passphrase in site.server.pong().passphrases:
            site.server.handle(PassphraseAnswer(passphrase.id, token))
            return True
        return False

    await eventually(tries)
