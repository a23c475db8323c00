"""The viewer's page: its files, and the settings that it takes from the service."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs, web

logger = logging.getLogger(__name__)

VIEWER_DIR = web.AppKey("VIEWER_DIR", Path)
PAGE: web.AppKey[Mapping[str, str | None]] = web.AppKey("PAGE")


async def index(request: web.Request) -> web.FileResponse:
    """The page itself."""
    return web.FileResponse(request.app[VIEWER_DIR] / "index.html")


async def page_config(request: web.Request) -> web.Response:
    """What the service knows, overruled by the ``config.json`` that the operator wrote beside the page."""
    known = request.app[PAGE]
    settings = {**known, **_written(request.app[VIEWER_DIR] / "config.json")}
    headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "public, max-age=10"}
    return web.json_response(settings, headers=headers)


def _written(file: Path) -> dict[str, object]:
    try:
        written = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read, the page takes its defaults: %s", file, error)
        return {}
    return written if isinstance(written, dict) else {}
