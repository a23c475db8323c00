"""Reads the bucket as a viewer's browser does, and explains why viewers cannot read it.

Segments may be unreadable for viewers although every upload succeeds.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy

from broadcaster.catalog.records import Segment
from broadcaster.config import Settings
from broadcaster.events import Event, SegmentPublished
from broadcaster.metrics import Metric

SETTING = "R2_PUBLIC_URL"
TIMEOUT = 3.0  # seconds for one request, its answer's body included
MAX_BODY = 1024 * 1024  # bytes
CHUNK = 65_536  # bytes
DEVELOPMENT, S3_API = ".r2.dev", ".r2.cloudflarestorage.com"
CUSTOM_DOMAIN = (
    "connect a custom domain to the bucket (R2, Settings, Custom Domains), and name it as the public address"
    " (R2_PUBLIC_URL)"
)
PRIVATE = f"{CUSTOM_DOMAIN}; Cloudflare Access or a firewall rule in front must let viewers pass"
ELSEWHERE = "name the bucket's custom domain as the public address, without prefix or path (R2_PUBLIC_URL)"
CORS = (
    "let the bucket's CORS policy allow GET, HEAD and the header range to the page's origin: "
    "broadcaster check --fix does so; --origin says where the page is"
)


class ViewerFault(NamedTuple):
    """Why viewers cannot read, and what to do; if it is not ``certain``, some viewers may be able to."""

    message: str
    remedy: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class BrowserResponse:
    """An answer and its duration; a body that was measured has size and digest alone."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    seconds: float
    size: int = 0  # bytes of the whole body
    sha256: str = ""  # hexadecimal

    def tokens(self, header: str) -> set[str]:
        """The tokens of a header's list, in lower case."""
        lists = self.headers.getall(header, [])
        return {token.strip().lower() for value in lists for token in value.split(",")} - {""}


class Browser:
    """Makes requests as a page of ``origin`` does."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.origin = origin
        self._session = session

    async def fetch(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> BrowserResponse:
        """Make one request; redirects are not followed.

        Raises aiohttp.ClientError, OSError or TimeoutError.
        """
        sent = {"Origin": self.origin, **(headers or {})}
        started = time.perf_counter()
        async with self._session.request(method, url, headers=sent, allow_redirects=False) as response:
            body = await response.content.read(MAX_BODY)
            while not response.content.at_eof() and len(body) < MAX_BODY:
                body += await response.content.read(MAX_BODY - len(body))
            return BrowserResponse(response.status, response.headers, body, time.perf_counter() - started)

    async def measure(self, url: str, most: int) -> BrowserResponse:
        """Read an object of ``most`` bytes at most for its size and digest. Raises as ``fetch`` does."""
        started, digest, size = time.perf_counter(), hashlib.sha256(), 0
        timeout = aiohttp.ClientTimeout(total=20 * TIMEOUT, connect=TIMEOUT, sock_read=TIMEOUT)
        async with self._session.get(
            url, headers={"Origin": self.origin}, allow_redirects=False, timeout=timeout
        ) as response:
            async for chunk in response.content.iter_chunked(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if size > most:
                    break
            seconds = time.perf_counter() - started
            return BrowserResponse(response.status, response.headers, b"", seconds, size, digest.hexdigest())


@asynccontextmanager
async def open_browser(page: str, name: str = "check") -> AsyncIterator[Browser]:
    """A browser with connections of its own, for a page of the origin ``page``."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"User-Agent": f"Mozilla/5.0 (compatible; broadcaster-{name})"}
    # trust_env: HTTPS_PROXY and similar variables, as for the S3 client.
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session:
        yield Browser(session, page)


