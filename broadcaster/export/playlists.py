"""Reads a recording's page or playlist into a plan.

Section numbers are those of draft-pantos-hls-rfc8216bis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urljoin

import m3u8

from broadcaster.download import FetchRequest
from broadcaster.errors import ExportError, PlaylistError
from broadcaster.export.plan import ExportPlan, ExportRendition, ExportRun, Item, Request
from broadcaster.hls.media_playlist import NO_DURATION
from broadcaster.hls.parser import load, plain_lines

Get = Callable[[str], Awaitable[str]]

MAX_LINES = 600_000  # of a playlist: a day of segments of one second has 350,000
PIECE = 50  # segments of fragmented MP4 in one piece: the demuxer remembers each frame of a piece
SETTINGS = re.compile(r'<script id="config" type="application/json">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlaylistSegment:
    """A segment of a media playlist."""

    item: Item
    map: Item | None
    time: datetime | None  # EXT-X-PROGRAM-DATE-TIME, or computed from an earlier one
    discontinuity: bool
    gap: bool


async def plan(request: Request, get: Get) -> ExportPlan:
    """Read the playlists and return the plan. Raises ExportError for a playlist that cannot be exported."""
    url, text, more = await _playlist(request, get)
    parsed = _load(text, url)
    if not parsed.is_variant:
        return ExportPlan(request, (_rendition(parsed, url, request, sound=False),), more)
    chosen, sound = _chosen(parsed, request.variant)
    urls = [(urljoin(url, chosen), False), *([(urljoin(url, sound), True)] if sound else [])]
    if sound and request.kind == "m4a":
        urls = urls[1:]
    renditions = [
        _rendition(_load(await get(media_url), media_url), media_url, request, sound=is_sound)
        for media_url, is_sound in urls
    ]
    return ExportPlan(request, tuple(renditions), more)


async def _playlist(request: Request, get: Get) -> tuple[str, str, int]:
    """The playlist's URL (from the page, if it is a page), its text, and the number of further parts."""
    url, text = request.address, await get(request.address)
    if plain_lines(text).startswith("#EXTM3U"):
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


def _load(text: str, url: str) -> m3u8.M3U8:
    if text.count("\n") + text.count("\r") > 2 * MAX_LINES or len(text.splitlines()) > MAX_LINES:
        raise ExportError(f"{_shown(url)} has more than {MAX_LINES} lines")
    try:
        return load(plain_lines(text))
    except PlaylistError as error:
        raise ExportError(f"{_shown(url)} {error}") from None


def _chosen(parsed: m3u8.M3U8, wanted: str) -> tuple[str, str | None]:
    """The URI of the chosen variant, and the URI of its audio playlist or None."""
    variants = sorted(parsed.playlists, key=lambda variant: int(variant.stream_info.bandwidth or 0))
    names = {_names(variant, number): variant for number, variant in enumerate(parsed.playlists)}
    found = {"best": variants[-1], "worst": variants[0]}.get(wanted)
    found = found or next((variant for known, variant in names.items() if wanted in known), None)
    if found is None:
        known = ", ".join(map("/".join, names))
        raise ExportError(f"there is no variant {wanted!r}; there are best, worst, {known}")
    group = found.stream_info.audio
    sounds = [
        media for media in parsed.media if media.type == "AUDIO" and media.group_id == group and media.uri
    ]
    sounds.sort(key=lambda media: media.default != "YES")
    return found.uri, sounds[0].uri if sounds else None


def _names(variant: m3u8.Playlist, number: int) -> tuple[str, ...]:
    """The names by which the variant can be chosen: its position and its height."""
    resolution = variant.stream_info.resolution
    return (str(number), f"{resolution[1]}p") if resolution else (str(number),)


def _segments(parsed: m3u8.M3U8, url: str) -> Iterator[PlaylistSegment]:
    """The segments of a media playlist. Raises ExportError."""
    ends: dict[str, int] = {}  # end of the latest range, by URL
    for segment in parsed.segments:
        if not segment.uri:
            continue
        if segment.key and segment.key.method not in (None, "NONE"):
            raise ExportError(f"{_shown(url)} is encrypted (EXT-X-KEY), which cannot be exported")
        if segment.title == NO_DURATION:
            raise ExportError(f"{_shown(url)} has no valid EXTINF for {_shown(urljoin(url, segment.uri))}")
        item = _item(urljoin(url, segment.uri), segment.byterange, ends)
        section = segment.init_section
        yield PlaylistSegment(
            replace(item, seconds=float(segment.duration)),
            _item(urljoin(url, section.uri), section.byterange, {}) if section else None,
            segment.current_program_date_time,
            bool(segment.discontinuity),
            bool(segment.gap_tag),
        )


def _item(url: str, byte_range: str | None, ends: dict[str, int]) -> Item:
    """§4.4.4.2: a range without an offset begins at the end of the preceding range of the same resource."""
    if not byte_range:
        return Item(url)
    length, _, offset = byte_range.strip('"').partition("@")
    if not length.isdecimal() or not (offset or "0").isdecimal():
        raise ExportError(f"{byte_range!r} is no EXT-X-BYTERANGE")
    begin = int(offset) if offset else ends.get(url, 0)
    ends[url] = begin + int(length)
    return Item(url, offset=begin, length=int(length))


def _rendition(parsed: m3u8.M3U8, url: str, request: Request, *, sound: bool) -> ExportRendition:
    """The runs in the wanted time range, in whole segments. Raises ExportError if there are none."""
    runs: list[ExportRun] = []
    gap, before, broken = 0.0, None, True
    for segment in _between(_segments(parsed, url), request):
        broken = broken or segment.discontinuity
        if segment.gap:
            gap += segment.item.seconds
            continue
        piece = (segment.map, segment.item) if segment.map else (segment.item,)
        if broken or not runs:
            runs.append(ExportRun((piece,), gap if runs else 0.0))
        elif segment.map != before or (segment.map and len(runs[-1].pieces[-1]) > PIECE):
            runs[-1] = replace(runs[-1], pieces=(*runs[-1].pieces, piece))
        else:
            *others, last = runs[-1].pieces
            runs[-1] = replace(runs[-1], pieces=(*others, (*last, segment.item)))
        gap, before, broken = 0.0, segment.map, False
    if not runs:
        raise ExportError("the playlist has no segment in the wanted time range")
    return ExportRendition(tuple(runs), sound)


def _between(segments: Iterator[PlaylistSegment], request: Request) -> Iterator[PlaylistSegment]:
    """The segments that overlap the wanted time range."""
    at = 0.0
    for segment in segments:
        begin, at = at, at + segment.item.seconds
        is_before = (
            request.begin is not None and _since(request.begin, segment, at, segment.item.seconds) <= 0
        )
        is_after = request.end is not None and _since(request.end, segment, begin) >= 0
        if not (is_before or is_after):
            yield segment


def _since(limit: float | str, segment: PlaylistSegment, at: float, seconds: float = 0.0) -> float:
    """Seconds from a limit of the time range to ``at``, which is ``seconds`` after the segment's begin."""
    if not isinstance(limit, str):
        return at - limit
    if segment.time is None:
        raise ExportError("the playlist has no EXT-X-PROGRAM-DATE-TIME: give seconds from its beginning")
    return (segment.time - datetime.fromisoformat(limit)).total_seconds() + seconds


def _shown(url: str) -> str:
    return FetchRequest(url).safe_url
