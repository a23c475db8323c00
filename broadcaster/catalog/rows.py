"""Converts records to rows and back, and holds the SQL statements of the catalog. Times are microseconds."""

from __future__ import annotations

import json
import posixpath
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broadcaster.catalog.records import (
    Clip,
    MultipartUpload,
    Numbers,
    Part,
    PlaylistState,
    Recording,
    RecordingSegment,
    Run,
    Segment,
    SegmentStep,
    SourceFile,
    StoredFile,
    Visibility,
    new_secret,
)
from broadcaster.hls import ByteRange, MediaSegment, MultivariantPlaylist, Rendition, Variant
from broadcaster.hls.media_playlist import SHORTEST
from broadcaster.hls.parser import MAX_FRAME_RATE

Row = dict[str, Any]
Statement = tuple[str, Row]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# Fields with the same name and value in a record and in its row.
PLAIN = (
    *("key", "map_key", "variant", "sequence", "uri", "name", "target_duration"),
    *("fault", "url", "map_url", "size", "sha256"),
)
FILES = (("file", "", "file_size"), ("map_file", "map_", "map_size"))  # a field, and how its columns begin
TIMES = ("noticed", "program_date_time", "uploaded")


def to_microseconds(time: datetime | timedelta) -> int:
    """The column of a time or a duration."""
    return ((time - EPOCH) if isinstance(time, datetime) else time) // MICROSECOND


def optional_microseconds(time: datetime | None) -> int | None:
    """The column of an optional time."""
    return None if time is None else to_microseconds(time)


def time_of(microseconds: int) -> datetime:
    """The time of a column."""
    return EPOCH + microseconds * MICROSECOND


def duration_of(microseconds: int) -> timedelta:
    """The duration of a column. Earlier versions wrote zero, by which no bandwidth can be computed."""
    return max(microseconds * MICROSECOND, SHORTEST)


def optional_time(microseconds: int | None) -> datetime | None:
    """The time of an optional column."""
    return None if microseconds is None else time_of(microseconds)


def segment_row(segment: Segment, step: SegmentStep) -> Row:
    """The columns of a segment, without those of its playlist entry."""
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
    """A segment that is not listed yet; raises LookupError or TypeError for an invalid row."""
    plain: dict[str, Any] = {name: row[name] for name in PLAIN} | {
        name: optional_time(row[name]) for name in TIMES
    }
    for name, prefix, size in FILES:
        known, path = row[f"{prefix}name"], row[f"{prefix}path"]
        rest = (row[size], row[f"{prefix}modified_ns"], row[f"{prefix}inode"])
        plain[name] = SourceFile(known, Path(path), *rest) if known and path else None
    duration, independent = duration_of(row["duration"]), bool(row["independent"])
    plain["iframe"] = iframe_of(row)
    plain["target_duration"] = max(plain["target_duration"], 1)
    return Segment(**plain, run=runs[row["run"]], duration=duration, independent=independent)


def iframe_row(iframe: ByteRange | None) -> Row:
    """The columns of a segment's key frame."""
    return {"iframe_offset": iframe and iframe.offset, "iframe_length": iframe and iframe.length}


def iframe_of(row: sqlite3.Row) -> ByteRange | None:
    """The key frame of a segment, if known."""
    length, offset = row["iframe_length"], row["iframe_offset"]
    return None if length is None or offset is None else ByteRange(length, offset)


def listed_row(number: int, segment: MediaSegment, discontinuity: int) -> Row:
    """The columns of a playlist entry. EXT-X-DISCONTINUITY follows from the numbers (§6.2.4)."""
    return {
        "step": SegmentStep.LISTED,
        "number": number,
        "discontinuity": discontinuity,
        "time": optional_microseconds(segment.program_date_time),
        "duration": to_microseconds(segment.duration),
        "url": segment.uri,
        "map_url": segment.map_uri,
    }


def listed_segment(row: sqlite3.Row, discontinuity_before: int) -> MediaSegment:
    """A playlist entry, after an entry with this discontinuity number."""
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
    """The row of a playlist."""
    return asdict(state) | {"end": optional_microseconds(state.end)}


