"""The live state of all variants.

``start_gate`` waits for all variants of a new stream, ``outgrown`` tells why playlists cannot go on,
``timeline`` keeps times in order, ``snapshot`` makes the bytes that are served, ``variant_playlist`` is one
variant's playlist, and ``channel`` decides when a stream begins, what is listed, and when it is over.
"""

from broadcaster.live.channel import Channel, State
from broadcaster.live.snapshot import Rendered, Snapshot

__all__ = [
    "Channel",
    "Rendered",
    "Snapshot",
    "State",
]
