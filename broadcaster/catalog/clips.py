"""Clips: time ranges whose segments are kept independently of the live window and of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from broadcaster.catalog.recordings import RetentionPolicy, take_in
from broadcaster.catalog.records import (
    Clip,
    RecordingSegment,
    ViewerClipLimits,
    complete_variants,
    free_id,
    new_secret,
)
from broadcaster.catalog.rows import (
    DELETABLE,
    DELETE,
    DELETE_AT,
    EXPIRED,
    IN_A_CLIP,
    MOST,
    NOT_DESCRIBED,
    RESTORE,
    SEGMENT,
    SHARED,
    Row,
    Statement,
    clip_of,
    described_row,
    insert,
    optional_microseconds,
    recording_segment_of,
    recording_segment_row,
    to_microseconds,
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
SELECT {SEGMENT}, step, part, unlisted FROM segments WHERE {IN_RANGE} AND key IS NOT NULL
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
SELECT {SEGMENT} FROM segments WHERE {IN_RANGE} AND key IS NOT NULL AND (time, position) > (:time, :after)
    AND (step = 'listed' OR step = 'unlisted' AND delete_at IS NULL)
{IN_ORDER} LIMIT {MOST}
"""  # noqa: S608 - a constant
NEWEST_PART = f"""
SELECT variants, renditions FROM parts WHERE number = (SELECT max(part) FROM segments WHERE {IN_RANGE})
"""  # noqa: S608 - a constant
RELEASE = f"""
UPDATE segments SET delete_at = iif({IN_A_CLIP} OR {SHARED}, NULL, {DELETE_AT})
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
DAY = to_microseconds(timedelta(days=1))
FULL = {
    "of_a_stream": "viewers have made as many clips of this stream as they may",
    "of_a_day": "viewers have made as many clips today as they may",
    "in_all": "there are as many clips of viewers as there may be",
}
# A known segment that this clip needs is kept; the times of other segments stay.
STAY = """
ON CONFLICT (key) DO UPDATE SET delete_at = NULL
    WHERE step = 'unlisted' AND time + duration > :begin AND time < :end
