"""The viewer's page: its files, and the settings that it takes from the service."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web

logger = logging.getLogger(__name__)


class PageConfig:
    """What the page is told: what the service knows, overruled by the operator's file beside it."""

    def __init__(self, known: Mapping[str, str | None], file: Path) -> None:
        self._known = known
        self._file = file
        self._read: tuple[int, int] | None = None  # its time and size, when it was read
        self._written: dict[str, object] = {}

    async def answer(self, _: web.Request) -> web.Response:
        """All of it."""
        headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "public, max-age=10"}
        return web.json_response({**self._known, **self._overruling()}, headers=headers)

    def _overruling(self) -> dict[str, object]:
        """The file, which is read again when it has changed."""
        try:
            status = self._file.stat()
            found = (status.st_mtime_ns, status.st_size)
            if found != self._read:
                self._read, self._written = found, {}
                written = json.loads(self._file.read_text())
                self._written = written if isinstance(written, dict) else {}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read, the page takes its defaults: %s", self._file, error)
        return self._written
