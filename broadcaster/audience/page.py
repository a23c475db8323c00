"""The viewer's page: its files, and the settings that it takes from the service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from aiohttp import hdrs, web

from broadcaster.audience.preview import described
from broadcaster.web.files import File

logger = logging.getLogger(__name__)

# Where index.html has room for them; on a static host it stays empty, and the page reads config.json.
BLOCK = '<script id="config" type="application/json"></script>'


class Page:
    """What the page is told: what the service knows, overruled by the operator's file beside it.

    ``stream`` gives the title and the poster of the stream that is on, where anybody knows them.
    """

    def __init__(
        self,
        known: Mapping[str, str | None],
        folder: Path,
        stream: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        self._known = known
        self._stream = stream
        self._file = folder / "config.json"
        self._read: tuple[int, int] | None = None  # its time and size, when it was read
        self._written: dict[str, object] = {}
        index = folder / "index.html"
        self._html = index.read_text() if index.is_file() else None
        self._rendered: tuple[dict[str, object], File] | None = None

    async def config(self, _: web.Request) -> web.Response:
        """All of it."""
        headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "public, max-age=10"}
        return web.json_response(await self.settings(), headers=headers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """index.html with all of it inside, which spares each viewer a request and the wait for it."""
        if self._html is None:
            return web.Response(status=404, text="There is no page.\n")
        settings = await self.settings()
        if self._rendered is None or self._rendered[0] != settings:
            html = with_settings(settings, described(self._html, settings))
            self._rendered = settings, File(html.encode(), "index.html")
        return await self._rendered[1].answer(request)

    async def settings(self) -> dict[str, object]:
        """Return all settings as they are now."""
        await asyncio.to_thread(self._look)
        told = {name: value for name, value in self._stream().items() if value}
        return {**self._known, **told, **self._written}

    def _look(self) -> None:
        """Read the file again if it has changed."""
        try:
            status = self._file.stat()
            found = (status.st_mtime_ns, status.st_size)
            if found != self._read:
                self._read, self._written = found, {}
                written = json.loads(self._file.read_text())
                self._written = written if isinstance(written, dict) else {}
        except FileNotFoundError:
            self._read, self._written = None, {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read, the page takes its defaults: %s", self._file, error)


def with_settings(settings: Mapping[str, object], html: str) -> str:
    """Without a < in it, nothing that somebody wrote can end the block that it is in."""
    block = BLOCK.replace("><", ">" + json.dumps(settings).replace("<", "\\u003c") + "<")
    return html.replace(BLOCK, block, 1)
