"""Segments over HTTP, from the cache: each is fetched once, whoever wants it.

What is being sent: each object once in memory, however many it is sent to, and all within a bound.

Fetches what the origin announces before anybody asks for it, of variants that somebody watches here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath

from aiohttp import hdrs, web

from broadcaster.errors import ObjectNotFound, StorageError, StorageRefused
from broadcaster.http.connections import CONNECTIONS
from broadcaster.http.static import matches
from broadcaster.metrics import Metric
from broadcaster.relay.url_map import PREFIX, Listed, Listing
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind
from broadcaster.viewer_server.playlists import NO_STORE, RETRY_AFTER, preflight

SLOW = 1.0  # times as long as it plays: who watches reads an object faster
RESERVED = 4  # a part of so many is for the live edge alone


@dataclass(slots=True)
class _Held:
    """A body, how long it plays (seconds), and since when it is sent to whom."""

    body: bytes
    seconds: float
    live: bool
    readers: dict[web.RequestHandler, float] = field(default_factory=dict)


class Sending:
    """All have ``most`` bytes together, however slowly they are read; ``clock`` is monotonic.

    ``is_newest`` tells what is newest. That is always sent: it needs little, as all who watch are sent the
    same. ``is_live`` tells what a player begins with besides, a map and what comes before: that takes the
    place of what is older.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float],
        is_newest: Callable[[Listed], bool],
        is_live: Callable[[Listed], bool],
    ) -> None:
        self._most = most
        self._clock = clock
        self._is_newest = is_newest
        self._is_live = is_live
        self._held: dict[str, _Held] = {}

    @property
    def size(self) -> int:
        """Bytes, of all of them."""
        return sum(len(one.body) for one in self._held.values())

    @asynccontextmanager
    async def body(
        self, request: web.BaseRequest, listed: Listed, fetch: Callable[[Listed], Awaitable[bytes]]
    ) -> AsyncIterator[bytes]:
        """The object, the same bytes for all who are sent it; raises NotAdmitted, and what ``fetch`` does."""
        live = self._is_live(listed)
        if listed.token not in self._held:
            self._require_room(1, listed, live=live)
            body = await fetch(listed)
            if listed.token not in self._held:  # nobody else brought it meanwhile
                self._require_room(len(body), listed, live=live)
                self._held[listed.token] = _Held(body, listed.seconds, live)
        held = self._held[listed.token]
        held.readers[request.protocol] = self._clock()
        try:
            yield held.body
        finally:
            held.readers.pop(request.protocol, None)
            if not held.readers and self._held.get(listed.token) is held:
                del self._held[listed.token]

    def _require_room(self, size: int, listed: Listed, *, live: bool) -> None:
        """Raise NotAdmitted unless ``size`` bytes more fit; a first body and the newest always do."""
        most = self._most if live else self._most - self._most // RESERVED
        if self._held and self.size + size > most:
            self.end_slow()
        if live and self.size + size > most:
            self._end_others(self.size + size - most)
        if self._held and self.size + size > most and not self._is_newest(listed):
            raise NotAdmitted("memory", "Too many different segments are being sent")

    def end_slow(self) -> bool:
        """End who reads slower than it plays, as nobody does who watches; whether there was anybody."""
        found = False
        for token, held in list(self._held.items()):
            slow = [one for one, since in held.readers.items() if self._clock() - since > SLOW * held.seconds]
            self._end(token, held, slow)
            found = found or bool(slow)
        return found

    def _end_others(self, size: int) -> None:
        """Make room for what is live: by what is not, the longest sent first."""
        for token, held in list(self._held.items()):
            if size <= 0:
                return
            if not held.live:
                self._end(token, held, list(held.readers))
                size -= len(held.body)

    def _end(self, token: str, held: _Held, readers: list[web.RequestHandler]) -> None:
        for reader in readers:
            del held.readers[reader]
            if reader.transport:
                reader.transport.abort()
        if not held.readers:
            self._held.pop(token, None)


PATIENCE = 15.0  # seconds that a viewer waits for an object; a player asks again
# Seconds for which nothing that is listed could be had: then it is a fault, as long as somebody asks.
FAILING, ASKED = 5.0, 30.0
FETCHES_OF_A_SITE = 4  # different old objects at a time: a player asks for one or two, the uplink is for all
LEAVING = 0.05  # seconds for who is ended to be gone
CHUNK = 2**16  # bytes that one client may have in its buffer
# And in the kernel's. With less, a client on this machine, as a proxy is, is sent one packet at a time, and
# acknowledges each 40 ms later.
SEND_BUFFER = 2**18
FOR_EVER = "public, max-age=31536000, immutable"
# What nobody has told the SHA-256 of may be wrong: who has it asks again soon.
UNCHECKED = "public, max-age=10"
TYPES = {
    ".ts": "video/mp2t",
    ".aac": "audio/aac",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".vtt": "text/vtt",
}
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
EXPOSED = "Accept-Ranges, Content-Length, Content-Range, Date, ETag"
HEADERS: dict[str, str] = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: EXPOSED,
    hdrs.ACCEPT_RANGES: "bytes",
}


