"""Reads the bucket as a viewer's browser does, and explains why viewers cannot read it.

The doctor and the service use it: segments may be unreadable for viewers although every upload succeeds.
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
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
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
    "connect a custom domain to the bucket (R2, Settings, Custom Domains) and name it in R2_PUBLIC_URL"
)
PRIVATE = f"{CUSTOM_DOMAIN}; Cloudflare Access or a firewall rule in front must let viewers pass"
ELSEWHERE = "R2_PUBLIC_URL has to be the custom domain of this bucket, without R2_PREFIX and without a path"
CORS = (
    "let the bucket's CORS policy allow GET, HEAD and the header range to the page's origin: "
    "broadcaster check --fix does so; --origin says where the page is"
)


class Fault(NamedTuple):
    """Why viewers cannot read, and what to do; if it is not ``certain``, some perhaps can."""

    message: str
    remedy: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and how long it took; of a body that was measured, size and digest alone."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    seconds: float
    size: int = 0  # bytes of the whole body
    sha256: str = ""  # hexadecimal

    def words(self, header: str) -> set[str]:
        """A header's list of words, in lower case."""
        return {
            word.strip().lower() for value in self.headers.getall(header, []) for word in value.split(",")
        } - {""}


class Browser:
    """Asks as a page of ``origin`` would."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.origin = origin
        self._session = session

    async def fetch(self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """Make one request; redirects are not followed.

        Raises aiohttp.ClientError, OSError or TimeoutError.
        """
        sent = {"Origin": self.origin, **(headers or {})}
        started = time.perf_counter()
        async with self._session.request(method, url, headers=sent, allow_redirects=False) as response:
            body = await response.content.read(MAX_BODY)
            while not response.content.at_eof() and len(body) < MAX_BODY:
                body += await response.content.read(MAX_BODY - len(body))
            return Answer(response.status, response.headers, body, time.perf_counter() - started)

    async def measure(self, url: str, most: int) -> Answer:
        """Read an object of ``most`` bytes at most, and keep none of it; it may take long while bytes come.

        Raises as ``fetch`` does.
        """
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
            return Answer(response.status, response.headers, b"", seconds, size, digest.hexdigest())


@asynccontextmanager
async def open_browser(page: str, name: str = "check") -> AsyncIterator[Browser]:
    """A browser with connections of its own, for a page of that origin."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"User-Agent": f"Mozilla/5.0 (compatible; broadcaster-{name})"}
    # The S3 client heeds HTTPS_PROXY and its like, and so do we.
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session:
        yield Browser(session, page)


