"""Clips: time ranges whose segments are kept independently of the live window and of recordings."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from broadcaster.catalog import rows
from broadcaster.catalog.recordings import RetentionPolicy, ViewTable, check
from broadcaster.catalog.records import (
    Clip,
    RecordingSegment,
    ViewerClipLimits,
    complete_variants,
    free_id,
)
from broadcaster.catalog.writer import Transaction, TransactionWriter
from broadcaster.errors import NotPossible, TooMany

LONGEST = 600_000_000  # microseconds, of a segment
IN_RANGE = f"time > :begin - {LONGEST} AND time < :end - 1000 AND time + duration - 1000 > :begin"
# Positions of restored segments are those of the clip that was restored first.
IN_ORDER = "ORDER BY time, position"
# The deletion of a segment that is due may have begun: it cannot be kept any more.
KEEP = f"""
UPDATE segments SET delete_at = NULL WHERE {IN_RANGE} AND step = 'unlisted' AND delete_at > :now
"""  # noqa: S608 - a constant
AVAILABLE = f"""
SELECT {rows.SEGMENT}, step, part, unlisted FROM segments WHERE {IN_RANGE} AND key IS NOT NULL
    AND (step = 'listed' OR step = 'unlisted' AND (delete_at IS NULL OR delete_at > :now))
{IN_ORDER}
"""  # noqa: S608 - a constant
# A viewer may make clips of listed recordings and of the window. A segment that left the window less than a
# minute ago may have been on the viewer's screen.
MOMENT = 60_000_000  # microseconds
ON = "SELECT number FROM parts JOIN recordings ON recording = id WHERE ended IS NULL"
PUBLIC = """
SELECT number FROM parts JOIN recordings ON recording = id
WHERE visibility = 'listed' AND deleted IS NULL AND (keep_until IS NULL OR keep_until > :now)
"""
AVAILABLE_TO_VIEWERS = f"""
SELECT * FROM ({AVAILABLE}) WHERE step = 'listed' OR part IN ({PUBLIC})
    OR unlisted > :now - {MOMENT} AND part IN ({ON}) {IN_ORDER}
"""  # noqa: S608 - a constant
SEGMENTS = f"""
SELECT {rows.SEGMENT} FROM segments
WHERE {IN_RANGE} AND key IS NOT NULL AND (time, position) > (:time, :after)
    AND (step = 'listed' OR step = 'unlisted' AND delete_at IS NULL)
{IN_ORDER} LIMIT {rows.MOST}
"""  # noqa: S608 - a constant
NEWEST_PART = f"""
SELECT variants, renditions FROM parts WHERE number = (SELECT max(part) FROM segments WHERE {IN_RANGE})
"""  # noqa: S608 - a constant
RELEASE = f"""
UPDATE segments SET delete_at = iif({rows.IN_A_CLIP} OR {rows.SHARED}, NULL, {rows.DELETE_AT})
WHERE {IN_RANGE} AND step = 'unlisted' AND part IS NULL AND delete_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM clips WHERE id = :id)
"""  # noqa: S608 - a constant
# Streams are counted as they were recorded.
OF_VIEWERS = """
SELECT count(*) AS in_all, count(*) FILTER (WHERE made > :now - :day) AS of_a_day, count(*) FILTER (WHERE
    "end" > (SELECT coalesce(max(started), 0) FROM recordings WHERE started < :end)
    AND "begin" < (SELECT coalesce(min(started), :end) FROM recordings WHERE started >= :end)
) AS of_a_stream FROM clips WHERE viewer AND deleted IS NULL
"""
DAY = rows.to_microseconds(timedelta(days=1))
FULL = {
    "of_a_stream": "viewers have made as many clips of this stream as they may",
    "of_a_day": "viewers have made as many clips today as they may",
    "in_all": "there are as many clips of viewers as there may be",
}
FORGET = (
    "DELETE FROM clips WHERE id = :id",
    f"""
    DELETE FROM segments WHERE {IN_RANGE} AND step = 'unlisted' AND part IS NULL AND delete_at IS NULL
        AND :retention IS NOT NULL AND NOT {rows.IN_A_CLIP} AND NOT {rows.SHARED}
    """,  # noqa: S608 - a constant
)
# A known segment that this clip needs is kept; the times of other segments stay.
STAY = """
ON CONFLICT (key) DO UPDATE SET delete_at = NULL
    WHERE step = 'unlisted' AND time + duration > :begin AND time < :end
