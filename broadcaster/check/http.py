"""HTTP as a browser does it, and what is wrong when there is no answer."""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy

from broadcaster.check.report import Finding, failed

TIMEOUT = 3.0  # seconds for one request, its answer's body included
MAX_BODY = 1024 * 1024  # bytes
USER_AGENT = "Mozilla/5.0 (compatible; broadcaster-check)"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and how long it took."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    seconds: float

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


@asynccontextmanager
async def open_browser(page: str) -> AsyncIterator[Browser]:
    """A browser with connections of its own, for a page of that origin."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"User-Agent": USER_AGENT}
    # The S3 client heeds HTTPS_PROXY and its like, and so do we.
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session:
        yield Browser(session, page)


async def negotiated(url: str) -> str | None:
    """What a server of an https URL chooses of HTTP/2 and HTTP/1.1 (ALPN, RFC 7301): ``h2`` or ``http/1.1``.

    None when it does not choose. Raises OSError (ssl.SSLError is one) or TimeoutError.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    parts = urlsplit(url)
    async with asyncio.timeout(TIMEOUT):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    try:
        chosen: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    finally:
        writer.close()
    return chosen


def no_answer(error: Exception, url: str, setting: str) -> Finding:
    """Why there was no answer from ``url``, which comes from ``setting``; only its host is shown."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}"
    if isinstance(error, TimeoutError):
        return failed(
            f"{where} does not answer within {TIMEOUT:.0f} s",
            f"check {setting}, and that no firewall stands between",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return failed(f"{where}: the name is not known", f"check {setting} and this machine's DNS")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return failed(
            f"{where}: its certificate is not accepted, or it does not speak TLS",
            f"check {setting}; a new custom domain takes some minutes to get its certificate",
        )
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return failed(f"{where} refuses connections", f"check {setting}: nothing listens there")
    return failed(f"{where} cannot be reached ({type(error).__name__})", f"check {setting} and the network")
