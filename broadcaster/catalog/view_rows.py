"""Recordings, their parts and clips, read back from their rows."""

from __future__ import annotations

import posixpath
import secrets
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta

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
from broadcaster.catalog.views import Clip, File, FileUpload, Part, Recorded, Recording, Visibility

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
