"""Takes recordings and clips back into the book, as the bucket has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from broadcaster.catalog import Catalog
from broadcaster.catalog.files import FileStep
from broadcaster.catalog.records import Step
from broadcaster.catalog.rows import (
    Row,
    Statement,
    described_row,
    iframe_row,
    insert,
    optional_microseconds,
    to_microseconds,
)
from broadcaster.catalog.views import Clip, Part, Recorded, Recording
from broadcaster.catalog.writer import Transaction

SIZE = "UPDATE segments SET size = :size WHERE key = :key AND fault IS NULL AND size = 0"


async def restore_recording(
    catalog: Catalog, recording: Recording, parts: Sequence[tuple[Part, Sequence[Recorded]]]
) -> bool:
    """Take it in as a whole, unless it is known: what it has is in the bucket, and is to be deleted no more.

    Returns whether it was taken in; raises CatalogError, and ValueError where it makes no sense.
    """
    row: Row = asdict(recording) | {
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
        statements.append(insert("files", {**kept, "recording": recording.id, "step": FileStep.STORED}))
    for part, segments in parts:
        number = catalog.recordings.next_part()
        row = {"number": number, "recording": recording.id, **described_row(part.described)}
        statements.append(insert("parts", row))
        statements += (_segment(one, number) for one in segments)
    catalog.recordings.note(recording.id)
    return await _take_in(catalog, recording.id, statements)


async def restore_clip(catalog: Catalog, clip: Clip, segments: Sequence[Recorded]) -> bool:
    """The same of a clip."""
    row: Row = {
        "id": clip.id,
        "title": clip.title,
        "made": to_microseconds(clip.made),
        "begin": to_microseconds(clip.begin),
        "end": to_microseconds(clip.end),
        **described_row(clip.described),
        "viewer": clip.viewer,
        "removed": 0,
        "written": 0,
        "poster": clip.poster,
        "pictured": clip.pictured,
    }
    statements = [insert("clips", row), *(_segment(one, None) for one in segments)]
    return await _take_in(catalog, clip.id, statements)


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


async def _take_in(catalog: Catalog, name: str, statements: Sequence[Statement]) -> bool:
    def question() -> bool:
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


def _segment(one: Recorded, part: int | None) -> Statement:
    row: Row = asdict(one) | {
        "step": Step.UNLISTED,
        "duration": to_microseconds(one.duration),
        "time": to_microseconds(one.time),
        "fault": "is a gap" if one.gap else None,
        "part": part,
        **iframe_row(one.iframe),
    }
    del row["position"], row["gap"], row["iframe"]
    # The catalog may know it already: then it was for something else that it was known.
    known = "ON CONFLICT (key) DO UPDATE SET part = ifnull(excluded.part, part), delete_at = NULL"
    return insert("segments", row, conflict=known)
