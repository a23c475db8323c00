"""Uploads segments to the bucket, and deletes them after their retention.

``pipeline`` owns the stream and executes the effects of ``broadcaster.stream``. ``spool`` keeps files of
segments, ``uploader`` uploads a segment or finds why it is a gap, ``scheduler`` limits concurrency and
monitors the uplink. ``deleter`` deletes objects, ``mirror`` copies playlists.
"""

from broadcaster.upload.pipeline import Pipeline
from broadcaster.upload.uploader import Uploader

__all__ = ["Pipeline", "Uploader"]
