"""Uploads segments to the bucket, and deletes them after their retention.

``pipeline`` owns the stream and executes what ``broadcaster.stream`` decides. ``spool`` stores segments on
the disk, ``transfer`` uploads a segment or finds why it is lost, ``uploader`` retries until the bucket has an
object, ``scheduler`` limits concurrency and monitors the uplink. ``deleter`` deletes objects, ``mirror``
copies playlists.
"""

from broadcaster.upload.pipeline import Pipeline
from broadcaster.upload.uploader import Uploader

__all__ = ["Pipeline", "Uploader"]
