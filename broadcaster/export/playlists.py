"""Reads a recording's page or playlist into a plan.

Section numbers are those of draft-pantos-hls-rfc8216bis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

import m3u8

from broadcaster.download import Wanted
from broadcaster.errors import ExportError
from broadcaster.export.plan import ExportPlan, ExportRendition, ExportRun, Item, Request

Get = Callable[[str], Awaitable[str]]

MAX_SECONDS = 600  # of a segment
MAX_LINES = 600_000  # of a playlist: a day of segments of one second has 350,000
PIECE = 50  # segments of fragmented MP4 that are read in one go; whoever does remembers each frame
SETTINGS = re.compile(r'<script id="config" type="application/json">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlaylistSegment:
    """A segment of a media playlist."""

    item: Item
    map: Item | None
    time: datetime | None  # EXT-X-PROGRAM-DATE-TIME, or what follows from one before
    discontinuity: bool
    gap: bool


async def plan(request: Request, get: Get) -> ExportPlan:
    """Read the playlists and return the plan. Raises ExportError for a playlist that cannot be exported."""
    url, text, more = await _playlist(request, get)
    parsed = _parse(text, url)
    if not parsed.is_variant:
        return ExportPlan(request, (_rendition(listed(parsed, url), request, sound=False),), more)
    chosen, sound = _chosen(parsed, request.variant)
    urls = [(urljoin(url, chosen), False), *([(urljoin(url, sound), True)] if sound else [])]
    if sound and request.kind == "m4a":
        urls = urls[1:]
    found = []
    for one, is_sound in urls:
        media = _parse(await get(one), one)
        found.append(_rendition(listed(media, one), request, sound=is_sound))
    return ExportPlan(request, tuple(found), more)


async def _playlist(request: Request, get: Get) -> tuple[str, str, int]:
    """The playlist's URL (from the page, if it is a page), its text, and the number of further parts."""
    url, text = request.address, await get(request.address)
    if text.lstrip("\ufeff").startswith("#EXTM3U"):
        return url, text, 0
    match = SETTINGS.search(text)
    try:
        settings: dict[str, Any] = json.loads(match[1]) if match else {}
        recording = settings.get("recording") or {}
        parts = recording.get("parts") or [recording.get("playlist") or settings["playlistUrl"]]
        found = urljoin(url, str(parts[request.part - 1]))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ExportError(f"{_shown(url)} is neither a playlist nor the page of one") from None
    return found, await get(found), len(parts) - request.part


def _parse(text: str, url: str) -> m3u8.M3U8:
    if not text.lstrip("\ufeff").startswith("#EXTM3U"):
        raise ExportError(f"{_shown(url)} is no playlist")
    if text.count("\n") + text.count("\r") > 2 * MAX_LINES or len(text.splitlines()) > MAX_LINES:
        raise ExportError(f"{_shown(url)} has more than {MAX_LINES} lines")
    try:
        return m3u8.loads(text)
    except Exception as error:  # noqa: BLE001 - the parser meets hostile text with whatever its code happens to raise
        raise ExportError(f"{_shown(url)} cannot be parsed ({type(error).__name__})") from None


def _chosen(parsed: m3u8.M3U8, wanted: str) -> tuple[str, str | None]:
    """The URL of the chosen variant, and that of its separate audio, if any."""
    variants = sorted(parsed.playlists, key=lambda one: int(one.stream_info.bandwidth or 0))
    if not variants:
        raise ExportError("the playlist names no variant")
    names = {_names(one, number): one for number, one in enumerate(parsed.playlists)}
    found = {"best": variants[-1], "worst": variants[0]}.get(wanted)
    found = found or next((one for known, one in names.items() if wanted in known), None)
    if found is None:
        known = ", ".join("/".join(one) for one in names)
        raise ExportError(f"there is no variant {wanted!r}; there are best, worst, {known}")
    group = found.stream_info.audio
    sounds = [one for one in parsed.media if one.type == "AUDIO" and one.group_id == group and one.uri]
    sounds.sort(key=lambda one: one.default != "YES")
    return found.uri, sounds[0].uri if sounds else None