def host_of(url: str) -> str:
    """Scheme and host of a URL: what may be shown of it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def why_no_answer(error: Exception, url: str, setting: str) -> Fault:
    """Why there was no answer from ``url``, which comes from ``setting``; only its host is shown."""
    where = host_of(url)
    if isinstance(error, TimeoutError):
        return Fault(
            f"{where} does not answer within {TIMEOUT:.0f} s",
            f"check {setting}, and that no firewall stands between",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Fault(f"{where}: the name is not known", f"check {setting} and this machine's DNS")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Fault(
            f"{where}: its certificate is not accepted, or it does not speak TLS",
            f"check {setting}; a new custom domain takes some minutes to get its certificate",
        )
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return Fault(f"{where} refuses connections", f"check {setting}: nothing listens there")
    return Fault(f"{where} cannot be reached ({type(error).__name__})", f"check {setting} and the network")


def why_not_read(answer: Answer, *, same: bool) -> Fault | None:
    """Why an object that the bucket has is not read; ``same``: the bytes are those that were stored."""
    if answer.status == HTTPStatus.NOT_FOUND:
        return Fault("the object stored just now is not found there (404)", ELSEWHERE)
    if answer.status != HTTPStatus.OK:
        return Fault(f"reading an object is answered {answer.status}", PRIVATE)
    if not same:
        return Fault("other bytes come than were stored: something else is served", ELSEWHERE)
    return None


def why_not_allowed(answer: Answer, origin: str) -> Fault | None:
    """Why a page of ``origin`` may not read the bytes (CORS)."""
    allowed = answer.headers.getall("Access-Control-Allow-Origin", [])
    if len(allowed) > 1:
        return Fault(
            "Access-Control-Allow-Origin comes twice, which browsers refuse",
            "set it in the bucket's CORS policy alone, not in a Transform Rule as well",
        )
    if not allowed:
        return Fault(f"pages of {origin} may not read: no Access-Control-Allow-Origin", CORS, certain=False)
    if allowed[0] not in ("*", origin):
        told = f"Access-Control-Allow-Origin is {allowed[0]!r}"
        return Fault(f"pages of {origin} may not read: {told}", CORS, certain=False)
    return None


def why_not_public(url: str) -> Fault | None:
    """What is wrong with a public address by its name alone."""
    host = urlsplit(url).hostname or ""
    if host.endswith(S3_API):
        return Fault(f"{host_of(url)} is the S3 endpoint, which answers nobody without a key", CUSTOM_DOMAIN)
    if host.endswith(DEVELOPMENT):
        return Fault(
            f"{host_of(url)} is for development: Cloudflare slows it down", CUSTOM_DOMAIN, certain=False
        )
    return None


logger = logging.getLogger(__name__)

EVERY, EVERY_IN_FAULT = 60.0, 5.0  # seconds from one check to the next
CONFIRM = 1.0  # seconds after which a first failure is tried again: it may have been one lost packet
PATIENCE = 30.0  # seconds for a segment of the variant that has its turn
DEADLINE = 90.0  # seconds for one check
MOST_UNKNOWN = 2**30  # bytes of an object whose size is not known
SIGNED = "check R2_ENDPOINT_URL, the rights of the key, and this machine's clock"


class GuestCheck:
    """Reads the first segment of each run, and one a minute, at the address that viewers get, with an Origin.

    An observer of events. ``page`` is where viewers open the page, if that is known, else ``default``. While
    the stream is ``busy``, it leaves the network alone. ``fault`` is why viewers cannot read; None while they
    can, or nobody knows. It is ``unsure`` where pages of another origin perhaps can.
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
        self.fault: Fault | None = None
        self.uncertain = False
        self._page = page
        self._default = default
        self._signed = signed
        self._busy = busy
        self._clock = clock
        self._run: str | None = None
        self._next: Segment | None = None  # to be read
        self._is_first = False  # of its run
        self._due = clock()
        self._checked: dict[str, float] = {}  # by variant of this run: when
        self._news = asyncio.Event()
        self._outcomes = Counter({"done": 0, "failed": 0})

    def __call__(self, event: Event) -> None:
        """Take note of what is listed."""
        if not isinstance(event, SegmentPublished) or event.segment.gap or not event.segment.url:
            return
        segment = event.segment
        if segment.run.id != self._run:
            self._run, self._checked, self._is_first = segment.run.id, {}, True
        elif self._clock() < self._due:
            self._checked.setdefault(segment.variant, 0.0)
            return
        elif self._next or not self._has_turn(segment.variant):
            return
        self._next = segment
        self._news.set()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            segment, self._next = self._next, None
            is_first, self._is_first = self._is_first, False
            if segment and (is_first or not self._busy()):
                await self._check(segment)

    def _has_turn(self, variant: str) -> bool:
        """The variant that was read longest ago has its turn, unless nothing comes of it."""
        oldest = min(self._checked.values(), default=0.0)
        return self._checked.get(variant, 0.0) <= oldest or self._clock() > self._due + PATIENCE

    def metrics(self) -> Iterator[Metric]:
        """How the checks went, and whether viewers can read as far as they tell."""
        text = "Segments read as viewers do by outcome: done or failed"
        yield Metric("guest_checks", text, dict(self._outcomes), labels=("outcome",), is_counter=True)
        text = "1 while a segment that is listed cannot be read as viewers do"
        yield Metric("guest_check_failing", text, self.fault is not None)

    async def _check(self, segment: Segment) -> None:
        self._due = float("inf")  # one at a time, but for a new run
        try:
            fault = await self._read(segment)
            if fault and not self.fault:
                await asyncio.sleep(CONFIRM)
                fault = await self._read(segment)
            self._note(fault)
        finally:
            self._checked[segment.variant] = self._clock()
            self._due = self._clock() + (EVERY_IN_FAULT if self.fault else EVERY)

    async def _read(self, segment: Segment) -> Fault | None:
        """Why viewers cannot read this one, or its EXT-X-MAP."""
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

    def _note(self, fault: Fault | None) -> None:
        self._outcomes["failed" if fault else "done"] += 1
        if fault and (self.fault is None or self.fault.message != fault.message):
            logger.error("viewers cannot read what is listed: %s; %s", fault.message, fault.remedy)
        elif self.fault and not fault:
            logger.info("viewers can read what is listed again")
        self.fault = fault


async def _read(browser: Browser, url: str, size: int, sha256: str | None) -> Fault | None:
    answer = await browser.measure(url, size or MOST_UNKNOWN)
    same = size in (0, answer.size) and sha256 in (None, answer.sha256)
    return why_not_read(answer, same=same) or why_not_allowed(answer, browser.origin)


def warn_of_address(settings: Settings) -> None:
    """Log what is wrong with the public address of the bucket by its name alone."""
    url = settings.public_url if settings.urls == "public" else None
    if url and (fault := why_not_public(url)):
        level = logging.ERROR if fault.certain else logging.WARNING
        logger.log(level, "%s: %s; %s", SETTING, fault.message, fault.remedy)


def configured_page(settings: Settings) -> str | None:
    """Where viewers open the live page, as the operator has told it."""
    try:
        told = json.loads((settings.viewer_dir / "config.json").read_text())
    except (OSError, ValueError):
        return None
    url = told.get("pageUrl") if isinstance(told, dict) else None
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None


def _origin(url: str) -> str:
    """As the Origin header has it (RFC 6454)."""
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc}"
