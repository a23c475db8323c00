"""A folder that somebody writes HLS into → finished segments, in order, each once.

``folder`` lists what there is, ``playlists`` which of it is followed. ``playlist_file`` reads a playlist that
may be torn, ``names`` is what names say of segments and variants. ``follower`` turns one media playlist into
segments: ``known`` is what it has listed, ``runs`` gives encoder runs their identity, ``rescue`` finds by
their files those that nobody saw listed, ``pending`` waits until ``completeness`` finds them finished.
``scanner`` looks at all of it, ``watch`` waits for changes and drives it.
"""

from broadcaster.source.watcher import Source

__all__ = ["Source"]
