"""Playlists over HTTP. Nothing is rendered here: a request picks bytes and headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from aiohttp import hdrs, web
from multidict import CIMultiDict

from broadcaster.audience.directives import BadDirective, Directives
from broadcaster.audience.snapshot import Snapshot
from broadcaster.audience.stream import STREAM
from broadcaster.audience.waiting import NotWaited, WaitingRoom
from broadcaster.feed import State
from broadcaster.hls import MEDIA_TYPE, Reload
from broadcaster.web.connections import CONNECTIONS

WAITING_ROOM = web.AppKey("WAITING_ROOM", WaitingRoom)

# How many target durations a cache may keep the answer to a blocking request (appendix B.1).
BLOCKING, FAILED_BLOCKING = 6, 4
RETRY_AFTER = "1"  # seconds
CHUNK = 8192  # bytes

CORS = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    # A player computes the age of a playlist from these (appendix B.1).
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Age, Content-Length, Date, ETag, Last-Modified",
}
NO_STORE = {**CORS, hdrs.CACHE_CONTROL: "no-store"}
ACCEPTS_GZIP = re.compile(
    r"(?:^|[,\s])(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE
)


async def main(request: web.Request) -> web.StreamResponse:
    """The multivariant playlist, or the media playlist itself where there is one variant."""
    stream = request.app[STREAM]
    return await _answer(request, lambda: stream.main)


async def media(request: web.Request) -> web.StreamResponse:
    """The media playlist of one variant."""
    stream, variant = request.app[STREAM], request.match_info["variant"]
    return await _answer(request, lambda: stream.media(variant))


async def preflight(_: web.Request) -> web.Response:
    """Let a page of another origin send what it likes to send with a GET (CORS)."""
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
    version = current()
    # Once a stream has ended, its directives are ignored: nothing is waited for that cannot come (§6.2.5).
    if version is None or not version.is_live or "_HLS_" not in request.query_string:
        return await _respond(request, version)
    try:
        directives = Directives.parse(request.query)
    except BadDirective as error:
        return _refuse(400, str(error), max_age=FAILED_BLOCKING * version.target_duration)
    if directives.media_sequence is None:
        return await _respond(request, version, skip=directives.skip)
    match version.reload(directives.media_sequence):
        case Reload.TOO_FAR_AHEAD:  # no cache may keep this: the number's time will come
            return _refuse(400, "_HLS_msn is more than two segments ahead")
        case Reload.PENDING:
            request.app[CONNECTIONS].complete(request)
            try:
                version = await request.app[WAITING_ROOM].newer(current, directives.media_sequence)
            except NotWaited as reason:
                return _refuse(503, str(reason))
    return await _respond(request, version, skip=directives.skip, blocking=True)


async def _respond(
    request: web.Request, version: Snapshot | None, *, skip: bool = False, blocking: bool = False
) -> web.StreamResponse:
    stream = request.app[STREAM]
    if version is None:
        # A stream can begin at any moment; one that is on has no such variant.
        max_age = stream.view.target_duration if stream.state is State.LIVE else None
        return _refuse(404, "There is no such stream at the moment", max_age=max_age)
    if blocking and version.is_live:
        max_age = BLOCKING * version.target_duration
    else:
        max_age = version.max_age(stream.clock())
    rendered = version.delta if skip and version.is_live else version.full
    gzip = _accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
    headers = _headers(rendered.etag, version.modified, max_age, gzip=gzip)
    if _matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
        validators = _validators(rendered.etag, version.modified, max_age, gzip=gzip)
        return web.Response(status=304, headers=validators)
    body = rendered.gzipped if gzip else rendered.body
    if len(body) <= CHUNK or request.method == hdrs.METH_HEAD:
        return web.Response(body=body, headers=headers)
    return await _send_slowly(request, body, headers)


async def _send_slowly(request: web.Request, body: bytes, headers: CIMultiDict[str]) -> web.StreamResponse:
    """No faster than the client reads: else a thousand slow ones would have a copy each in memory."""
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), CHUNK):
        await response.write(body[start : start + CHUNK])
    await response.write_eof()
    return response


def _refuse(status: int, reason: str, *, max_age: int | None = None) -> web.Response:
    headers = dict(NO_STORE)
    if max_age is not None:
        headers[hdrs.CACHE_CONTROL] = f"public, max-age={max_age}"
    if status == web.HTTPServiceUnavailable.status_code:
        headers[hdrs.RETRY_AFTER] = RETRY_AFTER
    return web.Response(status=status, text=f"{reason}.\n", headers=headers)


@lru_cache(maxsize=256)
def _headers(etag: str, modified: datetime, max_age: int, *, gzip: bool) -> CIMultiDict[str]:
    """The headers of one version, made once: making them anew took as long as all the rest of an answer."""
    headers = CIMultiDict(CORS)
    headers[hdrs.CACHE_CONTROL] = f"public, max-age={max_age}"
    # Strong validators name the bytes, so each encoding has its own (RFC 9110, 8.8.3.3).
    headers[hdrs.ETAG] = f'"{etag}-gz"' if gzip else f'"{etag}"'
    headers[hdrs.LAST_MODIFIED] = format_datetime(modified.astimezone(UTC), usegmt=True)
    headers[hdrs.VARY] = "Accept-Encoding"
    headers[hdrs.CONTENT_TYPE] = MEDIA_TYPE
    if gzip:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return headers


@lru_cache(maxsize=256)
def _validators(etag: str, modified: datetime, max_age: int, *, gzip: bool) -> CIMultiDict[str]:
    """What a 304 says: the client has the rest already (RFC 9110, 15.4.5)."""
    headers = _headers(etag, modified, max_age, gzip=gzip).copy()
    for name in (hdrs.CONTENT_TYPE, hdrs.CONTENT_ENCODING, hdrs.LAST_MODIFIED):
        headers.pop(name, None)
    return headers


@lru_cache(maxsize=256)
def _accepts_gzip(accept_encoding: str) -> bool:
    return bool(ACCEPTS_GZIP.search(accept_encoding))


def _matches(condition: str | None, etag: str) -> bool:
    """If-None-Match by weak comparison (RFC 9110, 13.1.2)."""
    if condition is None or condition == etag:  # nearly always one of these
        return condition is not None
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in tags or "*" in tags