def playlist_of(row: sqlite3.Row) -> PlaylistState:
    """The playlist of a row."""
    values = {field.name: row[field.name] for field in fields(PlaylistState)}
    values["target_duration"] = max(values["target_duration"], 1)
    values |= {"current": bool(row["current"]), "ended": bool(row["ended"]), "end": optional_time(row["end"])}
    return PlaylistState(**values)


def described_row(described: MultivariantPlaylist) -> dict[str, str]:
    """The source's variants and renditions, as JSON."""
    return {"variants": _as_json(described.variants), "renditions": _as_json(described.renditions)}


NEWER = {"video_range", "supplemental_codecs", "closed_captions", "instream_id"}


def _as_json(described: Sequence[Variant | Rendition]) -> str:
    # An older version cannot read these attributes.
    rows = [asdict(tag) for tag in described]
    return json.dumps([{name: row[name] for name in row if name not in NEWER or row[name]} for row in rows])


NOT_DESCRIBED = described_row(MultivariantPlaylist())


def described_of(row: sqlite3.Row | Mapping[str, Any]) -> MultivariantPlaylist:
    """The source's variants and renditions."""
    variants = [_known_fields(Variant, values) for values in json.loads(row["variants"])]
    for variant in variants:
        resolution, rate = variant.get("resolution"), variant.get("frame_rate")
        variant["resolution"] = tuple(resolution) if resolution else None
        variant["frame_rate"] = rate if rate and 0 < rate <= MAX_FRAME_RATE else None
    renditions = tuple(
        Rendition(**_known_fields(Rendition, values)) for values in json.loads(row["renditions"])
    )
    return MultivariantPlaylist(tuple(Variant(**values) for values in variants), renditions=renditions)


