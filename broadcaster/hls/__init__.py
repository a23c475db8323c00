"""HLS playlists, without I/O.

``media_playlist`` and ``multivariant`` are frozen data that render themselves, ``parser`` reads foreign
playlists, ``manifest`` generates live and VOD playlists, ``mpegts`` finds I-frames in segments.

Section numbers are those of draft-pantos-hls-rfc8216bis. Media time is ``timedelta``, wall time an
aware ``datetime``.
"""

from broadcaster.hls.media_playlist import (
    MEDIA_TYPE,
    BlockingReloadResult,
    ByteRange,
    MediaPlaylist,
    MediaSegment,
    ServerControl,
    bit_rate,
    rounded_seconds,
)
from broadcaster.hls.multivariant import MultivariantPlaylist, Rendition, Variant
from broadcaster.hls.parser import PlaylistParser, parse

__all__ = [
    "MEDIA_TYPE",
    "BlockingReloadResult",
    "ByteRange",
    "MediaPlaylist",
    "MediaSegment",
    "MultivariantPlaylist",
    "PlaylistParser",
    "Rendition",
    "ServerControl",
    "Variant",
    "bit_rate",
    "parse",
    "rounded_seconds",
]
