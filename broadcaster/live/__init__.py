"""The live state of all variants.

``state`` is where the stream stands and what moves it, ``start_gate`` waits for all variants of a new stream,
``outgrown`` tells why playlists cannot go on, ``playlists`` are what is listed, ``timeline`` keeps times in
order, ``snapshot`` makes the bytes that are served, and ``channel`` moves it all.
"""

from broadcaster.live.channel import Channel
from broadcaster.live.snapshot import Rendered, Snapshot
from broadcaster.live.state import State

__all__ = [
    "Channel",
    "Rendered",
    "Snapshot",
    "State",
]
