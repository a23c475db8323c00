"""Reading the bucket as a viewer's browser does, and why viewers cannot: for the doctor and the service."""

from __future__ import annotations

import errno
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy

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
