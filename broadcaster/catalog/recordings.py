"""Recordings: their references to segments, their expiry, and the restoring of recordings from the bucket.

``FileTable``: the files of recordings that an operator uploads, from the first part to the deletion.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar, Generic, NamedTuple, TypeVar

from broadcaster.catalog import rows
from broadcaster.catalog.records import (
    LENGTH,
    Clip,
    MultipartUpload,
    Part,
    Recording,
    RecordingSegment,
    Segment,
    free_id,
    new_secret,
)
from broadcaster.catalog.rows import BIN_OVER, Row, Statement, insert, to_microseconds, upload_of
from broadcaster.catalog.writer import Transaction, TransactionWriter
from broadcaster.errors import NotPossible
from broadcaster.hls import MultivariantPlaylist

T = TypeVar("T", Recording, Clip)

BIN = timedelta(days=1)  # for which deleted recordings, clips and files can be restored
DOUBT = timedelta(hours=1)  # after a start, in which the machine's clock may be corrected
BEHIND = "behind the bucket"
# What becomes of that one's open recording: "until" a time a stream may go on with it, its sequel is the
# recording "with" an ID, or it is "known" here by its ID.
GOES_ON = "goes on"
BEFORE_FIRST = timedelta(minutes=1)  # for which that recording waits for its stream after a restart
MOST_PARTS = 500  # of a recording that is restored
LARGEST = 2**63 - 1  # of SQLite
LONGEST = timedelta(days=1)  # a longer stream is recorded in pieces, so that a piece can be played or deleted


class RetentionPolicy:
    """When recordings and clips expire, and how long an object stays after its last reference.

    ``clock`` does not jump; ``wall`` gives the wall time as it is known now, and may jump. ``retention`` is
    for how long unlisted segments are kept, ``keep`` for how long recordings are; None for ever. New IDs have
    so many random ``letters``.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        wall: Callable[[], datetime] | None,
        retention: timedelta | None,
        keep: timedelta | None,
        letters: int = LENGTH,
    ) -> None:
        self.letters = letters
        self._clock, self._wall = clock, wall or clock
        self._opened = clock()
        self.retention = None if retention is None else rows.to_microseconds(retention)
        self.keep = None if keep is None else rows.to_microseconds(keep)

    @property
    def time(self) -> datetime:
        """The time by the clock that does not jump."""
        return self._clock()

    @property
    def now(self) -> int:
        """The same time in microseconds."""
        return rows.to_microseconds(self._clock())

    def bounds(self) -> dict[str, int]:
        """Expired is what ends after ``doubted``, and not after ``now``. ``day`` is the time in the bin.

        A machine without a battery clock may start in another year. What has expired at the start is
        therefore kept for an hour, and longer if the clock has been corrected by then.
        """
        now = self._clock()
        return {
            "now": rows.to_microseconds(min(now, self._wall())),
            "doubted": rows.to_microseconds(self._opened) if now - self._opened < DOUBT else 0,
            "day": rows.to_microseconds(BIN),
        }


class ViewTable(Generic[T]):
    """The recordings or the clips of the catalog. Reads raise CatalogError while the disk fails."""

    _rows: ClassVar[str]  # a SELECT
    _record: Callable[[sqlite3.Row], T]
    _newest: ClassVar[str]  # the order of rows
    _complete: ClassVar[str]  # a condition of what may be deleted
    _change: ClassVar[str]  # an UPDATE that has the view written into the bucket again
    _was_written: ClassVar[str]  # a condition of what the bucket has had

    def __init__(self, writer: TransactionWriter, policy: RetentionPolicy) -> None:
        self._writer, self._policy = writer, policy

    async def all(self) -> list[T]:
        """The recordings or clips that are not in the bin, newest first."""
        return await self._where(f"deleted IS NULL ORDER BY {self._newest}")

    async def bin(self) -> list[T]:
        """The recordings or clips in the bin, newest first."""
        return await self._where(f"deleted > 0 ORDER BY {self._newest}")

    async def every(self) -> list[T]:
        """The recordings or clips, also in the bin, and those whose objects are being deleted."""
        return await self._where("true")

    async def expired(self) -> list[T]:
        """The recordings or clips to remove."""
        return await self._where(f"{self._complete} AND ({rows.EXPIRED})")

    def delete(self, name: str, *, at_once: bool = False) -> Transaction:
        """Move it into the bin for a day; ``at_once`` deletes it, also from the bin."""
        values = {"at": 0 if at_once else self._policy.now, "bin": new_secret()}
        return self._update(name, rows.DELETE, values, f"{self._complete} AND {rows.DELETABLE}")

    def restore(self, name: str) -> Transaction:
        """Take it out of the bin."""
        return self._update(name, rows.RESTORE, {**self._policy.bounds()}, "deleted > 0")

    def forget(self, view: T) -> list[rows.Statement]:
        """Statements that remove it, and delete nothing in the bucket."""
        raise NotImplementedError

    async def forget_others(self, names: AbstractSet[str]) -> None:
        """Remove those that the bucket has had, and has no more: it has those with these ``names``."""
        gone = [view for view in await self._where(self._was_written) if view.id not in names]
        await self._writer.write(*(statement for view in gone for statement in self.forget(view)))

    async def _where(self, condition: str) -> list[T]:
        query = f"{self._rows} WHERE {condition}"
        return await self._writer.select(query, self._policy.bounds(), self._record)

    def _update(self, name: str, columns: str, values: rows.Row, condition: str = "true") -> Transaction:
        update = f"{self._change}, {columns} WHERE id = :id AND {condition}"
        return self._writer.write((update, {**values, "id": name}))


