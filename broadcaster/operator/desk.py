"""Whom the operator asks for recordings and clips."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from broadcaster.catalog import Catalog
from broadcaster.operator.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Desk:
    """Whom the operator asks; ``tell`` says that something was changed.

    ``sweep`` and ``rebuild`` look into the bucket. ``newest`` is up to when there is something, as viewers
    are told; ``page`` finds the address of the live page, None where recordings have no pages.
    """

    token: str
    catalog: Catalog
    tell: Callable[[], None]
    sweep: Callable[[bool], Awaitable[dict[str, Any]]]
    rebuild: Callable[[], Awaitable[dict[str, Any]]]
    newest: Callable[[], datetime | None]
    page: Callable[[], Awaitable[str | None]]
    uploads: Uploads
    folder: str | None = None  # the public address of that of all recordings; None in a private bucket


DESK = web.AppKey("DESK", Desk)
