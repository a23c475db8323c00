"""Converts records to rows and back, and holds the SQL statements of the catalog. Times are microseconds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broadcaster.catalog.records import PlaylistState, Run, Segment, SourceFile, Step
from broadcaster.hls import ByteRange, MediaSegment, MultivariantPlaylist, Rendition, Variant
from broadcaster.hls.media_playlist import SHORTEST
from broadcaster.hls.parser import MAX_FRAME_RATE

Row = dict[str, Any]
Statement = tuple[str, Row]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# These are the same in a record and in its row.
PLAIN = (
    *("key", "map_key", "variant", "sequence", "uri", "name", "target_duration"),
    *("fault", "url", "map_url", "size", "sha256"),
)
FILES = (("file", "", "file_size"), ("map_file", "map_", "map_size"))  # a field, and how its columns begin
TIMES = ("noticed", "program_date_time", "uploaded")


def to_microseconds(time: datetime | timedelta) -> int:
    """How a time or a duration is kept."""
    return ((time - EPOCH) if isinstance(time, datetime) else time) // MICROSECOND


def optional_microseconds(time: datetime | None) -> int | None:
    """The same, where there may be none."""
    return None if time is None else to_microseconds(time)


def time_of(microseconds: int) -> datetime:
    """A time that was kept."""
    return EPOCH + microseconds * MICROSECOND


def duration_of(microseconds: int) -> timedelta:
    """A duration that was kept; earlier versions kept some of no time, by which nothing can be divided."""
    return max(microseconds * MICROSECOND, SHORTEST)


def optional_time(microseconds: int | None) -> datetime | None:
    """The same, where there may be none."""
    return None if microseconds is None else time_of(microseconds)


def segment_row(segment: Segment, step: Step) -> Row:
    """What is remembered of a segment, apart from how it is listed."""
    row = {name: getattr(segment, name) for name in PLAIN}
    row |= {name: optional_microseconds(getattr(segment, name)) for name in TIMES}
    row |= {"step": step, "run": segment.run.number, "duration": to_microseconds(segment.duration)}
    row |= {"independent": segment.independent, "map_name": segment.map_file and segment.map_file.name}
    row |= iframe_row(segment.iframe)
    for name, prefix, size in FILES:
        file: SourceFile | None = getattr(segment, name)
        # A path need not be UTF-8.
        row[f"{prefix}path"] = file and str(file.path).encode(errors="backslashreplace").decode()
        row[size] = file and file.size
        row[f"{prefix}modified_ns"] = file and file.modified_ns
        row[f"{prefix}inode"] = file.inode if file else 0
    return row


def segment_of(row: sqlite3.Row, runs: dict[int, Run]) -> Segment:
    """The record of a segment on its way; raises LookupError or TypeError when it makes no sense."""
    same: dict[str, Any] = {name: row[name] for name in PLAIN} | {
        name: optional_time(row[name]) for name in TIMES
    }
    for name, prefix, size in FILES:
        known, path = row[f"{prefix}name"], row[f"{prefix}path"]
        rest = (row[size], row[f"{prefix}modified_ns"], row[f"{prefix}inode"])
        same[name] = SourceFile(known, Path(path), *rest) if known and path else None
    duration, independent = duration_of(row["duration"]), bool(row["independent"])
    same["iframe"] = iframe_of(row)
    same["target_duration"] = max(same["target_duration"], 1)
    return Segment(**same, run=runs[row["run"]], duration=duration, independent=independent)


def iframe_row(iframe: ByteRange | None) -> Row:
    """Where a segment's key frame is, if that is known."""
    return {"iframe_offset": iframe and iframe.offset, "iframe_length": iframe and iframe.length}


def iframe_of(row: sqlite3.Row) -> ByteRange | None:
    """The same, read back."""
    length, offset = row["iframe_length"], row["iframe_offset"]
    return None if length is None or offset is None else ByteRange(length, offset)


