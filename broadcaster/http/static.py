"""Files of a page, served from memory: a thousand slow downloads take no descriptor and no disk.

What answers have in common: compression by the client's choice, validators, and no hurry.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path

from aiohttp import hdrs, web

from broadcaster.http.connections import CONNECTIONS

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


LARGEST = 2**26  # bytes of all files: a page is small, and a folder of something else may not fill the memory
COMPRESSED = ("text/", "application/javascript", "application/json", "image/svg+xml")
# Codings, the best first, and what the name of a file ends with that has been packed so.
PACKED = {"br": ".br", "gzip": ".gz"}
# What `npm run build` makes: a name changes with what is in the file, so that browsers need never ask again.
ASSETS = "assets/"
FOR_EVER, ASK_EACH_TIME = "public, max-age=31536000, immutable", "no-cache"


class File:
    """What is sent under one name; ``packed`` has it compressed, by coding. What lacks is compressed once."""

    def __init__(self, body: bytes, name: str, packed: Mapping[str, bytes] | None = None) -> None:
        self.body = body
        self.type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self.etag = hashlib.sha256(body).hexdigest()[:32]
        self.cache_control = FOR_EVER if name.startswith(ASSETS) else ASK_EACH_TIME
        self._packed = packed or {}

    @cached_property
    def _codings(self) -> dict[str, bytes]:
        if self._packed or not self.type.startswith(COMPRESSED):
            return dict(self._packed)
        return {"gzip": gzip.compress(self.body, mtime=0)}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Compressed as the client likes it best."""
        accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
        coding = next((one for one in PACKED if one in self._codings and accepts(accepted, one)), None)
        headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: self.type,
            hdrs.ETAG: f'"{self.etag}-{coding}"' if coding else f'"{self.etag}"',
            hdrs.VARY: "Accept-Encoding",
            hdrs.CACHE_CONTROL: self.cache_control,
        }
        if matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            del headers[hdrs.CONTENT_TYPE]
            return web.Response(status=304, headers=headers)
        if coding:
            headers[hdrs.CONTENT_ENCODING] = coding
        return await send(request, self._codings[coding] if coding else self.body, headers)


class Files:
    """The files of folders, by their path in an address; a folder that is named first wins.

    They are read once: who changes them starts the service again.
    """

    def __init__(self, *folders: tuple[str, Path]) -> None:
        self._files: dict[str, File] = {}
        left = LARGEST
        for prefix, folder in folders:
            for path in sorted(folder.rglob("*")):
                name = f"{prefix}{path.relative_to(folder).as_posix()}"
                if name in self._files or path.suffix in PACKED.values() or not path.is_file():
                    continue
                ways = {one: path.with_name(path.name + suffix) for one, suffix in PACKED.items()}
                found = {one: way for one, way in ways.items() if way.is_file()}
                size = sum(one.stat().st_size for one in (path, *found.values()))
                if size <= left:
                    packed = {one: way.read_bytes() for one, way in found.items()}
                    self._files[name] = File(path.read_bytes(), name, packed)
                    left -= size

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The file that the path names, or the page; 404 for what is none."""
        file = self._files.get(request.match_info["path"] or "index.html")
        if file is None:
            return web.Response(status=404, text="There is no such file.\n")
        return await file.answer(request)
