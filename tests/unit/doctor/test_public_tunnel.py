"""What the doctor makes of the answers that come through a tunnel."""

from collections.abc import Callable, Mapping

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from broadcaster.doctor.public import TunnelChecks, cache_finding, playlist_fault
from broadcaster.doctor.report import Check, examine
from broadcaster.guest import BrowserResponse, open_browser
from broadcaster.service.health import Outcome
from tests.support.judges.check_command import listening

SERVICE = {"Access-Control-Allow-Origin": "*"}
PLAYLIST = b"#EXTM3U\n"


def answer(status: int, headers: Mapping[str, str], body: bytes = PLAYLIST) -> BrowserResponse:
    return BrowserResponse(status, CIMultiDictProxy(CIMultiDict({**SERVICE, **headers})), body, 0.01)


@pytest.mark.parametrize(
    ("status", "headers", "verdict", "message"),
    [
        (200, {"CF-Cache-Status": "HIT"}, "ok", "playlists are cached (HIT)"),
        (200, {"CF-Cache-Status": "miss"}, "ok", "playlists are cached (MISS)"),
        (200, {"X-Cache": "UPDATING"}, "ok", "playlists are cached (UPDATING)"),
        (200, {}, "skipped", "no cache in front"),
        (200, {"CF-Cache-Status": "DYNAMIC"}, "warning", "playlists are not cached (DYNAMIC)"),
        (200, {"CF-Cache-Status": "BYPASS"}, "warning", "playlists are not cached (BYPASS)"),
        (200, {"Cache-Control": "public, max-age=14400"}, "warning", "keep a playlist for 4 h"),
        (404, {"CF-Cache-Status": "BYPASS"}, "ok", "a 404 is cached no longer than it should (BYPASS)"),
        (404, {"CF-Cache-Status": "DYNAMIC"}, "warning", "playlists are not cached (DYNAMIC)"),
        (404, {"CF-Cache-Status": "HIT", "Cache-Control": "no-store"}, "warning", "a 404 is cached (HIT)"),
        (404, {"CF-Cache-Status": "HIT", "Cache-Control": "max-age=2"}, "ok", "a 404 is cached no longer"),
    ],
)
def test_cache(status: int, headers: dict[str, str], verdict: str, message: str) -> None:
    """Playlists are kept as long as the service says, and a 404 that must not be kept is not."""
    found = cache_finding(answer(status, headers))
    assert found.outcome == verdict, found
    assert message in found.message
    assert bool(found.remedy) is (found.outcome is Outcome.WARNING)


def test_who_answers_for_the_playlist() -> None:
    """Neither an error of the tunnel nor another server's page counts as the service's answer."""
    assert playlist_fault(answer(200, {})) is None
    assert playlist_fault(answer(404, {}, b"There is no such stream")) is None
    wrong = [
        (answer(502, {}), "the playlist is answered 502"),
        (answer(200, {}, b"<html>"), "the answer is not a playlist"),
        (answer(404, {"Access-Control-Allow-Origin": "x"}), "does not come from the service"),
    ]
    for playlist, message in wrong:
        found = playlist_fault(playlist)
        assert found
        assert found.outcome == "failed"
        assert message in found.message


@pytest.mark.parametrize("path", ["/dashboard", "/metrics"])
async def test_pages(path: str) -> None:
    """The viewers' page is there; a page of the admin listener that anybody can read is a fault."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(text="<!doctype html><HTML>", content_type="text/html")
        return web.Response(status=200 if request.path == path else 404, headers=SERVICE)

    async with listening(handler) as address, open_browser(address) as browser:
        checks = TunnelChecks(browser, address)
        assert (await checks.page()).outcome == "ok"
        assert (await checks.playlist()).outcome == "skipped"
        closed = await checks.closed()
    assert closed.outcome == "failed"
    assert closed.message == f"anybody can read {address}{path}"


@pytest.mark.parametrize(
    ("address_in", "verdict", "message"),
    [
        (lambda _: "8.8.8.8", "ok", "here 8.8.8.8"),
        (lambda _: "2606:4700:1:2::/64", "ok", "here 2606:4700:1:2::/64"),
        (lambda _: "unknown", "warning", "a viewer's address is unknown"),
        (lambda _: "10.0.0.5", "warning", "seems to be 10.0.0.5"),
        (lambda headers: headers.get("CF-Connecting-IP", "8.8.8.8"), "failed", "the header CF-Connecting-IP"),
        (lambda headers: headers.get("X-Forwarded-For", "8.8.8.8"), "failed", "the header X-Forwarded-For"),
        (lambda _: None, "skipped", "does not show"),
    ],
)
async def test_addresses(
    address_in: Callable[[Mapping[str, str]], str | None], verdict: str, message: str
) -> None:
    """The check finds that viewers cannot be distinguished, or can pretend to be another."""

    async def handler(request: web.Request) -> web.Response:
        address = address_in(request.headers)
        return web.Response(headers={"X-Client-Address": address} if address else {})

    async with listening(handler) as address, open_browser(address) as browser:
        found = await TunnelChecks(browser, address).addresses()
    assert found.outcome == verdict, found
    assert message in found.message
    assert ("BROADCASTER_TRUSTED_HEADER" in found.remedy) is (verdict in {"warning", "failed"})


async def test_redirects_and_silence() -> None:
    """A login in front of the page, and a tunnel that leads nowhere."""

    async def login(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://login.example.com/"})

    async with listening(login) as address, open_browser(address) as browser:
        checks = TunnelChecks(browser, address)
        assert "redirects elsewhere" in (await checks.page()).message
        assert (await checks.closed()).outcome == "ok"
    async with open_browser(address) as browser:
        checks = TunnelChecks(browser, address)
        runs = (checks.page, checks.playlist, checks.closed)
        report = await examine([Check("tunnel", "tunnel", run) for run in runs], budget=60)
        for found in (result.finding for result in report.results):
            assert found.outcome == "failed"
            assert "refuses connections" in found.message
            assert "--public" in found.remedy
