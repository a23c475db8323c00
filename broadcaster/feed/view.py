"""What viewers see, as data: decided by one process, shown by the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist

P = TypeVar("P", MediaPlaylist, MultivariantPlaylist)


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
