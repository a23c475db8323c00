"""Requests to the origin with limits of time and size, and the page settings derived from the origin's."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp import hdrs
from yarl import URL

from broadcaster.errors import OriginError, PlaylistError

logger = logging.getLogger(__name__)

WITHIN = 10.0  # seconds for an answer that is not a blocking request
EVENTS_SILENT = 25.0  # seconds without an event; the origin sends one every ten
MAX_BYTES = 2**25  # of an answer; a playlist of four hours with signed URLs has a quarter of that
# Of a playlist; a segment has three or four. More would block the event loop for seconds while it is parsed.
MAX_LINES = 100_000
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # those of str.splitlines and of m3u8
UNAVAILABLE = 503
EVENTS = "/live/events"


@dataclass(frozen=True, slots=True)
class OriginResponse:
    """A complete response; ``url`` is the final URL after redirects."""

    status: int
    url: URL
    etag: str | None
    text: str

    @property
    def playlist(self) -> str:
        """The text of a playlist; raises PlaylistError if it has too many lines."""
        if sum(map(self.text.count, LINE_BREAKS)) > MAX_LINES:
            raise PlaylistError(f"has more than {MAX_LINES} lines")
        return self.text


class Origin:
    """HTTP client of the broadcaster at ``address``, without a guest's token; ``clock`` is monotonic.

    ``fault`` is the error of the latest request, None if it was answered; ``answered`` is whether any was.
    Events do not count.
    """

    def __init__(
        self, session: aiohttp.ClientSession, address: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.address, _, token = address.partition("/t/")
        self._token = f"/t/{token}" if token else ""
        self.fault: str | None = None
        self.answered = False
        self._session = session
        self._clock = clock
        self._answered_at = clock()

    @property
    def silence(self) -> float:
        """Seconds since the latest answer."""
        return self._clock() - self._answered_at

    def url(self, path: str) -> URL:
        """The URL of a path of the origin."""
        return URL(self.address).join(URL(f"{self._token}{path}", encoded=True))

    async def ask(self, url: URL, *, etag: str | None = None, within: float = WITHIN) -> OriginResponse:
        """GET ``url`` within so many seconds; raises OriginError if the origin does not answer.

        503 is an answer to a blocking request. Any other 5xx comes from a proxy.
        """
        headers = {hdrs.IF_NONE_MATCH: etag} if etag else {}
        try:
            async with asyncio.timeout(within), self._session.get(url, headers=headers) as response:
                body = await _whole(response)
                text = body.decode(errors="replace")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a redirect to a bad URL
            raise self._failed(error) from None
        if response.status > UNAVAILABLE or response.status in (500, 501, 502):
            raise self._failed(OriginError(f"it answers {response.status}"))
        self._note_answer()
        return OriginResponse(response.status, response.url, response.headers.get(hdrs.ETAG), text)

    async def events(self) -> AsyncIterator[tuple[str, Any]]:
        """Names and data of the events (WHATWG HTML, 9.2) until the connection ends; raises OriginError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=WITHIN, sock_read=EVENTS_SILENT)
        headers = {hdrs.ACCEPT: "text/event-stream"}
        try:
            async with self._session.get(self.url(EVENTS), headers=headers, timeout=timeout) as response:
                if response.status != 200 or response.content_type != "text/event-stream":  # noqa: PLR2004
                    raise OriginError(f"it answers {response.status} to a request for events")
                async with aclosing(_events(response.content)) as events:
                    async for name, data in events:
                        yield name, data
        except (aiohttp.ClientError, OSError, ValueError, RecursionError) as error:
            raise OriginError(f"{self.address}: {_why(error)}") from None

    def _note_answer(self) -> None:
        self._answered_at, self.fault, self.answered = self._clock(), None, True

    def _failed(self, error: Exception) -> OriginError:
        self.fault = _why(error)
        return OriginError(f"{self.address}: {self.fault}")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return str(error) if isinstance(error, OriginError) else type(error).__name__


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The decompressed body, limited while it is read: a small body may decompress to a large one."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_BYTES:
            raise aiohttp.ClientPayloadError("too large")
    return bytes(body)


async def _events(lines: aiohttp.StreamReader) -> AsyncGenerator[tuple[str, Any], None]:
    """Parse events; raises ValueError for a line without an end, or data that is not JSON."""
    name, data = "", ""
    async for line in lines:
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
            if len(data) > MAX_BYTES:
                raise ValueError("an event without an end")
        elif not field and not value:
            if data:
                yield name, json.loads(data)
            name, data = "", ""


EVERY, RETRY_EVERY = 60.0, 2.0  # seconds between two requests, and after a failure
OK, MISSING = 200, 404
OWN: Mapping[str, object] = {
    "eventsUrl": "/live/events",
    "beaconUrl": "/live/beacon",
    "recordings": None,  # the origin has the recordings
}
URLS = ("poster", "chatUrl", "pageUrl")  # may be relative to the origin
# Settings that apply to a relay as well. Others belong to features that a relay lacks, such as clips, or
# would make viewers bypass it, such as the fallback.
PASSED_ON = {
    *("title", "performer", "startsAt", "mode", "iceServers", "colors", "texts", "prices", "costs"),
    *("trackerUrl", *URLS),
}


class PageSettings:
    """Keeps ``now``, the settings of this relay's page, up to date; the dictionary is changed in place."""

    def __init__(self, origin: Origin) -> None:
        self.now: dict[str, object] = {**OWN, "trackerUrl": "/live/tracker"}
        self._origin = origin

    async def run(self) -> None:
        """Request the origin's settings from time to time, until cancelled."""
        while True:
            pause = EVERY
            try:
                answer = await self._origin.ask(self._origin.url("/config.json"))
                if answer.status not in (OK, MISSING):  # a refusal, for example
                    raise OriginError(f"it answers {answer.status}")
                found = json.loads(answer.text) if answer.status == OK else {}
                if isinstance(found, dict):
                    self.take(found)
            except (OriginError, ValueError, RecursionError) as error:
                logger.debug("cannot read the page settings of the origin: %s", error)
                pause = RETRY_EVERY
            await asyncio.sleep(pause)

    def take(self, found: dict[str, object]) -> None:
        """Take over the settings of the origin's page."""
        settings = {name: value for name, value in found.items() if name in PASSED_ON}
        for name in URLS:
            if isinstance(value := settings.get(name), str):
                settings[name] = _absolute(self._origin.address, value)
        tracker = settings.get("trackerUrl")
        if isinstance(tracker, str) and not urlsplit(tracker).netloc:  # of the origin: this relay has its own
            settings["trackerUrl"] = "/live/tracker"
        self.now.clear()
        self.now.update({"trackerUrl": None, **settings, **OWN})


def _absolute(base: str, address: str) -> str | None:
    try:
        return urljoin(base + "/", address)
    except ValueError:
        return None
