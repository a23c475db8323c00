"""The way of a segment, from the source to the channel, and out of the bucket in the end.

``pipeline`` keeps the order, of what is ``in_flight``; ``spool`` keeps the bytes, ``transfer`` decides what
becomes of a segment, ``adoption`` of one that the spool alone knows; ``uploader`` gets one file into the
bucket, in its ``turns``. ``balance`` tells whether the uplink carries the stream, ``departure`` whether the
encoder has left for good. ``sweeper`` deletes, and ``mirror`` writes the playlists into the bucket too; what
fails of all this waits, and is told, by ``retrying``.
"""

from broadcaster.upload.pipeline import Pipeline
from broadcaster.upload.uploader import Uploader

__all__ = ["Pipeline", "Uploader"]
