"""Clips: what lies between two times, kept whatever becomes of the window and of recordings."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime

from broadcaster.catalog.rows import Row, insert, to_microseconds
from broadcaster.catalog.statements import DELETE_AT, IN_A_CLIP, MOST, SEGMENT
from broadcaster.catalog.view_rows import clip_of, new_id, recorded_of
from broadcaster.catalog.views import Clip, Recorded, covering
from broadcaster.catalog.writer import Writer
from broadcaster.errors import NotPossible

LONGEST = 600_000_000  # microseconds, of a segment
IN_RANGE = f"time > :begin - {LONGEST} AND time < :end - 1000 AND time + duration - 1000 > :begin"
# What is to be deleted now may be on its way out already: it is too late for that.
KEEP = f"""
UPDATE segments SET delete_at = NULL WHERE {IN_RANGE} AND step = 'unlisted' AND delete_at > :now
"""  # noqa: S608 - a constant
THERE = f"""
SELECT {SEGMENT} FROM segments WHERE {IN_RANGE} AND key IS NOT NULL
    AND (step = 'listed' OR step = 'unlisted' AND (delete_at IS NULL OR delete_at > :now))
ORDER BY position
"""  # noqa: S608 - a constant
SEGMENTS = f"""
SELECT {SEGMENT} FROM segments WHERE {IN_RANGE} AND key IS NOT NULL AND position > :after
    AND (step = 'listed' OR step = 'unlisted' AND delete_at IS NULL)
ORDER BY position LIMIT {MOST}
"""  # noqa: S608 - a constant
NEWEST_PART = f"""
SELECT variants, renditions FROM parts WHERE number = (SELECT max(part) FROM segments WHERE {IN_RANGE})
"""  # noqa: S608 - a constant
RELEASE = f"""
UPDATE segments SET delete_at = iif({IN_A_CLIP}, NULL, {DELETE_AT})
WHERE {IN_RANGE} AND step = 'unlisted' AND part IS NULL AND delete_at IS NULL
"""  # noqa: S608 - a constant


class Clips:
    """The pages of the book that tell of clips; ``retention`` is as for recordings.

    What is read raises CatalogError while that cannot be done.
    """

    def __init__(
        self,
        writer: Writer,
        connection: sqlite3.Connection,
        clock: Callable[[], datetime],
        retention: int | None,
    ) -> None:
        self._writer = writer
        self._connection = connection
        self._clock = clock
        self._retention = retention

    async def make(self, title: str, begin: datetime, end: datetime) -> Clip:
        """Keep what lies between these times, as viewers were told them.

        Raises NotPossible when some of it is not there any more, or not yet.
        """
        return await self._writer.read(lambda: self._make(title, begin, end))

    async def all(self) -> list[Clip]:
        """Every clip, newest first."""
        return await self._clips("NOT removed ORDER BY made DESC, id")

    async def unwritten(self) -> list[Clip]:
        """Those that the bucket does not have yet."""
        return await self._clips("NOT removed AND NOT written")

    async def removed(self) -> list[Clip]:
        """Those that nobody should find any more."""
        return await self._clips("removed")

    async def segments(self, clip: Clip) -> list[Recorded]:
        """All of its segments that there are, in order."""
        found: list[Recorded] = []
        values = {"begin": to_microseconds(clip.begin), "end": to_microseconds(clip.end), "after": 0}
        while more := await self._writer.read(lambda: self._connection.execute(SEGMENTS, values).fetchall()):
            found += map(recorded_of, more)
            values["after"] = found[-1].position
        return found

    def written(self, clip: Clip) -> None:
        """The bucket has it."""
        self._set(clip.id, "written")

    def remove(self, clip: str) -> None:
        """Nobody should find it any more."""
        self._set(clip, "removed")

    def release(self, clip: Clip) -> None:
        """Nobody finds it: what is in no other view goes when those who still play it are done (§6.2.2)."""
        values: Row = {
            "id": clip.id,
            "begin": to_microseconds(clip.begin),
            "end": to_microseconds(clip.end),
            "now": to_microseconds(self._clock()),
            "availability": to_microseconds(clip.end - clip.begin),
            "retention": self._retention,
        }
        self._writer.write(("DELETE FROM clips WHERE id = :id", values), (RELEASE, values))

    def _make(self, title: str, begin: datetime, end: datetime) -> Clip:
        """Nobody finds it before it is sure that all of it is there."""
        now = self._clock()  # when its turn comes: what was told to be due before is not there any more
        row: Row = {"id": new_id(now), "title": title, "made": to_microseconds(now)}
        row |= {"begin": to_microseconds(begin), "end": to_microseconds(end), "removed": 0, "written": 0}
        there = {**row, "now": row["made"]}
        clip = Clip(row["id"], title, now, begin, end, (), ())
        if not covering([recorded_of(one) for one in self._connection.execute(THERE, there)], clip):
            raise NotPossible("some of that time is not there any more, or not yet")
        described = self._connection.execute(NEWEST_PART, row).fetchone()
        if described is None:
            facts = dict(self._connection.execute("SELECT name, value FROM facts").fetchall())
            described = {name: facts.get(name, "[]") for name in ("variants", "renditions")}
        row |= {name: described[name] for name in ("variants", "renditions")}
        self._writer.transact([insert("clips", row), (KEEP, there)])
        return clip_of(row)

    def _set(self, clip: str, column: str) -> None:
        self._writer.write((f"UPDATE clips SET {column} = 1 WHERE id = :id", {"id": clip}))  # noqa: S608

    async def _clips(self, which: str) -> list[Clip]:
        query = f"SELECT * FROM clips WHERE {which}"  # noqa: S608 - a constant
        return [
            clip_of(row)
            for row in await self._writer.read(lambda: self._connection.execute(query).fetchall())
        ]