class Unsatisfiable(Exception):  # noqa: N818 - the specification's word (RFC 9110, 15.5.17)
    """A range begins where the object has ended."""


class Media:
    """Answers for what is in ``listing``, with what ``fetch`` brings; ``asked`` is told what is wanted.

    All bodies that are being sent have ``most`` bytes together, however slowly they are read. ``clock`` is
    monotonic. ``is_here`` tells what need not be fetched, ``told`` waits until all is told of an object.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it serves, and what it asks
        self,
        listing: Listing,
        fetch: Callable[[Listed], Awaitable[bytes]],
        asked: Callable[[Listed], None],
        most: int,
        clock: Callable[[], float] = time.monotonic,
        is_here: Callable[[Listed], Awaitable[bool]] | None = None,
        told: Callable[[Listed], Awaitable[None]] | None = None,
    ) -> None:
        self.answers = 0  # with a body, or a part of one
        self.sent = 0  # bytes
        self._listing = listing
        self._fetch = fetch
        self._asked = asked
        self._clock = clock
        self._fault: tuple[float, float, str] | None = None  # since when nothing could be had; the last one
        self._is_here = is_here
        self._told = told
        self._sending = Sending(most, clock, listing.is_newest, listing.is_at_the_edge)
        self._fetching: dict[str, Counter[str]] = {}  # by site: how many of it wait for which object
        self._failed: Counter[str] = Counter(dict.fromkeys(("full", "origin"), 0))

    @property
    def fault(self) -> str | None:
        """Why viewers get none of what is listed, while they ask for it."""
        if self._fault is None:
            return None
        since, last, text = self._fault
        return text if last - since >= FAILING and self._clock() - last < ASKED else None

    def add_to(self, app: web.Application) -> None:
        """Its routes."""
        path = PREFIX + "/{token}/{name}"
        app.router.add_get(path, self.answer, name="segment")
        app.router.add_route(hdrs.METH_OPTIONS, path, preflight, name="segment_preflight")

    def metrics(self) -> Iterator[Metric]:
        """What was served."""
        yield Metric("relay_answers", "Segments served to viewers", self.answers, is_counter=True)
        yield Metric("relay_sent_bytes", "Bytes of segments sent to viewers", self.sent, is_counter=True)
        text = "Segments not served: no place or memory (full), not to be had (origin)"
        yield Metric("relay_failures", text, self._failed, ("reason",), is_counter=True)
        yield Metric("relay_held_bytes", "Bytes of segments that are being sent", self._sending.size)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One object, or the range of it that is asked for (RFC 9110, 14.2)."""
        listed = self._listing.find(request.match_info["token"], request.match_info["name"])
        if listed is None:
            return web.Response(status=404, text="There is no such segment.\n", headers=NO_STORE)
        self._asked(listed)
        if listed.sha256 is None and self._told:
            await self._told(listed)
            listed = self._listing.find(listed.token, listed.name) or listed
        headers = _headers(listed)
        if hdrs.ETAG in headers and matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            return web.Response(status=304, headers=headers)
        try:
            with await self._place(request):
                request.app[CONNECTIONS].complete(request)
                fetch = partial(self._fetched_for, request.app[ADMISSION].site(request))
                async with self._sending.body(request, listed, fetch) as body:
                    return await self._send(request, listed, body)
        except (NotAdmitted, StorageError, TimeoutError) as error:
            return self._refuse(error)
        finally:
            request.app[CONNECTIONS].complete(request)

    def _refuse(self, error: Exception) -> web.Response:
        self._failed["full" if isinstance(error, NotAdmitted) else "origin"] += 1
        match error:
            case ObjectNotFound():
                status, text = 404, "The origin has it no more"
            case StorageRefused():
                status, text = 502, "The origin does not give it"
            case NotAdmitted():
                status, text = 503, str(error)
            case _:
                status, text = 503, "The origin does not give it at the moment"
        headers = dict(NO_STORE)
        if status == web.HTTPServiceUnavailable.status_code:
            headers[hdrs.RETRY_AFTER] = RETRY_AFTER
        return web.Response(status=status, text=f"{text}.\n", headers=headers)

    async def _place(self, request: web.Request) -> ExitStack:
        """A place for sending a segment, if need be of who reads slower than it plays; raises NotAdmitted."""
        places, stack = request.app[ADMISSION], ExitStack()
        try:
            stack.enter_context(places.take(request, RequestKind.MEDIA))
        except NotAdmitted:
            if not self._sending.end_slow():
                raise
            await asyncio.sleep(LEAVING)
            stack.enter_context(places.take(request, RequestKind.MEDIA))
        return stack

    async def _fetched_for(self, site: str | None, listed: Listed) -> bytes:
        """As ``fetched``; raises NotAdmitted when a network waits for too many old uncached objects."""
        if (
            site is None
            or self._listing.is_at_the_edge(listed)
            or (self._is_here and await self._is_here(listed))
        ):
            return await self.fetched(listed)
        waiting = self._fetching.setdefault(site, Counter())
        if listed.token not in waiting and len(waiting) >= FETCHES_OF_A_SITE:
            raise NotAdmitted("site", "Too many different segments are asked for from one address")
        waiting[listed.token] += 1
        try:
            return await self.fetched(listed)
        finally:
            waiting[listed.token] -= 1
            if not waiting[listed.token]:
                del waiting[listed.token]
            if not waiting:
                self._fetching.pop(site, None)

    async def fetched(self, listed: Listed) -> bytes:
        """The object, within ``PATIENCE``; raises StorageError, TimeoutError."""
        began = self._clock()
        try:
            async with asyncio.timeout(PATIENCE):
                body = await self._fetch(listed)
        except (StorageError, TimeoutError) as error:
            if self._listing.is_listed(listed.token):
                since = self._fault[0] if self._fault else began
                self._fault = since, self._clock(), str(error) or f"no answer within {PATIENCE:.0f} s"
            raise
        self._fault = None
        return body

    async def _send(self, request: web.Request, listed: Listed, body: bytes) -> web.StreamResponse:
        headers = _headers(listed)
        etag = headers.get(hdrs.ETAG)
        asked = request.headers.get(hdrs.RANGE, "") if request.method == hdrs.METH_GET else ""
        if request.headers.get(hdrs.IF_RANGE, etag) != etag:  # of another object: all of this one
            asked = ""
        try:
            part = wanted(asked, len(body))
        except Unsatisfiable:
            headers[hdrs.CONTENT_RANGE] = f"bytes */{len(body)}"
            return web.Response(status=416, headers=headers | NO_STORE)
        headers[hdrs.CONTENT_TYPE] = TYPES.get(PurePath(listed.name).suffix, "application/octet-stream")
        begin, end = part or (0, len(body))
        if part:
            headers[hdrs.CONTENT_RANGE] = f"bytes {begin}-{end - 1}/{len(body)}"
        response = web.StreamResponse(status=206 if part else 200, headers=headers)
        response.content_length = end - begin
        with suppress(ConnectionResetError):  # the client has left
            await response.prepare(request)
            _widen(request)
            if request.method != hdrs.METH_HEAD:
                await self._write(request, response, memoryview(body)[begin:end])
            await response.write_eof()
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse, body: memoryview) -> None:
        """No faster than the client reads."""
        self.answers += 1
        for start in range(0, len(body), CHUNK):
            piece = body[start : start + CHUNK]
            await request.app[CONNECTIONS].drained(request)
            await response.write(piece)
            self.sent += len(piece)