def _known_fields(kind: type[Variant | Rendition], values: dict[str, Any]) -> dict[str, Any]:
    """Without fields that only a newer version knows."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def new_recording(name: str, started: datetime) -> Row:
    """The row of a recording that begins."""
    row: Row = {"id": name, "started": to_microseconds(started), "secret": new_secret()}
    row |= {"title": "", "titled": False, "visibility": Visibility.LISTED}
    return row | {"duration": 0, "size": 0, "revision": 1, "written": 0}


def _fields(row: sqlite3.Row | Row, plain: str, *, times: str = "", flags: str = "") -> dict[str, Any]:
    """Fields with the names of their columns: as they are, optional times, and flags."""
    return {
        **{name: row[name] for name in plain.split()},
        **{name: optional_time(row[name]) for name in times.split()},
        **{name: bool(row[name]) for name in flags.split()},
    }


def recording_of(row: sqlite3.Row) -> Recording:
    """The recording of a row of RECORDINGS, by the order of its columns: by their names it takes longer."""
    name, title, visibility, secret, started, ended, keep_until, duration, size, revision, *others = row
    poster, thumbnails, pictured, opened, deleted, in_bin, prefixes, *file = others
    return Recording(
        id=name,
        title=title,
        visibility=Visibility(visibility),
        secret=secret,
        started=time_of(started),
        ended=optional_time(ended),
        keep_until=optional_time(keep_until),
        duration=duration * MICROSECOND,
        size=size,
        revision=revision,
        file=_file_of(prefixes, file) if file[0] else None,
        poster=bool(poster),
        thumbnails=bool(thumbnails),
        pictured=bool(pictured),
        opened=bool(opened),
        deleted=optional_time(deleted),
        bin=in_bin,
    )


def _file_of(prefixes: str | None, columns: list[Any]) -> StoredFile:
    """The file of a recording. Recordings are below the newest prefix."""
    key, *described = columns
    prefix = (prefixes or key.partition("/files/")[0]).split()[-1]
    return StoredFile(key, posixpath.relpath(key, f"{prefix}/recordings"), *described)


def upload_of(row: sqlite3.Row) -> MultipartUpload:
    """The upload of a row."""
    return MultipartUpload(**_fields(row, "key recording size type upload part_size", times="begun deleted"))


def part_of(row: sqlite3.Row) -> Part:
    """The part of a row."""
    return Part(row["number"], row["recording"], described_of(row))


def clip_of(row: sqlite3.Row | Row) -> Clip:
    """The clip of a row."""
    times, flags = "made begin end keep_until deleted", "viewer poster pictured"
    return Clip(**_fields(row, "id title bin", times=times, flags=flags), described=described_of(row))


def recording_segment_of(row: sqlite3.Row) -> RecordingSegment:
    """The segment of a row with the columns of SEGMENT."""
    return RecordingSegment(
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


def recording_segment_row(segment: RecordingSegment, part: int | None) -> Row:
    """The columns of a segment that is restored from the bucket."""
    plain = "variant key map_key target_duration discontinuity independent size"
    return {name: getattr(segment, name) for name in plain.split()} | {
        "step": SegmentStep.UNLISTED,
        "duration": to_microseconds(segment.duration),
        "time": to_microseconds(segment.time),
        "fault": "is a gap" if segment.gap else None,
        "part": part,
        **iframe_row(segment.iframe),
    }


def insert(table: str, row: Row, verb: str = "INSERT", conflict: str = "") -> Statement:
    """The statement for a new row; ``conflict`` is its ON CONFLICT clause."""
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join(f":{name}" for name in row)
    return f"{verb} INTO {table} ({names}) VALUES ({places}) {conflict}", row


def save(row: Row) -> Statement:
    """The statement for a new or changed segment."""
    updates = ", ".join(f"{name} = excluded.{name}" for name in row)
    return insert("segments", row, conflict=f"ON CONFLICT (key) DO UPDATE SET {updates}")


def replace_in(table: str, row: Row) -> Statement:
    """The statement for a row that replaces the row with the same key."""
    return insert(table, row, "INSERT OR REPLACE")


def numbers_of(value: str | None) -> Numbers:
    """The numbers of a fact."""
    sequence, discontinuity = map(int, value.split()) if value else (1, -1)
    return Numbers(sequence, discontinuity)


def fact(name: str, value: str) -> Statement:
    """The statement for a value of the table ``facts``."""
    return replace_in("facts", {"name": name, "value": value})


def insert_run(run: Run) -> Statement:
    """The statement for a run, which does nothing if the run is known."""
    return insert("runs", asdict(run), "INSERT OR IGNORE")


MOST = 1000  # segments of one query: writes wait meanwhile
# Times that were restored from a playlist are cut to milliseconds: that does not add a neighbour to a clip.
IN_A_CLIP = """EXISTS (
    SELECT 1 FROM clips WHERE segments.time + 1000 < clips."end"
        AND segments.time + segments.duration - 1000 > clips."begin"
)"""
DELETE_AT = ":now + max(:availability, availability, :retention)"
SHARED = "EXISTS (SELECT 1 FROM segments AS other WHERE other.shared_key = segments.key)"
# A segment that leaves its last view is deleted later, and if an earlier process listed it in a longer
# playlist, after the duration of that playlist.
LEAVE = f"""
unlisted = :now, availability = max(availability, :availability),
    delete_at = iif(part IS NOT NULL OR {IN_A_CLIP} OR {SHARED}, NULL, {DELETE_AT})
"""
OF_RECORDING = "part IN (SELECT number FROM parts WHERE recording = :id)"
# A part lasts as long as its longest variant.
# Have recordings and clips written into the bucket again.
RECORDING_AGAIN, CLIP_AGAIN = "UPDATE recordings SET revision = revision + 1", "UPDATE clips SET written = 0"
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
KEEP = "UPDATE recordings SET keep_until = :now + :keep WHERE id = :id"  # by the clock of the service
# With the file of each recording, and all prefixes, the newest last.
RECORDINGS = """
SELECT id, title, visibility, secret, started, ended, keep_until, duration, size, revision,
    poster, thumbnails, pictured, opened, deleted, bin,
    prefixes, file_key, file_size, file_type, file_part_size, file_etag
