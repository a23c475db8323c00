"""What one process tells the other.

``view`` is what viewers see, as data; ``messages`` are what ingest tells the audience process, and its
answer; ``wire`` makes bytes of them.
"""

from broadcaster.feed.clips import ClipAnswer, ClipWish, Refusal
from broadcaster.feed.messages import (
    Change,
    Ended,
    HealthReport,
    Listed,
    Part,
    Ping,
    Pong,
    Row,
    SentFigure,
    Setup,
    Severity,
    Started,
    Trouble,
    change,
)
from broadcaster.feed.recordings import File, Recording, Recordings, SignedPlaylist, difference
from broadcaster.feed.view import AnyVersion, State, Version, View

__all__ = [
    "AnyVersion",
    "Change",
    "ClipAnswer",
    "ClipWish",
    "Ended",
    "File",
    "HealthReport",
    "Listed",
    "Part",
    "Ping",
    "Pong",
    "Recording",
    "Recordings",
    "Refusal",
    "Row",
    "SentFigure",
    "Setup",
    "Severity",
    "SignedPlaylist",
    "Started",
    "State",
    "Trouble",
    "Version",
    "View",
    "change",
    "difference",
]
