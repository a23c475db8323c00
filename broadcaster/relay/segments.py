"""Serves segments over HTTP from the cache, limits the memory of their bodies, and fetches new ones ahead.

Each object is fetched once and is in memory once, however many viewers it is sent to.
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
from broadcaster.relay.url_map import PREFIX, MappedObject, UrlMap
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind
from broadcaster.viewer_server.playlists import NO_STORE, RETRY_AFTER, preflight

logger = logging.getLogger(__name__)

SLOW = 1.0  # playing times: a reader that takes longer is not watching
RESERVED = 4  # a quarter of the memory is for the live edge


@dataclass(slots=True)
class _SentBody:
    """A body that is being sent, its playing time in seconds, and its readers with their start times."""

    body: bytes
    seconds: float
    live: bool
    readers: dict[web.RequestHandler, float] = field(default_factory=dict)


class BodyBudget:
    """Limits the memory of all bodies that are being sent to ``most`` bytes; ``clock`` is monotonic.

    The newest objects (``is_newest``) are always sent: all viewers are sent the same ones, so they need
    little memory. Other objects of the live edge (``is_live``: maps and the segments that a player starts
    with) displace older ones.
    """

    def __init__(
        self,
        most: int,
        clock: Callable[[], float],
        is_newest: Callable[[MappedObject], bool],
        is_live: Callable[[MappedObject], bool],
    ) -> None:
        self._most = most
        self._clock = clock
        self._is_newest = is_newest
        self._is_live = is_live
        self._held: dict[str, _SentBody] = {}

    @property
    def size(self) -> int:
        """Bytes of all bodies."""
        return sum(len(sent.body) for sent in self._held.values())

    @asynccontextmanager
    async def body(
        self,
        request: web.BaseRequest,
        target: MappedObject,
        fetch: Callable[[MappedObject], Awaitable[bytes]],
    ) -> AsyncIterator[bytes]:
        """The body, shared by all readers; raises NotAdmitted and the errors of ``fetch``."""
        live = self._is_live(target)
        if target.token not in self._held:
            self._require_room(1, target, live=live)
            body = await fetch(target)
            if target.token not in self._held:  # no other request has fetched it meanwhile
                self._require_room(len(body), target, live=live)
                self._held[target.token] = _SentBody(body, target.seconds, live)
        held = self._held[target.token]
        held.readers[request.protocol] = self._clock()
        try:
            yield held.body
        finally:
            held.readers.pop(request.protocol, None)
            if not held.readers and self._held.get(target.token) is held:
                del self._held[target.token]

    def _require_room(self, size: int, target: MappedObject, *, live: bool) -> None:
        """Raise NotAdmitted unless ``size`` bytes more fit; a first body and the newest always do."""
        most = self._most if live else self._most - self._most // RESERVED
        if self._held and self.size + size > most:
            self.end_slow()
        if live and self.size + size > most:
            self._end_others(self.size + size - most)
        if self._held and self.size + size > most and not self._is_newest(target):
            raise NotAdmitted("memory", "Too many different segments are being sent")

    def end_slow(self) -> bool:
        """Abort readers that are slower than the playing time; returns whether there were any."""
        found = False
        for token, held in list(self._held.items()):
            now = self._clock()
            slow = [reader for reader, since in held.readers.items() if now - since > SLOW * held.seconds]
            self._end(token, held, slow)
            found = found or bool(slow)
        return found

    def _end_others(self, size: int) -> None:
        """Free memory for the live edge: abort readers of other objects, the oldest transfer first."""
        for token, held in list(self._held.items()):
            if size <= 0:
                return
            if not held.live:
                self._end(token, held, list(held.readers))
                size -= len(held.body)

    def _end(self, token: str, held: _SentBody, readers: list[web.RequestHandler]) -> None:
        for reader in readers:
            del held.readers[reader]
            if reader.transport:
                reader.transport.abort()
        if not held.readers:
            self._held.pop(token, None)


PATIENCE = 15.0  # seconds that a viewer waits for an object; players retry
# A fault: no listed object could be fetched for FAILING seconds, and one was requested within REQUESTED
# seconds.
FAILING, REQUESTED = 5.0, 30.0
FETCHES_PER_NETWORK = 4  # different old objects at a time; a player requests one or two
ABORT_TIME = 0.05  # seconds for an aborted reader to release its place
CHUNK = 2**16  # bytes in the write buffer of a connection
# Bytes in the kernel's buffer. With less, a proxy on this machine gets one packet at a time and acknowledges
# each after 40 ms.
SEND_BUFFER = 2**18
FOR_EVER = "public, max-age=31536000, immutable"
# An object without a known SHA-256 may be wrong: clients must revalidate soon.
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
    """A range begins at or after the end of the object."""


class SegmentHandler:
    """Answers requests for the objects of ``url_map`` with the bodies that ``fetch`` returns.

    ``on_request`` is called with each requested object. Bodies that are being sent take at most ``most``
    bytes. ``clock`` is monotonic. ``is_cached`` tells which objects need no fetch, ``wait_for_metadata``
    waits for an object's size and SHA-256.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - its sources
        self,
        url_map: UrlMap,
        fetch: Callable[[MappedObject], Awaitable[bytes]],
        on_request: Callable[[MappedObject], None],
        most: int,
        clock: Callable[[], float] = time.monotonic,
        is_cached: Callable[[MappedObject], Awaitable[bool]] | None = None,
        wait_for_metadata: Callable[[MappedObject], Awaitable[None]] | None = None,
    ) -> None:
        self.answers = 0  # with a body, or a part of one
        self.sent = 0  # bytes
        self._url_map = url_map
        self._fetch = fetch
        self._on_request = on_request
        self._clock = clock
        self._fault: tuple[float, float, str] | None = None  # first and latest failure, error
        self._is_cached = is_cached
        self._wait_for_metadata = wait_for_metadata
        self._budget = BodyBudget(most, clock, url_map.is_newest, url_map.is_at_the_edge)
        self._fetching: dict[str, Counter[str]] = {}  # waiting requests by network and object
        self._failed: Counter[str] = Counter(dict.fromkeys(("full", "origin"), 0))

    @property
    def fault(self) -> str | None:
        """Why no listed object can be fetched at present, while viewers request some; None otherwise."""
        if self._fault is None:
            return None
        since, last, text = self._fault
        return text if last - since >= FAILING and self._clock() - last < REQUESTED else None

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        path = PREFIX + "/{token}/{name}"
        app.router.add_get(path, self.answer, name="segment")
        app.router.add_route(hdrs.METH_OPTIONS, path, preflight, name="segment_preflight")

    def metrics(self) -> Iterator[Metric]:
        """Counts of answers, bytes and failures."""
        yield Metric("relay_answers", "Segments served to viewers", self.answers, is_counter=True)
        yield Metric("relay_sent_bytes", "Bytes of segments sent to viewers", self.sent, is_counter=True)
        text = "Segments not served: no admission or memory (full), not available (origin)"
        yield Metric("relay_failures", text, self._failed, ("reason",), is_counter=True)
        yield Metric("relay_held_bytes", "Bytes of segments that are being sent", self._budget.size)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The object, or the requested range of it (RFC 9110, 14.2)."""
        target = self._url_map.find(request.match_info["token"], request.match_info["name"])
        if target is None:
            return web.Response(status=404, text="There is no such segment.\n", headers=NO_STORE)
        self._on_request(target)
        if target.sha256 is None and self._wait_for_metadata:
            await self._wait_for_metadata(target)
            target = self._url_map.find(target.token, target.name) or target
        headers = _headers(target)
        if hdrs.ETAG in headers and matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            return web.Response(status=304, headers=headers)
        try:
            with await self._admit(request):
                request.app[CONNECTIONS].complete(request)
                fetch = partial(self._fetched_for, request)
                async with self._budget.body(request, target, fetch) as body:
                    return await self._send(request, target, body, headers)
        except (NotAdmitted, StorageError, TimeoutError) as error:
            return self._refuse(error)
        finally:
            request.app[CONNECTIONS].complete(request)

    def _refuse(self, error: Exception) -> web.Response:
        self._failed["full" if isinstance(error, NotAdmitted) else "origin"] += 1
        match error:
            case ObjectNotFound():
                status, text = 404, "The origin no longer has it"
            case StorageRefused():
                status, text = 502, "The origin refuses it"
            case NotAdmitted():
                status, text = 503, str(error)
            case _:
                status, text = 503, "The origin cannot deliver it at the moment"
        headers = dict(NO_STORE)
        if status == web.HTTPServiceUnavailable.status_code:
            headers[hdrs.RETRY_AFTER] = RETRY_AFTER
        return web.Response(status=status, text=f"{text}.\n", headers=headers)

    async def _admit(self, request: web.Request) -> ExitStack:
        """Admit the request, after aborting slow readers if necessary; raises NotAdmitted."""
        admission, stack = request.app[ADMISSION], ExitStack()
        try:
            stack.enter_context(admission.take(request, RequestKind.MEDIA))
        except NotAdmitted:
            if not self._budget.end_slow():
                raise
            await asyncio.sleep(ABORT_TIME)
            stack.enter_context(admission.take(request, RequestKind.MEDIA))
        return stack

    async def _fetched_for(self, request: web.Request, target: MappedObject) -> bytes:
        """As ``fetched``; raises NotAdmitted when a network waits for too many old uncached objects."""
        is_live = self._url_map.is_at_the_edge(target)
        if is_live or (network := request.app[ADMISSION].network(request)) is None:
            return await self.fetched(target)
        if self._is_cached and await self._is_cached(target):
            return await self.fetched(target)
        waiting = self._fetching.setdefault(network, Counter())
        if target.token not in waiting and len(waiting) >= FETCHES_PER_NETWORK:
            raise NotAdmitted("site", "Too many different segments are requested from one address")
        waiting[target.token] += 1
        try:
            return await self.fetched(target)
        finally:
            waiting[target.token] -= 1
            if not waiting[target.token]:
                del waiting[target.token]
            if not waiting:
                self._fetching.pop(network, None)

    async def fetched(self, target: MappedObject) -> bytes:
        """The object, fetched within ``PATIENCE``; raises StorageError, TimeoutError."""
        began = self._clock()
        try:
            async with asyncio.timeout(PATIENCE):
                body = await self._fetch(target)
        except (StorageError, TimeoutError) as error:
            if self._url_map.is_listed(target.token):
                since = self._fault[0] if self._fault else began
                self._fault = since, self._clock(), str(error) or f"no answer within {PATIENCE:.0f} s"
            raise
        self._fault = None
        return body

    async def _send(
        self, request: web.Request, target: MappedObject, body: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        etag = headers.get(hdrs.ETAG)
        range_header = request.headers.get(hdrs.RANGE, "") if request.method == hdrs.METH_GET else ""
        if request.headers.get(hdrs.IF_RANGE, etag) != etag:  # the client has another object: send this whole
            range_header = ""
        try:
            part = parse_range(range_header, len(body))
        except Unsatisfiable:
            headers[hdrs.CONTENT_RANGE] = f"bytes */{len(body)}"
            return web.Response(status=416, headers=headers | NO_STORE)
        headers[hdrs.CONTENT_TYPE] = TYPES.get(PurePath(target.name).suffix, "application/octet-stream")
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
        """Write no faster than the client reads."""
        self.answers += 1
        for start in range(0, len(body), CHUNK):
            piece = body[start : start + CHUNK]
            await request.app[CONNECTIONS].drained(request)
            await response.write(piece)
            self.sent += len(piece)


def _headers(target: MappedObject) -> dict[str, str]:
    """Response headers: a checked object has an ETag and may be cached for ever."""
    if target.sha256 is None:
        return {**HEADERS, hdrs.CACHE_CONTROL: UNCHECKED}
    return {**HEADERS, hdrs.CACHE_CONTROL: FOR_EVER, hdrs.ETAG: f'"{target.token}"'}


def _widen(request: web.Request) -> None:
    if request.transport:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Begin and end of the range in a Range header; None if it is not a single range of bytes.

    Raises Unsatisfiable. A server may ignore other Range headers, such as several ranges (RFC 9110, 14.2).
    """
    match = RANGE.fullmatch(header)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:  # the last bytes
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), size if not last else min(int(last) + 1, size)
        if last and int(last) < begin:
            return None
    if begin >= size:
        raise Unsatisfiable
    return begin, end