def listed_row(number: int, segment: MediaSegment, discontinuity: int) -> Row:
    """How it is listed; the tag for a discontinuity follows from the numbers (§6.2.4)."""
    return {
        "step": Step.LISTED,
        "number": number,
        "discontinuity": discontinuity,
        "time": optional_microseconds(segment.program_date_time),
        "duration": to_microseconds(segment.duration),
        "url": segment.uri,
        "map_url": segment.map_uri,
    }


def listed_segment(row: sqlite3.Row, discontinuity_before: int) -> MediaSegment:
    """A line of a playlist, after one with that discontinuity number."""
    return MediaSegment(
        uri=row["url"],
        duration=duration_of(row["duration"]),
        discontinuity=row["discontinuity"] != discontinuity_before,
        map_uri=row["map_url"],
        program_date_time=optional_time(row["time"]),
        gap=row["fault"] is not None,
        iframe=iframe_of(row),
    )


def playlist_row(state: PlaylistState) -> Row:
    """What is remembered of a playlist."""
    return asdict(state) | {"end": optional_microseconds(state.end)}


def playlist_of(row: sqlite3.Row) -> PlaylistState:
    """Where it stood."""
    values = {field.name: row[field.name] for field in fields(PlaylistState)}
    values["target_duration"] = max(values["target_duration"], 1)
    values |= {"current": bool(row["current"]), "ended": bool(row["ended"]), "end": optional_time(row["end"])}
    return PlaylistState(**values)


def described_row(described: MultivariantPlaylist) -> dict[str, str]:
    """What the source said of its variants, as JSON."""
    return {"variants": _text(described.variants), "renditions": _text(described.renditions)}


def _text(described: Sequence[Variant | Rendition]) -> str:
    # An older version does not know this attribute, and would not read what has it.
    rows = [asdict(one) for one in described]
    return json.dumps(
        [{name: one for name, one in row.items() if name != "video_range" or one} for row in rows]
    )


NOT_DESCRIBED = described_row(MultivariantPlaylist())


def described_of(row: sqlite3.Row | Mapping[str, Any]) -> MultivariantPlaylist:
    """The same read back."""
    variants = [_known(Variant, one) for one in json.loads(row["variants"])]
    for variant in variants:
        resolution, rate = variant.get("resolution"), variant.get("frame_rate")
        variant["resolution"] = tuple(resolution) if resolution else None
        variant["frame_rate"] = rate if rate and 0 < rate <= MAX_FRAME_RATE else None
    renditions = tuple(Rendition(**_known(Rendition, one)) for one in json.loads(row["renditions"]))
    return MultivariantPlaylist(tuple(Variant(**one) for one in variants), renditions=renditions)


def _known(kind: type[Variant | Rendition], values: dict[str, Any]) -> dict[str, Any]:
    """What this version knows of what another one has written."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def insert(table: str, row: Row, verb: str = "INSERT", conflict: str = "") -> Statement:
    """A new row; ``conflict`` says what to do where its key is there already."""
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join(f":{name}" for name in row)
    return f"{verb} INTO {table} ({names}) VALUES ({places}) {conflict}", row


def save(row: Row) -> Statement:
    """A step of a segment: its row as it is now."""
    updates = ", ".join(f"{name} = excluded.{name}" for name in row)
    return insert("segments", row, conflict=f"ON CONFLICT (key) DO UPDATE SET {updates}")


def replace_in(table: str, row: Row) -> Statement:
    """The row in the place of the one with its key."""
    return insert(table, row, "INSERT OR REPLACE")


def fact(name: str, value: str) -> Statement:
    """A single fact."""
    return replace_in("facts", {"name": name, "value": value})


def insert_run(run: Run) -> Statement:
    """A run, where it is not known yet."""
    return insert("runs", asdict(run), "INSERT OR IGNORE")


MOST = 1000  # segments that are read at once: who writes waits meanwhile
# Times that were read back from a playlist are cut to milliseconds: a neighbour is not in it for that.
IN_A_CLIP = """EXISTS (
    SELECT 1 FROM clips WHERE segments.time + 1000 < clips."end"
        AND segments.time + segments.duration - 1000 > clips."begin"
)"""
DELETE_AT = ":now + max(:availability, availability, :retention)"
SHARED = "EXISTS (SELECT 1 FROM segments AS other WHERE other.shared_key = segments.key)"
# What leaves its last view is to be deleted later. What an earlier process listed in a longer playlist stays
# readable for that one's time.
LEAVE = f"""
unlisted = :now, availability = max(availability, :availability),
    delete_at = iif(part IS NOT NULL OR {IN_A_CLIP} OR {SHARED}, NULL, {DELETE_AT})