class RecordingTable(ViewTable[Recording]):
    """The recordings of the catalog.

    With a ``keep`` of zero, streams are not recorded. ``part`` is the part of the segments that are listed
    now.
    """

    _rows = rows.RECORDINGS
    _record = staticmethod(rows.recording_of)
    _newest = "started DESC, id"
    _complete = "ended IS NOT NULL"
    _change = rows.RECORDING_AGAIN
    _was_written = "written > 0 AND ended IS NOT NULL"

    def __init__(self, writer: TransactionWriter, policy: RetentionPolicy) -> None:
        super().__init__(writer, policy)
        self.part: int | None = None
        self.on: str | None = None  # the recording of the stream that is on
        self._until: datetime | None = None  # when that is over, unless its stream goes on here
        self._started = policy.time
        self._variants: AbstractSet[str] = frozenset()  # of the part
        self._described = dict(rows.NOT_DESCRIBED)
        self._newest_part = 0
        self._ids: set[str] = set()
        self._awaited_until: datetime | None = None  # a stream that goes on with the bucket's recording
        self._taking_in = asyncio.Lock()
        self._sequel: _Sequel | None = None  # the recording of that stream
        self.joined: str | None = None  # the bucket's recording, once it is known here
        self._resume()

    @property
    def is_recording(self) -> bool:
        """Whether streams are recorded."""
        return self._policy.keep != 0

    @property
    def goes_on(self) -> bool:
        """Whether the bucket's open recording is to be read: its stream goes on here, or may do so."""
        until = self._awaited_until
        return self._sequel is not None or (until is not None and self._policy.time <= until)

    @property
    def expiry(self) -> datetime | None:
        """When a recording expires that ends now, None if it is kept for ever."""
        return rows.time_of(self._policy.now + self._policy.keep) if self._policy.keep else None

    def take(self, segments: Sequence[Segment], gone: AbstractSet[str]) -> list[rows.Statement]:
        """Begin a recording or a part if these segments need it; ``gone`` are variants that have ended."""
        if not segments or self._policy.keep == 0:
            return []
        started = min(segment.time or segment.program_date_time for segment in segments)
        coming = frozenset(segment.variant for segment in segments)
        statements, variants = list[rows.Statement](), self._variants
        if self.on is not None and started - self._started > LONGEST:
            statements, self._variants = self.end(), variants  # which go on
        elif self._until and self._policy.time > self._until:
            statements = self.end()
        self._until = None
        if self.on is None:
            self.on, self._started = free_id(started, self._ids.__contains__, self._policy.letters), started
            self._ids.add(self.on)
            statements.append(rows.insert("recordings", rows.new_recording(self.on, started)))
            if self.goes_on and self._sequel is None:
                self._sequel = _Sequel(self.on, self._newest_part + 1, coming)
                statements.append(rows.fact(GOES_ON, f"with {self.on}"))
            self._awaited_until = None
        if self.part is None or gone & self._variants or coming - self._variants:
            self._variants = self._variants - gone | coming
            self.part = self._next_part()
            row = {"number": self.part, "recording": self.on, **self._described}
            statements.append(rows.insert("parts", row))
        return statements

    def describe(self, described: MultivariantPlaylist) -> list[rows.Statement]:
        """Write the source's variants, unless those of the part are not among them."""
        self._described = rows.described_row(described)
        if not described.uris >= self._variants:
            return []
        return [(rows.DESCRIBE, {**self._described, "number": self.part})]

    def end(self) -> list[rows.Statement]:
        """End the recording. If streams are no longer recorded, it is kept for ever."""
        values = {"id": self.on, "keep": self._policy.keep or None, "now": self._policy.now}
        self.part, self.on, self._until, self._variants = None, None, None, frozenset()
        return [(rows.MEASURE, values), (rows.END, values), (rows.KEEP, values)]

    async def measure(self, title: str | None) -> None:
        """Write the duration and size of the running recording, and its title if the operator gave none."""
        if self._until and self._policy.time > self._until:
            await self._writer.write(*self.end())
        if self.on:
            values = {"id": self.on, "title": title}
            await self._writer.write((rows.MEASURE, values), (rows.TITLE, values))

    async def unwritten(self) -> list[Recording]:
        """The recordings, also in the bin, that have changed since they were written, oldest first."""
        return await self._where("ended IS NULL OR written < revision ORDER BY started")

    async def parts(self) -> dict[str, list[Part]]:
        """The parts of each recording, in order."""
        found: defaultdict[str, list[Part]] = defaultdict(list)
        for part in await self._writer.select("SELECT * FROM parts ORDER BY number", {}, rows.part_of):
            found[part.recording].append(part)
        return found

    async def segments(self, part: int, after: Mapping[str, int] | None = None) -> list[RecordingSegment]:
        """The next 1,000 segments of each variant at most, after the position given for it, in order."""

        def question() -> list[RecordingSegment]:
            execute, read = self._writer.connection.execute, after or {}
            names = execute("SELECT DISTINCT variant FROM segments WHERE part = ?", (part,)).fetchall()
            found = (
                row
                for (name,) in names
                for row in execute(rows.SEGMENTS, {"part": part, "variant": name, "after": read.get(name, 0)})
            )
            return sorted(map(rows.recording_segment_of, found), key=lambda segment: segment.position)

        return await self._writer.read(question)

    def written(self, recording: Recording) -> Transaction:
        """Note that this revision is in the bucket."""
        update = "UPDATE recordings SET written = :revision WHERE id = :id"
        return self._writer.write((update, {"id": recording.id, "revision": recording.revision}))

    def keep(self, recording: str, days: int | None) -> Transaction:
        """Keep it for so many days from now, for ever if None. It is at least a day: no edit deletes."""
        until = None if days is None else self._policy.time + max(timedelta(days=days), BIN)
        return self._update(recording, "keep_until = :until", {"until": rows.optional_microseconds(until)})

    def change(self, recording: str, **values: str | int | None) -> Transaction:
        """Set columns of a recording, but none that delete it."""
        if values.keys() & {"keep_until", "deleted", "bin"}:
            raise ValueError("no edit deletes")
        return self._update(recording, ", ".join(f"{name} = :{name}" for name in values), values)

    def remove(self, recording: Recording) -> Transaction:
        """Remove it, unless it was changed; segments without another reference are deleted later.

        "It SHOULD ensure that all Media Segments in the Playlist file remain available to clients for at
        least the duration of the Playlist file at the time of removal" (§6.2.2).
        """
        values: rows.Row = {
            "id": recording.id,
            "revision": recording.revision,
            "now": self._policy.now,
            "availability": rows.to_microseconds(recording.duration),
            "retention": self._policy.retention,
        }
        return self._writer.write(*((statement, values) for statement in rows.RELEASE))

    async def unwanted(self, keys: Sequence[str]) -> list[str]:
        """The keys without a reference."""
        query = f"SELECT value FROM json_each(:keys) AS keys WHERE NOT ({rows.WANTED})"  # noqa: S608 - a constant
        return await self._writer.select(query, {"keys": json.dumps(keys)}, lambda row: str(row[0]))

    def forget(self, view: Recording) -> list[rows.Statement]:
        """Statements that remove it, and delete nothing in the bucket."""
        return [(statement, {"id": view.id}) for statement in rows.FORGET_RECORDING]

    def await_stream(self, until: datetime | None) -> list[rows.Statement]:
        """Let a stream that begins ``until`` a time go on with a recording that is still to be read."""
        self._sequel = self.joined = None
        self._awaited_until = until if self.is_recording else None
        self._newest_part += MOST_PARTS  # those numbers are for the parts of that recording
        how = f"until {rows.to_microseconds(until)}" if until and self.is_recording else ""
        return [rows.fact(BEHIND, ""), rows.fact(GOES_ON, how)]

    def caught_up(self) -> list[rows.Statement]:
        """Statements that note that all recordings were read, with their sizes."""
        measured = [(rows.MEASURE, {"id": self.joined})]
        self._sequel = self._awaited_until = self.joined = None
        gone = [("DELETE FROM facts WHERE name = :name", {"name": name}) for name in (BEHIND, GOES_ON)]
        return [*measured, *gone]

    async def take_in(
        self,
        recording: Recording,
        parts: Sequence[tuple[Part, Sequence[RecordingSegment]]],
        *,
        instead: bool = False,
        is_written: bool = False,
    ) -> bool:
        """Insert a recording that was found in the bucket, and keep its segments; False if it is known.

        With ``instead``, it replaces the known one. ``is_written``: the bucket has it in this state. One that
        has not ended is the beginning of the recording of the stream that goes on here, or waits for that.
        Other transactions need not wait for a long one. Raises CatalogError, and ValueError for contradictory
        data.
        """
        row: rows.Row = asdict(recording) | {
            "deleted": rows.optional_microseconds(recording.deleted),
            "titled": bool(recording.title),
            "started": rows.to_microseconds(recording.started),
            "ended": rows.optional_microseconds(recording.ended),
            "keep_until": rows.optional_microseconds(recording.keep_until),
            "duration": rows.to_microseconds(recording.duration),
            "written": recording.revision if is_written else 0,
        }
        del row["file"]
        await check(self._writer, [segment for _, segments in parts for segment in segments])
        async with self._taking_in:
            known, name = "SELECT 1 FROM recordings WHERE id = :id", {"id": recording.id}
            if not instead and await self._writer.select(known, name, bool):
                return False
            last = await self._insert(recording, parts)
            if recording.ended is None and self._sequel is None and self.on is not None:
                await self._writer.write(*self.forget(recording))  # another stream has begun meanwhile
                return False
            statements = [rows.insert("recordings", row)]
            if file := recording.file:
                columns = {"key": file.key, "size": file.size, "type": file.type, "begun": row["started"]}
                stored = {**columns, "recording": recording.id, "step": "stored"}
                statements.append(rows.insert("files", stored, "INSERT OR IGNORE"))
            self._ids.add(recording.id)
            if recording.ended is None:
                variants = frozenset(segment.variant for segment in parts[-1][1])
                statements += self._join(recording, last, variants)
            await self._writer.write(*statements)
        return True

    async def _insert(
        self, recording: Recording, parts: Sequence[tuple[Part, Sequence[RecordingSegment]]]
    ) -> int:
        """Insert parts without their recording, in pieces; returns the number of the last part.

        Such parts are nothing: what an earlier attempt has left is removed. Raises CatalogError.
        """
        if recording.ended is None and self._sequel:
            numbers = range(self._sequel.part - len(parts), self._sequel.part)
        else:
            numbers = range(self._newest_part + 1, self._newest_part + 1 + len(parts))
            self._newest_part += len(parts)

        def question(statements: Sequence[rows.Statement], segments: Sequence[RecordingSegment]) -> None:
            added = [rows.shared_segment(segment, number) for segment in segments]
            self._writer.transact([*statements, *added, *((rows.STAY, row) for _, row in added)])

        first = self.forget(recording)
        for number, (part, segments) in zip(numbers, parts, strict=True):
            row = {"number": number, "recording": recording.id, **rows.described_row(part.described)}
            first.append(rows.insert("parts", row))
            for begin in range(0, max(len(segments), 1), rows.MOST):
                await self._writer.read(partial(question, first, segments[begin : begin + rows.MOST]))
                first = []
        return numbers[-1]

    def _join(self, recording: Recording, part: int, variants: AbstractSet[str]) -> list[rows.Statement]:
        """Statements that let the stream here go on with a recording of the bucket, whose last part this is.

        Its own recording, which may have ended, goes into that one. The segments of before come first.
        """
        sequel, until = self._sequel, self._awaited_until
        self._sequel, self._awaited_until, self.joined = None, None, recording.id
        noted = rows.fact(GOES_ON, f"known {recording.id}")
        if sequel is None:
            self.on, self._started, self._until = recording.id, recording.started, until
            self.part, self._variants = part, variants
            return [noted, (rows.COME_LATER, {"next": part + 1})]
        values = {"id": recording.id, "sequel": sequel.id, "last": part, "next": sequel.part}
        if self.on == sequel.id:
            self.on, self._started = recording.id, recording.started
        statements = [(rows.COME_LATER, values)]
        if sequel.variants <= variants:
            statements += [(statement, values) for statement in rows.GO_ON_IN_PART]
            if rows.described_of(self._described).uris >= variants:
                statements.append((rows.DESCRIBE, {**self._described, "number": part}))
            if self.part == sequel.part:
                self.part, self._variants = part, variants
        return [noted, *statements, *((statement, values) for statement in rows.JOIN), (rows.MEASURE, values)]

    def _next_part(self) -> int:
        """A number that no part has yet."""
        self._newest_part += 1
        return self._newest_part

    def _resume(self) -> None:
        """Go on with the recording of an earlier process; if streams are no longer recorded, end it."""
        execute = self._writer.connection.execute
        for name, value in execute("SELECT name, value FROM facts WHERE name IN ('variants', 'renditions')"):
            self._described[name] = value
        self._ids.update(name for (name,) in execute("SELECT id FROM recordings"))
        self._newest_part = execute("SELECT coalesce(max(number), 0) FROM parts").fetchone()[0]
        newest = execute(
            """
            SELECT number, id, started FROM recordings JOIN parts ON recording = id WHERE ended IS NULL
            ORDER BY number DESC LIMIT 1
            """
        ).fetchone()
        if newest:
            self.part, self.on, self._started = newest[0], newest[1], rows.time_of(newest[2])
        # All live variants go on, whichever of them comes first.
        live = """
            SELECT variant FROM playlists WHERE current AND NOT ended
            UNION SELECT variant FROM segments WHERE part = ?
            """
        self._variants = frozenset(variant for (variant,) in execute(live, (self.part,)))
        if self.on and not execute("SELECT 1 FROM playlists").fetchone():
            self._until = self._policy.time + BEFORE_FIRST
        (going_on,) = execute("SELECT value FROM facts WHERE name = ?", (GOES_ON,)).fetchone() or ("",)
        how, _, which = going_on.partition(" ")
        if how == "until":
            self._awaited_until = rows.time_of(int(which))
            self._newest_part += MOST_PARTS
        elif how == "known":
            self.joined = which
        elif how == "with":
            first = "SELECT min(number) FROM parts WHERE recording = ?"
            (number,) = execute(first, (which,)).fetchone()
            found = execute("SELECT DISTINCT variant FROM segments WHERE part = ?", (number,))
            if number is not None:
                self._sequel = _Sequel(which, number, frozenset(variant for (variant,) in found))
        if self.on and self._policy.keep == 0:
            self._writer.write(*self.end())


