"""What comes into the channel, and what has to be remembered so that a restart is invisible to a player."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from broadcaster.catalog.records import Run
from broadcaster.hls import MediaSegment, Variant

Listed = tuple[int, MediaSegment, bool]  # media sequence number, segment, whether it is independent


@dataclass(frozen=True, slots=True)
class Publication:
    """A segment that the bucket has (or a gap), in its turn. ``key`` and ``map_key`` are its objects."""

    variant: str
    run: Run
    key: str
    segment: MediaSegment
    independent: bool
    target_duration: int  # seconds, of the source playlist
    completed: datetime | None = None  # when the file was finished; None for a gap
    size: int = 0  # bytes
    map_key: str | None = None
    noticed: datetime | None = None  # when the source listed it
    uploaded: datetime | None = None  # when the bucket confirmed it
    sha256: str | None = None  # of its bytes, hexadecimal


@dataclass(frozen=True, slots=True)
class PlaylistState:
    """Where one variant's playlist stands, apart from the segments it lists."""

    variant: str
    current: bool  # False: of an earlier stream, kept because its numbers must never fall
    target_duration: int  # seconds
    media_sequence: int  # of the first segment listed
    next_media_sequence: int
    discontinuity_sequence: int  # before the first segment listed
    current_discontinuity: int  # of the newest segment
    ended: bool
    peak_bandwidth: int  # bits per second, measured
    end: datetime | None = None  # of the newest segment there ever was


@dataclass(frozen=True, slots=True)
class Change:
    """What one publication did to one playlist, to be remembered before anybody can see it.

    Segments below ``state.media_sequence`` are no longer listed; they have to stay readable for
    ``availability``, the duration of the longest playlist plus their own (§6.2.2).
    """

    state: PlaylistState
    added: Sequence[Listed]
    availability: timedelta
    run: Run
    shift: timedelta  # of the run's times
    key: str
    map_key: str | None = None
    size: int = 0  # bytes


@dataclass(frozen=True, slots=True)
class PlaylistMemory:
    """One variant's playlist as an earlier process left it."""

    state: PlaylistState
    listed: Sequence[Listed]


@dataclass(frozen=True, slots=True)
class ChannelMemory:
    """Everything that an earlier process served."""

    playlists: Sequence[PlaylistMemory] = ()
    variants: Sequence[Variant] = ()  # what the source's multivariant playlist said of them
    shifts: dict[int, timedelta] = field(default_factory=dict)  # by run number
    runs: Sequence[str] = ()  # ids of the latest, newest last


class Book(Protocol):
    """Remembers what is published."""

    def published(
        self,
        changes: Sequence[Change],
        retired: Sequence[PlaylistState] = (),
        availability: timedelta = timedelta(),
    ) -> None:
        """Remember all of it or nothing.

        ``retired`` playlists have ended, or, no longer current, list nothing any more.
        """

    def listed(self, variants: Sequence[Variant]) -> None:
        """Remember what is told of the variants."""


class NoLedger:
    """For a channel that need not outlive its process."""

    def published(
        self,
        changes: Sequence[Change],
        retired: Sequence[PlaylistState] = (),
        availability: timedelta = timedelta(),
    ) -> None:
        """Forget it."""

    def listed(self, variants: Sequence[Variant]) -> None:
        """Forget it."""