FROM (SELECT recordings.*, files.key AS file_key, files.size AS file_size, files.type AS file_type,
    files.part_size AS file_part_size, files.etag AS file_etag,
    (SELECT value FROM facts WHERE name = 'prefixes') AS prefixes
FROM recordings LEFT JOIN files ON files.recording = recordings.id AND files.step = 'stored')
"""
# For some time after a start, a time that has passed does not count: see ``RetentionPolicy``. ``deleted`` is
# 0 for what does not stay in the bin for a day.
BIN_OVER = "(deleted = 0 OR deleted + :day <= :now AND deleted + :day > :doubted)"
KEEP_OVER = "(deleted IS NULL AND keep_until <= :now AND keep_until > :doubted)"
EXPIRED = f"{BIN_OVER} OR {KEEP_OVER}"
DELETE, DELETABLE = "deleted = :at, bin = :bin", "(:at = 0 OR deleted IS NULL)"
# A restored recording or clip is kept for at least a day, in which the operator can change that.
RESTORE = "deleted = NULL, keep_until = max(keep_until, :now + :day)"
# A recording that was changed meanwhile is not removed: the operator may want to keep it.
UNCHANGED = "SELECT id FROM recordings WHERE id = :id AND revision = :revision"
OF_UNCHANGED = f"part IN (SELECT number FROM parts WHERE recording IN ({UNCHANGED}))"  # noqa: S608 - a constant
RELEASE = (
    f"""
    UPDATE segments SET part = NULL, unlisted = :now, availability = max(availability, :availability),
        delete_at = iif({IN_A_CLIP} OR {SHARED}, NULL, {DELETE_AT})
    WHERE {OF_UNCHANGED} AND key IS NOT NULL AND step = 'unlisted'
    """,  # noqa: S608 - a constant
    # An object that it shares with other recordings is deleted with the last of them.
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
    f"UPDATE segments SET part = NULL WHERE {OF_UNCHANGED}",  # noqa: S608 - segments in the window
    f"DELETE FROM parts WHERE recording IN ({UNCHANGED})",  # noqa: S608 - a constant
    f"UPDATE files SET step = 'removed', deleted = NULL WHERE recording IN ({UNCHANGED})",  # noqa: S608 - a constant
    # A recording that was changed meanwhile is written again: the bucket has nothing of it.
    "UPDATE recordings SET poster = 0, thumbnails = 0, pictured = 0 WHERE id = :id AND revision <> :revision",
    "DELETE FROM recordings WHERE id = :id AND revision = :revision",
)
# Another broadcaster has changed them meanwhile: what is to be deleted is no longer decided here.
FORGET_RECORDING = (
    f"""
    UPDATE segments SET part = NULL
    WHERE {OF_RECORDING} AND key IS NOT NULL AND (step <> 'unlisted' OR {IN_A_CLIP} OR {SHARED})
    """,  # noqa: S608 - a constant
    f"DELETE FROM segments WHERE {OF_RECORDING}",  # noqa: S608 - a constant
    "DELETE FROM parts WHERE recording = :id",
    "DELETE FROM files WHERE recording = :id AND step <> 'uploading'",
    "DELETE FROM recordings WHERE id = :id",
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
SELECT EXISTS (SELECT 1 FROM segments WHERE key = keys.value AND step <> 'deleted')
    OR EXISTS (SELECT 1 FROM segments WHERE map_key = keys.value)
    OR EXISTS (SELECT 1 FROM segments WHERE shared_key = keys.value)
    OR EXISTS (SELECT 1 FROM files WHERE key = keys.value)
"""

