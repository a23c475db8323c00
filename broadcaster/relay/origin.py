"""What is asked of the origin, within bounds of time and size.

What the page is told here: what the origin tells its own, with the relay's addresses.
"""

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

WITHIN = 10.0  # seconds for an answer that nothing holds up
EVENTS_SILENT = 25.0  # seconds: the origin says something every ten
MAX_BYTES = 2**25  # of an answer: a playlist of four hours with signed addresses has a quarter of that
# And of a playlist, however few bytes they are: to read them takes seconds, in which nobody is served. There
# are three or four for each segment.
MAX_LINES = 100_000
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # as str.splitlines, and with it m3u8, has them
UNAVAILABLE = 503
EVENTS = "/live/events"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, whole. ``url`` is where it was in the end."""

    status: int
    url: URL
    etag: str | None
    text: str

    @property
    def playlist(self) -> str:
        """The text of one; raises PlaylistError when it has too many lines to be read."""
        if sum(map(self.text.count, LINE_BREAKS)) > MAX_LINES:
            raise PlaylistError(f"has more than {MAX_LINES} lines")
        return self.text


class Origin:
    """The broadcaster at ``address``; ``clock`` is monotonic.

    ``fault`` is why it did not answer last, None when it did. ``answered`` is whether it ever has. Events are
    no answer: what counts is whether playlists can be had.
    """

    def __init__(
        self, session: aiohttp.ClientSession, address: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.address = address
        self.fault: str | None = None
        self.answered = False
        self._session = session
        self._clock = clock
        self._heard = clock()

    @property
    def silence(self) -> float:
        """For how many seconds it has said nothing."""
        return self._clock() - self._heard

    def url(self, path: str) -> URL:
        """The address of what is under a path there."""
        return URL(self.address).join(URL(path))

    async def ask(self, url: URL, *, etag: str | None = None, within: float = WITHIN) -> Answer:
        """GET what is there, within so many seconds; raises OriginError when nothing can be had.

        A 503 is an answer: nothing new has come. Any other 5xx says that the origin itself did not answer.
        """
        headers = {hdrs.IF_NONE_MATCH: etag} if etag else {}
        try:
            async with asyncio.timeout(within), self._session.get(url, headers=headers) as response:
                body = await _whole(response)
                text = body.decode(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:  # led to what is no address
            raise self._failed(error) from None
        if response.status > UNAVAILABLE or response.status in (500, 501, 502):
            raise self._failed(OriginError(f"it answers {response.status}"))
        self._note()
        return Answer(response.status, response.url, response.headers.get(hdrs.ETAG), text)

    async def words(self) -> AsyncIterator[tuple[str, Any]]:
        """The names and data of its events (WHATWG HTML, 9.2) until it hangs up; raises OriginError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=WITHIN, sock_read=EVENTS_SILENT)
        asked = {hdrs.ACCEPT: "text/event-stream"}
        try:
            async with self._session.get(self.url(EVENTS), headers=asked, timeout=timeout) as response:
                if response.status != 200 or response.content_type != "text/event-stream":  # noqa: PLR2004
                    raise OriginError(f"it answers {response.status} when asked for events")
                async with aclosing(_events(response.content)) as events:
                    async for name, data in events:
                        yield name, data
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            raise OriginError(f"{self.address}: {_why(error)}") from None

    def _note(self) -> None:
        self._heard, self.fault, self.answered = self._clock(), None, True

    def _failed(self, error: Exception) -> OriginError:
        self.fault = _why(error)
        return OriginError(f"{self.address}: {self.fault}")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return str(error) if isinstance(error, OriginError) else type(error).__name__


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body, decompressed; a small one may become large, so it is counted as it comes."""
    found = bytearray()
    async for piece in response.content.iter_any():
        found += piece
        if len(found) > MAX_BYTES:
            raise aiohttp.ClientPayloadError("too large")
    return bytes(found)


async def _events(lines: aiohttp.StreamReader) -> AsyncGenerator[tuple[str, Any], None]:
    """Events of a stream of lines; raises ValueError for a line without end, or data that is no JSON."""
    name, data = "", ""
    async for line in lines:
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
            if len(data) > MAX_BYTES:
                raise ValueError("an event without end")
        elif not field and not value:
            if data:
                yield name, json.loads(data)
            name, data = "", ""


logger = logging.getLogger(__name__)

EVERY, EVERY_WITHOUT = 60.0, 2.0  # seconds between two looks
OK, MISSING = 200, 404
OURS: Mapping[str, object] = {
    "eventsUrl": "/live/events",
    "beaconUrl": "/live/beacon",
    "recordings": None,  # they are the origin's: to watch one, one goes there
}
WHOLE = ("poster", "chatUrl", "pageUrl")  # addresses that may be within the origin
# All that holds here, too. Anything else is of what a relay does not do, as clips are, or would have viewers
# go past it, as the fallback would.
KEPT = {
    *("title", "performer", "startsAt", "mode", "iceServers", "colors", "texts", "prices", "costs"),
    *("trackerUrl", *WHOLE),
}


class PageSettings:
    """Keeps ``now`` as the origin has it: one dictionary, which is changed in its place."""

    def __init__(self, origin: Origin) -> None:
        self.now: dict[str, object] = {**OURS, "trackerUrl": "/live/tracker"}
        self._origin = origin

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            pause = EVERY
            try:
                answer = await self._origin.ask(self._origin.url("/config.json"))
                if answer.status not in (OK, MISSING):  # it has no place for us at the moment
                    raise OriginError(f"it answers {answer.status}")
                found = json.loads(answer.text) if answer.status == OK else {}
                if isinstance(found, dict):
                    self.take(found)
            except (OriginError, ValueError, RecursionError) as error:
                logger.debug("the origin's page settings cannot be read: %s", error)
                pause = EVERY_WITHOUT
            await asyncio.sleep(pause)

    def take(self, found: dict[str, object]) -> None:
        """What the origin's page is told."""
        told = {name: value for name, value in found.items() if name in KEPT}
        for name in WHOLE:
            if isinstance(value := told.get(name), str):
                told[name] = _page_whole(self._origin.address, value)
        tracker = told.get("trackerUrl")
        if isinstance(tracker, str) and not urlsplit(tracker).netloc:  # the origin's own: here it is ours
            told["trackerUrl"] = "/live/tracker"
        self.now.clear()
        self.now.update({"trackerUrl": None, **told, **OURS})


def _page_whole(base: str, address: str) -> str | None:
    try:
        return urljoin(base + "/", address)
    except ValueError:
        return None
