"""The viewer's page: its files, and the settings that it takes from the service.

What the page's HTML says of the event before anything runs: its title, and what link previews show.

The pages of recordings and clips: the list, and each with what link previews show of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from aiohttp import hdrs, web

from broadcaster.http.static import ServedFile
from broadcaster.ipc.messages import PublicRecording, RecordingsDelta

logger = logging.getLogger(__name__)

TITLE = re.compile(r"<title>(?P<text>.*?)</title>", re.DOTALL | re.IGNORECASE)
LONGEST = 200  # characters of a text, as on the page


def described(html: str, settings: Mapping[str, object]) -> str:
    """The page with its title and the tags of link previews (ogp.me) as ``settings`` have them, escaped.

    Without a title the page keeps its own, which goes with a poster. ``pageUrl`` is the page's own public
    address. A picture needs one that is whole: previews take no other.
    """
    title, own = _text(settings.get("title")), TITLE.search(html)
    if title is None and own and _text(settings.get("poster")):
        title = unescape(own["text"])
    if title is None:
        return html
    lines = [f"<title>{escape(title)}</title>"]
    lines += [f'<meta property="{name}" content="{escape(text)}">' for name, text in _tags(title, settings)]
    return TITLE.sub(lambda _: "\n    ".join(lines), html, count=1)


def _tags(title: str, settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    yield "og:type", "website"
    yield "og:title", title
    if performer := _text(settings.get("performer")):
        yield "og:description", performer
    page = _address(settings.get("pageUrl"))
    if page:
        yield "og:url", page
    poster = _text(settings.get("poster"))
    if picture := _address(poster and urljoin(page or "", poster)):
        yield "og:image", picture


def _text(value: object) -> str | None:
    return value.strip()[:LONGEST] if isinstance(value, str) and value.strip() else None


def _address(value: object) -> str | None:
    text = _text(value)
    return text if text and text.startswith(("https://", "http://")) else None


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
        self._rendered: tuple[dict[str, object], ServedFile] | None = None

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
            self._rendered = settings, ServedFile(html.encode(), "index.html")
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


PAGE = 48  # recordings that a list shows at once
RENDERED = 100  # pages that are remembered
JSON_AGE = 5  # seconds for which caches may keep what the bucket may have otherwise now
# Of the page that lies beside the files it names: theirs, as seen from another folder.
RELATIVE = re.compile(r'\b(src|href)="(?![a-z]+:|[/#])')


class RecordingPages:
    """What there is to be watched, as ingest said last; ``page`` has the settings of every page."""

    def __init__(self, page: Page, folder: Path) -> None:
        self._page = page
        self._templates = {
            name: RELATIVE.sub(r'\1="/', file.read_text()) if (file := folder / name).is_file() else ""
            for name in ("index.html", "recordings.html")
        }
        self._known: dict[str, PublicRecording] = {}  # by path
        self._listed: list[PublicRecording] = []  # newest first
        self._rendered: OrderedDict[str, tuple[object, ServedFile]] = OrderedDict()  # by path: made of what

    def take(self, message: RecordingsDelta) -> None:
        """Take note of what is new."""
        self._known = message.apply_to(self._known)
        listed = (one for one in self._known.values() if one.listed)
        self._listed = sorted(listed, key=lambda one: one.started, reverse=True)

    def find(self, path: str) -> PublicRecording | None:
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
            file = ServedFile(with_settings(settings, html).encode(), template)
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


def _told(one: PublicRecording) -> dict[str, Any]:
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
