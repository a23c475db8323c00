"""Events of the stream, as frozen dataclasses for observers such as metrics and the recorder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from broadcaster.catalog.records import Segment
from broadcaster.hls import MultivariantPlaylist


@dataclass(frozen=True, slots=True)
class SegmentDiscovered:
    """The source listed a segment."""

    variant: str
    name: str


@dataclass(frozen=True, slots=True)
class UploadFailed:
    """An attempt failed and is retried. ``permanent``: an operator must act."""

    variant: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class SegmentUploaded:
    """The bucket has confirmed an object of ``size`` bytes. ``seconds`` is the time of the last attempt."""

    variant: str
    key: str
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SegmentLost:
    """A segment is broken or gone; it is listed as a gap."""

    variant: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SegmentPublished:
    """A segment is listed."""

    segment: Segment
    published: datetime

    @property
    def delay(self) -> float | None:
        """Seconds since the segment was complete on disk, None for a gap."""
        completed = self.segment.completed
        return (self.published - completed).total_seconds() if completed else None


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """Playlists are served. ``run`` is the id of the newest encoder run."""

    variants: tuple[str, ...]
    target_duration: int  # seconds
    run: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The playlists have EXT-X-ENDLIST. ``going_on``: new playlists follow at the same address at once."""

    at: datetime
    going_on: bool = False


Event = (
    SegmentDiscovered
    | UploadFailed
    | SegmentUploaded
    | SegmentLost
    | SegmentPublished
    | StreamStarted
    | StreamEnded
)
Observer = Callable[[Event], None]


def happened(event: Event, now: datetime) -> Event:
    """The event with the time at which viewers could see it."""
    match event:
        case SegmentPublished():
            return replace(event, published=now)
        case StreamStarted() | StreamEnded():
            return replace(event, at=now)
    return event


# Reports of the source, beside the segments themselves.


@dataclass(frozen=True, slots=True)
class VariantsListed:
    """What the source says of its variants, by their names.

    The multivariant playlist may be of another run, or of Owncast's idle clip: it is written at any time, and
    says nothing of its age. What there is a place for in the folder is true at this moment. The segments of a
    rendition with a playlist of its own come as those of a variant of its name.
    """

    playlist: MultivariantPlaylist = field(default_factory=MultivariantPlaylist)  # names in the place of URIs
    present: frozenset[str] = frozenset()  # those with a folder, or a playlist that is followed


@dataclass(frozen=True, slots=True)
class SourceEnded:
    """A variant's playlist says ENDLIST. Provisional: the same stream may go on."""

    variant: str


@dataclass(frozen=True, slots=True)
class SourceIdle:
    """Owncast's idle clip has been alone for so long that no transcoder of a stream can be beside it."""


@dataclass(frozen=True, slots=True)
class SourceFault:
    """Why nothing can be read in the folder, for some seconds already; None once it can be."""

    message: str | None


@dataclass(frozen=True, slots=True)
class SourceRefused:
    """Which playlists are written and cannot be followed, and why; None when all are followed."""

    message: str | None


SourceEvent = Segment | VariantsListed | SourceEnded | SourceIdle | SourceFault | SourceRefused
