"""The source: a folder of HLS output → finished segments, in order, each once.

``watcher`` waits for changes and calls ``scanner``, which finds the playlists. ``follower`` compares each
version of a media playlist with the segments known before, ``readiness`` waits until their files are finished
(``file_checks``). ``encoder_runs`` identifies encoder runs for all variants, with the time stamps of
``media_clock``. ``recovery`` finds segments that no playlist lists any more. ``owncast_names`` parses names.
"""

from broadcaster.source.watcher import FolderSource, Source

__all__ = ["FolderSource", "Source"]
