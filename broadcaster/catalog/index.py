"""What is told of recordings and clips, as JSON: times as ISO 8601, durations in seconds, sizes in bytes."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from broadcaster.catalog.views import Clip, Part, Recording, Visibility

PAGE = 200  # recordings
INDEX = "index.json"
POSTER, THUMBNAILS = "poster.jpg", "thumbnails.vtt"


def summary(recording: Recording, parts: Sequence[Part]) -> dict[str, Any]:
    """What viewers are told of a recording; addresses are relative to the index."""
    addresses = [f"{recording.folder}/playlist.m3u8"]
    addresses += [f"{recording.folder}/part-{count}/playlist.m3u8" for count in range(2, len(parts) + 1)]
    thumbnails = [f"{posixpath.dirname(one)}/{THUMBNAILS}" for one in addresses]
    variants = parts[0].described.variants if parts else ()
    return {
        "id": recording.id,
        "title": recording.title,
        "started": recording.started.isoformat(),
        "ended": recording.ended.isoformat() if recording.ended else None,
        "duration": round(recording.duration.total_seconds(), 3),
        "size": recording.size,
        # Their bandwidth, which is measured, the playlist tells.
        "variants": [{"name": one.uri, "resolution": one.resolution} for one in variants],
        "playlist": addresses[0],
        "parts": addresses,
        "poster": f"{recording.folder}/{POSTER}" if recording.poster else None,
        "thumbnails": thumbnails if recording.thumbnails else None,
        "file": file_of(recording),
    }


def file_of(recording: Recording) -> dict[str, Any] | None:
    """All of it as one file, where somebody has uploaded one."""
    file = recording.file
    return {"url": quote(file.address), "size": file.size, "type": file.type} if file else None


def full(recording: Recording, parts: Sequence[Part]) -> dict[str, Any]:
    """What the operator is told of it, and what it can be had back from."""
    told = summary(recording, parts) | {
        "visibility": recording.visibility,
        "keepUntil": recording.keep_until.isoformat() if recording.keep_until else None,
    }
    return told | _binned(recording)


def _binned(one: Recording | Clip) -> dict[str, Any]:
    """Since when it has been in the bin, of what is there."""
    return {"deleted": one.deleted.isoformat()} if one.deleted else {}


def of_clip(clip: Clip) -> dict[str, Any]:
    """What is told of a clip; its address is relative to the folder of all recordings."""
    return {
        "id": clip.id,
        "title": clip.title,
        "made": clip.made.isoformat(),
        "begin": clip.begin.isoformat(),
        "end": clip.end.isoformat(),
        "viewer": clip.viewer,
        "keepUntil": clip.keep_until.isoformat() if clip.keep_until else None,
        "playlist": f"../clips/{clip.folder}/playlist.m3u8",
        "poster": f"../clips/{clip.folder}/{POSTER}" if clip.poster else None,
        **_binned(clip),
    }


def details(recording: Recording, parts: Sequence[Part]) -> str:
    """The object beside its playlists."""
    return json.dumps(full(recording, parts))


def pages(recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]]) -> dict[str, str]:
    """The index by names of objects: of those that are listed, newest first, with a link to older ones.

    What is added changes the first page alone; the others are counted from the oldest.
    """
    found = [summary(one, parts[one.id]) for one in recordings if one.visibility is Visibility.LISTED]
    older = max(len(found) // PAGE - 1, 0)  # whole pages; the first one has the rest
    first = len(found) - older * PAGE
    made = {INDEX: _page(found[:first], older)}
    for number in range(older, 0, -1):
        begin = first + (older - number) * PAGE
        made[_name(number)] = _page(found[begin : begin + PAGE], number - 1)
    return made


def _page(found: list[dict[str, Any]], older: int) -> str:
    return json.dumps({"recordings": found, "older": _name(older) if older else None})


def _name(number: int) -> str:
    return f"index-{number}.json"
