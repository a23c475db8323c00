"""The pages of recordings and clips: the list, and each with what link previews show of it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from aiohttp import hdrs, web

from broadcaster.audience.page import Page, with_settings
from broadcaster.audience.preview import described
from broadcaster.feed import Recording, Recordings
from broadcaster.web.files import File

PAGE = 48  # recordings that a list shows at once
RENDERED = 100  # pages that are remembered
JSON_AGE = 5  # seconds for which caches may keep what the bucket may have otherwise now
# Of the page that lies beside the files it names: theirs, as seen from another folder.
RELATIVE = re.compile(r'\b(src|href)="(?![a-z]+:|[/#])')


class Gallery:
    """What there is to be watched, as ingest said last; ``page`` has the settings of every page."""

    def __init__(self, page: Page, folder: Path) -> None:
        self._page = page
        self._templates = {
            name: RELATIVE.sub(r'\1="/', file.read_text()) if (file := folder / name).is_file() else ""
            for name in ("index.html", "recordings.html")
        }
        self._known: dict[str, Recording] = {}  # by path
        self._listed: list[Recording] = []  # newest first
        self._rendered: OrderedDict[str, tuple[object, File]] = OrderedDict()  # by path: made of what

    def take(self, message: Recordings) -> None:
        """Take note of what is new."""
        self._known = message.onto(self._known)
        listed = (one for one in self._known.values() if one.listed)
        self._listed = sorted(listed, key=lambda one: one.started, reverse=True)

    def find(self, path: str) -> Recording | None:
        """What is watched on that page."""
        return self._known.get(path)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/recordings", self.list, name="recordings")
        app.router.add_get("/recordings/newest.json", self.newest, name="newest_recording")
        app.router.add_get("/recordings/{id}.json", self.older, name="older_recordings")
        app.router.add_get("/watch/{id}", self.watch, name="watch")
        app.router.add_get("/c/{id}", self.watch, name="clip")

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The newest, with where older ones are."""
        title = f"Recordings: {(await self._page.settings()).get('title') or 'Live stream'}"
        known = {"title": title, "description": "What was live, and can be watched now."}
        return await self._answer(request, "recordings.html", known, {"page": self._slice(0)})

    async def newest(self, _: web.Request) -> web.Response:
        """The newest one alone: of the stream that is on, or was."""
        return _json({"recordings": [_told(one) for one in self._listed[:1]], "older": None})

    async def older(self, request: web.Request) -> web.Response:
        """Those that are older than one."""
        ids = [one.id for one in self._listed]
        if (name := request.match_info["id"]) not in ids:
            return _missing()
        return _json(self._slice(ids.index(name) + 1))

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """The page that plays it."""
        found = self._known.get(request.path)
        if found is None:
            return await self._missing_page()
        when = f"{found.started:%d %B %Y}".lstrip("0")
        known = {
            "title": found.title or f"{'Clip' if found.clip else 'Recording'} of {when}",
            "description": f"{_length(found.duration)}, {when}",
            "poster": found.poster,
        }
        return await self._answer(request, "index.html", known, {"recording": _told(found)})

    async def _missing_page(self) -> web.Response:
        """The page, which says that there is no such recording."""
        if not self._templates["index.html"]:
            return _missing()
        html = with_settings({**await self._page.settings(), "recording": {}}, self._templates["index.html"])
        return web.Response(status=404, text=html, content_type="text/html")

    def _slice(self, begin: int) -> dict[str, object]:
        found = self._listed[begin : begin + PAGE]
        more = begin + PAGE < len(self._listed)
        return {
            "recordings": [_told(one) for one in found],
            "older": f"/recordings/{found[-1].id}.json" if more else None,
        }

    async def _answer(
        self, request: web.Request, template: str, known: Mapping[str, str | None], told: Mapping[str, object]
    ) -> web.StreamResponse:
        if not self._templates[template]:
            return web.Response(status=404, text="There is no page.\n")
        path = request.path
        settings = {**await self._page.settings(), **told}
        before, file = self._rendered.pop(path, (None, None))
        if file is None or before != (settings, known):
            html = described(self._templates[template], _preview(path, settings, known))
            file = File(with_settings(settings, html).encode(), template)
        self._rendered[path] = ((settings, known), file)
        if len(self._rendered) > RENDERED:
            self._rendered.popitem(last=False)
        return await file.answer(request)


def _preview(
    path: str, settings: Mapping[str, object], known: Mapping[str, str | None]
) -> dict[str, str | None]:
    """What link previews show; its own address is known where the operator has said the live page's."""
    base = settings.get("pageUrl")
    url = urljoin(base, path) if isinstance(base, str) else None
    return {
        "title": known["title"],
        "performer": known["description"],
        "poster": known.get("poster"),
        "pageUrl": url,
    }


def _told(one: Recording) -> dict[str, Any]:
    """As the index in the bucket has it, with whole addresses."""
    return {
        "id": one.id,
        "title": one.title,
        "started": one.started.isoformat(),
        "ended": one.ended.isoformat() if one.ended else None,
        "duration": round(one.duration, 3),
        "playlist": one.playlists[0],
        "parts": one.playlists,
        "poster": one.poster,
        "file": asdict(one.file) if one.file else None,
    }


def _length(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"  # noqa: PLR2004


def _json(body: Mapping[str, object]) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: f"public, max-age={JSON_AGE}", hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"}
    return web.json_response(body, headers=headers)


def _missing() -> web.Response:
    return web.Response(status=404, text="There is no such recording.\n")
