"""The way of a segment, from the source to the channel.

``flow`` keeps the order, ``lane`` is one variant's way, ``transfer`` decides what becomes of a segment,
``uploader`` gets one file into the bucket, ``departure`` judges whether the encoder has left for good, and
``neighbours`` says what they need of others.
"""

from broadcaster.delivery.flow import Pipeline
from broadcaster.delivery.lane import map_key_of
from broadcaster.delivery.uploader import Uploader

__all__ = ["Pipeline", "Uploader", "map_key_of"]
