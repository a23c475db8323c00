"""What moves the stream from state to state."""

from __future__ import annotations

from enum import Enum, auto

from broadcaster.ipc import State


class Occasion(Enum):
    """What can happen to it."""

    SEGMENT = auto()  # one has come
    OUTGROWN = auto()  # one has come that the playlists cannot take: they end, and new ones begin
    COMPLETE = auto()  # all variants are there, or have been waited for long enough
    OVER = auto()  # nothing more will come


NEXT = {
    (State.OFFLINE, Occasion.SEGMENT): State.STARTING,
    (State.ENDED, Occasion.SEGMENT): State.STARTING,
    (State.STARTING, Occasion.SEGMENT): State.STARTING,
    (State.STARTING, Occasion.COMPLETE): State.LIVE,
    (State.STARTING, Occasion.OVER): State.ENDED,  # what has come is shown all the same
    (State.LIVE, Occasion.SEGMENT): State.LIVE,
    (State.LIVE, Occasion.OUTGROWN): State.STARTING,
    (State.LIVE, Occasion.OVER): State.ENDED,
    (State.OFFLINE, Occasion.OVER): State.OFFLINE,
    (State.ENDED, Occasion.OVER): State.ENDED,
}
