"""What happened, as frozen facts for observers (metrics, and whoever else wants to listen)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broadcaster.playlist import Segment


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
    """A segment is listed. ``delay`` is seconds since it was complete on disk, None for a gap."""

    variant: str
    segment: Segment
    delay: float | None


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """Playlists are served from now on."""

    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The playlists now carry EXT-X-ENDLIST."""


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
