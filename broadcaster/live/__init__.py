"""The live state of all variants.

``state`` is what moves the stream from state to state, ``start_gate`` waits for all variants of a new stream,
``outgrown`` tells why playlists cannot go on, ``playlists`` are what is listed, ``timeline`` keeps times in
order, ``attributes`` is what is told of the variants, and ``channel`` moves it all.
"""

from broadcaster.live.channel import Channel

__all__ = ["Channel"]
