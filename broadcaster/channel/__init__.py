"""The live state of all variants.

``memory`` is what goes in and what has to be remembered, ``lineup`` waits for all variants of a new stream,
``outgrown`` tells why playlists cannot go on, ``timeline`` keeps times in order, ``rendering`` makes the
bytes that are served, ``served`` is one variant's playlist, and ``live`` decides when a stream begins, what
is listed, and when it is over.
"""

from broadcaster.channel.live import Channel, State
from broadcaster.channel.memory import (
    Change,
    ChannelMemory,
    Ledger,
    NoLedger,
    PlaylistMemory,
    PlaylistState,
    Publication,
)
from broadcaster.channel.rendering import Rendered, Version

__all__ = [
    "Change",
    "Channel",
    "ChannelMemory",
    "Ledger",
    "NoLedger",
    "PlaylistMemory",
    "PlaylistState",
    "Publication",
    "Rendered",
    "State",
    "Version",
]
