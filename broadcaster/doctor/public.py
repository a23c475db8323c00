"""Checks of the viewers' URLs: the bucket's public address, and the proxied service (``--public``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import ip_network
from urllib.parse import urlsplit

from broadcaster.bucket import CACHE_CONTROL, content_type
from broadcaster.doctor.bucket import PART, SIZE, Clients, negotiated
from broadcaster.doctor.report import reading, time_text
from broadcaster.guest import (
    CORS,
    ELSEWHERE,
    PRIVATE,
    SETTING,
    Browser,
    BrowserResponse,
    host_of,
    why_not_allowed,
    why_not_public,
    why_not_read,
)
from broadcaster.printable import printable
from broadcaster.service.health import CheckFinding, failed, ok, skipped, warning

LIST = re.compile(rb"<(ListBucketResult|ListVersionsResult|Contents)\b")
CACHED = {"HIT", "MISS", "EXPIRED", "STALE", "UPDATING", "REVALIDATED"}  # CF-Cache-Status of cached answers


class PublicChecks:
    """The checks of the bucket's public address, ``url``, on an object whose bytes are ``body``."""

    def __init__(self, clients: Clients, url: str = "") -> None:
        self.body = b""
        self._url = url
        self._browser = clients.browser
        self._objects = clients.objects
        self._whole: BrowserResponse | None = None
        self._part: BrowserResponse | None = None

    async def address(self) -> CheckFinding:
        """The address answers, with 404 for an object that does not exist."""
        return address_finding(await self._objects.url("early"), await self._fetch("early"))

    async def no_list(self) -> CheckFinding:
        """The bucket does not list its objects for strangers, who would find those of a private event."""
        for query in ("/", "/?list-type=2", "?list-type=2", "/?versions"):
            with reading(self._url, SETTING):
                answer = await self._browser.fetch(self._url + query)
            if answer.status == HTTPStatus.OK and LIST.search(answer.body):
                return failed(
                    f"{host_of(self._url)} lists the bucket's objects for anybody",
                    "let the public address allow reading objects alone, not listing them (R2_PUBLIC_URL)",
                )
        return ok("the bucket lists nothing for strangers")

    async def protocol(self) -> CheckFinding:
        """The server offers HTTP/2 or HTTP/3, for many requests over one connection."""
        url = await self._objects.url("early")
        if urlsplit(url).scheme != "https":
            return warning("plain http: a page on https may not read it", "use the https address")
        try:
            chosen = await negotiated(url)
        except OSError as error:  # a proxy, perhaps: the address itself has answered
            return skipped(f"the protocol cannot be determined ({type(error).__name__})")
        if chosen != "h2":
            return warning("HTTP/1.1 only", "switch HTTP/2 on: Cloudflare, Speed, Protocol optimization")
        return ok("HTTP/2")

    async def object(self) -> CheckFinding:
        """Viewers get the bytes that were stored."""
        self._whole = answer = await self._fetch("probe")
        if fault := why_not_read(answer, same=answer.body == self.body):
            return failed(fault.message, fault.remedy)
        http3 = "; HTTP/3 offered" if "h3=" in answer.headers.get("Alt-Svc", "") else ""
        return ok(f"{SIZE} bytes in {answer.seconds * 1000:.0f} ms, as stored{http3}")

    async def headers(self) -> CheckFinding:
        """The response has the headers with which the object was stored."""
        if self._whole is None:
            return skipped("there was no answer")
        expected = {"Content-Type": content_type(self._objects.key("probe")), "Cache-Control": CACHE_CONTROL}
        found = {name: self._whole.headers.get(name, "none") for name in expected}
        wrong = [name for name in expected if found[name] != expected[name]]
        if wrong:
            return warning(
                "; ".join(f"{name} is {found[name]!r}, not {expected[name]!r}" for name in wrong),
                "let Cloudflare respect existing headers: Caching, Browser Cache TTL; no rule may set them",
            )
        return ok("Content-Type and Cache-Control as stored")

    async def cors(self) -> CheckFinding:
        """CORS lets a page read the bytes."""
        if self._whole is None:
            return skipped("there was no answer")
        origin = self._browser.origin
        if fault := why_not_allowed(self._whole, origin):
            return failed(fault.message, fault.remedy)
        return ok(f"pages of {origin} may read")

    async def ranges(self) -> CheckFinding:
        """Range requests work, and CORS exposes Content-Range; sharing players need both."""
        first, last = PART
        self._part = answer = await self._fetch("probe", headers={"Range": f"bytes={first}-{last}"})
        expected = f"bytes {first}-{last}/{SIZE}"
        is_part = answer.status == HTTPStatus.PARTIAL_CONTENT and answer.body == self.body[first : last + 1]
        if not is_part or answer.headers.get("Content-Range") != expected:
            return warning(
                f"a range is answered {answer.status} with {len(answer.body)} bytes",
                "whatever stands in front of the bucket has to pass the Range header on",
            )
        if answer.tokens("Access-Control-Expose-Headers").isdisjoint({"content-range", "*"}):
            return warning("pages do not see Content-Range: it is not exposed", CORS)
        return ok("ranges work, and pages see Content-Range")

    async def preflight(self) -> CheckFinding:
        """A CORS preflight request for the Range header is allowed (Fetch, CORS-preflight fetch)."""
        headers = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
        answer = await self._fetch("probe", "OPTIONS", headers)
        return preflight_finding(answer, self._browser.origin)

    async def absent(self) -> CheckFinding:
        """No cache keeps a 404 for an object that is stored later."""
        await self._objects.put("early", SIZE)
        answer = await self._fetch("early")
        if answer.status == HTTPStatus.NOT_FOUND:
            return warning(
                "an edge keeps a 404 for an object that was stored meanwhile",
                "in Cloudflare's cache rule for the segments, set the edge TTL of status 404 to no-store",
            )
        if answer.status != HTTPStatus.OK:
            return failed(f"reading an object is answered {answer.status}", PRIVATE)
        return ok("a 404 is not cached")

    async def edge(self) -> CheckFinding:
        """Cloudflare's edge caches segments, so that not every viewer's request reaches the bucket."""
        answer = self._part or self._whole
        status = answer.headers.get("CF-Cache-Status") if answer else None
        if not status:
            return skipped("no Cloudflare cache in front")
        if status.upper() not in CACHED:
            return warning(
                f"Cloudflare does not cache segments ({status}): each viewer's request reaches the bucket",
                "make a cache rule for this host: eligible for cache, edge TTL from the origin's header",
            )
        return ok(f"Cloudflare caches segments ({status})")

    async def _fetch(
        self, name: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> BrowserResponse:
        url = await self._objects.url(name)
        with reading(url, SETTING):
            return await self._browser.fetch(url, method, headers)


def address_finding(url: str, answer: BrowserResponse) -> CheckFinding:
    """The finding for the answer to ``url``, an object that does not exist yet."""
    where, named = host_of(url), why_not_public(url)
    if named and named.certain:
        return failed(named.message, named.remedy)
    if answer.status in range(200, 300):
        return failed(
            f"{where} answers {answer.status} for an object that does not exist: not a bucket", ELSEWHERE
        )
    if answer.status in range(300, 400):
        target = printable(urlsplit(answer.headers.get("Location", "")).netloc) or "elsewhere"
        return failed(f"{where} redirects to {target}", "name the final address, with https (R2_PUBLIC_URL)")
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return failed(f"{where} answers {answer.status}", "see Cloudflare's dashboard: is the domain active?")
    if named:
        return warning(named.message, named.remedy)
    return ok(f"{where} answers in {answer.seconds * 1000:.0f} ms")


def preflight_finding(answer: BrowserResponse, origin: str) -> CheckFinding:
    """Whether the answer allows a page of ``origin`` to send GET with a Range header."""
    if answer.status not in range(200, 300):
        refused = f"it is answered {answer.status}"
    elif answer.headers.get("Access-Control-Allow-Origin") not in ("*", origin):
        refused = "it does not allow the origin"
    elif answer.tokens("Access-Control-Allow-Headers").isdisjoint({"*", "range"}):
        refused = "it does not allow the header"
    else:
        return ok("a Range header is allowed")
    return warning(f"a browser that asks first may not send a Range header: {refused}", CORS)


OPTION = "--public"
HITS = {"HIT", "STALE", "UPDATING", "REVALIDATED"}  # answers from the cache
LONGEST = 60  # seconds, the longest target duration: the service's longest max-age
NOT_ELIGIBLE = "DYNAMIC"  # CF-Cache-Status without a rule that allows caching
RULES = "deploy/cloudflare has the rule, deploy/nginx the same for nginx"
ADDRESS = "X-Client-Address"  # header of /health: the address that the service uses for the viewer
FORGEABLE, FORGED = ("CF-Connecting-IP", "X-Forwarded-For"), "192.0.2.77"  # an address for documentation
TRUSTED = (
    "name the header of what stands in front (BROADCASTER_TRUSTED_HEADER); deploy/nginx sets it for nginx"
)
GATED = ("/", "/config.json", "/live/playlist.m3u8", "/live/events/now", "/recordings")
CLOSED = ("/metrics", "/dashboard")  # paths of the admin listener
INGRESS = "cloudflared.yml.example shows where the tunnel should lead to"


class TunnelChecks:
    """The checks of the service at ``url``, its public address."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url

    async def page(self) -> CheckFinding:
        """The public address serves the page."""
        answer = await self._fetch("/")
        if answer.status in range(300, 400):
            return failed(
                f"{self._url}/ redirects elsewhere", "viewers must pass: no login, and https at once"
            )
        if answer.status != HTTPStatus.OK or b"<html" not in answer.body.lower():
            return failed(f"there is no page at {self._url}/ (status {answer.status})", INGRESS)
        return ok(f"the page comes in {answer.seconds * 1000:.0f} ms")

    async def gate(self) -> CheckFinding:
        """Strangers get nothing of a private event."""
        for path in GATED:
            answer = await self._fetch(path)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                return failed(
                    f"{self._url}{path} is answered {answer.status} without a token",
                    "let viewers reach the service's own listener, and let no cache keep what it answers",
                )
        return ok("strangers are asked for their invitation")

    async def playlist(self) -> CheckFinding:
        """A shared cache keeps playlists for as long as the service allows, and with the right headers."""
        for _ in range(2):
            answer = await self._fetch("/live/playlist.m3u8")
            if fault := playlist_fault(answer):
                return fault
        return cache_finding(answer)

    async def closed(self) -> CheckFinding:
        """The operator's routes are not public."""
        for path in CLOSED:
            answer = await self._fetch(path)
            if answer.status in range(200, 300):
                return failed(
                    f"anybody can read {self._url}{path}",
                    "let nothing lead to the operator's port (BROADCASTER_ADMIN_PORT): it has no login",
                )
        return ok(f"closed: {', '.join(CLOSED)}")

    async def addresses(self) -> CheckFinding:
        """The service distinguishes viewers' addresses, and a viewer cannot forge an address."""
        address = (await self._fetch("/health")).headers.get(ADDRESS)
        if address is None:
            return skipped("/health does not show the viewer's address")
        for header in FORGEABLE:
            forged = await self._fetch("/health", {header: FORGED})
            if forged.headers.get(ADDRESS) == FORGED:
                return failed(f"a viewer can choose its address by the header {header}", TRUSTED)
        if not _is_global(address):
            is_known = address != "unknown"
            state = f"seems to be {printable(address)}" if is_known else "is unknown"
            return warning(f"a viewer's address {state}: limits per address do not work", TRUSTED)
        return ok(f"each viewer has an address, here {printable(address)}")

    async def _fetch(self, path: str, headers: Mapping[str, str] | None = None) -> BrowserResponse:
        with reading(self._url, OPTION):
            return await self._browser.fetch(self._url + path, headers=headers)


def _is_global(address: str) -> bool:
    try:
        return ip_network(address).is_global
    except ValueError:
        return False


def playlist_fault(answer: BrowserResponse) -> CheckFinding | None:
    """The fault of a playlist's response; None if the service has sent it."""
    if answer.status not in {HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE}:
        return failed(f"the playlist is answered {answer.status}", INGRESS)
    if answer.status == HTTPStatus.OK and not answer.body.startswith(b"#EXTM3U"):
        return failed("the answer is not a playlist", INGRESS)
    if answer.headers.get("Access-Control-Allow-Origin") != "*":  # the service always sends it
        return failed("the playlist does not come from the service", INGRESS)
    return None


def cache_finding(answer: BrowserResponse) -> CheckFinding:
    """Whether the cache obeyed the Cache-Control header, judged by a second response a moment later."""
    age = re.search(r"max-age=([0-9]+)", answer.headers.get("Cache-Control", ""))
    if age and int(age[1]) > LONGEST:
        return warning(
            f"browsers keep a playlist for {time_text(int(age[1]))}",
            f"Cloudflare, Caching, Browser Cache TTL: respect existing headers; {RULES}",
        )
    status = answer.headers.get("CF-Cache-Status", answer.headers.get("X-Cache", "")).upper()
    if not status:
        return skipped("no cache in front that reports its hits")
    if status not in CACHED and (answer.status == HTTPStatus.OK or status == NOT_ELIGIBLE):
        return warning(
            f"playlists are not cached ({status}): each viewer's request reaches the service", RULES
        )
    if answer.status != HTTPStatus.OK and status in HITS and "no-store" in answer.tokens("Cache-Control"):
        return warning(f"a {answer.status} is cached ({status}): viewers see late that a stream is on", RULES)
    if answer.status != HTTPStatus.OK:
        return ok(f"a {answer.status} is cached no longer than it should ({status}); check during a stream")
    return ok(f"playlists are cached ({status})")
