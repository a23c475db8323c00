"""What answers have in common: compression by the client's choice, validators, and no hurry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

from aiohttp import hdrs, web

CHUNK = 8192  # bytes
ACCEPTS_GZIP = re.compile(
    r"(?:^|[,\s])(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE
)


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client can read gzip (RFC 9110, 12.5.3)."""
    return bool(ACCEPTS_GZIP.search(accept_encoding))


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
            await response.write(body[start : start + CHUNK])
        await response.write_eof()
    return response