"""


class ClipTable:
    """The clips of the catalog. Reads raise CatalogError while the disk fails.

    Clips of viewers are kept for as long as recordings.
    """

    def __init__(self, writer: TransactionWriter, policy: RetentionPolicy) -> None:
        self._writer, self._policy = writer, policy
        self._keep = policy.keep or None
        self._write_expiry()

    async def make(
        self, title: str, begin: datetime, end: datetime, viewers: ViewerClipLimits | None = None
    ) -> Clip:
        """Make a clip of the time as viewers saw it; ``viewers`` are the limits for a viewer's clip.

        Raises NotPossible when some of it is not there any more, or not yet; TooMany past the limits.
        """
        return await self._writer.read(lambda: self._make(title, begin, end, viewers))

    async def all(self) -> list[Clip]:
        """The clips that are not in the bin, newest first."""
        return await self._where("deleted IS NULL ORDER BY made DESC, id")

    async def bin(self) -> list[Clip]:
        """The clips in the bin, newest first."""
        return await self._where("deleted > 0 ORDER BY made DESC, id")

    async def unwritten(self) -> list[Clip]:
        """The clips, also in the bin, that have changed since they were written."""
        return await self._where("NOT written AND deleted IS NOT 0")

    async def expired(self) -> list[Clip]:
        """The clips to remove."""
        return await self._where(EXPIRED)

    async def segments(self, clip: Clip) -> list[RecordingSegment]:
        """All segments of the clip, in order."""
        found: list[RecordingSegment] = []
        values = {"begin": to_microseconds(clip.begin), "end": to_microseconds(clip.end)}
        values |= {"time": values["begin"] - LONGEST, "after": 0}
        while more := await self._writer.select(SEGMENTS, values, recording_segment_of):
            found += more
            values |= {"time": to_microseconds(found[-1].time), "after": found[-1].position}
        return found

    def written(self, clip: Clip) -> Transaction:
        """Note that the clip is in the bucket in this state."""
        update = "UPDATE clips SET written = 1 WHERE id = :id AND title = :title AND poster = :poster"
        values: Row = {"id": clip.id, "title": clip.title, "poster": clip.poster}
        values["deleted"] = optional_microseconds(clip.deleted)
        return self._writer.write((f"{update} AND deleted IS :deleted", values))

    def rename(self, clip: str, title: str) -> Transaction:
        """Give the clip another title."""
        return self._update(clip, "title = :title", title=title)

    def pictured(self, clip: str, *, poster: bool) -> Transaction:
        """Note that its poster is in the bucket, or cannot be made."""
        return self._update(clip, "pictured = 1, poster = :poster", poster=poster)

    def delete(self, clip: str, *, at_once: bool = False) -> Transaction:
        """Move it into the bin for a day; ``at_once`` deletes it, also from the bin."""
        at = 0 if at_once else self._policy.now
        return self._update(clip, DELETE, DELETABLE, at=at, bin=new_secret())

    def restore(self, clip: str) -> Transaction:
        """Take it out of the bin."""
        return self._update(clip, RESTORE, "deleted > 0", **self._policy.bounds())

    def release(self, clip: Clip) -> Transaction:
        """Remove it; segments without another reference are deleted when players are done (§6.2.2).

        A clip that was restored meanwhile is written again, because the bucket has nothing of it.
        """
        values: Row = {
            "id": clip.id,
            "begin": to_microseconds(clip.begin),
            "end": to_microseconds(clip.end),
            "now": self._policy.now,
            "availability": to_microseconds(clip.end - clip.begin),
            "retention": self._policy.retention,
        }
        values |= {name: optional_microseconds(getattr(clip, name)) for name in ("deleted", "keep_until")}
        over = "DELETE FROM clips WHERE id = :id AND deleted IS :deleted AND keep_until IS :keep_until"
        again = "UPDATE clips SET written = 0, poster = 0, pictured = 0 WHERE id = :id"
        return self._writer.write((over, values), (again, values), (RELEASE, values))

    async def take_in(
        self, clip: Clip, segments: Sequence[RecordingSegment], *, is_older: bool = False
    ) -> bool:
        """Insert a clip that was found in the bucket, and keep its segments; False if it is known.

        ``is_older`` is for a viewer's clip of an older version, which has no ``keep_until``. Raises
        CatalogError, and ValueError for contradictory data.
        """
        row: Row = {
            **{name: getattr(clip, name) for name in ("id", "title", "viewer", "poster", "pictured", "bin")},
            **{name: to_microseconds(getattr(clip, name)) for name in ("made", "begin", "end")},
            **described_row(clip.described),
            "written": 0,
            "keep_until": -1 if is_older else optional_microseconds(clip.keep_until),
            "deleted": optional_microseconds(clip.deleted),
        }
        statements = [insert("clips", row), *(_segment(segment, row) for segment in segments)]
        is_new = await take_in(self._writer, clip.id, statements, segments)
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
        name = free_id(now, lambda name: connection.execute(known, (name,)).fetchone())
        row: Row = {"id": name, "title": title, "made": to_microseconds(now)}
        row |= {"begin": to_microseconds(begin), "end": to_microseconds(end), "written": 0}
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
        if not complete_variants([recording_segment_of(segment) for segment in found], clip):
            raise NotPossible("some of that time is not there any more, or not yet")
        described = connection.execute(NEWEST_PART, row).fetchone()
        if described is None:
            facts = connection.execute("SELECT name, value FROM facts").fetchall()
            described = NOT_DESCRIBED | dict(facts)
        row |= {name: described[name] for name in NOT_DESCRIBED}
        self._writer.transact([insert("clips", row), (KEEP, values)])
        return clip_of(row)

    async def _where(self, condition: str) -> list[Clip]:
        query = f"SELECT * FROM clips WHERE {condition}"  # noqa: S608 - a constant
        return await self._writer.select(query, self._policy.bounds(), clip_of)

    def _update(
        self, clip: str, columns: str, condition: str = "true", **values: str | int | None
    ) -> Transaction:
        update = f"UPDATE clips SET written = 0, {columns} WHERE id = :id AND {condition}"  # noqa: S608 - a constant
        return self._writer.write((update, {**values, "id": clip}))


def _segment(segment: RecordingSegment, clip: Row) -> Statement:
    row = recording_segment_row(segment, None)
    statement, _ = insert("segments", row, conflict=STAY)
    return statement, {**row, "begin": clip["begin"], "end": clip["end"]}
