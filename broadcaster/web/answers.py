"""What answers have in common: compression by the client's choice, validators, and no hurry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

from aiohttp import hdrs, web

from broadcaster.web.connections import CONNECTIONS

CHUNK = 8192  # bytes
# Of Accept-Encoding: a coding by its name or by *, unless it is refused (q=0).
ACCEPTS = {
    coding: re.compile(
        rf"(?:^|[,\s])(?:{coding}|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE
    )
    for coding in ("br", "gzip")
}


@lru_cache(maxsize=256)
def accepts(accept_encoding: str, coding: str) -> bool:
    """Whether a client can read what is compressed with ``coding``, ``br`` or ``gzip`` (RFC 9110, 12.5.3)."""
    return bool(ACCEPTS[coding].search(accept_encoding))


def matches(condition: str | None, etag: str) -> bool:
    """If-None-Match by weak comparison (RFC 9110, 13.1.2)."""
    if condition is None or condition == etag:  # nearly always one of these
        return condition is not None
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in tags or "*" in tags


async def send(request: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """No faster than the client reads: else a thousand slow ones would have a copy each in memory."""
    if len(body) <= CHUNK or request.method == hdrs.METH_HEAD:
        return web.Response(body=body, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    with suppress(ConnectionResetError):  # the client has left
        await response.prepare(request)
        for start in range(0, len(body), CHUNK):
            await request.app[CONNECTIONS].drained(request)
            await response.write(body[start : start + CHUNK])
        await response.write_eof()
    return response
