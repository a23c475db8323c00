"""The media types of objects."""

from __future__ import annotations

from broadcaster.hls import MEDIA_TYPE

CONTENT_TYPES = {
    ".m3u8": MEDIA_TYPE,
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".aac": "audio/aac",
    ".vtt": "text/vtt",
    ".json": "application/json",
    ".jpg": "image/jpeg",
}


def content_type(key: str) -> str:
    """The media type by the key's suffix."""
    suffix = key[key.rfind(".") :].lower() if "." in key else ""
    return CONTENT_TYPES.get(suffix, "application/octet-stream")