WATCHED = 30.0  # seconds after a request for which a variant counts as watched; others are not prefetched
WITHIN = 60.0  # seconds for each fetch
AT_ONCE = 4
MOST = 200  # queued objects; the oldest is dropped first
REMEMBERED = 1000  # objects: a playlist and an event announce the same one


class Prefetch:
    """Fetches announced objects of watched variants with ``fetch``, in order; ``clock`` is monotonic."""

    def __init__(
        self, fetch: Callable[[MappedObject], Awaitable[object]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._requested: dict[str, float] = {}  # time of the latest request by variant
        self._queue: asyncio.Queue[MappedObject] = asyncio.Queue(MOST)
        self._known: OrderedDict[str, None] = OrderedDict()

    def on_request(self, target: MappedObject) -> None:
        """Note that a viewer has requested an object."""
        self._requested[target.variant] = self._clock()

    def announce(self, objects: Iterable[MappedObject]) -> None:
        """Queue new objects, the oldest first."""
        for target in objects:
            watched = self._clock() - self._requested.get(target.variant, -WATCHED) < WATCHED
            if not watched or target.token in self._known:
                continue
            self._known[target.token] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(target)

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            target = await self._queue.get()
            try:
                async with asyncio.timeout(WITHIN):
                    await self._fetch(target)
            except (StorageError, TimeoutError) as error:  # a viewer's request fetches it again
                logger.debug("prefetch failed: %s", error)
