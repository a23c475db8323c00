"""Playlists of recordings and clips in a private bucket: ingest signs them when somebody asks."""

from __future__ import annotations

import asyncio
import base64
import gzip
import posixpath
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web

from broadcaster.audience.places import PLACES, Full, Kind
from broadcaster.feed import Recording, SignedPlaylist
from broadcaster.web.connections import CONNECTIONS
from broadcaster.web.files import File

PATIENCE = 30.0  # seconds until somebody is told to come again
MOST = 16  # that are asked of ingest at a time
MAX_BYTES, MAX_FILES = 2**26, 1000  # of all that are remembered
NAMED = re.compile(r'[^"\n]+\.m3u8')  # by a multivariant playlist
PAGES = {"recordings": "watch", "clips": "c"}
MISSING = partial(web.Response, status=404, text="There is no such recording.\n")


class SignedPlaylists:
    """Remembers each as long as it holds; ``find`` gives the recording or clip of a page, by its path."""

    def __init__(self, find: Callable[[str], Recording | None]) -> None:
        self._find = find
        # By path: the file, None where there is none, and until when (monotonic).
        self._files: OrderedDict[str, tuple[File | None, float]] = OrderedDict()
        self._waiting: dict[str, asyncio.Event] = {}

    @property
    def wanted(self) -> tuple[str, ...]:
        """Paths of what viewers wait for."""
        return tuple(self._waiting)

    def take(self, message: SignedPlaylist) -> None:
        """Take note of one."""
        file = None
        if message.gzipped is not None:
            packed = base64.b64decode(message.gzipped)
            file = File(gzip.decompress(packed), message.path, {"gzip": packed})
            file.cache_control = f"public, max-age={message.max_age}"
        self._files.pop(message.path, None)
        self._files[message.path] = file, time.monotonic() + message.max_age
        while len(self._files) > 1 and (self._size() > MAX_BYTES or len(self._files) > MAX_FILES):
            self._files.popitem(last=False)
        if waiting := self._waiting.pop(message.path, None):
            waiting.set()

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(
            r"/{kind:recordings|clips}/{id}/{name:.+\.m3u8}", self.answer, name="signed_playlist"
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The playlist; 404 for what there is none of, 503 where it takes too long to sign it."""
        kind, name = request.match_info["kind"], request.match_info["id"]
        found = self._find(f"/{PAGES[kind]}/{name}")
        if found is None:
            return MISSING()
        try:
            file = await self._file_of(request, found)
        except (Full, TimeoutError):
            return web.Response(status=503, text="Come again.\n", headers={hdrs.RETRY_AFTER: "1"})
        return await file.answer(request) if file else MISSING()

    async def _file_of(self, request: web.Request, found: Recording) -> File | None:
        """A multivariant playlist, or one that such a one names: nothing else is looked for."""
        path = request.path
        if path in found.playlists:
            return await self._signed(request, path)
        folder = posixpath.dirname(posixpath.dirname(path))
        if (main := f"{folder}/playlist.m3u8") not in found.playlists:
            return None
        above = await self._signed(request, main)
        named = NAMED.findall(above.body.decode()) if above else []
        return await self._signed(request, path) if path.removeprefix(f"{folder}/") in named else None

    async def _signed(self, request: web.Request, path: str) -> File | None:
        """Raises Full, or TimeoutError."""
        path = path.removeprefix("/")
        if path not in self._files or self._files[path][1] <= time.monotonic():
            with request.app[PLACES].take(request, Kind.WAITERS):
                request.app[CONNECTIONS].complete(request)
                await self._until_signed(path)
        return self._files.get(path, (None, 0))[0]

    async def _until_signed(self, path: str) -> None:
        if path not in self._waiting and len(self._waiting) >= MOST:
            raise TimeoutError
        signed = self._waiting.setdefault(path, asyncio.Event())
        try:
            async with asyncio.timeout(PATIENCE):
                await signed.wait()
        except TimeoutError:
            self._waiting.pop(path, None)  # whoever comes next asks again
            raise

    def _size(self) -> int:
        return sum(len(file.body) for file, _ in self._files.values() if file)
