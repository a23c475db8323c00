"""Recordings, their parts, and clips as frozen data, and how they are read from their rows."""

from __future__ import annotations

import posixpath
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from broadcaster.catalog.rows import (
    MICROSECOND,
    Row,
    described_of,
    duration_of,
    iframe_of,
    optional_time,
    time_of,
    to_microseconds,
)
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
    thumbnails: bool = False  # recordings of version 0.1.0 have WebVTT thumbnails beside each part
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


MINUTE = timedelta(minutes=1)
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # that nobody takes for another one
LENGTH = 14  # of them: 69 bits
# Ids as they are made, by older versions too (4 letters); and a part of an address that cannot be guessed.
ID = rf"\d{{4}}-\d\d-\d\d-\d{{4}}-[{LETTERS}]{{4,32}}"
SECRET = r"[0-9a-f]{4,64}"  # noqa: S105 - how it looks


def new_id(time: datetime) -> str:
    """The id of a recording or a clip: when it began, for people, and what nobody guesses."""
    return f"{time:%Y-%m-%d-%H%M}-" + "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def new_secret() -> str:
    """A part of an address that nobody guesses: 64 bits."""
    return secrets.token_hex(8)


def free_id(time: datetime, is_taken: Callable[[str], object]) -> str:
    """An id that is not taken yet."""
    while is_taken(name := new_id(time)):
        time += MINUTE  # all ids of one minute may be taken
    return name


def new_recording(name: str, started: datetime) -> Row:
    """The row of one that has just begun."""
    row: Row = {"id": name, "started": to_microseconds(started), "secret": new_secret()}
    row |= {"title": "", "titled": False, "visibility": Visibility.LISTED}
    return row | {"duration": 0, "size": 0, "revision": 1, "written": 0}


def recording_of(row: sqlite3.Row) -> Recording:
    """What is known of a recording."""
    return Recording(
        id=row["id"],
        title=row["title"],
        visibility=Visibility(row["visibility"]),
        secret=row["secret"],
        started=time_of(row["started"]),
        ended=optional_time(row["ended"]),
        keep_until=optional_time(row["keep_until"]),
        duration=row["duration"] * MICROSECOND,
        size=row["size"],
        revision=row["revision"],
        file=_file_of(row) if row["file_key"] else None,
        poster=bool(row["poster"]),
        thumbnails=bool(row["thumbnails"]),
        pictured=bool(row["pictured"]),
        deleted=optional_time(row["deleted"]),
        bin=row["bin"],
    )


def _file_of(row: sqlite3.Row) -> File:
    """The newest of all prefixes is the one under which recordings are."""
    key = row["file_key"]
    prefix = (row["prefixes"] or key.partition("/files/")[0]).split()[-1]
    return File(
        key=key,
        address=posixpath.relpath(key, f"{prefix}/recordings"),
        size=row["file_size"],
        type=row["file_type"],
        part_size=row["file_part_size"],
        etag=row["file_etag"],
    )


def upload_of(row: sqlite3.Row) -> FileUpload:
    """What is known of an upload."""
    names = "key", "recording", "size", "type", "upload", "part_size"
    plain = {name: row[name] for name in names}
    return FileUpload(**plain, begun=time_of(row["begun"]), deleted=optional_time(row["deleted"]))


def part_of(row: sqlite3.Row) -> Part:
    """What is known of a part."""
    return Part(row["number"], row["recording"], described_of(row))


def clip_of(row: sqlite3.Row | Row) -> Clip:
    """What is known of a clip."""
    return Clip(
        id=row["id"],
        title=row["title"],
        made=time_of(row["made"]),
        begin=time_of(row["begin"]),
        end=time_of(row["end"]),
        described=described_of(row),
        viewer=bool(row["viewer"]),
        poster=bool(row["poster"]),
        pictured=bool(row["pictured"]),
        keep_until=optional_time(row["keep_until"]),
        deleted=optional_time(row["deleted"]),
        bin=row["bin"],
    )


def recorded_of(row: sqlite3.Row) -> Recorded:
    """A segment that a view lists."""
    return Recorded(
        position=row["position"],
        variant=row["variant"],
        key=row["key"],
        map_key=row["map_key"],
        duration=duration_of(row["duration"]),
        time=time_of(row["time"]),
        target_duration=row["target_duration"] or 1,
        discontinuity=row["discontinuity"],
        independent=bool(row["independent"]),
        gap=row["fault"] is not None,
        size=row["size"],
        iframe=iframe_of(row),
    )
