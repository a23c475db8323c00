"""A folder that somebody writes HLS into → finished segments, in order, each once.

``completeness`` tells whether a file is finished, ``playlist_file`` reads a playlist that may be torn,
``follower`` turns one media playlist into segments, ``runs`` gives encoder runs their identity, ``folder``
lists what there is, ``scanner`` follows all of it, and ``watch`` waits for changes and drives it all.
"""

from broadcaster.ingest.watch import Source

__all__ = ["Source"]