"""


class ClipTable(ViewTable[Clip]):
    """The clips of the catalog. Clips of viewers are kept for as long as recordings."""

    _rows = "SELECT * FROM clips"
    _record = staticmethod(rows.clip_of)
    _newest = "made DESC, id"
    _complete = "true"
    _change = rows.CLIP_AGAIN
    _was_written = "written"

    def __init__(self, writer: TransactionWriter, policy: RetentionPolicy) -> None:
        super().__init__(writer, policy)
        self._keep = policy.keep or None
        self._write_expiry()

    async def make(
        self, title: str, begin: datetime, end: datetime, viewers: ViewerClipLimits | None = None
    ) -> Clip:
        """Make a clip of the time as viewers saw it; ``viewers`` are the limits for a viewer's clip.

        Raises NotPossible when some of it is not there any more, or not yet; TooMany past the limits.
        """
        return await self._writer.read(lambda: self._make(title, begin, end, viewers))

    async def unwritten(self) -> list[Clip]:
        """The clips, also in the bin, that have changed since they were written."""
        return await self._where("NOT written AND deleted IS NOT 0")

    async def segments(self, clip: Clip) -> list[RecordingSegment]:
        """All segments of the clip, in order."""
        found: list[RecordingSegment] = []
        values = {"begin": rows.to_microseconds(clip.begin), "end": rows.to_microseconds(clip.end)}
        values |= {"time": values["begin"] - LONGEST, "after": 0}
        while more := await self._writer.select(SEGMENTS, values, rows.recording_segment_of):
            found += more
            values |= {"time": rows.to_microseconds(found[-1].time), "after": found[-1].position}
        return found

    def written(self, clip: Clip) -> Transaction:
        """Note that the clip is in the bucket in this state."""
        update = "UPDATE clips SET written = 1 WHERE id = :id AND title = :title AND poster = :poster"
        values: rows.Row = {"id": clip.id, "title": clip.title, "poster": clip.poster}
        values["deleted"] = rows.optional_microseconds(clip.deleted)
        return self._writer.write((f"{update} AND deleted IS :deleted", values))

    def rename(self, clip: str, title: str) -> Transaction:
        """Give the clip another title."""
        return self._update(clip, "title = :title", {"title": title})

    def pictured(self, clip: str, *, poster: bool) -> Transaction:
        """Note that its poster is in the bucket, or cannot be made."""
        return self._update(clip, "pictured = 1, poster = :poster", {"poster": poster})

    def release(self, clip: Clip) -> Transaction:
        """Remove it; segments without another reference are deleted when players are done (§6.2.2).

        A clip that was restored meanwhile is written again, because the bucket has nothing of it.
        """
        values: rows.Row = {
            "id": clip.id,
            "begin": rows.to_microseconds(clip.begin),
            "end": rows.to_microseconds(clip.end),
            "now": self._policy.now,
            "availability": rows.to_microseconds(clip.end - clip.begin),
            "retention": self._policy.retention,
        }
        values |= {
            name: rows.optional_microseconds(getattr(clip, name)) for name in ("deleted", "keep_until")
        }
        over = "DELETE FROM clips WHERE id = :id AND deleted IS :deleted AND keep_until IS :keep_until"
        again = "UPDATE clips SET written = 0, poster = 0, pictured = 0 WHERE id = :id"
        return self._writer.write((over, values), (again, values), (RELEASE, values))

    def forget(self, view: Clip) -> list[rows.Statement]:
        """Statements that remove it, and delete nothing in the bucket."""
        values: rows.Row = {"id": view.id, "retention": self._policy.retention}
        values |= {"begin": rows.to_microseconds(view.begin), "end": rows.to_microseconds(view.end)}
        return [(statement, values) for statement in FORGET]

    async def take_in(
        self,
        clip: Clip,
        segments: Sequence[RecordingSegment],
        *,
        is_older: bool = False,
        instead: bool = False,
        is_written: bool = False,
    ) -> bool:
        """Insert a clip that was found in the bucket, and keep its segments; False if it is known.

        ``is_older`` is for a viewer's clip of an older version, which has no ``keep_until``. With
        ``instead``, it replaces the known one. ``is_written``: the bucket has it in this state. Raises
        CatalogError, and ValueError for contradictory data.
        """
        row: rows.Row = {
            **{name: getattr(clip, name) for name in ("id", "title", "viewer", "poster", "pictured", "bin")},
            **{name: rows.to_microseconds(getattr(clip, name)) for name in ("made", "begin", "end")},
            **rows.described_row(clip.described),
            "written": is_written,
            "keep_until": -1 if is_older else rows.optional_microseconds(clip.keep_until),
            "deleted": rows.optional_microseconds(clip.deleted),
        }
        statements = self.forget(clip) if instead else []
        statements += [rows.insert("clips", row), *(_segment(segment, row) for segment in segments)]
        await check(self._writer, segments)

        def question() -> bool:
            try:
                self._writer.transact(statements)
            except (sqlite3.IntegrityError, OverflowError) as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
                    return False  # inserted meanwhile
                raise ValueError(f"{clip.id}: {error}") from None
            return True

        is_new = await self._writer.read(question)
        await self._write_expiry()
        return is_new

    def _write_expiry(self) -> Transaction:
        """Set ``keep_until`` of viewers' clips of an older version: a day from now at the earliest."""
        values = {**self._policy.bounds(), "keep": self._keep}
        update = "UPDATE clips SET keep_until = max(made + :keep, :now + :day) WHERE keep_until = -1"
        return self._writer.write((update, values))

    def _make(self, title: str, begin: datetime, end: datetime, viewers: ViewerClipLimits | None) -> Clip:
        connection, now = self._writer.connection, self._policy.time
        known = "SELECT 1 FROM clips WHERE id = ?"
        name = free_id(now, lambda name: connection.execute(known, (name,)).fetchone(), self._policy.letters)
        row: rows.Row = {"id": name, "title": title, "made": rows.to_microseconds(now)}
        row |= {"begin": rows.to_microseconds(begin), "end": rows.to_microseconds(end), "written": 0}
        row |= {"viewer": viewers is not None, "poster": 0, "pictured": 0, "deleted": None, "bin": ""}
        row["keep_until"] = row["made"] + self._keep if viewers and self._keep else None
        values = {**row, "now": row["made"]}
        if viewers:
            counts = connection.execute(OF_VIEWERS, {**values, "day": DAY}).fetchone()
            for limit, message in FULL.items():
                if counts[limit] >= getattr(viewers, limit):
                    raise TooMany(message)
        clip = Clip(name, title, now, begin, end)
        found = connection.execute(AVAILABLE_TO_VIEWERS if viewers else AVAILABLE, values)
        if not complete_variants([rows.recording_segment_of(segment) for segment in found], clip):
            raise NotPossible("some of that time is not there any more, or not yet")
        described = connection.execute(NEWEST_PART, row).fetchone()
        if described is None:
            facts = connection.execute("SELECT name, value FROM facts").fetchall()
            described = rows.NOT_DESCRIBED | dict(facts)
        row |= {name: described[name] for name in rows.NOT_DESCRIBED}
        self._writer.transact([rows.insert("clips", row), (KEEP, values)])
        return rows.clip_of(row)


def _segment(segment: RecordingSegment, clip: rows.Row) -> rows.Statement:
    row = rows.recording_segment_row(segment, None)
    statement, _ = rows.insert("segments", row, conflict=STAY)
    return statement, {**row, "begin": clip["begin"], "end": clip["end"]}