def _names(variant: m3u8.Playlist, number: int) -> tuple[str, ...]:
    """The names by which the variant can be chosen: its position and its height."""
    resolution = variant.stream_info.resolution
    return (str(number), f"{resolution[1]}p") if resolution else (str(number),)


def listed(parsed: m3u8.M3U8, url: str) -> list[PlaylistSegment]:
    """The segments of a media playlist. Raises ExportError."""
    found: list[PlaylistSegment] = []
    ends: dict[str, int] = {}  # by address: where the last range of it ended
    for one in parsed.segments:
        if not one.uri:
            continue
        if one.key and one.key.method not in (None, "NONE"):
            raise ExportError(f"{_shown(url)} is encrypted (EXT-X-KEY), which cannot be exported")
        if one.duration is None or not 0 <= one.duration <= MAX_SECONDS:
            raise ExportError(f"{_shown(url)} has no valid EXTINF for {_shown(urljoin(url, one.uri))}")
        item = _item(urljoin(url, one.uri), one.byterange, ends)
        section = one.init_section
        first = _item(urljoin(url, section.uri), section.byterange, {}) if section and section.uri else None
        time = one.current_program_date_time
        found.append(
            PlaylistSegment(
                replace(item, seconds=float(one.duration)),
                first,
                (time if time.tzinfo else time.replace(tzinfo=UTC)) if time else None,
                bool(one.discontinuity),
                bool(one.gap_tag),
            )
        )
    return found


def _item(url: str, byte_range: str | None, ends: dict[str, int]) -> Item:
    """§4.4.4.2: a range without an offset begins where the one before of the same resource ended."""
    if not byte_range:
        return Item(url)
    length, _, offset = byte_range.strip('"').partition("@")
    if not length.isdecimal() or not (offset or "0").isdecimal():
        raise ExportError(f"{byte_range!r} is no EXT-X-BYTERANGE")
    begin = int(offset) if offset else ends.get(url, 0)
    ends[url] = begin + int(length)
    return Item(url, offset=begin, length=int(length))


def _rendition(segments: list[PlaylistSegment], request: Request, *, sound: bool) -> ExportRendition:
    """The runs in the wanted time range, in whole segments. Raises ExportError if there are none."""
    runs: list[ExportRun] = []
    gap, before, broken = 0.0, None, True
    for one in _between(segments, request):
        broken = broken or one.discontinuity
        if one.gap:
            gap += one.item.seconds
            continue
        fresh = [one.map, one.item] if one.map else [one.item]
        if broken or not runs:
            runs.append(ExportRun((tuple(fresh),), gap if runs else 0.0))
        elif one.map != before or (one.map and len(runs[-1].pieces[-1]) > PIECE):
            runs[-1] = replace(runs[-1], pieces=(*runs[-1].pieces, tuple(fresh)))
        else:
            *others, last = runs[-1].pieces
            runs[-1] = replace(runs[-1], pieces=(*others, (*last, one.item)))
        gap, before, broken = 0.0, one.map, False
    if not runs:
        raise ExportError("there is no segment in what is wanted of the playlist")
    return ExportRendition(tuple(runs), sound)


def _between(segments: list[PlaylistSegment], request: Request) -> Iterator[PlaylistSegment]:
    """The segments that overlap the wanted time range."""
    at = 0.0
    for one in segments:
        begin, at = at, at + one.item.seconds
        if not (_is_before(one, at, request.begin) or _is_after(one, begin, request.end)):
            yield one


def _shown(url: str) -> str:
    return Wanted(url).where


def _is_before(one: PlaylistSegment, end: float, wanted: float | str | None) -> bool:
    if wanted is None or isinstance(wanted, float | int):
        return wanted is not None and end <= wanted
    return _time(one).timestamp() + one.item.seconds <= datetime.fromisoformat(wanted).timestamp()


def _is_after(one: PlaylistSegment, begin: float, wanted: float | str | None) -> bool:
    if wanted is None or isinstance(wanted, float | int):
        return wanted is not None and begin >= wanted
    return _time(one).timestamp() >= datetime.fromisoformat(wanted).timestamp()


def _time(one: PlaylistSegment) -> datetime:
    if one.time is None:
        raise ExportError("the playlist has no EXT-X-PROGRAM-DATE-TIME: give seconds after its beginning")
    return one.time
