"""Playlists over HTTP: delivery directives (§6.2.5), blocking reload, cached heads of answers, counts.

Nothing is rendered here: a request selects bytes of a ``Snapshot``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, Self
from weakref import WeakSet

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from broadcaster.access.gate import GUEST
from broadcaster.hls import MEDIA_TYPE, BlockingReloadResult
from broadcaster.http.connections import CONNECTIONS
from broadcaster.http.static import CHUNK, accepts, matches, send
from broadcaster.ipc.messages import State
from broadcaster.metrics import Histogram, Metric
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind
from broadcaster.viewer_server.snapshots import STREAM, Rendered, Snapshot

NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)


class InvalidDirective(ValueError):  # noqa: N818 - reads as what it is
    """A malformed directive: 400 for any playlist."""


@dataclass(frozen=True, slots=True)
class Directives:
    """The delivery directives of a query; other parameters are ignored."""

    media_sequence: int | None = None  # _HLS_msn
    skip: bool = False  # _HLS_skip

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Read the query; raises InvalidDirective.

        There are no partial segments: a request for a part gets the whole segment, which contains the part.
        There are no date ranges either, so ``_HLS_skip=v2`` means ``YES``.
        """
        media_sequence, part = _number(query, "_HLS_msn"), _number(query, "_HLS_part")
        if part is not None and media_sequence is None:
            raise InvalidDirective("_HLS_part needs _HLS_msn")  # §6.2.5.2
        return cls(media_sequence, query.get("_HLS_skip") in ("YES", "v2"))


def _number(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not NUMBER.fullmatch(value):
        raise InvalidDirective(f"{name} must be a decimal integer")
    return int(value)


class PrerenderedResponse(web.StreamResponse):
    """Head and body in one piece, on a connection that stays open: aiohttp's heads cost most of an answer."""

    def __init__(self, status: int, data: bytes) -> None:
        super().__init__(status=status)
        self._data = data
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        """Always: the head has no "Connection: close"."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the answer; raises ConnectionResetError when the client has left."""
        if self._writer is None:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
            self._writer = request.writer
            request.transport.write(self._data)
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - the signature of its base
        """Wait until the client reads: it may have sent several requests at once."""
        if self._writer is not None:
            await self._writer.drain()


WAKE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

COMMON_HEADERS = {hdrs.SERVER: "broadcaster", "X-Content-Type-Options": "nosniff"}


class RequestMetrics:
    """Counts requests by route and status, and measures how soon blocked requests are answered."""

    def __init__(self) -> None:
        # A counter of prometheus_client, with its lock, takes as long as the rest of an answer.
        self._answers: Counter[tuple[str, ...]] = Counter()
        text = "From the publication that a blocked request waits for to its answer"
        self._wake_up = Histogram("wake_up_seconds", text, WAKE_SECONDS)

    def answered(self, request: web.Request, status: int) -> None:
        """Count an answer."""
        resource = request.match_info.route.resource
        self._answers[(resource and resource.name) or "none", str(status)] += 1

    def metrics(self) -> Iterator[Metric]:
        """The counts."""
        text = "Requests answered, by route and status; everything unknown is route none"
        yield Metric("requests", text, self._answers, labels=("route", "status"), is_counter=True)
        yield self._wake_up.metric

    def woke_up(self, seconds: float) -> None:
        """Note a blocked request that was answered ``seconds`` after the publication."""
        self._wake_up.observe(max(seconds, 0))


REQUEST_METRICS = web.AppKey("REQUEST_METRICS", RequestMetrics)


PATIENCE_TARGET_DURATIONS = 3  # then 503 (§6.2.5.2)
MAX_PATIENCE = 90.0  # seconds; Cloudflare's tunnel cuts a connection that is silent for 100


class BlockRefused(Exception):  # noqa: N818 - no error: an answer
    """A blocked request is refused. A cache may repeat this answer for ``max_age`` seconds."""

    max_age: int | None = None


class BlockTimeout(BlockRefused):
    """The segment did not come in time.

    A cache collapses equal requests: unless it may repeat this answer, each of them then waits in vain in
    turn. The segment may come at any moment, so the answer is valid for a second only.
    """

    max_age = 1


class BlockingReloadQueue:
    """The requests that wait for the next version of a playlist (§6.2.5.2), ``most`` at most.

    ``observe`` is called with the seconds between a publication and the answer to each request. ``waiting``
    and ``refused`` count requests.
    """

    def __init__(self, most: int, observe: Callable[[float], None], clock: Callable[[], datetime]) -> None:
        self.waiting = 0
        self.refused = 0
        self._most = most
        self._observe = observe
        self._clock = clock
        self._awaited: WeakSet[Snapshot] = WeakSet()
        self._closing = False

    def metrics(self) -> Iterator[Metric]:
        """Counts of blocked requests."""
        yield Metric("waiters", "Blocked requests that wait now", self.waiting)
        text = "Blocked requests that were refused"
        yield Metric("waiters_refused", text, self.refused, is_counter=True)

    async def newer(self, current: Callable[[], Snapshot | None], media_sequence: int) -> Snapshot | None:
        """Wait for a version with this media sequence number, or for the end of the stream.

        Returns None when the playlist is gone; raises BlockRefused.
        """
        if self._closing or self.waiting >= self._most:
            self.refused += 1
            raise BlockRefused("The service stops" if self._closing else "Too many are waiting")
        version = current()
        patience = PATIENCE_TARGET_DURATIONS * version.target_duration if version else 0
        self.waiting += 1
        try:
            async with asyncio.timeout(min(patience, MAX_PATIENCE)):
                while version and version.reload(media_sequence) is BlockingReloadResult.PENDING:
                    self._awaited.add(version)
                    await version.superseded.wait()
                    if self._closing:
                        raise BlockRefused("The service stops")
                    version = current()
        except TimeoutError:
            raise BlockTimeout("No new segment has come in time") from None
        finally:
            self.waiting -= 1
        if version:
            self._observe((self._clock() - version.modified).total_seconds())
        return version

    async def close(self, _: web.Application | None = None) -> None:
        """Refuse all waiting requests: the service stops."""
        self._closing = True
        for version in tuple(self._awaited):
            version.superseded.set()


BLOCKING_RELOADS = web.AppKey("BLOCKING_RELOADS", BlockingReloadQueue)

# Target durations for which a cache may keep the answer to a blocking request (appendix B.1).
BLOCKING, FAILED_BLOCKING = 6, 4
RETRY_AFTER = "1"  # seconds
NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value

CORS: dict[str, str] = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    # A player computes the age of a playlist from these (appendix B.1).
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Age, Content-Length, Date, ETag, Last-Modified",
}
NO_STORE: dict[str, str] = {**CORS, hdrs.CACHE_CONTROL: "no-store"}


