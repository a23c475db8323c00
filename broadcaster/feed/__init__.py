"""What one process tells the other.

``view`` is what viewers see, as data; ``messages`` are what ingest tells the audience process, and its
answer; ``wire`` makes bytes of them.
"""

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
from broadcaster.feed.recordings import Recording, Recordings, difference
from broadcaster.feed.view import AnyVersion, State, Version, View

__all__ = [
    "AnyVersion",
    "Change",
    "Ended",
    "HealthReport",
    "Listed",
    "Part",
    "Ping",
    "Pong",
    "Recording",
    "Recordings",
    "Row",
    "SentFigure",
    "Setup",
    "Severity",
    "Started",
    "State",
    "Trouble",
    "Version",
    "View",
    "change",
    "difference",
]
