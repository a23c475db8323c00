"""HLS playlists: ``types`` are frozen data that render themselves, ``parsing`` reads what others wrote.

Section numbers are those of draft-pantos-hls-rfc8216bis. Media time is ``timedelta``, wall time an
aware ``datetime``.
"""

from broadcaster.playlist.parsing import PlaylistReader, parse
from broadcaster.playlist.types import (
    MEDIA_TYPE,
    MediaPlaylist,
    MultivariantPlaylist,
    Reload,
    Segment,
    ServerControl,
    Variant,
    rounded_seconds,
)

__all__ = [
    "MEDIA_TYPE",
    "MediaPlaylist",
    "MultivariantPlaylist",
    "PlaylistReader",
    "Reload",
    "Segment",
    "ServerControl",
    "Variant",
    "parse",
    "rounded_seconds",
]