class _Sequel(NamedTuple):
    """The recording here of a stream that another broadcaster has begun: its first part and variants."""

    id: str
    part: int
    variants: AbstractSet[str]


async def check(writer: TransactionWriter, segments: Sequence[RecordingSegment]) -> None:
    """Check that the catalog can take segments of the bucket; raises CatalogError, or else ValueError."""
    keys = {segment.key for segment in segments}
    maps = {segment.map_key for segment in segments if segment.map_key}
    both = keys & maps
    queries = [*((key, rows.IS_MAP) for key in keys), *((key, rows.IS_SEGMENT) for key in maps)]

    def question(begin: int) -> None:
        for segment in segments[begin : begin + rows.MOST]:
            values = rows.recording_segment_row(segment, None).values()
            if any(isinstance(value, int) and abs(value) > LARGEST for value in values):
                raise ValueError(f"{segment.key} has a number that is too large")
        for key, query in queries[begin : begin + rows.MOST]:
            if key in both or writer.connection.execute(query, {"key": key}).fetchone()[0]:
                raise ValueError(f"{key} is both a segment and an EXT-X-MAP")

    for begin in range(0, max(len(queries), len(segments)), rows.MOST):
        await writer.read(partial(question, begin))


# A recording has at most one file in each step, apart from removed files.
ABANDON = "UPDATE files SET step = 'removed' WHERE recording = :recording AND step = 'uploading'"
DELETE = """
UPDATE files SET step = 'removed', deleted = :at WHERE recording = :recording AND step = 'stored'
"""
STORE = "UPDATE files SET step = 'stored', etag = :etag WHERE key = :key"
RESTORE = "UPDATE files SET step = 'stored', deleted = NULL WHERE key = :key"
CHANGED = "UPDATE recordings SET revision = revision + 1 WHERE id = :recording"
# Until a change is in the bucket, the index there may name the file that was there before.
REMOVABLE = f"""
step = 'removed' AND (deleted IS NULL OR {BIN_OVER})
    AND NOT EXISTS (SELECT 1 FROM recordings WHERE id = files.recording AND written < revision)
"""  # noqa: S608 - a constant


