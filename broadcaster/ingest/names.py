"""What the names of segments say, and which of them are fit to be followed."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from broadcaster.hls import MediaSegment

NAME_MAX, MAX_NAME = 255, 600  # bytes of one part, and of all
# The end of a URI's path. Owncast's idle clip is stream-offline-N.ts; offline.ts or offline-v2.ts is what it
# appends at the end. The id of an encoder may itself contain - or _.
IDLE_CLIP = re.compile(r"([^?#]*/)?stream-offline-\d+\.\w+([?#].*)?")
OFFLINE_CLIP = re.compile(r"([^?#]*/)?(stream-)?offline(-\w+)?\.\w+([?#].*)?")
OWNCAST_NAME = re.compile(r"([^?#]*/)?stream-(?P<id>[^/?#]+)-\d+\.\w+([?#].*)?")


def is_offline_clip(segment: MediaSegment) -> bool:
    """Whether it is one of Owncast's clips that stand in for a stream."""
    # Most are told by a glance: a playlist of hours is looked through at each of its versions.
    return "offline" in segment.uri and bool(OFFLINE_CLIP.fullmatch(segment.uri))


def is_idle_clip(segment: MediaSegment) -> bool:
    """Whether it is one of the clip that Owncast shows while nobody is live, not of the one at an end."""
    return "offline" in segment.uri and bool(IDLE_CLIP.fullmatch(segment.uri))


def encoder_id(uri: str) -> str:
    """The id of Owncast's encoder run in a segment's name, empty for other writers."""
    match = OWNCAST_NAME.fullmatch(uri)
    return match["id"] if match else ""


def local_name(uri: str) -> str | None:
    """The path below the playlist's folder that a URI means, or None when it is not to be followed."""
    try:
        parts = urlsplit(uri)
        path = PurePosixPath(unquote(parts.path, errors="strict"))
    except ValueError:
        return None
    # A whole address, or a path from a web server's root (ffmpeg's -hls_base_url), names the file beside it.
    if parts.scheme or parts.netloc or path.is_absolute():
        path = PurePosixPath(path.name)
    name = path.as_posix()
    if ".." in path.parts or not name.isprintable() or "\\" in name:
        return None
    # File systems limit a name, S3 a whole key; both in bytes.
    too_long = len(name.encode()) > MAX_NAME or any(len(part.encode()) > NAME_MAX for part in path.parts)
    return name if path.name and not too_long else None