def _headers(listed: Listed) -> dict[str, str]:
    """What is said of an object: it has a validator, and may be kept for ever, if it was checked."""
    if listed.sha256 is None:
        return {**HEADERS, hdrs.CACHE_CONTROL: UNCHECKED}
    return {**HEADERS, hdrs.CACHE_CONTROL: FOR_EVER, hdrs.ETAG: f'"{listed.token}"'}


def _widen(request: web.Request) -> None:
    if request.transport:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def wanted(header: str, size: int) -> tuple[int, int] | None:
    """Begin and end of what a Range header asks for; None where that is not one range of bytes.

    Raises Unsatisfiable. A server may ignore what it does not like (RFC 9110, 14.2), as several ranges.
    """
    match = RANGE.fullmatch(header)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:  # the last bytes of it
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), size if not last else min(int(last) + 1, size)
        if last and int(last) < begin:
            return None
    if begin >= size:
        raise Unsatisfiable
    return begin, end


logger = logging.getLogger(__name__)

WATCHED = 30.0  # seconds since something of a variant was asked for: the uplink carries nothing for nobody
WITHIN = 60.0  # seconds for each: who wants it then asks for it
AT_ONCE = 4
MOST = 200  # that wait; the oldest are given up first
REMEMBERED = 1000  # a playlist and an event announce the same object


class Prefetch:
    """Fetches with ``fetch`` what is announced, in order; ``clock`` is monotonic."""

    def __init__(
        self, fetch: Callable[[Listed], Awaitable[object]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._asked: dict[str, float] = {}  # when each variant was asked for
        self._queue: asyncio.Queue[Listed] = asyncio.Queue(MOST)
        self._known: OrderedDict[str, None] = OrderedDict()

    def asked(self, listed: Listed) -> None:
        """A viewer here wants this object."""
        self._asked[listed.variant] = self._clock()

    def announce(self, objects: Iterable[Listed]) -> None:
        """There are these now, the oldest first."""
        for one in objects:
            watched = self._clock() - self._asked.get(one.variant, -WATCHED) < WATCHED
            if not watched or one.token in self._known:
                continue
            self._known[one.token] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(one)

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            one = await self._queue.get()
            try:
                async with asyncio.timeout(WITHIN):
                    await self._fetch(one)
            except (StorageError, TimeoutError) as error:  # who wants it asks again
                logger.debug("not fetched ahead: %s", error)
