"""Clips: time ranges whose segments are kept independently of the live window and of recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from broadcaster.catalog.recordings import Expiry
from broadcaster.catalog.references import (
    Bounds,
    Clip,
    Recorded,
    clip_of,
    covering,
    free_id,
    new_secret,
    recorded_of,
)
from broadcaster.catalog.rows import (
    BIN_OVER,
    DELETE_AT,
    IN_A_CLIP,
    KEEP_OVER,
    MOST,
    NOT_DESCRIBED,
    RESTORE,
    SEGMENT,
    SHARED,
    Row,
    insert,
    optional_microseconds,
    to_microseconds,
)
from broadcaster.catalog.writer import Transaction, Writer
from broadcaster.errors import NotPossible, TooMany

NONE: Mapping[str, int] = {}
LONGEST = 600_000_000  # microseconds, of a segment
IN_RANGE = f"time > :begin - {LONGEST} AND time < :end - 1000 AND time + duration - 1000 > :begin"
# What a rebuild took in has the positions of whatever clip had it first.
IN_ORDER = "ORDER BY time, position"
# What is to be deleted now may be on its way out already: it is too late for that.
KEEP = f"""
UPDATE segments SET delete_at = NULL WHERE {IN_RANGE} AND step = 'unlisted' AND delete_at > :now
"""  # noqa: S608 - a constant
THERE = f"""
SELECT {SEGMENT}, step, part, unlisted FROM segments WHERE {IN_RANGE} AND key IS NOT NULL
    AND (step = 'listed' OR step = 'unlisted' AND (delete_at IS NULL OR delete_at > :now))
{IN_ORDER}
"""  # noqa: S608 - a constant
# What everybody finds: recordings that are listed, and the window; what left that a moment ago was on screen
# when the clip was wished for. Whoever guesses a time gets nothing else.
MOMENT = 60_000_000  # microseconds
ON = "SELECT number FROM parts JOIN recordings ON recording = id WHERE ended IS NULL"
PUBLIC = """
SELECT number FROM parts JOIN recordings ON recording = id
WHERE visibility = 'listed' AND deleted IS NULL AND (keep_until IS NULL OR keep_until > :now)
"""
THERE_FOR_VIEWERS = f"""
SELECT * FROM ({THERE}) WHERE step = 'listed' OR part IN ({PUBLIC})
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

# A stream is what has been recorded as one.
OF_VIEWERS = """
SELECT count(*) AS in_all, count(*) FILTER (WHERE made > :now - :day) AS of_a_day, count(*) FILTER (WHERE
    "end" > (SELECT coalesce(max(started), 0) FROM recordings WHERE started < :end)
    AND "begin" < (SELECT coalesce(min(started), :end) FROM recordings WHERE started >= :end)
) AS of_a_stream FROM clips WHERE viewer AND deleted IS NULL
"""
DAY = timedelta(days=1)
FULL = {
    "of_a_stream": "viewers have made as many clips of this stream as they may",
    "of_a_day": "viewers have made as many clips today as they may",
    "in_all": "there are as many clips of viewers as there may be",
}


