"""The page, with the settings and the link preview that the service writes into it; pages of recordings."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from aiohttp import hdrs, web

from broadcaster.access import is_opened, opened_of
from broadcaster.access.gate import GUEST, AskingPage
from broadcaster.http.static import (
    ASK_EACH_TIME,
    ENGLISH,
    TEXTS,
    ServedFile,
    choose_language,
    date_of,
    no_file,
    text_of,
    translated,
)
from broadcaster.ipc.messages import PublicRecording, RecordingsDelta

logger = logging.getLogger(__name__)

TITLE = re.compile(r"<title[^>]*>(?P<text>.*?)</title>", re.DOTALL | re.IGNORECASE)
LONGEST = 200  # characters of a text, as on the page


def with_opengraph(html: str, settings: Mapping[str, object]) -> str:
    """The page with the title and the link preview (ogp.me) of ``settings``.

    Without a title in ``settings`` the page's own title is used, if there is a poster. The URL of the picture
    must be absolute.
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
        if "/recordings" not in page:  # it plays nothing
            yield "og:video", urljoin(page, "?embed=1")
            yield "og:video:type", "text/html"
            yield "og:video:width", "1280"
            yield "og:video:height", "720"
    poster = _text(settings.get("poster"))
    if picture := _address(poster and urljoin(page or "", poster)):
        yield "og:image", picture


def _text(value: object) -> str | None:
    return value.strip()[:LONGEST] if isinstance(value, str) and value.strip() else None


def _address(value: object) -> str | None:
    text = _text(value)
    return text if text and text.startswith(("https://", "http://")) else None


# The element of index.html for the settings. On a static host it is empty, and the page reads config.json.
BLOCK = '<script id="config" type="application/json"></script>'


