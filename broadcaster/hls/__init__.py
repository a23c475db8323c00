"""HLS playlists, without I/O.

``types`` are frozen data that render themselves, ``parsing`` reads what others wrote, ``manifest`` is the
rolling window.

Section numbers are those of draft-pantos-hls-rfc8216bis. Media time is ``timedelta``, wall time an
aware ``datetime``.
"""

from broadcaster.hls.parsing import PlaylistReader, parse
from broadcaster.hls.types import (
    MEDIA_TYPE,
    MediaPlaylist,
    MediaSegment,
    MultivariantPlaylist,
    Reload,
    Rendition,
    ServerControl,
    Variant,
    rounded_seconds,
)

__all__ = [
    "MEDIA_TYPE",
    "MediaPlaylist",
    "MediaSegment",
    "MultivariantPlaylist",
    "PlaylistReader",
    "Reload",
    "Rendition",
    "ServerControl",
    "Variant",
    "parse",
    "rounded_seconds",
]
