"""Events and effects of the machine, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from broadcaster.catalog.records import PlaylistState, PlaylistUpdate, Segment
from broadcaster.events import Event as Notification
from broadcaster.events import SourceEnded, SourceFault, SourceIdle, SourceRefused, VariantsListed
from broadcaster.hls import MultivariantPlaylist
from broadcaster.ipc.messages import View


@dataclass(frozen=True, slots=True)
class Instant:
    """The time of an event, by both clocks."""

    wall: datetime
    monotonic: float  # seconds


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits set by the operator; ``dvr`` and ``dvr_size`` bound the DVR playlist."""

    window_segments: int
    window: timedelta = timedelta()
    target_duration: int | None = None  # seconds; overrules the source's where that is shorter
    dvr: timedelta = timedelta()
    dvr_size: int = 0  # bytes
    end_grace: float = 300.0  # seconds without a segment that end the stream
    disconnect_grace: float | None = None  # seconds after which a disconnect ends the stream; None: never


# Events, beside the reports of the source.


@dataclass(frozen=True, slots=True)
class SegmentFound:
    """The source has finished a segment, which has its object key."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class SegmentSpooled:
    """The spool has the file of a segment, or cannot take it."""

    key: str


@dataclass(frozen=True, slots=True)
class SegmentFinished:
    """The upload of a segment has ended: the bucket has it, or it is a gap."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class SegmentReleased:
    """The spool was asked to release a segment, after all earlier writes."""

    key: str


class EncoderWatch(Protocol):
    """Says whether the encoder is connected, by the word of a program beside it: Owncast, or MediaMTX.

    ``connected`` is None while that is unknown. ``disconnected_since`` (monotonic) is when it was first
    reported that the encoder has disconnected, None while there is no report that counts. ``title`` is the
    latest known title; ``fault`` is why the latest query failed.
    """

    connected: bool | None
    disconnected_since: float | None
    title: str | None
    fault: str | None

    def ask(self) -> None:
        """Query at once, or half a second after the latest query."""

    async def run(self) -> None:
        """Query every second until cancelled."""


@dataclass(frozen=True, slots=True)
class EncoderStatus:
    """The status of the encoder by the word of an ``EncoderWatch``; None where unknown."""

    connected: bool | None = None
    disconnected_since: float | None = None  # monotonic


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed. ``behind`` is how many seconds the most delayed viewer is behind live."""

    encoder: EncoderStatus | None = None
    behind: float = 0.0


@dataclass(frozen=True, slots=True)
class DoorsOpened:
    """The doors of a private event have opened: media of before this time is not for guests."""

    at: datetime


SourceReport = VariantsListed | SourceEnded | SourceIdle | SourceFault | SourceRefused
Event = SourceReport | SegmentFound | SegmentSpooled | SegmentFinished | SegmentReleased | Tick | DoorsOpened


# Effects. Each is complete before the next begins.


@dataclass(frozen=True, slots=True)
class WriteFound:
    """Write the row of a segment that the source has finished."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class WriteStored:
    """Write that a segment that is not listed yet is in the bucket, or is a gap."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class WriteVariants:
    """Write the source's description of its variants."""

    described: MultivariantPlaylist


@dataclass(frozen=True, slots=True)
class WritePlaylists:
    """Write the state of the playlists in one transaction (``Catalog.listed``)."""

    listings: Sequence[PlaylistUpdate] = ()
    retired: Sequence[PlaylistState] = ()
    availability: timedelta = timedelta()
    trimmed: Mapping[str, int] = field(default_factory=dict)
    over: bool = False


@dataclass(frozen=True, slots=True)
class ShowView:
    """Show viewers this view instead of the previous view."""

    view: View


@dataclass(frozen=True, slots=True)
class Notify:
    """Notify the observers; the owner replaces the times of the decision by its own."""

    event: Notification


@dataclass(frozen=True, slots=True)
class Upload:
    """Begin the upload of a segment; ``SegmentFinished`` is the answer."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class Release:
    """The spool may remove a segment's file; ``SegmentReleased`` is the answer."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class AskEncoder:
    """Ask soon whether the encoder is still connected."""


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line into the log."""

    level: Literal["info", "warning", "error"]
    message: str


WriteRows = WriteFound | WriteStored | WriteVariants | WritePlaylists
Effect = WriteRows | ShowView | Notify | Upload | Release | AskEncoder | Log
