"""Files of a page, served from memory: a thousand slow downloads take no descriptor and no disk."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from aiohttp import hdrs, web

from broadcaster.web.answers import accepts, matches, send

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
