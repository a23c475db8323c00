"""The states of a stream and of a segment, and what moves each from one to the next.

These tables are complete: an event that has no line for the present state is a defect, and raises KeyError.
"""

from __future__ import annotations

from enum import Enum, auto

from broadcaster.ipc.messages import State


class Trigger(Enum):
    """What moves a stream."""

    SEGMENT = auto()  # a segment has its turn to be listed
    ROLLOVER = auto()  # the playlists cannot take a segment: they end, and new playlists begin
    COMPLETE = auto()  # all variants have a segment, or have been waited for long enough
    OVER = auto()  # nothing more will come


STREAM = {
    (State.OFFLINE, Trigger.SEGMENT): State.STARTING,
    (State.ENDED, Trigger.SEGMENT): State.STARTING,
    (State.STARTING, Trigger.SEGMENT): State.STARTING,
    (State.STARTING, Trigger.COMPLETE): State.LIVE,
    (State.LIVE, Trigger.SEGMENT): State.LIVE,
    (State.LIVE, Trigger.ROLLOVER): State.STARTING,
    (State.LIVE, Trigger.OVER): State.ENDED,
}


class SegmentState(Enum):
    """Where a segment is between the source and the playlist."""

    EXPECTED = auto()  # the source has finished it; the spool takes its file
    FOUND = auto()  # in the catalog; it waits for its upload
    UPLOADING = auto()  # at most ``AHEAD`` of a variant
    STORED = auto()  # in the bucket; segments before it are not listed yet
    GAP = auto()  # it will never be in the bucket; it waits for its turn all the same
    HELD = auto()  # it had its turn, and waits for other variants of a stream that starts; the last step
    LISTED = auto()  # decided; it is forgotten once players see it


class Progress(Enum):
    """What moves a segment."""

    KEPT = auto()  # the spool has its file, or cannot take it
    BEGUN = auto()  # its upload
    CONFIRMED = auto()  # by the bucket
    LOST = auto()
    HELD = auto()
    LISTED = auto()


SEGMENT = {
    (SegmentState.EXPECTED, Progress.KEPT): SegmentState.FOUND,
    (SegmentState.FOUND, Progress.BEGUN): SegmentState.UPLOADING,
    (SegmentState.UPLOADING, Progress.CONFIRMED): SegmentState.STORED,
    (SegmentState.UPLOADING, Progress.LOST): SegmentState.GAP,
    (SegmentState.STORED, Progress.HELD): SegmentState.HELD,
    (SegmentState.GAP, Progress.HELD): SegmentState.HELD,
    (SegmentState.STORED, Progress.LISTED): SegmentState.LISTED,
    (SegmentState.GAP, Progress.LISTED): SegmentState.LISTED,
}