"""
OF_RECORDING = "part IN (SELECT number FROM parts WHERE recording = :id)"
# A part lasts as long as its longest variant.
MEASURE = f"""
UPDATE recordings SET revision = revision + 1,
    size = (SELECT coalesce(sum(size), 0) FROM segments WHERE {OF_RECORDING}),
    duration = (
        SELECT coalesce(sum(longest), 0) FROM (
            SELECT max(total) AS longest FROM (
                SELECT part, sum(duration) AS total FROM segments WHERE {OF_RECORDING} GROUP BY part, variant
            ) GROUP BY part
        )
    )
WHERE id = :id
"""  # noqa: S608 - a constant
END = f"""
UPDATE recordings SET ended = (
    SELECT coalesce(max(time + duration), started) FROM segments WHERE {OF_RECORDING}
) WHERE id = :id
"""  # noqa: S608 - a constant
TITLE = "UPDATE recordings SET title = :title WHERE id = :id AND :title <> '' AND NOT titled"
KEEP = "UPDATE recordings SET keep_until = :now + :keep WHERE id = :id"  # by our clock, not the encoder's
# With what each has as one file, and the prefixes there have been, the newest last.
RECORDINGS = """
SELECT * FROM (SELECT recordings.*, files.key AS file_key, files.size AS file_size, files.type AS file_type,
    files.part_size AS file_part_size, files.etag AS file_etag,
    (SELECT value FROM facts WHERE name = 'prefixes') AS prefixes
FROM recordings LEFT JOIN files ON files.recording = recordings.id AND files.step = 'stored')
"""
# Times that are over are doubted for a while after a start: see ``Expiry``. What is deleted waits for a day,
# or not at all.
BIN_OVER = "(deleted = 0 OR deleted + :day <= :now AND deleted + :day > :doubted)"
KEEP_OVER = "(deleted IS NULL AND keep_until <= :now AND keep_until > :doubted)"
EXPIRED = f"{RECORDINGS} WHERE ended IS NOT NULL AND ({BIN_OVER} OR {KEEP_OVER})"
# Who takes it out of the bin has at least a day to decide for how long it is kept.
RESTORE = "deleted = NULL, keep_until = max(keep_until, :now + :day) WHERE id = :id AND deleted > 0"
# What was changed meanwhile, to be kept perhaps, is not removed.
UNCHANGED = "SELECT id FROM recordings WHERE id = :id AND revision = :revision"
OF_UNCHANGED = f"part IN (SELECT number FROM parts WHERE recording IN ({UNCHANGED}))"  # noqa: S608 - a constant
RELEASE = (
    f"""
    UPDATE segments SET part = NULL, unlisted = :now, availability = max(availability, :availability),
        delete_at = iif({IN_A_CLIP} OR {SHARED}, NULL, {DELETE_AT})
    WHERE {OF_UNCHANGED} AND key IS NOT NULL AND step = 'unlisted'
    """,  # noqa: S608 - a constant
    # What it shares with another recording goes when no other one has it any more.
    f"""
    UPDATE segments SET unlisted = :now, availability = max(availability, :availability),
        delete_at = {DELETE_AT}
    WHERE step = 'unlisted' AND part IS NULL AND delete_at IS NULL AND NOT {IN_A_CLIP}
        AND key IN (SELECT shared_key FROM segments WHERE {OF_UNCHANGED})
        AND NOT EXISTS (
            SELECT 1 FROM segments AS other WHERE other.shared_key = segments.key AND NOT other.{OF_UNCHANGED}
        )
    """,  # noqa: S608 - a constant
    f"DELETE FROM segments WHERE {OF_UNCHANGED} AND shared_key IS NOT NULL",  # noqa: S608 - a constant
    f"UPDATE segments SET part = NULL WHERE {OF_UNCHANGED}",  # noqa: S608 - what the window still lists
    f"DELETE FROM parts WHERE recording IN ({UNCHANGED})",  # noqa: S608 - a constant
    f"UPDATE files SET step = 'removed', deleted = NULL WHERE recording IN ({UNCHANGED})",  # noqa: S608 - a constant
    # One that is kept after all gets its playlists again, and its pictures: the bucket has none of it.
    "UPDATE recordings SET poster = 0, thumbnails = 0, pictured = 0 WHERE id = :id AND revision <> :revision",
    "DELETE FROM recordings WHERE id = :id AND revision = :revision",
)
SEGMENT = """
position, variant, ifnull(key, shared_key) AS key, map_key, duration, time, target_duration, discontinuity,
independent, fault, size, iframe_offset, iframe_length
"""
SEGMENTS = f"""
SELECT {SEGMENT} FROM segments WHERE part = :part AND variant = :variant AND position > :after
ORDER BY position LIMIT {MOST}
"""  # noqa: S608 - a constant
WANTED = """
SELECT EXISTS (SELECT 1 FROM segments WHERE key = :key AND step <> 'deleted')
    OR EXISTS (SELECT 1 FROM segments WHERE map_key = :key)
    OR EXISTS (SELECT 1 FROM segments WHERE shared_key = :key)
    OR EXISTS (SELECT 1 FROM files WHERE key = :key)
