"""What the machine takes and returns: events, effects, and the limits that it keeps to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from broadcaster.catalog.records import PlaylistState, PlaylistUpdate, Segment
from broadcaster.events import Event as Notification
from broadcaster.hls import MultivariantPlaylist
from broadcaster.ipc.messages import View
from broadcaster.source.reports import SourceEnded, SourceFault, SourceIdle, SourceRefused, VariantsListed


@dataclass(frozen=True, slots=True)
class Instant:
    """The time of an event, by both clocks."""

    wall: datetime
    monotonic: float  # seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator has set. ``dvr`` and ``dvr_size`` bound what is listed for viewers who are behind."""

    window_segments: int
    window: timedelta = timedelta()
    target_duration: int | None = None  # seconds; overrules the source's where that is shorter
    dvr: timedelta = timedelta()
    dvr_size: int = 0  # bytes
    end_grace: float = 300.0  # seconds without a segment that end the stream
    disconnect_grace: float | None = None  # seconds since the encoder has gone; None: that ends nothing


# Events. Those of the source are its reports.


@dataclass(frozen=True, slots=True)
class SegmentFound:
    """The source has finished a segment, which has its object key."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class SegmentKept:
    """The spool has the file of a segment, or cannot take it."""

    key: str


@dataclass(frozen=True, slots=True)
class SegmentFinished:
    """The upload of a segment has ended: the bucket has it, or it is a gap."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class SegmentShown:
    """The spool was told to release a segment, after the writes before that."""

    key: str


@dataclass(frozen=True, slots=True)
class EncoderStatus:
    """What is known of the encoder from elsewhere (Owncast's API)."""

    connected: bool | None = None  # None while that is not known
    disconnected_since: float | None = None  # monotonic; None while it is not known to have gone


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. ``behind`` is how many seconds the most delayed viewer is behind live."""

    encoder: EncoderStatus | None = None
    behind: float = 0.0


SourceReport = VariantsListed | SourceEnded | SourceIdle | SourceFault | SourceRefused
Event = SourceReport | SegmentFound | SegmentKept | SegmentFinished | SegmentShown | Tick


# Effects. Each is complete before the next begins.


@dataclass(frozen=True, slots=True)
class WriteFound:
    """Write the row of a segment that the source has finished."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class WriteStored:
    """Write that the bucket has a segment, or never will, which is not listed yet."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class WriteVariants:
    """Write what the source says of its variants."""

    described: MultivariantPlaylist


@dataclass(frozen=True, slots=True)
class WritePlaylists:
    """Write how the playlists are, in one transaction (``Catalog.listed``)."""

    listings: Sequence[PlaylistUpdate] = ()
    retired: Sequence[PlaylistState] = ()
    availability: timedelta = timedelta()
    trimmed: Mapping[str, int] = field(default_factory=dict)
    over: bool = False


@dataclass(frozen=True, slots=True)
class ShowView:
    """Show this to viewers, in the place of what they saw before."""

    view: View


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the observers; the times in it are those of the decision, until the owner sets its own."""

    event: Notification


@dataclass(frozen=True, slots=True)
class Upload:
    """Begin to bring a segment into the bucket; ``SegmentFinished`` is the answer."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class Release:
    """The spool may remove a segment's file; ``SegmentShown`` is the answer."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class AskEncoder:
    """Find out soon whether the encoder is still connected."""


class Severity(Enum):
    """How bad a line of the log is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line into the log."""

    severity: Severity
    message: str


WriteRows = WriteFound | WriteStored | WriteVariants | WritePlaylists
Effect = WriteRows | ShowView | Notify | Upload | Release | AskEncoder | Log