class Clips:
    """The pages of the book that tell of clips; ``retention`` and ``keep`` are as for recordings.

    Those of viewers are kept for as long as recordings of that time: they never need more of the bucket.

    What is read raises CatalogError while that cannot be done.
    """

    def __init__(
        self,
        writer: Writer,
        clock: Callable[[], datetime],
        retention: int | None,
        keep: int | None,
        expiry: Expiry,
    ) -> None:
        self._writer = writer
        self._clock, self._expiry = clock, expiry
        self._retention = retention
        self._keep = keep or None
        self.settle_expiry()

    def settle_expiry(self) -> Transaction:
        """Write down when viewers' clips go of which an older version has not; none goes at once."""
        values = {**self._expiry.bounds(), "keep": self._keep}
        update = "UPDATE clips SET keep_until = max(made + :keep, :now + :day) WHERE keep_until = -1"
        return self._writer.write((update, values))

    async def make(self, title: str, begin: datetime, end: datetime, viewers: Bounds | None = None) -> Clip:
        """Keep what lies between these times, as they were told; for one of ``viewers``, within bounds.

        Raises NotPossible when some of it is not there any more, or not yet; TooMany past those bounds.
        """
        return await self._writer.read(lambda: self._make(title, begin, end, viewers))

    async def all(self) -> list[Clip]:
        """Every clip that is not in the bin, newest first."""
        return await self._clips("deleted IS NULL ORDER BY made DESC, id")

    async def bin(self) -> list[Clip]:
        """What was deleted, and can be had back, newest first."""
        return await self._clips("deleted > 0 ORDER BY made DESC, id")

    async def unwritten(self) -> list[Clip]:
        """Those that the bucket does not have as they are: of the bin, too."""
        return await self._clips("NOT written AND deleted IS NOT 0")

    async def expired(self) -> list[Clip]:
        """Those whose time is over: nobody should find them any more."""
        return await self._clips(f"{BIN_OVER} OR {KEEP_OVER}", self._expiry.bounds())

    async def segments(self, clip: Clip) -> list[Recorded]:
        """All of its segments that there are, in order."""
        found: list[Recorded] = []
        values = {"begin": to_microseconds(clip.begin), "end": to_microseconds(clip.end)}
        values |= {"time": values["begin"] - LONGEST, "after": 0}

        def question() -> list[Recorded]:
            return [recorded_of(row) for row in self._writer.connection.execute(SEGMENTS, values)]

        while more := await self._writer.read(question):
            found += more
            values |= {"time": to_microseconds(found[-1].time), "after": found[-1].position}
        return found

    def written(self, clip: Clip) -> Transaction:
        """The bucket has it where it is, with this title, and its poster if it has one."""
        update = "UPDATE clips SET written = 1 WHERE id = :id AND title = :title AND poster = :poster"
        values: Row = {"id": clip.id, "title": clip.title, "poster": clip.poster}
        values["deleted"] = optional_microseconds(clip.deleted)
        return self._writer.write((f"{update} AND deleted IS :deleted", values))

    def rename(self, clip: str, title: str) -> Transaction:
        """It has another title, which the bucket is to be told."""
        update = "UPDATE clips SET title = :title, written = 0 WHERE id = :id"
        return self._writer.write((update, {"id": clip, "title": title}))

    def pictured(self, clip: str, *, poster: bool) -> Transaction:
        """No more pictures are to be made, and the bucket has to be told whether it has a poster."""
        update = "UPDATE clips SET pictured = 1, poster = :poster, written = 0 WHERE id = :id"
        return self._writer.write((update, {"id": clip, "poster": poster}))

    def delete(self, clip: str, *, at_once: bool = False) -> Transaction:
        """Put it into the bin, from where it goes after a day; or ``at_once``, from there as well."""
        values = {"id": clip, "at": 0 if at_once else to_microseconds(self._clock()), "bin": new_secret()}
        update = "UPDATE clips SET deleted = :at, bin = :bin, written = 0 WHERE id = :id"
        return self._writer.write((f"{update} AND (:at = 0 OR deleted IS NULL)", values))

    def restore(self, clip: str) -> Transaction:
        """Take it out of the bin, to where it was."""
        update = f"UPDATE clips SET written = 0, {RESTORE}"  # noqa: S608 - a constant
        return self._writer.write((update, {**self._expiry.bounds(), "id": clip}))

    def release(self, clip: Clip) -> Transaction:
        """Nobody finds it: what is in no other view goes when those who still play it are done (§6.2.2).

        One that was restored meanwhile is written anew: the bucket has nothing of it.
        """
        values: Row = {
            "id": clip.id,
            "begin": to_microseconds(clip.begin),
            "end": to_microseconds(clip.end),
            "now": to_microseconds(self._clock()),
            "availability": to_microseconds(clip.end - clip.begin),
            "retention": self._retention,
        }
        values |= {name: optional_microseconds(getattr(clip, name)) for name in ("deleted", "keep_until")}
        over = "DELETE FROM clips WHERE id = :id AND deleted IS :deleted AND keep_until IS :keep_until"
        anew = "UPDATE clips SET written = 0, poster = 0, pictured = 0 WHERE id = :id"
        return self._writer.write((over, values), (anew, values), (RELEASE, values))

    def _make(self, title: str, begin: datetime, end: datetime, viewers: Bounds | None) -> Clip:
        """Nobody finds it before it is sure that all of it is there."""
        now = self._clock()  # when its turn comes: what was told to be due before is not there any more
        row: Row = {"id": self._free_id(now), "title": title, "made": to_microseconds(now)}
        row |= {"begin": to_microseconds(begin), "end": to_microseconds(end), "written": 0}
        row |= {"viewer": viewers is not None, "poster": 0, "pictured": 0, "deleted": None, "bin": ""}
        row["keep_until"] = row["made"] + self._keep if viewers and self._keep else None
        there = {**row, "now": row["made"]}
        if viewers:
            self._check(viewers, there)
        clip = Clip(row["id"], title, now, begin, end)
        found = self._writer.connection.execute(THERE_FOR_VIEWERS if viewers else THERE, there)
        if not covering([recorded_of(one) for one in found], clip):
            raise NotPossible("some of that time is not there any more, or not yet")
        described = self._writer.connection.execute(NEWEST_PART, row).fetchone()
        if described is None:
            facts = self._writer.connection.execute("SELECT name, value FROM facts").fetchall()
            described = NOT_DESCRIBED | dict(facts)
        row |= {name: described[name] for name in NOT_DESCRIBED}
        self._writer.transact([insert("clips", row), (KEEP, there)])
        return clip_of(row)

    def _free_id(self, now: datetime) -> str:
        """An id that no clip has."""
        execute = self._writer.connection.execute
        return free_id(now, lambda name: execute("SELECT 1 FROM clips WHERE id = ?", (name,)).fetchone())

    def _check(self, bounds: Bounds, values: Row) -> None:
        values = {**values, "day": to_microseconds(DAY)}
        found = self._writer.connection.execute(OF_VIEWERS, values).fetchone()
        for name, complaint in FULL.items():
            if found[name] >= getattr(bounds, name):
                raise TooMany(complaint)

    async def _clips(self, which: str, values: Mapping[str, int] = NONE) -> list[Clip]:
        query = f"SELECT * FROM clips WHERE {which}"  # noqa: S608 - a constant
        rows = await self._writer.read(lambda: self._writer.connection.execute(query, values).fetchall())
        return [clip_of(row) for row in rows]
