"""The way of a segment, from the source into the bucket, and out of it in the end.

``pipeline`` is the owner of the stream: it executes what ``broadcaster.stream`` decides. ``spool`` keeps the
bytes, ``transfer`` brings a segment to the bucket or finds out why that cannot be, ``uploader`` tries until
the bucket has a file, and ``scheduler`` says how many at once, and whether the uplink carries the stream.
``deleter`` deletes, ``mirror`` writes the playlists into the bucket too, ``conditional`` does so only where
nothing has changed there.
"""

from broadcaster.upload.pipeline import Pipeline
from broadcaster.upload.uploader import Uploader

__all__ = ["Pipeline", "Uploader"]