async def playlist(request: web.Request) -> web.StreamResponse:
    """The main playlist, or the media playlist of a variant."""
    stream, variant = request.app[STREAM], request.match_info.get("variant")
    return await _answer(request, lambda: stream.snapshot(variant))


async def dvr_playlist(request: web.Request) -> web.StreamResponse:
    """The DVR playlist: as ``playlist``, with the segments that the most delayed viewer still needs."""
    stream, variant = request.app[STREAM], request.match_info.get("variant")
    return await _answer(request, lambda: stream.dvr_snapshot(variant))


async def iframes(request: web.Request) -> web.StreamResponse:
    """The I-frame playlist of a variant, or of a single variant."""
    version = request.app[STREAM].snapshot(request.match_info.get("variant"))
    if version is None or version.iframes is None:
        return _missing(request)
    max_age = version.max_age(request.app[STREAM].clock())
    return await _send(request, _form_of(request), version, version.iframes, max_age)


async def preflight(_: web.Request) -> web.Response:
    """Allow any header in GET requests of pages of other origins (CORS)."""
    return web.Response(
        status=204,
        headers={
            **CORS,
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD, OPTIONS",
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "*",
            hdrs.ACCESS_CONTROL_MAX_AGE: "86400",
        },
    )


async def _answer(request: web.Request, current: Callable[[], Snapshot | None]) -> web.StreamResponse:
    version, form = current(), _form_of(request)
    # After the end of a stream, directives are ignored (§6.2.5).
    if version is None or not version.is_live or "_HLS_" not in request.query_string:
        return await _respond(request, form, version)
    try:
        directives = Directives.parse(request.query)
    except InvalidDirective as error:
        return refuse(400, str(error), max_age=FAILED_BLOCKING * version.target_duration)
    if directives.media_sequence is None:
        return await _respond(request, form, version, skip=directives.skip)
    match version.reload(directives.media_sequence):
        case BlockingReloadResult.TOO_FAR_AHEAD:  # not cacheable: this number will be valid later
            return refuse(400, "_HLS_msn is more than two segments ahead")
        case BlockingReloadResult.PENDING:
            try:
                with request.app[ADMISSION].take(request, RequestKind.WAITERS):
                    request.app[CONNECTIONS].complete(request)
                    version = await request.app[BLOCKING_RELOADS].newer(current, directives.media_sequence)
            except (NotAdmitted, BlockRefused) as reason:
                return refuse(503, str(reason), max_age=reason.max_age)
    return await _respond(request, form, version, skip=directives.skip, blocking=True)