UNLIST = f"""
UPDATE segments SET step = 'unlisted', {LEAVE}
WHERE step = 'listed' AND variant = :variant AND number < :below
"""  # noqa: S608 - a constant
UNLIST_GAPS = """
DELETE FROM segments WHERE step = 'listed' AND variant = :variant AND number < :below AND key IS NULL
"""
# Of an earlier process: what had been uploaded is deleted.
GIVE_UP = """
UPDATE segments SET step = iif(step = 'stored', 'unlisted', 'deleted'), unlisted = :now, delete_at = :now
WHERE step IN ('noticed', 'stored', 'lost')
"""
# The clock of an earlier process may have been wrong: its segments wait for their availability again.
DUE = """
SELECT key FROM segments WHERE step = 'unlisted' AND delete_at <= :now
    AND (unlisted >= :opened OR availability <= :here)
ORDER BY delete_at, position LIMIT :most
"""
# A map is deleted after all segments that need it.
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
# The size of an ended recording is in its row.
STORED_BYTES = """
SELECT coalesce((SELECT sum(size) FROM recordings WHERE ended IS NOT NULL), 0) + coalesce((
    SELECT sum(size) FROM segments WHERE part IS NULL AND size > 0 AND step <> 'deleted'), 0) + coalesce((
    SELECT sum(size) FROM segments WHERE size > 0 AND step <> 'deleted' AND part IN (
        SELECT number FROM recordings JOIN parts ON recording = id WHERE ended IS NULL)), 0)
    + coalesce((SELECT sum(size) FROM files WHERE step = 'stored' OR deleted IS NOT NULL), 0)
    + coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'kept_bytes'), 0)
"""
DESCRIBE = "UPDATE parts SET variants = :variants, renditions = :renditions WHERE number = :number"
# The object of a restored segment may belong to another recording already. That row stays, and its object is
# not deleted; the new row shares the object.
KNOWN = "EXISTS (SELECT 1 FROM segments WHERE key = :key)"
STAY = """
UPDATE segments SET delete_at = NULL WHERE key = :key AND step = 'unlisted' AND delete_at IS NOT NULL
"""
# What came since the takeover gets higher positions than what was read meanwhile: the parts from the first of
# the sequel on, and what is not listed yet.
COME_LATER = """
WITH later (place) AS (
    SELECT position FROM segments WHERE part >= :next
    UNION SELECT position FROM segments WHERE step IN ('noticed', 'stored', 'lost')
)
UPDATE segments
SET position = position + 1 + (SELECT max(position) FROM segments) - (SELECT min(place) FROM later)
WHERE position IN (SELECT place FROM later)
"""
GO_ON_IN_PART = (
    "UPDATE segments SET part = :last WHERE part = :next",
    "DELETE FROM parts WHERE number = :next",
)
# The operator may have changed it meanwhile.
JOIN = (
    "UPDATE parts SET recording = :id WHERE recording = :sequel",
    """
    UPDATE recordings SET ended = sequel.ended, opened = max(recordings.opened, sequel.opened),
        titled = max(recordings.titled, sequel.titled),
        title = iif(sequel.titled, sequel.title, recordings.title),
        visibility = iif(sequel.visibility = 'listed', recordings.visibility, sequel.visibility),
        secret = iif(sequel.visibility = 'listed', recordings.secret, sequel.secret),
        keep_until = iif(sequel.ended IS NULL, recordings.keep_until, sequel.keep_until)
    FROM recordings AS sequel WHERE sequel.id = :sequel AND recordings.id = :id
    """,
    "UPDATE files SET recording = :id WHERE recording = :sequel",
    "DELETE FROM recordings WHERE id = :sequel",
)
# An object that is a segment of one recording and the map of another would be deleted with either.
IS_MAP, IS_SEGMENT = "SELECT EXISTS (SELECT 1 FROM segments WHERE map_key = :key)", f"SELECT {KNOWN}"


def shared_segment(segment: RecordingSegment, part: int) -> Statement:
    """The statement for a segment of a part that was restored."""
    row = recording_segment_row(segment, part)
    names = ", ".join(name for name in row if name != "key")
    places = ", ".join(f":{name}" for name in row if name != "key")
    statement = f"""
    INSERT INTO segments ({names}, key, shared_key)
    SELECT {places}, iif(known, NULL, :key), iif(known, :key, NULL) FROM (SELECT {KNOWN} AS known)
    """  # noqa: S608 - names
    return statement, row
