"""Files of a page, served from memory: slow downloads take no descriptors and no disk reads; and its words.

Answers are compressed by the client's choice, have validators, and are sent as fast as the client reads.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import mimetypes
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from functools import cached_property, lru_cache
from html import escape
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from broadcaster.http.connections import CONNECTIONS
from broadcaster.own_files import VIEWER, VIEWER_DIR

CHUNK = 8192  # bytes
# In Accept-Encoding: a coding by its name or by *, unless it is refused (q=0).
ACCEPTS = {
    coding: re.compile(
        rf"(?:^|[,\s])(?:{coding}|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE
    )
    for coding in ("br", "gzip")
}


@lru_cache(maxsize=256)
def accepts(accept_encoding: str, coding: str) -> bool:
    """Whether a client accepts ``coding``, ``br`` or ``gzip`` (RFC 9110, 12.5.3)."""
    return bool(ACCEPTS[coding].search(accept_encoding))


def matches(condition: str | None, etag: str) -> bool:
    """If-None-Match by weak comparison (RFC 9110, 13.1.2)."""
    if condition is None or condition == etag:  # the usual cases
        return condition is not None
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in tags or "*" in tags


async def send(
    request: web.Request, body: bytes, headers: Mapping[str, str], status: int = 200
) -> web.StreamResponse:
    """Send no faster than the client reads: else each slow client has a copy of the body in memory."""
    if len(body) <= CHUNK or request.method == hdrs.METH_HEAD:
        return web.Response(status=status, body=body, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    with suppress(ConnectionResetError):  # the client has left
        await response.prepare(request)
        for start in range(0, len(body), CHUNK):
            await request.app[CONNECTIONS].drained(request)
            await response.write(body[start : start + CHUNK])
        await response.write_eof()
    return response


MAX_FILES_BYTES = 2**26  # of all files: another folder than a page's must not fill the memory
MOST_COMPRESSED = 2**20  # bytes: nobody is answered meanwhile, which takes 0.1 s on a slow machine
COMPRESSED = ("text/", "application/javascript", "application/json", "image/svg+xml")
# Codings, the best first, and the suffix of files that are compressed so.
PACKED = {"br": ".br", "gzip": ".gz"}
# The output of `npm run build`: names have a hash of the content, so that browsers can keep the files.
ASSETS = "assets/"
FOR_EVER, ASK_EACH_TIME = "public, max-age=31536000, immutable", "no-cache"


class ServedFile:
    """A body that is served under a name. ``packed`` has it by coding; else a small one is compressed."""

    def __init__(self, body: bytes, name: str, packed: Mapping[str, bytes] | None = None) -> None:
        self.body = body
        self.type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self.etag = hashlib.sha256(body).hexdigest()[:32]
        self.cache_control = FOR_EVER if name.startswith(ASSETS) else ASK_EACH_TIME
        self._packed = packed or {}

    @cached_property
    def _codings(self) -> dict[str, bytes]:
        if self._packed or not self.type.startswith(COMPRESSED) or len(self.body) > MOST_COMPRESSED:
            return dict(self._packed)
        return {"gzip": gzip.compress(self.body, mtime=0)}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The body in the best coding that the client accepts, or 304."""
        accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
        coding = next((name for name in PACKED if name in self._codings and accepts(accepted, name)), None)
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


class StaticFiles:
    """The files of folders by URL path; the first folder wins. They are read once, at the start.

    ``missing`` answers for other paths.
    """

    def __init__(self, *folders: tuple[str, Path], missing: Handler | None = None) -> None:
        self._missing = missing or no_file
        self._files: dict[str, ServedFile] = {}
        left = MAX_FILES_BYTES
        for prefix, folder in folders:
            for path in sorted(folder.rglob("*")):
                name = f"{prefix}{path.relative_to(folder).as_posix()}"
                if name in self._files or path.suffix in PACKED.values() or not path.is_file():
                    continue
                siblings = {coding: path.with_name(path.name + suffix) for coding, suffix in PACKED.items()}
                packed = {coding: file for coding, file in siblings.items() if file.is_file()}
                size = sum(file.stat().st_size for file in (path, *packed.values()))
                if size <= left:
                    codings = {coding: file.read_bytes() for coding, file in packed.items()}
                    self._files[name] = ServedFile(path.read_bytes(), name, codings)
                    left -= size

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The file of the path, or the page for an empty path; else 404."""
        file = self._files.get(request.match_info["path"] or "index.html")
        return await (file.answer(request) if file else self._missing(request))


async def no_file(_: web.Request) -> web.StreamResponse:
    """404 for a program."""
    return web.Response(status=404, text="There is no such file.\n")


# The words of the pages, by language: the catalogue in viewer/public/languages.
ENGLISH = "en"
ACCEPTED_LANGUAGE = re.compile(r"([a-z]{2})(?:-[a-z0-9-]+)?(?:\s*;\s*q=([0-9.]+))?", re.IGNORECASE)
MAX_LANGUAGES = 20  # languages of a header that are looked at
TEXT = re.compile(r'(<[^<>]*\sdata-text="(\w+)"[^<>]*>)[^<]*')
CONTENT = re.compile(r'(data-content="(\w+)" content=")[^"]*')
LANGUAGE = re.compile(r'<html lang="[^"]*"')


def _read(*folders: Path) -> dict[str, dict[str, str]]:
    """The texts by language, English first."""
    found = next((files for folder in folders if (files := sorted(folder.glob("languages/*.json")))), [])
    known = {file.stem: json.loads(file.read_text()) for file in found}
    return {ENGLISH: known.pop(ENGLISH, {}), **known}


# Read at once: later the viewer server may read no files but those of its page.
TEXTS: Mapping[str, Mapping[str, str]] = _read(VIEWER / "public", VIEWER_DIR)


def choose_language(accepted: str, own: object = None) -> str:
    """The language of a reader: the operator's ``own``, else that of ``Accept-Language``, else English."""
    if isinstance(own, str) and (name := own.strip().partition("-")[0].lower()) in TEXTS:
        return name
    wanted = sorted(
        (-float(quality or 1), place, name.lower())
        for place, part in enumerate(accepted.split(",")[:MAX_LANGUAGES])
        if (match := ACCEPTED_LANGUAGE.fullmatch(part.strip())) and (name := match[1]) is not None
        for quality in [match[2] if match[2] and match[2].count(".") <= 1 and match[2] != "." else None]
    )
    return next((name for _, _, name in wanted if name in TEXTS), ENGLISH)


def text_of(language: str, name: str, **values: object) -> str:
    """The text of this name with its values, in English where the language has none."""
    return (TEXTS[language].get(name) or TEXTS[ENGLISH].get(name, "")).format(**values)


def date_of(language: str, day: date) -> str:
    """The date in words."""
    months = dict(enumerate(text_of(language, "months").split(), 1))
    return text_of(language, "date", day=day.day, month=months.get(day.month, day.month), year=day.year)


def day_of(language: str, day: date) -> str:
    """The date in words, with the day of the week."""
    weekday = text_of(language, "weekdays").split()[day.weekday()]
    return text_of(language, "day", weekday=weekday, date=date_of(language, day))


def translated(html: str, language: str) -> str:
    """A page whose elements name their texts, in a language."""
    html = LANGUAGE.sub(f'<html lang="{language}" dir="{text_of(language, "direction")}"', html, count=1)
    html = TEXT.sub(lambda found: found[1] + escape(text_of(language, found[2]), quote=False), html)
    return CONTENT.sub(lambda found: found[1] + escape(text_of(language, found[2])), html)
