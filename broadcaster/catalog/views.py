"""The views of segments beside the window: frozen facts about recordings and clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from broadcaster.hls import ByteRange, MultivariantPlaylist

ROUNDING = timedelta(milliseconds=1)  # of times in playlists


class Visibility(StrEnum):
    """Who finds a recording."""

    LISTED = "listed"  # in the index
    UNLISTED = "unlisted"  # who has the link of its page, which cannot be guessed
    HIDDEN = "hidden"  # nobody: it has no page, and an address that cannot be guessed


@dataclass(frozen=True, slots=True)
class File:
    """A recording as one file. ``address`` is relative to the folder of all recordings."""

    key: str
    address: str
    size: int  # bytes
    type: str  # media type
    part_size: int  # bytes of the parts it was uploaded in; 0 when that is not known
    etag: str


@dataclass(frozen=True, slots=True)
class FileUpload:
    """A file that somebody uploads in parts, or what is left of one."""

    key: str
    recording: str  # its id
    size: int  # bytes
    type: str  # media type
    begun: datetime
    upload: str  # what the bucket calls it; empty of what was not uploaded by us
    part_size: int  # bytes
    deleted: datetime | None = None  # since when it waits in the bin

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.size // self.part_size)


@dataclass(frozen=True, slots=True)
class Recording:
    """A stream from its start to its end: a view of its segments, which has one part or more."""

    id: str
    title: str
    visibility: Visibility
    secret: str  # a part of its address unless it is listed
    started: datetime
    ended: datetime | None  # None while it is on
    keep_until: datetime | None  # None: for ever
    duration: timedelta
    size: int  # bytes
    revision: int  # rises with each change that the bucket has to be told of
    file: File | None = None
    poster: bool = False  # the bucket has one
    thumbnails: bool = False  # of each part, as WebVTT
    pictured: bool = False  # no more pictures are to be made
    deleted: datetime | None = None  # since when it waits in the bin
    bin: str = ""  # a part of its address there

    @property
    def folder(self) -> str:
        """Where its playlists are, below ``recordings/``."""
        if self.deleted is not None:
            return f"{self.id}-{self.bin}"
        is_open = self.visibility is Visibility.LISTED or not self.secret  # unlisted by an older version
        return self.id if is_open else f"{self.id}-{self.secret}"


@dataclass(frozen=True, slots=True)
class Part:
    """What of a recording has the same variants."""

    number: int  # in the catalog; parts of a recording follow each other in this order
    recording: str  # its id
    described: MultivariantPlaylist  # what the source said of its variants, by their names


@dataclass(frozen=True, slots=True)
class Clip:
    """What lies between two times, as viewers were told them; its segments are kept as long as it is."""

    id: str
    title: str
    made: datetime
    begin: datetime
    end: datetime
    # What the source said of its variants, by their names.
    described: MultivariantPlaylist = field(default_factory=MultivariantPlaylist)
    viewer: bool = False  # made by one
    poster: bool = False  # the bucket has one
    pictured: bool = False  # no more pictures are to be made
    keep_until: datetime | None = None  # None: for ever
    deleted: datetime | None = None  # since when it waits in the bin
    bin: str = ""  # a part of its address there

    @property
    def folder(self) -> str:
        """Where its playlists are, below ``clips/``."""
        return self.id if self.deleted is None else f"{self.id}-{self.bin}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many clips of viewers there may be."""

    of_a_stream: int
    of_a_day: int  # 24 hours
    in_all: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A segment as a recording or a clip lists it. ``position`` gives the order, in all variants alike."""

    position: int
    variant: str
    key: str
    map_key: str | None
    duration: timedelta
    time: datetime
    target_duration: int  # seconds, of the source playlist
    discontinuity: int
    independent: bool
    gap: bool  # nothing came, or it was lost
    size: int  # bytes
    iframe: ByteRange | None = None  # the key frame that it begins with, where that is known


def covering(segments: Sequence[Recorded], clip: Clip) -> set[str]:
    """The variants that have all of the clip's time."""
    of_variant: dict[str, list[Recorded]] = {}
    for one in segments:
        of_variant.setdefault(one.variant, []).append(one)
    return {
        variant
        for variant, found in of_variant.items()
        if found[0].time - ROUNDING <= clip.begin
        and clip.end <= found[-1].time + found[-1].duration + ROUNDING
        and not any(map(_is_hole, found, found[1:]))
    }


def _is_hole(before: Recorded, after: Recorded) -> bool:
    """Whether something of the same run is missing between them; between two runs there may be a break."""
    missing = after.time - before.time - before.duration
    return before.discontinuity == after.discontinuity and missing > before.duration / 2
