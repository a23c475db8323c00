"""Files of a page, served from memory: a thousand slow downloads take no descriptor and no disk."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from functools import cached_property
from pathlib import Path

from aiohttp import hdrs, web

from broadcaster.web.answers import accepts_gzip, matches, send

LARGEST = 2**26  # bytes of all files: a page is small, and a folder of something else may not fill the memory
COMPRESSED = ("text/", "application/javascript", "application/json", "image/svg+xml")


class _File:
    """One file; compressed when somebody asks for it first."""

    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self.etag = hashlib.sha256(self.body).hexdigest()[:32]

    @cached_property
    def gzipped(self) -> bytes:
        return gzip.compress(self.body, mtime=0)


class Files:
    """The files of folders, by their path in an address; a folder that is named first wins.

    They are read once: who changes them starts the service again.
    """

    def __init__(self, *folders: tuple[str, Path]) -> None:
        self._files: dict[str, _File] = {}
        left = LARGEST
        for prefix, folder in folders:
            for path in sorted(folder.rglob("*")):
                name = f"{prefix}{path.relative_to(folder).as_posix()}"
                if name in self._files or not path.is_file() or path.stat().st_size > left:
                    continue
                self._files[name] = _File(path)
                left -= len(self._files[name].body)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The file that the path names, or the page; 404 for what is none."""
        return await self.send(request, request.match_info["path"] or "index.html")

    async def send(self, request: web.Request, name: str) -> web.StreamResponse:
        """A file by its name."""
        file = self._files.get(name)
        if file is None:
            return web.Response(status=404, text="There is no such file.\n")
        zipped = file.type.startswith(COMPRESSED) and accepts_gzip(
            request.headers.get(hdrs.ACCEPT_ENCODING, "")
        )
        headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: file.type,
            hdrs.ETAG: f'"{file.etag}-gz"' if zipped else f'"{file.etag}"',
            hdrs.VARY: "Accept-Encoding",
            hdrs.CACHE_CONTROL: "no-cache",
        }
        if matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            del headers[hdrs.CONTENT_TYPE]
            return web.Response(status=304, headers=headers)
        if zipped:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return await send(request, file.gzipped if zipped else file.body, headers)
