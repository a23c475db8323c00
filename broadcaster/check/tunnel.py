"""What the world gets of the service through the tunnel or proxy in front of it (``--public``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import ip_network

import aiohttp

from broadcaster.check.http import no_answer
from broadcaster.check.public import CACHED
from broadcaster.check.report import Finding, failed, ok, skipped, time_text, warning
from broadcaster.guest import Answer, Browser
from broadcaster.printable import printable

OPTION = "--public"
KEPT = {"HIT", "STALE", "UPDATING", "REVALIDATED"}  # answers that the cache already had
LONGEST = 60  # seconds, the longest target duration: the service never says more
NOT_ELIGIBLE = "DYNAMIC"  # Cloudflare's word where no rule says that it may be cached
RULES = "deploy/cloudflare has the rule, deploy/nginx the same for nginx"
ADDRESS = "X-Client-Address"  # of the service's /health: for which address a viewer counts
FORGEABLE, FORGED = ("CF-Connecting-IP", "X-Forwarded-For"), "192.0.2.77"  # an address for documentation
TRUSTED = (
    "BROADCASTER_TRUSTED_HEADER names the header of what stands in front; deploy/nginx sets it for nginx"
)
INGRESS = "cloudflared.yml.example shows where the tunnel should lead to"


class TunnelChecks:
    """The checks of the service at ``url``, where viewers find it."""

    def __init__(self, browser: Browser, url: str, *, dashboard: bool) -> None:
        self._browser = browser
        self._url = url
        self._closed = ("/metrics",) if dashboard else ("/metrics", "/dashboard")

    async def page(self) -> Finding:
        """Viewers find the page."""
        answer = await self._ask("/")
        if isinstance(answer, Finding):
            return answer
        if answer.status in range(300, 400):
            return failed(
                f"{self._url}/ redirects elsewhere", "viewers must pass: no login, and https at once"
            )
        if answer.status != HTTPStatus.OK or b"<html" not in answer.body.lower():
            return failed(f"there is no page at {self._url}/ (status {answer.status})", INGRESS)
        return ok(f"the page comes in {answer.seconds * 1000:.0f} ms")

    async def playlist(self) -> Finding:
        """A shared cache keeps playlists, for as long as the service says, and nothing else of them."""
        first = await self._ask("/live/playlist.m3u8")
        second = await self._ask("/live/playlist.m3u8")
        for answer in (first, second):
            if isinstance(answer, Finding):
                return answer
            if fault := judge_playlist(answer):
                return fault
        return judge_cache(second) if isinstance(second, Answer) else second

    async def closed(self) -> Finding:
        """What is the operator's cannot be had."""
        for path in self._closed:
            answer = await self._ask(path)
            if isinstance(answer, Finding):
                return answer
            if answer.status in range(200, 300):
                return failed(
                    f"anybody can read {self._url}{path}",
                    "let nothing lead to BROADCASTER_ADMIN_PORT: it has no login",
                )
        return ok(f"closed: {', '.join(self._closed)}")

    async def addresses(self) -> Finding:
        """The service knows viewers apart, and none of them can pretend to be another."""
        answer = await self._ask("/health")
        if isinstance(answer, Finding):
            return answer
        ours = answer.headers.get(ADDRESS)
        if ours is None:
            return skipped("/health does not tell which address a viewer has")
        for header in FORGEABLE:
            forged = await self._ask("/health", {header: FORGED})
            if isinstance(forged, Answer) and forged.headers.get(ADDRESS) == FORGED:
                return failed(f"a viewer can choose the address that it counts for, by {header}", TRUSTED)
        if not _is_global(ours):
            told = "is not told" if ours == "unknown" else f"seems to be {printable(ours)}"
            return warning(f"a viewer's address {told}: no bound of an address holds", TRUSTED)
        return ok(f"a viewer counts for the own address, here {printable(ours)}")

    async def _ask(self, path: str, headers: Mapping[str, str] | None = None) -> Answer | Finding:
        try:
            return await self._browser.fetch(self._url + path, headers=headers)
        except (aiohttp.ClientError, OSError) as error:
            return no_answer(error, self._url, OPTION)


def _is_global(site: str) -> bool:
    try:
        return ip_network(site).is_global
    except ValueError:
        return False


def judge_playlist(answer: Answer) -> Finding | None:
    """What is wrong with an answer for the playlist; None when it is as the service would give it."""
    if answer.status not in {HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE}:
        return failed(f"the playlist is answered {answer.status}", INGRESS)
    if answer.status == HTTPStatus.OK and not answer.body.startswith(b"#EXTM3U"):
        return failed("something else comes in the playlist's place", INGRESS)
    if answer.headers.get("Access-Control-Allow-Origin") != "*":  # which the service always says
        return failed("it is not the service that answers for the playlist", INGRESS)
    return None


def judge_cache(answer: Answer) -> Finding:
    """Whether the cache in front did as the rules want, in a second answer of a moment later."""
    age = re.search(r"max-age=([0-9]+)", answer.headers.get("Cache-Control", ""))
    if age and int(age[1]) > LONGEST:
        return warning(
            f"browsers are told to keep a playlist for {time_text(int(age[1]))}",
            f"Cloudflare, Caching, Browser Cache TTL: respect existing headers; {RULES}",
        )
    status = answer.headers.get("CF-Cache-Status", answer.headers.get("X-Cache", "")).upper()
    if not status:
        return skipped("no cache in front that tells what it does")
    if status not in CACHED and (answer.status == HTTPStatus.OK or status == NOT_ELIGIBLE):
        return warning(
            f"playlists are not cached ({status}): each viewer's request reaches the service", RULES
        )
    if answer.status != HTTPStatus.OK and status in KEPT and "no-store" in answer.words("Cache-Control"):
        return warning(f"a {answer.status} is kept ({status}): viewers learn late that a stream is on", RULES)
    if answer.status != HTTPStatus.OK:
        return ok(f"a {answer.status} is kept no longer than it should ({status}); check during a stream")
    return ok(f"playlists are cached ({status})")
