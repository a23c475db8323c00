"""Restores recordings and clips in the catalog from their copies in the bucket."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from broadcaster.catalog import Catalog
from broadcaster.catalog.files import FileStep
from broadcaster.catalog.records import Step
from broadcaster.catalog.references import Clip, Part, Recorded, Recording
from broadcaster.catalog.rows import (
    Row,
    Statement,
    described_row,
    iframe_row,
    insert,
    optional_microseconds,
    to_microseconds,
)
from broadcaster.catalog.writer import Transaction

SIZE = """
UPDATE segments SET size = :size WHERE (key = :key OR shared_key = :key) AND fault IS NULL AND size = 0
"""
# What is known already belongs to another one, and stays as it is: a row of our own shares its object. Only a
# time at which it would have gone is taken from it.
KNOWN = "EXISTS (SELECT 1 FROM segments WHERE key = :key)"
OF_NEW = "(SELECT number FROM parts WHERE recording = :id)"
STAY = f"""
UPDATE segments SET delete_at = NULL WHERE step = 'unlisted' AND delete_at IS NOT NULL
    AND key IN (SELECT shared_key FROM segments WHERE part IN {OF_NEW})
"""  # noqa: S608 - a constant
# What another clip's time has is kept by that clip; no other time is changed.
STAY_FOR_CLIP = """
ON CONFLICT (key) DO UPDATE SET delete_at = NULL
    WHERE step = 'unlisted' AND time + duration > :begin AND time < :end
"""
# An object that is a segment of one and the map of another would be deleted with either.
CONFUSED = "SELECT EXISTS (SELECT 1 FROM segments WHERE map_key = :key)", "SELECT " + KNOWN


async def restore_recording(
    catalog: Catalog, recording: Recording, parts: Sequence[tuple[Part, Sequence[Recorded]]]
) -> bool:
    """Take it in as a whole, unless it is known: what it has is in the bucket, and is to be deleted no more.

    Returns whether it was taken in; raises CatalogError, and ValueError where it makes no sense.
    """
    row: Row = asdict(recording) | {
        "deleted": optional_microseconds(recording.deleted),
        "titled": bool(recording.title),
        "started": to_microseconds(recording.started),
        "ended": optional_microseconds(recording.ended),
        "keep_until": optional_microseconds(recording.keep_until),
        "duration": to_microseconds(recording.duration),
        "written": 0,
    }
    del row["file"]
    statements = [insert("recordings", row)]
    if file := recording.file:
        kept = {"key": file.key, "size": file.size, "type": file.type, "begun": row["started"]}
        row = {**kept, "recording": recording.id, "step": FileStep.STORED}
        statements.append(insert("files", row, "INSERT OR IGNORE"))
    for part, segments in parts:
        number = catalog.recordings.next_part()
        row = {"number": number, "recording": recording.id, **described_row(part.described)}
        statements.append(insert("parts", row))
        statements += (_segment(one, number) for one in segments)
    statements.append((STAY, {"id": recording.id}))
    catalog.recordings.note(recording.id)
    every = [one for _, segments in parts for one in segments]
    return await _take_in(catalog, recording.id, statements, every)


async def restore_clip(
    catalog: Catalog, clip: Clip, segments: Sequence[Recorded], *, is_older: bool = False
) -> bool:
    """The same of a clip; an ``older`` version has not written down when this one of a viewer goes."""
    row: Row = {
        "id": clip.id,
        "title": clip.title,
        "made": to_microseconds(clip.made),
        "begin": to_microseconds(clip.begin),
        "end": to_microseconds(clip.end),
        **described_row(clip.described),
        "viewer": clip.viewer,
        "written": 0,
        "poster": clip.poster,
        "pictured": clip.pictured,
        "keep_until": -1 if is_older else optional_microseconds(clip.keep_until),
        "deleted": optional_microseconds(clip.deleted),
        "bin": clip.bin,
    }
    statements = [insert("clips", row), *(_segment_of_clip(one, row) for one in segments)]
    is_new = await _take_in(catalog, clip.id, statements, segments)
    await catalog.clips.settle_expiry()
    return is_new


def note_sizes(catalog: Catalog, objects: Iterable[tuple[str, int]]) -> Transaction:
    """How large the objects of segments are that were taken in, in bytes."""
    return catalog.write(*((SIZE, {"key": key, "size": size}) for key, size in objects))


def write_anew(catalog: Catalog, names: Iterable[str]) -> Transaction:
    """The bucket has to be told of these recordings and clips: it may have been while no size was known."""
    statements = (
        "UPDATE recordings SET revision = revision + 1 WHERE id = :id",
        "UPDATE clips SET written = 0 WHERE id = :id",
    )
    return catalog.write(*((one, {"id": name}) for name in names for one in statements))


async def _take_in(
    catalog: Catalog, name: str, statements: Sequence[Statement], segments: Sequence[Recorded]
) -> bool:
    keys, maps = {one.key for one in segments}, {one.map_key for one in segments if one.map_key}

    def question() -> bool:
        for key, query in [*((key, CONFUSED[0]) for key in keys), *((key, CONFUSED[1]) for key in maps)]:
            if key in keys & maps or catalog.find(query, {"key": key}):
                raise ValueError(f"{key} is a segment and an EXT-X-MAP at once")
        try:
            catalog.transact(statements)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
                return False  # it was made meanwhile, or brought back by another one
            raise ValueError(f"{name}: {error}") from None
        except OverflowError as error:
            raise ValueError(f"{name}: {error}") from None
        return True

    return await catalog.read(question)


def _row(one: Recorded, part: int | None) -> Row:
    row: Row = asdict(one) | {
        "step": Step.UNLISTED,
        "duration": to_microseconds(one.duration),
        "time": to_microseconds(one.time),
        "fault": "is a gap" if one.gap else None,
        "part": part,
        **iframe_row(one.iframe),
    }
    del row["position"], row["gap"], row["iframe"]
    return row


def _segment(one: Recorded, part: int) -> Statement:
    row = _row(one, part)
    names = ", ".join(name for name in row if name != "key")
    places = ", ".join(f":{name}" for name in row if name != "key")
    statement = f"""
    INSERT INTO segments ({names}, key, shared_key)
    SELECT {places}, iif(known, NULL, :key), iif(known, :key, NULL) FROM (SELECT {KNOWN} AS known)
    """  # noqa: S608 - names
    return statement, row


def _segment_of_clip(one: Recorded, clip: Row) -> Statement:
    row = _row(one, None)
    statement, _ = insert("segments", row, conflict=STAY_FOR_CLIP)
    return statement, {**row, "begin": clip["begin"], "end": clip["end"]}