class Page:
    """The live page and its settings: the service's, overridden by config.json of the operator.

    ``stream`` returns title and poster of the running stream, if they are known.
    """

    def __init__(
        self,
        known: Mapping[str, object],
        folder: Path,
        stream: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        self._known = known
        self._stream = stream
        self._file = folder / "config.json"
        self._version: tuple[int, int] | None = None  # its time and size when it was read
        self._from_file: dict[str, object] = {}
        names = ("index.html", "404.html", "manifest.json")
        texts = [file.read_text() if (file := folder / name).is_file() else None for name in names]
        self._html, self._missing, self._manifest = texts
        self._rendered: tuple[dict[str, object], ServedFile] | None = None

    def add_to(self, app: web.Application) -> None:
        """Answer on the page's own paths."""
        app.router.add_get("/config.json", self.config, name="page_config")
        app.router.add_get("/manifest.json", self.manifest, name="page_manifest")
        app.router.add_get("/", self.answer, name="page")

    async def config(self, request: web.Request) -> web.Response:
        """The settings as JSON."""
        headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "public, max-age=10"}
        return web.json_response(for_guest(request, await self.settings()), headers=headers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """index.html with the settings inside, which saves each viewer a request."""
        if self._html is None:
            return web.Response(status=404, text="There is no page.\n")
        settings = for_guest(request, await self.settings())
        if self._rendered is None or self._rendered[0] != settings:
            html = translated(self._html, _language(settings))
            html = with_settings(settings, with_opengraph(html, settings))
            self._rendered = settings, ServedFile(html.encode(), "index.html")
        return await self._rendered[1].answer(request)

    async def missing(self, request: web.Request) -> web.StreamResponse:
        """404, to browsers with a page in their language."""
        if self._missing is None or "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            return await no_file(request)
        language, headers = await self._for_reader(request)
        html = translated(self._missing, language)
        return web.Response(status=404, text=html, content_type="text/html", headers=headers)

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """The manifest of the page as an app, in the reader's language."""
        if self._manifest is None:
            return await no_file(request)
        language, headers = await self._for_reader(request)
        names = {"name": "liveTitle", "short_name": "liveBadge", "description": "pageAbout"}
        texts = {name: text_of(language, text) for name, text in names.items()}
        manifest = json.loads(self._manifest) | texts | {"lang": language}
        headers[hdrs.CACHE_CONTROL] = ASK_EACH_TIME
        return web.json_response(manifest, headers=headers)

    async def _for_reader(self, request: web.Request) -> tuple[str, dict[str, str]]:
        """The language for a reader, or the operator's, and the headers that say so."""
        own = (await self.operator_settings()).get("language")
        language = choose_language(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), own)
        return language, {hdrs.CONTENT_LANGUAGE: language, hdrs.VARY: hdrs.ACCEPT_LANGUAGE}

    async def settings(self) -> dict[str, object]:
        """The present settings, without what only the page that asks shows."""
        await asyncio.to_thread(self._read_file)
        stream = {name: value for name, value in self._stream().items() if value}
        own = {name: value for name, value in self._from_file.items() if name != "posterBlur"}
        return {**self._known, **stream, **own}

    async def operator_settings(self) -> Mapping[str, object]:
        """The settings of config.json alone."""
        await asyncio.to_thread(self._read_file)
        return self._from_file

    def _read_file(self) -> None:
        try:
            status = self._file.stat()
            version = (status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._version, self._from_file = version, {}
                settings = json.loads(self._file.read_text())
                self._from_file = settings if isinstance(settings, dict) else {}
        except FileNotFoundError:
            self._version, self._from_file = None, {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read, the page uses its defaults: %s", self._file, error)


# Settings with a path of the service, and those that a player may hand on to another device.
PATHS = {
    "playlistUrl",
    "eventsUrl",
    "beaconUrl",
    "trackerUrl",
    "keptUrl",
    "clipsUrl",
    "newest",
    "list",
    "watch",
}
PATHS |= {"live", "playlist", "parts", "older"}
PLAYED = {"playlistUrl", "keptUrl", "playlist", "parts"}


def for_guest(request: web.Request, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the guest's token in the paths; whose token is in a cookie needs it in few."""
    guest = request.get(GUEST)
    if guest is None or guest.is_stranger:
        return dict(settings)
    prefix = f"/t/{guest.token}"
    return _with_prefixes(settings, prefix, prefix if guest.in_path else "")


def for_strangers(operators: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an opened recording's page, of the operator's: nothing of the stream, and no lists."""
    looks = {name: operators[name] for name in ("colors", "language", "texts") if name in operators}
    return {"recordings": None, "eventsUrl": None, **looks}


# What a gate in front replaces in paths by the guest's token; the second only if the token is in the path.
IN_ANY, IN_PATH = "/t/-", "/t/+"


def _with_prefixes(settings: Mapping[str, Any], of_played: str, of_others: str) -> dict[str, Any]:
    """The settings with these before their paths."""

    def changed(name: str, value: object) -> object:
        if isinstance(value, Mapping):
            return {key: changed(key, item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [changed(name, item) for item in value]
        is_path = isinstance(value, str) and name in PATHS and re.match("/(?!/)", value)
        return f"{of_played if name in PLAYED else of_others}{value}" if is_path else value

    found = {name: changed(name, value) for name, value in settings.items()}
    if not str(found.get("trackerUrl") or "/").startswith("/"):
        found["trackerUrl"] = None  # strangers reach a tracker of somebody else's
    return found


def with_settings(settings: Mapping[str, object], html: str) -> str:
    """The page with the settings inside; without a "<" in them, no value can end their element."""
    block = BLOCK.replace("><", ">" + json.dumps(settings).replace("<", "\\u003c") + "<")
    return html.replace(BLOCK, block, 1)


PAGE = 48  # recordings of a list
NEWEST = 10  # recordings that all pages ask for: eight beneath a picture, the one in it, the one that is on
WIDTH, HEIGHT = 1280, 720  # pixels of a player on another site, at most
RENDERED = 100  # pages in memory
JSON_AGE = 5  # seconds for which caches may keep a list
# Relative URLs of the page, which is served under other paths as well.
RELATIVE = re.compile(r'\b(src|href)="(?![a-z]+:|[/#])')


class RecordingPages:
    """The list of recordings, and a page for each recording and clip; ``page`` has the common settings."""

    def __init__(self, page: Page, folder: Path) -> None:
        self._page = page
        self._templates = {
            name: RELATIVE.sub(r'\1="/', file.read_text()) if (file := folder / name).is_file() else ""
            for name in ("index.html", "recordings.html")
        }
        self._known: dict[str, PublicRecording] = {}  # by path
        self._listed: list[PublicRecording] = []  # newest first
        self._opened: list[str] = []  # IDs
        # By path: the content, and what it was rendered from.
        self._rendered: OrderedDict[str, tuple[object, ServedFile]] = OrderedDict()

    def update(self, delta: RecordingsDelta) -> None:
        """Apply a delta of the list."""
        self._known = delta.apply_to(self._known)
        self._opened = opened_of(self._known)
        listed = (recording for recording in self._known.values() if recording.listed)
        self._listed = sorted(listed, key=lambda recording: recording.started, reverse=True)

    def opens(self, path: str) -> bool:
        """Whether strangers to a private event can ask for a path."""
        return is_opened(path, self._opened)

    def find(self, path: str) -> PublicRecording | None:
        """The recording or clip of a page."""
        return self._known.get(path)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/recordings", self.list, name="recordings")
        app.router.add_get("/recordings/newest.json", self.newest, name="newest_recording")
        app.router.add_get("/recordings/{id}.json", self.older, name="older_recordings")
        app.router.add_get("/watch/{id}", self.watch, name="watch")
        app.router.add_get("/c/{id}", self.watch, name="clip")
        app.router.add_get("/oembed", self.oembed, name="oembed")

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The page with the newest recordings."""
        known = _known_list(await self._page.settings())
        return await self._answer(request, "recordings.html", known, {"page": self._slice(0)})

    async def newest(self, request: web.Request) -> web.Response:
        """The newest recordings; the first is of the running or latest stream."""
        found = [_fields(recording) for recording in self._listed[:NEWEST]]
        return _json(for_guest(request, {"recordings": found, "older": None}))

    async def older(self, request: web.Request) -> web.Response:
        """The recordings before a recording."""
        ids = [recording.id for recording in self._listed]
        if (name := request.match_info["id"]) not in ids:
            return missing_recording()
        return _json(for_guest(request, self._slice(ids.index(name) + 1)))

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """The page that plays a recording or clip."""
        found = self._known.get(request.path)
        if found is None:
            return await self._missing_page(request)
        known = _known(found, await self._page.settings())
        return await self._answer(request, "index.html", known, {"recording": _fields(found)})

    async def oembed(self, request: web.Request) -> web.Response:
        """The player of a recording or clip for other sites (oembed.com), by the address of its page."""
        settings = await self._page.settings()
        url = request.query.get("url", "")
        found = self._known.get(urlsplit(url).path)
        if found is None or _page_url(settings, found.path) != url:
            return missing_recording()
        if request.query.get("format", "json") != "json":
            return web.Response(status=501, text="Only JSON is there.\n")
        width, height = (
            _limit(request, f"max{name}", most) for name, most in (("width", WIDTH), ("height", HEIGHT))
        )
        return _json(_oembed(url, _known(found, settings)["title"], width, height))

    async def _missing_page(self, request: web.Request) -> web.Response:
        """The page, which says that there is no such recording."""
        if not self._templates["index.html"]:
            return missing_recording()
        settings = for_guest(request, {**await self._page.settings(), "recording": {}})
        html = with_settings(settings, translated(self._templates["index.html"], _language(settings)))
        return web.Response(status=404, text=html, content_type="text/html")

    def _slice(self, begin: int) -> dict[str, object]:
        found = self._listed[begin : begin + PAGE]
        more = begin + PAGE < len(self._listed)
        return {
            "recordings": [_fields(recording) for recording in found],
            "older": f"/recordings/{found[-1].id}.json" if more else None,
        }

    async def _answer(
        self, request: web.Request, template: str, known: Mapping[str, str | None], more: Mapping[str, object]
    ) -> web.StreamResponse:
        if not self._templates[template]:
            return web.Response(status=404, text="There is no page.\n")
        path, guest = request.path, request.get(GUEST)
        if guest and guest.is_stranger:
            common = for_strangers(await self._page.operator_settings())
        else:
            common = await self._page.settings()
        settings = for_guest(request, {**common, **more})
        before, file = self._rendered.pop(path, (None, None))
        if file is None or before != (settings, known):
            html = translated(self._templates[template], _language(settings))
            html = with_opengraph(html, _preview(path, settings, known))
            if (url := _page_url(settings, path)) and path in self._known:
                html = _with_oembed(html, f"{urljoin(url, '/oembed')}?url={quote(url, safe='')}")
            file = ServedFile(with_settings(settings, html).encode(), template)
        self._rendered[path] = ((settings, known), file)
        if len(self._rendered) > RENDERED:
            self._rendered.popitem(last=False)
        return await file.answer(request)


class PageTexts:
    """What an edge has to know to make the pages itself: settings, and the tags that stand for each title.

    ``known`` is as for ``Page``. Pages of recordings have the settings of every page. In a private event
    paths begin with what the edge replaces by a token.
    """

    def __init__(self, known: Mapping[str, object], folder: Path, *, is_private: bool = False) -> None:
        self._folder, self._is_private = folder, is_private
        self._stream: Mapping[str, str | None] = {}
        self._page = Page(known, folder, lambda: self._stream)
        index = folder / "index.html"
        title = TITLE.search(index.read_text()) if index.is_file() else None
        self._title = title[0] if title else "<title></title>"
        self._rendered: tuple[object, list[dict[str, object]]] | None = None  # recordings, and made of what

    async def texts(
        self, stream: Mapping[str, str | None], recordings: Mapping[str, PublicRecording]
    ) -> tuple[dict[str, object], list[dict[str, object]]]:
        """The page, and the recordings, the newest first, with their paths."""
        self._stream = stream
        settings = {**await self._page.settings(), "events": "held"}  # an edge has no server-sent events
        if self._is_private:
            settings = _with_prefixes(settings, IN_ANY, IN_PATH)
        if self._rendered is None or self._rendered[0] != (settings, recordings):
            newest = sorted(recordings.values(), key=lambda recording: recording.started, reverse=True)
            entries = [self._recording(recording, settings) for recording in newest]
            self._rendered = (settings, recordings), entries
        listed = self._tags(_preview("/recordings", settings, _known_list(settings)))
        page: dict[str, object] = {"settings": settings, "tags": self._tags(settings), "list": listed}
        if self._is_private:
            page |= {"mark": f"{IN_PATH}/", "opened": for_strangers(await self._page.operator_settings())}
        return page, self._rendered[1]

    async def asking(self, *, takes_passphrase: bool = False) -> dict[str, object]:
        """The page for strangers by language, each also for a refused token, and for who waits for the doors.

        Where the edge takes passphrases, also for a wrong one, and for too many.
        """
        asking = AskingPage(
            self._folder,
            takes_passphrase=takes_passphrase,
            settings=self._page.operator_settings,
            network=lambda _: "",
        )
        faults = ("", "over", "closed", *(("wrong", "often") if takes_passphrase else ()))
        own = (await self._page.operator_settings()).get("language")
        names = dict.fromkeys(choose_language(name, own) for name in TEXTS)
        pages = {name: [await asking.page(name, fault, "/") for fault in faults] for name in names}
        plain = f"{text_of(ENGLISH, 'gateInvited')}\n"
        return {"pages": pages, "plain": plain, "policy": asking.policy, "takes": takes_passphrase}

    def _recording(self, found: PublicRecording, settings: Mapping[str, object]) -> dict[str, object]:
        known = _known(found, settings)
        tags = self._tags(_preview(found.path, settings, known))
        entry: dict[str, object] = {"path": found.path, "listed": found.listed, "told": _fields(found)}
        if self._is_private:
            entry["told"] = _with_prefixes(_fields(found), IN_ANY, IN_PATH)
        elif url := _page_url(settings, found.path):
            tags = _with_oembed(tags, urljoin(url, f"/oembed{found.path}"))
            entry["oembed"] = _oembed(url, known["title"])
        return {**entry, "tags": tags}

    def _tags(self, settings: Mapping[str, object]) -> str:
        return with_opengraph(translated(self._title, _language(settings)), settings)


def _language(settings: Mapping[str, object]) -> str:
    """Of what is written for all viewers, and for link previews: the operator's, else English."""
    return choose_language("", settings.get("language"))


def _known(found: PublicRecording, settings: Mapping[str, object]) -> dict[str, str | None]:
    """What is said of a recording besides the settings."""
    language = _language(settings)
    when = date_of(language, found.started)
    return {
        "title": found.title
        or text_of(language, "previewClip" if found.clip else "previewRecording", date=when),
        "description": f"{_length(found.duration)}, {when}",
        "poster": found.poster,
    }


def _known_list(settings: Mapping[str, object]) -> dict[str, str | None]:
    text = partial(text_of, _language(settings))
    title = text("previewList", title=settings.get("title") or text("liveTitle"))
    return {"title": title, "description": text("previewListText")}


def _page_url(settings: Mapping[str, object], path: str) -> str | None:
    """The absolute URL of a page, if the live page's is known."""
    base = settings.get("pageUrl")
    return urljoin(base, path) if isinstance(base, str) else None


def _with_oembed(html: str, place: str) -> str:
    """The page with a link to what other sites need to show its player (oembed.com, discovery)."""
    link = f'<link rel="alternate" type="application/json+oembed" href="{escape(place)}">'
    return html.replace("</title>", f"</title>\n    {link}", 1)


def _oembed(
    url: str, title: str | None, most_width: int = WIDTH, most_height: int = HEIGHT
) -> dict[str, object]:
    """The player of the page at an address for other sites, within a size in pixels."""
    width, height = min(most_width, most_height * 16 // 9), min(most_height, most_width * 9 // 16)
    frame = f'<iframe src="{escape(url)}?embed=1" width="{width}" height="{height}" allowfullscreen></iframe>'
    player = {"version": "1.0", "type": "video", "title": title, "html": frame}
    return {**player, "width": width, "height": height}


def _limit(request: web.Request, name: str, most: int) -> int:
    """A size in pixels that the client allows."""
    text = request.query.get(name, "")
    return min(int(text), most) if re.fullmatch(r"[1-9][0-9]{0,4}", text) else most


def _preview(
    path: str, settings: Mapping[str, object], known: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The settings for the link preview; with ``pageUrl`` of the live page, the page's own URL is known."""
    return {
        "title": known["title"],
        "performer": known["description"],
        "poster": known.get("poster"),
        "pageUrl": _page_url(settings, path),
    }


def _fields(recording: PublicRecording) -> dict[str, Any]:
    """The entry of the index in the bucket, with absolute URLs."""
    return {
        "id": recording.id,
        "title": recording.title,
        "started": recording.started.isoformat(),
        "ended": recording.ended.isoformat() if recording.ended else None,
        "duration": round(recording.duration, 3),
        "playlist": recording.playlists[0],
        "parts": recording.playlists,
        "poster": recording.poster,
        "file": asdict(recording.file) if recording.file else None,
    }


def _length(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"  # noqa: PLR2004


def _json(body: Mapping[str, object]) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: f"public, max-age={JSON_AGE}", hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"}
    return web.json_response(body, headers=headers)


def missing_recording() -> web.Response:
    """404 for an unknown recording or clip."""
    return web.Response(status=404, text="There is no such recording.\n")