class FileTable:
    """The files of the catalog. Reads raise CatalogError while the disk fails."""

    def __init__(self, writer: TransactionWriter, policy: RetentionPolicy) -> None:
        self._writer, self._policy = writer, policy

    async def uploading(self, recording: str | None = None) -> list[MultipartUpload]:
        """The uploads under way: one at most for a recording; of all recordings without an ID."""
        condition = "step = 'uploading' AND recording = ifnull(:recording, recording)"
        return await self._where(condition, {"recording": recording})

    async def begin(self, upload: MultipartUpload) -> None:
        """Begin an upload, which replaces any other; raises NotPossible when its recording is gone."""
        row: Row = {**asdict(upload), "begun": to_microseconds(upload.begun), "step": "uploading"}
        known = "SELECT 1 FROM recordings WHERE id = :recording"
        if not await self._write_if(known, row, (ABANDON, row), insert("files", row)):
            raise NotPossible("the recording is gone")

    async def store(self, upload: MultipartUpload, etag: str) -> bool:
        """Note that the upload is complete; the former file goes into the bin. False if it was abandoned."""
        values: Row = {"recording": upload.recording, "key": upload.key, "etag": etag, "at": self._policy.now}
        known = "SELECT 1 FROM files WHERE key = :key AND step = 'uploading'"
        return await self._write_if(known, values, (DELETE, values), (STORE, values), (CHANGED, values))

    def abandon(self, recording: str) -> Transaction:
        """Abandon the upload of a recording."""
        return self._writer.write((ABANDON, {"recording": recording}))

    def delete(self, recording: str, *, at_once: bool = False) -> Transaction:
        """Move the file of a recording into the bin for a day, or delete it ``at_once``."""
        values: Row = {"recording": recording, "at": 0 if at_once else self._policy.now}
        return self._writer.write((DELETE, values), (CHANGED, values))

    async def bin(self) -> list[MultipartUpload]:
        """The files in the bin, the latest first."""
        return await self._where(
            "deleted > 0 AND recording IN (SELECT id FROM recordings) ORDER BY deleted DESC"
        )

    async def restore(self, file: MultipartUpload) -> None:
        """Take a file out of the bin; the recording's present file goes into it. Raises NotPossible."""
        values: Row = {"recording": file.recording, "key": file.key, "at": self._policy.now}
        known = "SELECT 1 FROM files WHERE key = :key AND deleted > 0"
        if not await self._write_if(known, values, (DELETE, values), (RESTORE, values), (CHANGED, values)):
            raise NotPossible("it is not in the bin any more")

    def empty(self, file: MultipartUpload) -> Transaction:
        """Delete a file from the bin."""
        update = "UPDATE files SET deleted = 0 WHERE key = :key AND deleted > 0"
        return self._writer.write((update, {"key": file.key}))

    async def removed(self, begun_before: datetime) -> list[MultipartUpload]:
        """The files to delete from the bucket; uploads begun before that time are abandoned.

        They leave the bin first: once the bucket has deleted a file, it cannot be restored.
        """
        bounds: Row = {**self._policy.bounds()}
        late = "UPDATE files SET step = 'removed' WHERE step = 'uploading' AND begun < :before"
        over = f"UPDATE files SET deleted = 0 WHERE deleted > 0 AND {REMOVABLE}"  # noqa: S608 - a constant
        await self._writer.write((late, {"before": to_microseconds(begun_before)}), (over, bounds))
        return await self._where(REMOVABLE, bounds)

    def forget(self, upload: MultipartUpload) -> Transaction:
        """Forget a file that the bucket has deleted."""
        delete = "DELETE FROM files WHERE key = :key AND step = 'removed'"
        return self._writer.write((delete, {"key": upload.key}))

    async def _where(self, condition: str, values: Row | None = None) -> list[MultipartUpload]:
        query = f"SELECT * FROM files WHERE {condition}"  # noqa: S608 - a constant
        return await self._writer.select(query, values or {}, upload_of)

    async def _write_if(self, query: str, values: Row, *statements: Statement) -> bool:
        """Commit the statements if the query finds a row; returns whether it did."""

        def question() -> bool:
            if not self._writer.connection.execute(query, values).fetchone():
                return False
            self._writer.transact(statements)
            return True

        return await self._writer.read(question)