async def _respond(
    request: web.Request, form: _Form, version: Snapshot | None, *, skip: bool = False, blocking: bool = False
) -> web.StreamResponse:
    if version is None:
        return _missing(request)
    if blocking and version.is_live:
        max_age = BLOCKING * version.target_duration
    else:
        max_age = version.max_age(request.app[STREAM].clock())
    rendered = version.delta if skip and version.is_live else version.full
    return await _send(request, form, version, rendered, max_age)


def _missing(request: web.Request) -> web.Response:
    # Not cacheable while no stream is on: it can start at any moment.
    stream = request.app[STREAM]
    max_age = stream.view.target_duration if stream.state is State.LIVE else None
    return refuse(404, "There is no such stream at the moment", max_age=max_age)


class _Form(NamedTuple):
    """What the form of an answer depends on in the request: known before a blocked request waits."""

    gzip: bool
    known: str | None  # If-None-Match
    in_one_piece: bool  # ``PrerenderedResponse``


def _form_of(request: web.Request) -> _Form:
    stays_open = request.version == HttpVersion11 and request.keep_alive
    is_guests = len(request) > 0 and GUEST in request  # without anything, the look is slow
    return _Form(
        accepts(request.headers.get(hdrs.ACCEPT_ENCODING, ""), "gzip"),
        request.headers.get(hdrs.IF_NONE_MATCH),
        request.method == hdrs.METH_GET and stays_open and not is_guests,
    )


async def _send(
    request: web.Request, form: _Form, version: Snapshot, rendered: Rendered, max_age: int
) -> web.StreamResponse:
    # Strong validators name the bytes, so each encoding has its own (RFC 9110, 8.8.3.3).
    etag = f'"{rendered.etag}-gz"' if form.gzip else f'"{rendered.etag}"'
    body = rendered.gzipped if form.gzip else rendered.body
    status = 304 if matches(form.known, etag) else 200
    head = _Head(status, etag, version.modified, max_age, form.gzip, len(body))
    if len(body) > CHUNK or not form.in_one_piece:
        headers = _headers(head)
        if status == NOT_MODIFIED:
            return web.Response(status=status, headers=headers)
        return await send(request, body, headers)
    request.app[CONNECTIONS].complete(request)
    request.app[REQUEST_METRICS].answered(request, status)
    sent = _head_bytes(head, int(time.time()))
    return PrerenderedResponse(status, sent if status == NOT_MODIFIED else sent + body)


def refuse(status: int, reason: str, *, max_age: int | None = None) -> web.Response:
    """An answer without a playlist, for ``max_age`` seconds; a 503 says when to ask again."""
    headers = dict(NO_STORE)
    if max_age is not None:
        headers[hdrs.CACHE_CONTROL] = f"public, max-age={max_age}"
    if status == web.HTTPServiceUnavailable.status_code:
        headers[hdrs.RETRY_AFTER] = RETRY_AFTER
    return web.Response(status=status, text=f"{reason}.\n", headers=headers)


class _Head(NamedTuple):
    """What the head of an answer depends on, except the time."""

    status: int
    etag: str
    modified: datetime
    max_age: int  # seconds
    gzip: bool
    length: int  # bytes


@lru_cache(maxsize=256)
def _headers(head: _Head) -> CIMultiDict[str]:
    """The headers of one version; a 304 has fewer (RFC 9110, 15.4.5)."""
    headers = CIMultiDict(CORS)
    headers[hdrs.CACHE_CONTROL] = f"public, max-age={head.max_age}"
    headers[hdrs.ETAG] = head.etag
    headers[hdrs.VARY] = "Accept-Encoding"
    if head.status != NOT_MODIFIED:
        headers[hdrs.LAST_MODIFIED] = format_datetime(head.modified.astimezone(UTC), usegmt=True)
        headers[hdrs.CONTENT_TYPE] = MEDIA_TYPE
        if head.gzip:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
    return headers


@lru_cache(maxsize=256)
def _head_bytes(head: _Head, now: int) -> bytes:
    """The head of an answer in the second ``now``."""
    reason = HTTPStatus(head.status).phrase
    headers = {**_headers(head), **COMMON_HEADERS, hdrs.DATE: formatdate(now, usegmt=True)}
    if head.status != NOT_MODIFIED:
        headers[hdrs.CONTENT_LENGTH] = str(head.length)
    lines = [f"HTTP/1.1 {head.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
