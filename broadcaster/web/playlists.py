"""Playlists over HTTP. Nothing is rendered here: a request picks bytes and headers."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import format_datetime
from functools import lru_cache

from aiohttp import hdrs, web
from multidict import CIMultiDict

from broadcaster.channel import Channel, Rendered
from broadcaster.playlist import MEDIA_TYPE

CHANNEL = web.AppKey("CHANNEL", Channel)

CORS = {
    hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    # A player computes the age of a playlist from these (appendix B.1).
    hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Age, Content-Length, Date, ETag, Last-Modified",
}
NO_STORE = {**CORS, hdrs.CACHE_CONTROL: "no-store"}
ACCEPTS_GZIP = re.compile(
    r"(?:^|[,\s])(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE
)


async def main(request: web.Request) -> web.Response:
    """The multivariant playlist, or the media playlist itself where there is one variant."""
    return _respond(request, request.app[CHANNEL].main)


async def media(request: web.Request) -> web.Response:
    """The media playlist of one variant."""
    return _respond(request, request.app[CHANNEL].media(request.match_info["variant"]))


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


def _respond(request: web.Request, rendered: Rendered | None) -> web.Response:
    if rendered is None:
        # No cache may keep this: the stream can begin at any moment.
        return web.Response(status=404, text="There is no such stream at the moment.\n", headers=NO_STORE)
    gzip = _accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
    headers = _headers(rendered, gzip=gzip)
    if _matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=rendered.gzipped if gzip else rendered.body, headers=headers)


@lru_cache(maxsize=256)
def _headers(rendered: Rendered, *, gzip: bool) -> CIMultiDict[str]:
    """The headers of one version, made once: making them anew took as long as all the rest of an answer."""
    headers = CIMultiDict(CORS)
    headers[hdrs.CACHE_CONTROL] = f"public, max-age={rendered.max_age}"
    # Strong validators name the bytes, so each encoding has its own (RFC 9110, 8.8.3.3).
    headers[hdrs.ETAG] = f'"{rendered.etag}-gz"' if gzip else f'"{rendered.etag}"'
    headers[hdrs.LAST_MODIFIED] = format_datetime(rendered.modified.astimezone(UTC), usegmt=True)
    headers[hdrs.VARY] = "Accept-Encoding"
    headers[hdrs.CONTENT_TYPE] = MEDIA_TYPE
    if gzip:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return headers


@lru_cache(maxsize=256)
def _accepts_gzip(accept_encoding: str) -> bool:
    return bool(ACCEPTS_GZIP.search(accept_encoding))


def _matches(condition: str | None, etag: str) -> bool:
    """If-None-Match by weak comparison (RFC 9110, 13.1.2)."""
    if condition is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in tags or "*" in tags
