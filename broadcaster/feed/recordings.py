"""What viewers may be shown of recordings and clips, and how the other process is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class File:
    """All of a recording as one file."""

    url: str
    size: int  # bytes
    type: str  # media type


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that can be watched, or a clip."""

    id: str
    title: str
    started: datetime
    ended: datetime | None  # None while it is on
    duration: float  # seconds
    playlists: tuple[str, ...]  # the address of each part's
    poster: str | None = None
    listed: bool = True  # else it is for those who have its address
    clip: bool = False
    file: File | None = None

    @property
    def path(self) -> str:
        """Where it is watched: its name, too, as a clip may be called like a recording."""
        return f"/{'c' if self.clip else 'watch'}/{self.id}"


@dataclass(frozen=True, slots=True)
class Recordings:
    """What has become of those that there are: these are new or other than they were, those are gone."""

    changed: tuple[Recording, ...] = ()
    gone: tuple[str, ...] = ()  # their paths
    kind: Literal["recordings"] = "recordings"

    def onto(self, before: Mapping[str, Recording]) -> dict[str, Recording]:
        """All that there are now, by their paths."""
        after = {path: one for path, one in before.items() if path not in self.gone}
        return after | {one.path: one for one in self.changed}


@dataclass(frozen=True, slots=True)
class SignedPlaylist:
    """A playlist in a private bucket, with signed addresses, for ``max_age`` seconds."""

    path: str  # relative to the bucket's prefix
    gzipped: str | None  # in Base64; None where there is none
    max_age: int
    kind: Literal["signed"] = "signed"


def difference(before: Mapping[str, Recording], now: Mapping[str, Recording]) -> Recordings:
    """The least that tells the other process so."""
    changed = tuple(one for path, one in now.items() if before.get(path) != one)
    return Recordings(changed, tuple(before.keys() - now.keys()))
