"""Events of the stream, as frozen dataclasses for observers such as metrics and the recorder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from broadcaster.catalog.records import Segment


@dataclass(frozen=True, slots=True)
class SegmentDiscovered:
    """The source listed a segment; it now has to reach the bucket."""

    variant: str
    name: str


@dataclass(frozen=True, slots=True)
class UploadFailed:
    """One attempt failed and will be made again. ``permanent`` means that someone must act."""

    variant: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class SegmentUploaded:
    """The bucket has confirmed an object. ``seconds`` is the last attempt alone, ``size`` bytes."""

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
    """A segment is listed, as its record says."""

    segment: Segment
    published: datetime

    @property
    def delay(self) -> float | None:
        """Seconds since it was complete on disk, None for a gap."""
        completed = self.segment.completed
        return (self.published - completed).total_seconds() if completed else None


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """Playlists are served from now on. ``run`` is the id of the newest encoder run."""

    variants: tuple[str, ...]
    target_duration: int  # seconds
    run: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The playlists now carry EXT-X-ENDLIST. ``going_on``: new ones follow at the same address at once."""

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
