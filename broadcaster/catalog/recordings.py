"""Recordings: their references to segments, the expiry of both, and the clock that expiry may trust."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import TypeVar

from broadcaster.catalog.records import Segment
from broadcaster.catalog.references import (
    Part,
    Recorded,
    Recording,
    free_id,
    new_recording,
    new_secret,
    part_of,
    recorded_of,
    recording_of,
)
from broadcaster.catalog.rows import (
    END,
    EXPIRED,
    KEEP,
    MEASURE,
    NOT_DESCRIBED,
    RECORDINGS,
    RELEASE,
    RESTORE,
    SEGMENTS,
    TITLE,
    WANTED,
    Row,
    Statement,
    described_row,
    insert,
    optional_microseconds,
    time_of,
    to_microseconds,
)
from broadcaster.catalog.writer import Transaction, Writer
from broadcaster.hls import MultivariantPlaylist

BIN = timedelta(days=1)  # for which what was deleted can be had back
DOUBT = timedelta(hours=1)  # after a start, in which the machine's clock may be set right


class Expiry:
    """``clock`` does not jump; ``wall`` gives the time as it is known now, and may."""

    def __init__(self, clock: Callable[[], datetime], wall: Callable[[], datetime] | None) -> None:
        self._clock, self._wall = clock, wall or clock
        self._opened = clock()

    def bounds(self) -> dict[str, int]:
        """Over is what has its end after ``doubted``, and not after ``now``; ``day`` is the bin's.

        A machine without a clock of its own may start in another year: what is over at once is doubted for a
        while, and kept when the clock has been set right meanwhile.
        """
        now = self._clock()
        doubted = to_microseconds(self._opened) if now - self._opened < DOUBT else 0
        return {
            "now": to_microseconds(min(now, self._wall())),
            "doubted": doubted,
            "day": to_microseconds(BIN),
        }


T = TypeVar("T")

LONGEST = timedelta(days=1)  # a stream that never ends is recorded in pieces: one can be played, and can go


class Recordings:
    """The pages of the book that tell of recordings: ``writer`` writes and reads them.

    ``retention`` is the policy for what leaves its last view, ``keep`` for how long a recording is kept after
    its end, both in microseconds, None for ever; with a ``keep`` of zero none is made. ``part`` is the one
    that takes what is listed now. What is read raises CatalogError while that cannot be done.
    """

    def __init__(
        self,
        writer: Writer,
        clock: Callable[[], datetime],
        retention: int | None,
        keep: int | None,
        expiry: Expiry,
    ) -> None:
        writer.connection.row_factory = sqlite3.Row
        self.part: int | None = None
        self._writer = writer
        self._clock, self._expiry = clock, expiry
        self._retention = retention
        self._keep = keep
        self._on: str | None = None  # the recording of the stream that is on
        self._started = clock()
        self._variants: AbstractSet[str] = frozenset()  # of the part
        self._described = dict(NOT_DESCRIBED)
        self._newest = 0  # part
        self._ids: set[str] = set()
        self._resume()

    def take(self, segments: Sequence[Segment], gone: AbstractSet[str]) -> list[Statement]:
        """See to it that there is a part for what will be listed; of variants ``gone`` nothing comes."""
        if not segments or self._keep == 0:
            return []
        started = min(segment.time or segment.program_date_time for segment in segments)
        coming = frozenset(segment.variant for segment in segments)
        statements, variants = list[Statement](), self._variants
        if self._on is not None and started - self._started > LONGEST:
            statements, self._variants = self.end(), variants  # which go on
        if self._on is None:
            self._on, self._started = self._free_id(started), started
            statements.append(insert("recordings", new_recording(self._on, started)))
        if self.part is None or gone & self._variants or coming - self._variants:
            self._variants = self._variants - gone | coming
            self.part = self.next_part()
            row = {"number": self.part, "recording": self._on, **self._described}
            statements.append(insert("parts", row))
        return statements

    def note(self, recording: str) -> None:
        """Draw this id for no other recording."""
        self._ids.add(recording)

    def _free_id(self, started: datetime) -> str:
        """An id that no recording has or had, as far as is known."""
        self.note(name := free_id(started, self._ids.__contains__))
        return name

    def next_part(self) -> int:
        """A number that no part has yet."""
        self._newest += 1
        return self._newest

    def describe(self, described: MultivariantPlaylist) -> list[Statement]:
        """Remember what is told of the part's variants, unless it is told of others."""
        self._described = described_row(described)
        if not described.uris >= self._variants:
            return []
        update = "UPDATE parts SET variants = :variants, renditions = :renditions WHERE number = :number"
        return [(update, {**self._described, "number": self.part})]

    def end(self) -> list[Statement]:
        """The stream is over; one that ends because none are made any more is kept."""
        values = {"id": self._on, "keep": self._keep or None, "now": to_microseconds(self._clock())}
        self.part, self._on, self._variants = None, None, frozenset()
        return [(MEASURE, values), (END, values), (KEEP, values)]

    async def measure(self, title: str | None) -> None:
        """Find out how long and how large the recording is that is on; it has this title, if not another."""
        if self._on:
            values = {"id": self._on, "title": title}
            await self._writer.write((MEASURE, values), (TITLE, values))

    async def all(self) -> list[Recording]:
        """Every recording that is not in the bin, newest first."""
        query = f"{RECORDINGS} WHERE deleted IS NULL ORDER BY started DESC, id"
        return await self._read(query, {}, recording_of)

    async def bin(self) -> list[Recording]:
        """What was deleted, and can be had back, newest first."""
        query = f"{RECORDINGS} WHERE deleted > 0 ORDER BY started DESC, id"
        return await self._read(query, {}, recording_of)

    async def unwritten(self) -> list[Recording]:
        """Those that the bucket does not have as they are, oldest first: of the bin, too."""
        query = f"{RECORDINGS} WHERE ended IS NULL OR written < revision ORDER BY started"
        return await self._read(query, {}, recording_of)

    async def expired(self) -> list[Recording]:
        """Those whose time is over."""
        return await self._read(EXPIRED, self._expiry.bounds(), recording_of)

    async def parts(self) -> dict[str, list[Part]]:
        """The parts of each recording, in order."""
        found: defaultdict[str, list[Part]] = defaultdict(list)
        for part in await self._read("SELECT * FROM parts ORDER BY number", {}, part_of):
            found[part.recording].append(part)
        return found

    async def segments(self, part: int, after: Mapping[str, int] | None = None) -> list[Recorded]:
        """The next 1,000 segments of each variant at most, after the position given for it, in order."""

        def question() -> list[Recorded]:
            execute, read = self._writer.connection.execute, after or {}
            names = execute("SELECT DISTINCT variant FROM segments WHERE part = ?", (part,)).fetchall()
            rows = (
                row
                for (name,) in names
                for row in execute(SEGMENTS, {"part": part, "variant": name, "after": read.get(name, 0)})
            )
            return sorted(map(recorded_of, rows), key=lambda one: one.position)

        return await self._writer.read(question)

    def written(self, recording: Recording) -> Transaction:
        """The bucket has it as it was in this revision."""
        update = "UPDATE recordings SET written = :revision WHERE id = :id"
        return self._writer.write((update, {"id": recording.id, "revision": recording.revision}))

    def keep(self, recording: str, days: int | None) -> Transaction:
        """Keep it for so many days from now, for ever if None; a day at least: only deleting deletes."""
        until = None if days is None else self._clock() + max(timedelta(days=days), BIN)
        update = "UPDATE recordings SET revision = revision + 1, keep_until = :until WHERE id = :id"
        return self._writer.write((update, {"until": optional_microseconds(until), "id": recording}))

    def delete(self, recording: str, *, at_once: bool = False) -> Transaction:
        """Put it into the bin, from where it goes after a day; or ``at_once``, from there as well."""
        values = {
            "id": recording,
            "at": 0 if at_once else to_microseconds(self._clock()),
            "bin": new_secret(),
        }
        update = "UPDATE recordings SET revision = revision + 1, deleted = :at, bin = :bin WHERE id = :id"
        return self._writer.write(
            (f"{update} AND ended IS NOT NULL AND (:at = 0 OR deleted IS NULL)", values)
        )

    def restore(self, recording: str) -> Transaction:
        """Take it out of the bin, to where it was."""
        values = {**self._expiry.bounds(), "id": recording}
        update = f"UPDATE recordings SET revision = revision + 1, {RESTORE}"  # noqa: S608 - a constant
        return self._writer.write((update, values))

    def change(self, recording: str, **values: str | int | None) -> Transaction:
        """Set columns of a recording; what becomes of it in the end is for ``keep`` and ``delete`` to say."""
        if values.keys() & {"keep_until", "deleted", "bin"}:
            raise ValueError("no edit deletes")
        updates = ", ".join(f"{name} = :{name}" for name in values)
        update = f"UPDATE recordings SET revision = revision + 1, {updates} WHERE id = :id"  # noqa: S608 - names
        return self._writer.write((update, {**values, "id": recording}))

    def remove(self, recording: Recording) -> Transaction:
        """Nobody finds it, unless it was changed: what no other view has goes when its players are done.

        "It SHOULD ensure that all Media Segments in the Playlist file remain available to clients for at
        least the duration of the Playlist file at the time of removal" (§6.2.2).
        """
        values: Row = {
            "id": recording.id,
            "revision": recording.revision,
            "now": to_microseconds(self._clock()),
            "availability": to_microseconds(recording.duration),
            "retention": self._retention,
        }
        return self._writer.write(*((statement, values) for statement in RELEASE))

    async def unwanted(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that no segment needs, nor ever will, whatever view it is in."""

        def question() -> list[str]:
            execute = self._writer.connection.execute
            return [key for key in keys if not execute(WANTED, {"key": key}).fetchone()[0]]

        return await self._writer.read(question)

    def _resume(self) -> None:
        """Take up the recording that an earlier process had on; without recordings it ends."""
        one = self._writer.connection.execute
        for name, value in one("SELECT name, value FROM facts WHERE name IN ('variants', 'renditions')"):
            self._described[name] = value
        self._ids.update(name for (name,) in one("SELECT id FROM recordings"))
        self._newest = one("SELECT coalesce(max(number), 0) FROM parts").fetchone()[0]
        newest = one(
            """
            SELECT number, id, started FROM recordings JOIN parts ON recording = id WHERE ended IS NULL
            ORDER BY number DESC LIMIT 1
            """
        ).fetchone()
        if newest:
            self.part, self._on, self._started = newest[0], newest[1], time_of(newest[2])
        # All that are live go on, whichever of them comes first.
        live = """
            SELECT variant FROM playlists WHERE current AND NOT ended
            UNION SELECT variant FROM segments WHERE part = ?
            """
        found = one(live, (self.part,))
        self._variants = frozenset(variant for (variant,) in found)
        if self._on and self._keep == 0:
            self._writer.write(*self.end())

    async def _read(self, query: str, values: Row, record: Callable[[sqlite3.Row], T]) -> list[T]:
        def question() -> list[T]:
            return [record(row) for row in self._writer.connection.execute(query, values)]

        return await self._writer.read(question)