"""

UNLIST = f"""
UPDATE segments SET step = 'unlisted', {LEAVE}
WHERE step = 'listed' AND variant = :variant AND number < :below
"""  # noqa: S608 - a constant
UNLIST_GAPS = """
DELETE FROM segments WHERE step = 'listed' AND variant = :variant AND number < :below AND key IS NULL
"""
# What an earlier process left, by a clock that may have been another, waits for its availability once more.
DUE = """
SELECT key FROM segments WHERE step = 'unlisted' AND delete_at <= :now
    AND (unlisted >= :opened OR availability <= :here)
ORDER BY delete_at, position LIMIT :most
"""
# A map goes when all the segments that need it are gone.
DUE_MAPS = """
SELECT map_key FROM segments INDEXED BY deleted_maps
WHERE step = 'deleted' AND map_key IS NOT NULL GROUP BY map_key
HAVING max(delete_at) <= :now AND NOT EXISTS (
    SELECT 1 FROM segments AS other WHERE other.map_key = segments.map_key AND other.step <> 'deleted'
) LIMIT :most
"""
FORGET = """
DELETE FROM segments WHERE step = 'deleted' AND variant = :variant AND position <= (
    SELECT position FROM segments WHERE variant = :variant ORDER BY position DESC LIMIT 1 OFFSET :remembered
) AND (map_key IS NULL OR EXISTS (
    SELECT 1 FROM segments AS later
    WHERE later.map_key = segments.map_key AND later.position > segments.position
))
"""
# A recording that has ended knows how much it is.
STORED_BYTES = """
SELECT coalesce((SELECT sum(size) FROM recordings WHERE ended IS NOT NULL), 0) + coalesce((
    SELECT sum(size) FROM segments WHERE part IS NULL AND size > 0 AND step <> 'deleted'), 0) + coalesce((
    SELECT sum(size) FROM segments WHERE size > 0 AND step <> 'deleted' AND part IN (
        SELECT number FROM recordings JOIN parts ON recording = id WHERE ended IS NULL)), 0)
    + coalesce((SELECT sum(size) FROM files WHERE step = 'stored' OR deleted IS NOT NULL), 0)
    + coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'kept_bytes'), 0)
"""