def host_of(url: str) -> str:
    """Scheme and host of a URL, without a signature in its query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_local(url: str) -> bool:
    """Whether a URL is of use on this machine alone."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        address = ip_address(host)
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def why_no_answer(error: Exception, url: str, setting: str) -> ViewerFault:
    """Why there was no answer from ``url``, which comes from ``setting``; only its host is shown."""
    where = host_of(url)
    if isinstance(error, TimeoutError):
        return ViewerFault(
            f"{where} does not answer within {TIMEOUT:.0f} s",
            f"check the address, and that no firewall stands between ({setting})",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ViewerFault(
            f"{where}: the name is not known", f"check the address and this machine's DNS ({setting})"
        )
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return ViewerFault(
            f"{where}: its certificate is not accepted, or it does not speak TLS",
            f"check the address; a new custom domain takes some minutes to get its certificate ({setting})",
        )
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return ViewerFault(
            f"{where} refuses connections", f"check the address: nothing listens there ({setting})"
        )
    return ViewerFault(
        f"{where} cannot be reached ({type(error).__name__})",
        f"check the address and the network ({setting})",
    )


def why_not_read(answer: BrowserResponse, *, same: bool) -> ViewerFault | None:
    """Why a stored object cannot be read; ``same`` is whether the bytes are right."""
    if answer.status == HTTPStatus.NOT_FOUND:
        return ViewerFault("the object stored just now is not found there (404)", ELSEWHERE)
    if answer.status != HTTPStatus.OK:
        return ViewerFault(f"reading an object is answered {answer.status}", PRIVATE)
    if not same:
        return ViewerFault("other bytes come than were stored: something else is served", ELSEWHERE)
    return None


def why_not_allowed(answer: BrowserResponse, origin: str) -> ViewerFault | None:
    """Why a page of ``origin`` may not read the bytes (CORS)."""
    allowed = answer.headers.getall("Access-Control-Allow-Origin", [])
    if len(allowed) > 1:
        return ViewerFault(
            "Access-Control-Allow-Origin comes twice, which browsers refuse",
            "set it in the bucket's CORS policy alone, not in a Transform Rule as well",
        )
    if not allowed:
        return ViewerFault(
            f"pages of {origin} may not read: no Access-Control-Allow-Origin", CORS, certain=False
        )
    if allowed[0] not in ("*", origin):
        header = f"Access-Control-Allow-Origin is {allowed[0]!r}"
        return ViewerFault(f"pages of {origin} may not read: {header}", CORS, certain=False)
    return None


def why_not_public(url: str) -> ViewerFault | None:
    """The fault of a public address that its name alone shows."""
    host = urlsplit(url).hostname or ""
    if host.endswith(S3_API):
        return ViewerFault(
            f"{host_of(url)} is the S3 endpoint, which answers nobody without a key", CUSTOM_DOMAIN
        )
    if host.endswith(DEVELOPMENT):
        return ViewerFault(
            f"{host_of(url)} is for development: Cloudflare slows it down", CUSTOM_DOMAIN, certain=False
        )
    return None


logger = logging.getLogger(__name__)

EVERY, EVERY_IN_FAULT = 60.0, 5.0  # seconds from one check to the next
CONFIRM = 1.0  # seconds after which a first failure is confirmed
PATIENCE = 30.0  # seconds to wait for a segment of the next variant
DEADLINE = 90.0  # seconds for one check
MOST_UNKNOWN = 2**30  # bytes of an object of unknown size
SIGNED = "check the bucket's endpoint, the rights of the key, and this machine's clock (R2_ENDPOINT_URL)"


class GuestCheck:
    """Reads the first segment of each encoder run, and a segment a minute, as a page does.

    An observer of events. ``page`` returns the configured address of the page; ``default`` is used for None.
    Nothing is read while the stream is ``busy``. ``fault`` is why viewers cannot read, ``uncertain`` whether
    pages of another origin may be able to.
    """

    def __init__(
        self,
        page: Callable[[], str | None],
        default: str,
        *,
        signed: bool = False,
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault: ViewerFault | None = None
        self.uncertain = False
        self._page = page
        self._default = default
        self._signed = signed
        self._busy = busy
        self._clock = clock
        self._run: str | None = None
        self._next: Segment | None = None  # the segment to read next
        self._is_first = False  # whether it is the first of its run
        self._due = clock()
        self._checked: dict[str, float] = {}  # time of the latest check, by variant of this run
        self._ready = asyncio.Event()
        self._outcomes = Counter({"done": 0, "failed": 0})

    def __call__(self, event: Event) -> None:
        """Choose the segment to read next."""
        if not isinstance(event, SegmentPublished) or event.segment.gap or not event.segment.url:
            return
        segment = event.segment
        if segment.run.id != self._run:
            self._run, self._checked, self._is_first = segment.run.id, {}, True
        elif self._clock() < self._due:
            self._checked.setdefault(segment.variant, 0.0)
            return
        elif self._next or not self._is_next(segment.variant):
            return
        self._next = segment
        self._ready.set()

    @property
    def was_read(self) -> bool:
        """Whether a segment of this encoder run was read, well or not."""
        return any(self._checked.values())

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            segment, self._next = self._next, None
            is_first, self._is_first = self._is_first, False
            if segment and (is_first or not self._busy()):
                await self._check(segment)

    def _is_next(self, variant: str) -> bool:
        """Whether the variant was read longest ago, or the variant that was read longest ago is silent."""
        oldest = min(self._checked.values(), default=0.0)
        return self._checked.get(variant, 0.0) <= oldest or self._clock() > self._due + PATIENCE

    def metrics(self) -> Iterator[Metric]:
        """The outcomes of the checks, and whether the latest check failed."""
        text = "Segments read as viewers do by outcome: done or failed"
        yield Metric("guest_checks", text, dict(self._outcomes), labels=("outcome",), is_counter=True)
        text = "1 while a segment that is listed cannot be read as viewers do"
        yield Metric("guest_check_failing", text, self.fault is not None)

    async def _check(self, segment: Segment) -> None:
        self._due = float("inf")  # only a new run interrupts
        try:
            fault = await self._read(segment)
            if fault and not self.fault:
                await asyncio.sleep(CONFIRM)
                fault = await self._read(segment)
            self._note(fault)
        finally:
            self._checked[segment.variant] = self._clock()
            self._due = self._clock() + (EVERY_IN_FAULT if self.fault else EVERY)

    async def _read(self, segment: Segment) -> ViewerFault | None:
        """Why viewers cannot read the segment or its EXT-X-MAP."""
        page = await asyncio.to_thread(self._page)
        async with open_browser(_origin(page or self._default), "guest") as browser:
            for url in filter(None, (segment.map_url, segment.url)):
                expected = (segment.size, segment.sha256) if url == segment.url else (0, None)
                setting = "R2_ENDPOINT_URL" if self._signed else SETTING
                try:
                    async with asyncio.timeout(DEADLINE):
                        fault = await _read(browser, url, *expected)
                except (aiohttp.ClientError, OSError) as error:
                    fault = why_no_answer(error, url, setting)
                if fault:
                    self.uncertain = page is None and not fault.certain
                    return fault._replace(remedy=SIGNED) if self._signed and fault.certain else fault
        return None

    def _note(self, fault: ViewerFault | None) -> None:
        self._outcomes["failed" if fault else "done"] += 1
        if fault and (self.fault is None or self.fault.message != fault.message):
            logger.error("viewers cannot read what is listed: %s; %s", fault.message, fault.remedy)
        elif self.fault and not fault:
            logger.info("viewers can read what is listed again")
        self.fault = fault


async def _read(browser: Browser, url: str, size: int, sha256: str | None) -> ViewerFault | None:
    answer = await browser.measure(url, size or MOST_UNKNOWN)
    same = size in (0, answer.size) and sha256 in (None, answer.sha256)
    return why_not_read(answer, same=same) or why_not_allowed(answer, browser.origin)


def warn_of_address(settings: Settings) -> None:
    """Log the fault of the bucket's public address that its name alone shows."""
    url = settings.public_url if settings.urls == "public" else None
    if url and (fault := why_not_public(url)):
        level = logging.ERROR if fault.certain else logging.WARNING
        logger.log(level, "%s: %s; %s", SETTING, fault.message, fault.remedy)


def configured_event(settings: Settings) -> dict[str, object]:
    """The page's config.json; empty if it cannot be read."""
    try:
        config = json.loads((settings.viewer_dir / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def configured_page(settings: Settings) -> str | None:
    """The address of the live page in the page's config.json."""
    url = configured_event(settings).get("pageUrl")
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None


def _origin(url: str) -> str:
    """The origin of a URL as the Origin header has it (RFC 6454)."""
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc}"
