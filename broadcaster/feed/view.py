"""What viewers see, as data: decided by one process, shown by the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Variant

P = TypeVar("P", MediaPlaylist, MultivariantPlaylist)
MEGABIT = 1e6


class State(StrEnum):
    """Where the stream stands, for viewers."""

    OFFLINE = "offline"  # nothing has been served yet
    STARTING = "starting"  # segments come, but not yet of all variants
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Version(Generic[P]):
    """One version of a playlist; ``modified`` is the wall time of its publication."""

    playlist: P
    modified: datetime
    target_duration: int  # seconds
    kept: MediaPlaylist | None = None  # a longer one for those who are behind, where they are seen to


AnyVersion = Version[MediaPlaylist] | Version[MultivariantPlaylist]


@dataclass(frozen=True, slots=True)
class View:
    """All that viewers see at a time."""

    state: State = State.OFFLINE
    target_duration: int | None = None  # seconds; None before the first stream
    runs: tuple[str, ...] = ()  # ids of the latest, newest last: who stays was told an earlier one
    playlists: Mapping[str, Version[MediaPlaylist]] = field(
        default_factory=dict
    )  # media playlists by variant
    main: AnyVersion | None = None  # the multivariant playlist, or that of an only variant

    @property
    def qualities(self) -> tuple[str, ...]:
        """The variants as people call them: "720p, 2.5 Mbit/s"; none where there is only one."""
        playlist = self.main and self.main.playlist
        if not isinstance(playlist, MultivariantPlaylist):
            return ()
        return tuple(_quality(one) for one in playlist.variants)


def _quality(variant: Variant) -> str:
    bits = variant.average_bandwidth or variant.bandwidth
    rate = f"{bits / 1e6:.1f} Mbit/s" if bits >= MEGABIT else f"{bits / 1e3:.0f} kbit/s"
    return f"{variant.resolution[1]}p, {rate}" if variant.resolution else rate
