"""Parses the names of segments and variants, and decides which names may be followed."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from broadcaster.errors import is_final
from broadcaster.hls import MediaPlaylist, MediaSegment, MultivariantPlaylist

VARIANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PLAIN_STEMS = {"stream", "index", "playlist", "prog_index", "media", "main", "chunklist"}
NAME_MAX, MAX_NAME = 255, 600  # bytes of one part, and of all
# Owncast's idle clip is stream-offline-N.ts; at an end it appends offline.ts, offline-v2.ts, or
# offline-v2-N.m4s with a map of its own. The ID of an encoder may contain - or _.
IDLE_CLIP = re.compile(r"([^?#]*/)?stream-offline-\d+\.\w+([?#].*)?")
OFFLINE_CLIP = re.compile(r"([^?#]*/)?(stream-)?offline(-[\w-]+)?\.\w+([?#].*)?")
OWNCAST_NAME = re.compile(r"([^?#]*/)?stream-(?P<id>[^/?#]+)-\d+\.\w+([?#].*)?")
# MediaMTX: an ID for each publisher, the name of the track, the number.
MEDIAMTX_NAME = re.compile(r"(?P<id>[0-9a-f]{12})_[a-z0-9]+_seg\d+\.(ts|mp4)")
NEWEST = 3  # segments that show the content of a playlist
NOT_CARRIED = {
    "text": "holds subtitles (WebVTT), which are not carried",
    "pictures": "holds pictures, which are not carried",
}
KINDS = {
    **dict.fromkeys((".vtt", ".webvtt", ".srt", ".ttml", ".dfxp"), "text"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp"), "pictures"),
    **dict.fromkeys((".aac", ".m4a", ".mp3", ".ac3"), "sound"),
    **dict.fromkeys((".m4s", ".mp4", ".m4v", ".cmfv"), "fragments"),
}


def is_offline_clip(segment: MediaSegment) -> bool:
    """Whether it is of one of Owncast's clips that replace a stream."""
    # The first test is fast: each version of a playlist of hours goes through it.
    return "offline" in segment.uri and bool(OFFLINE_CLIP.fullmatch(segment.uri))


def is_idle_clip(segment: MediaSegment) -> bool:
    """Whether it is of the clip that Owncast shows without a stream, not of the clip at an end."""
    return "offline" in segment.uri and bool(IDLE_CLIP.fullmatch(segment.uri))


def what_it_holds(playlist: MediaPlaylist) -> str:
    """Why a playlist's segments are not carried; empty for video and sound."""
    kinds = {media_kind(segment) for segment in playlist.segments[-NEWEST:]}
    return next((why for kind, why in NOT_CARRIED.items() if kind in kinds), "")


def media_kind(segment: MediaSegment) -> str:
    """The kind of media, by the suffix of the file."""
    suffix = PurePosixPath(local_name(segment.uri) or "").suffix.lower()
    return KINDS.get(suffix, suffix)


def encoder_id(uri: str) -> str:
    """The ID of the encoder run in a segment's name, by Owncast or MediaMTX; empty for other writers."""
    name = local_name(uri) or uri
    match = OWNCAST_NAME.fullmatch(name) or MEDIAMTX_NAME.fullmatch(name)
    return match["id"] if match else ""


@lru_cache(maxsize=1 << 16)
def local_name(uri: str) -> str | None:
    """The path of a URI below the playlist's folder, None if it leads elsewhere."""
    try:
        parts = urlsplit(uri)
        path = PurePosixPath(unquote(parts.path, errors="strict"))
    except ValueError:
        return None
    # An absolute address (ffmpeg's -hls_base_url) means the file beside the playlist.
    if parts.scheme or parts.netloc or path.is_absolute():
        path = PurePosixPath(path.name)
    name = path.as_posix()
    if ".." in path.parts or not name.isprintable() or "\\" in name:
        return None
    # File systems limit a name, S3 a whole key; both in bytes.
    too_long = len(name.encode()) > MAX_NAME or any(len(part.encode()) > NAME_MAX for part in path.parts)
    return name if path.name and not too_long else None


def variant_name(path: str) -> str | None:
    """The variant's name for a playlist's path below the root, None when it is unfit for a URL.

    ``0/stream.m3u8`` is ``0``, ``video_720.m3u8`` is ``video_720``, ``a/video.m3u8`` is ``a-video``.
    """
    folder, _, file = path.rpartition("/")
    stem = file.removesuffix(".m3u8")
    name = f"{folder}-{stem}" if folder and stem not in PLAIN_STEMS else folder or stem
    return name if VARIANT_NAME.fullmatch(name) else None


def named(root: Path, path: Path, playlist: MultivariantPlaylist) -> MultivariantPlaylist:
    """The playlist of the file at ``path`` with names of variants as URIs; raises OSError."""
    names = {uri: variant_name(_local_path(root, uri, path)) for uri in playlist.uris}
    variants = ((variant, names.get(variant.uri)) for variant in playlist.variants)
    renditions = ((sound, names[sound.uri] if sound.uri else None) for sound in playlist.renditions)
    return MultivariantPlaylist(
        tuple(replace(variant, uri=name) for variant, name in variants if name),
        not_carried=tuple(
            (name, why)
            for uri, why in playlist.not_carried
            if (name := variant_name(_local_path(root, uri, path)))
        ),
        renditions=tuple(replace(sound, uri=name) for sound, name in renditions if name or not sound.uri),
    )


def _local_path(root: Path, uri: str, multivariant: Path) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    path = PurePosixPath(unquote(parts.path).lstrip("/"))
    if not parts.netloc and not parts.path.startswith("/"):
        return path.as_posix()
    # With a serving endpoint configured Owncast's URIs are absolute: the end of the path is ours.
    nested, flat = PurePosixPath(*path.parts[-2:]), path.name
    beside = root / flat
    try:
        flat_is_meant = not (root / nested).exists() and beside.exists() and beside != multivariant
    except OSError as error:
        if not is_final(error):
            raise
        flat_is_meant = False  # not a file name
    return flat if flat_is_meant else nested.as_posix()
