"""Records each step of a segment in one transaction, and loads the state of an earlier process at a start."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from broadcaster.catalog import rows
from broadcaster.catalog.clips import ClipTable
from broadcaster.catalog.recordings import BEHIND, FileTable, RecordingTable, RetentionPolicy
from broadcaster.catalog.records import (
    LENGTH,
    LONG,
    CatalogSnapshot,
    Clip,
    FileIdentity,
    NumberedSegment,
    Numbers,
    PlaylistState,
    PlaylistUpdate,
    Recording,
    Run,
    Segment,
    SegmentStep,
    SourcePosition,
    SourceSnapshot,
    StreamSnapshot,
)
from broadcaster.catalog.schema import open_database
from broadcaster.catalog.writer import Transaction, TransactionWriter
from broadcaster.errors import CatalogError, NotPossible
from broadcaster.hls import MultivariantPlaylist

logger = logging.getLogger(__name__)

REMEMBERED = 2000  # deleted segments of each variant: enough to recognise the source's whole playlist
FORGET_EVERY = 200  # listings of a variant
# After a power cut the file may be some seconds behind the playlists that viewers have. No variant has so
# many segments in that time: numbers that are raised by the margin were never used.
MARGIN = 1000
# A step in the index for each variant: DISTINCT would read every segment of every recording.
VARIANTS = """
WITH RECURSIVE names (variant) AS (
    SELECT min(variant) FROM segments
    UNION ALL
    SELECT (SELECT min(variant) FROM segments WHERE variant > names.variant) FROM names
    WHERE names.variant IS NOT NULL
)
SELECT variant FROM names WHERE variant IS NOT NULL
"""
GIVEN_UP_TARGET_DURATIONS = 10  # for which players may still ask for what was listed
FIRST = "first numbers"  # of playlists, since another broadcaster has led
EXPECTED, FIRST_TIME = "expected variants", "first time"  # of the stream that it had, and of runs
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NOTICED = """
SELECT 1 FROM segments WHERE part IN (SELECT number FROM parts WHERE recording = :recording)
    AND noticed >= :begin AND noticed - duration < :end AND fault IS NULL LIMIT 1
"""
NOTE_SIZE = """
UPDATE segments SET size = :size WHERE (key = :key OR shared_key = :key) AND fault IS NULL AND size = 0
"""


def load(connection: sqlite3.Connection) -> CatalogSnapshot:
    """The state of an earlier process; raises sqlite3.Error, and other exceptions for invalid rows."""
    connection.row_factory = sqlite3.Row
    runs = {
        row["number"]: Run(row["number"], row["id"], row["identity"])
        for row in connection.execute("SELECT number, id, identity FROM runs ORDER BY number")
    }
    pending = connection.execute(
        "SELECT * FROM segments WHERE step IN ('noticed', 'stored', 'lost') ORDER BY position"
    )
    variants = [row["variant"] for row in connection.execute(VARIANTS)]
    positions = {variant: _position(connection, variant, runs) for variant in variants}
    stream = _stream(connection)
    first_run = stream.first.discontinuity + 1
    known = {
        name: position
        for name, position in positions.items()
        if position and position.run.number >= first_run
    }
    return CatalogSnapshot(
        source=SourceSnapshot(
            tuple(run for run in runs.values() if run.number >= first_run), known, next_run=first_run
        ),
        stream=stream,
        pending=[rows.segment_of(row, runs) for row in pending],
    )


def boot_id() -> str:
    """The kernel's ID of this start of the machine; empty where the system has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def raise_numbers(connection: sqlite3.Connection) -> bool:
    """Raise all numbers by the margin if the file was not closed before the machine started again."""
    row = connection.execute("SELECT value FROM facts WHERE name = 'boot'").fetchone()
    if row is None or row[0] == boot_id():
        return False
    connection.executescript(
        f"""
        BEGIN;
        UPDATE playlists SET
            media_sequence = media_sequence + {MARGIN}, next_media_sequence = next_media_sequence + {MARGIN};
        -- In two steps: a number must not meet the next one while it is raised.
        UPDATE segments SET number = -number - {MARGIN} WHERE step = 'listed';
        UPDATE segments SET number = -number WHERE step = 'listed';
        DELETE FROM facts WHERE name = 'boot';
        COMMIT;
        """  # noqa: S608 - a constant
    )
    return True


def _position(connection: sqlite3.Connection, variant: str, runs: dict[int, Run]) -> SourcePosition | None:
    """The latest segments in the source's numbering, of all runs."""
    found = connection.execute(
        """
        SELECT run, sequence, uri, program_date_time, target_duration, independent, inode, modified_ns,
            file_size FROM segments
        WHERE variant = ? AND sequence IS NOT NULL ORDER BY position DESC LIMIT ?
        """,
        (variant, REMEMBERED),
    )
    position: SourcePosition | None = None
    oldest, files = 0, dict[int, FileIdentity]()
    for row in found:
        if position is None:
            run, target = runs[row["run"]], max(row["target_duration"], 1)
            position = SourcePosition(run, {}, target, bool(row["independent"]), files)
        elif row["sequence"] >= oldest:
            break  # an earlier numbering
        oldest = row["sequence"]
        position.known[oldest] = (row["uri"], rows.time_of(row["program_date_time"]))
        if row["inode"]:
            files[oldest] = FileIdentity(row["inode"], row["modified_ns"], row["file_size"])
    return position


def _stream(connection: sqlite3.Connection) -> StreamSnapshot:
    states = [rows.playlist_of(row) for row in connection.execute("SELECT * FROM playlists")]
    facts = {row["name"]: row["value"] for row in connection.execute("SELECT name, value FROM facts")}
    newest = connection.execute("SELECT number, id, shift FROM runs ORDER BY number DESC LIMIT 10").fetchall()
    playlists = list[tuple[PlaylistState, Sequence[NumberedSegment]]]()
    kept = dict[str, Sequence[NumberedSegment]]()
    for state in states:
        listed = _listed(connection, state)
        older = [entry for entry in listed if entry[0] < state.media_sequence]
        kept[state.variant] = older
        playlists.append((state, listed[len(older) :]))
    return StreamSnapshot(
        playlists=playlists,
        kept=kept,
        described=rows.described_of(rows.NOT_DESCRIBED | facts),
        shifts={row["number"]: row["shift"] * rows.MICROSECOND for row in newest if row["shift"] is not None},
        runs=[row["id"] for row in reversed(newest)],
        first=rows.numbers_of(facts.get(FIRST)),
        end=rows.time_of(int(facts[FIRST_TIME])) if FIRST_TIME in facts else None,
        expected=frozenset() if states else frozenset(json.loads(facts.get(EXPECTED, "[]"))),
    )


def _listed(connection: sqlite3.Connection, state: PlaylistState) -> list[NumberedSegment]:
    found = connection.execute(
        """
        SELECT number, url, duration, discontinuity, map_url, time, fault, independent, iframe_offset,
            iframe_length FROM segments
        WHERE step = 'listed' AND variant = ? ORDER BY number
        """,
        (state.variant,),
    )
    listed, discontinuity = list[NumberedSegment](), state.discontinuity_sequence
    for row in found:
        if not listed and row["number"] < state.media_sequence:
            discontinuity = row["discontinuity"]  # the first segment has no EXT-X-DISCONTINUITY
        listed.append((row["number"], rows.listed_segment(row, discontinuity), bool(row["independent"])))
        discontinuity = row["discontinuity"]
    return listed


class Catalog:
    """The catalog in ``folder``. Its ``writer`` commits transactions, inside ``async with`` in a thread.

    Segments without a reference are kept for ``retention`` at least, a stream's recording for ``recordings``;
    None is for ever, and with zero, streams are not recorded. ``long_ids``: IDs of new recordings and clips
    have 128 random bits and more. ``clock`` must not jump: it decides about
    deletions. ``wall`` may jump; recordings expire only by both. ``stored_bytes`` is the size of the segments
    in the bucket at the latest deletion. Raises CatalogError when the file cannot be used, OSError when the
    folder cannot be made.
    """

    def __init__(  # noqa: PLR0913 - the file, the clocks, and what is kept
        self,
        folder: Path,
        clock: Callable[[], datetime],
        retention: timedelta | None = timedelta(),
        recordings: timedelta | None = timedelta(),
        wall: Callable[[], datetime] | None = None,
        *,
        long_ids: bool = False,
    ) -> None:
        self._opened = clock()
        self._path = folder / "journal.db"
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = TransactionWriter(open_database(self._path))
        self._connection.row_factory = sqlite3.Row
        self._listings: Counter[str] = Counter()  # by variant
        self._runs: set[str] = set()
        self._policy = RetentionPolicy(clock, wall, retention, recordings, LONG if long_ids else LENGTH)
        self.recordings = RecordingTable(self.writer, self._policy)
        self.clips = ClipTable(self.writer, self._policy)
        self.files = FileTable(self.writer, self._policy)
        # Whether another broadcaster may have changed recordings and clips: then nothing is decided by them.
        facts = {
            row["name"]: row["value"] for row in self._connection.execute("SELECT name, value FROM facts")
        }
        self.is_behind, self.first = BEHIND in facts, rows.numbers_of(facts.get(FIRST))
        self._prefixes: tuple[str, ...] = tuple(facts.get("prefixes", "").split())
        if retention is None:
            keep = "UPDATE segments SET delete_at = NULL WHERE step = 'unlisted' AND delete_at > 0"
            self.writer.write((keep, {}))
        self.stored_bytes = int(self._connection.execute(rows.STORED_BYTES).fetchone()[0])

    @property
    def _connection(self) -> sqlite3.Connection:
        return self.writer.connection

    def close(self) -> None:
        """Write queued transactions if possible, and close the file."""
        try:
            self.writer.write(("DELETE FROM facts WHERE name = 'boot'", {}))  # numbers need no margin
        finally:
            self._connection.close()

    def load(self) -> CatalogSnapshot:
        """The state of an earlier process; raises CatalogError."""
        try:
            if raise_numbers(self._connection):
                logger.warning("the machine was not shut down in order: numbers go on with a margin")
            snapshot = load(self._connection)
        except (sqlite3.Error, LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise CatalogError(
                f"{self._path} does not make sense ({error}); move it away to start with an empty one"
            ) from None
        self.writer.write(rows.fact("boot", boot_id()), sync=True)
        return snapshot

    def knows(self, key: str) -> bool:
        """Whether the key is or was of a segment or an EXT-X-MAP."""
        query = "SELECT 1 FROM segments WHERE key = :key OR map_key = :key"
        return self._connection.execute(query, {"key": key}).fetchone() is not None

    def now(self) -> datetime:
        """The time by the clock that decides about deletions."""
        return self._policy.time

    def noticed(self, segment: Segment) -> Transaction:
        """Write a segment that was found."""
        is_new = segment.run.id not in self._runs
        self._runs.add(segment.run.id)
        noticed = rows.insert("segments", rows.segment_row(segment, SegmentStep.NOTICED), "INSERT OR IGNORE")
        return self.writer.write(rows.insert_run(segment.run), noticed, sync=is_new)

    def stored(self, segment: Segment) -> Transaction:
        """Write a segment that is in the bucket, or lost."""
        step = SegmentStep.LOST if segment.gap else SegmentStep.STORED
        return self.writer.write(rows.save(rows.segment_row(segment, step)))

    def listed(
        self,
        updates: Sequence[PlaylistUpdate],
        retired: Sequence[PlaylistState] = (),
        availability: timedelta = timedelta(),
        *,
        trimmed: Mapping[str, int] = MappingProxyType({}),
        over: bool = False,
    ) -> Transaction:
        """Write the updates of playlists in one transaction.

        ``retired`` playlists have ended; if they are not current, they list nothing any more. Their segments,
        and those below the numbers of ``trimmed``, by variant, stay readable for ``availability``. ``over``
        ends the stream and its recording.
        """
        gone = {state.variant for state in retired if not state.current}
        statements = self.recordings.take([update.segment for update in updates], gone)
        is_new = any(update.segment.variant not in self._listings for update in updates)
        for update in updates:
            statements += self._update(update)
            variant = update.segment.variant
            self._listings[variant] += 1
            if self._listings[variant] % FORGET_EVERY == 0:
                statements.append((rows.FORGET, {"variant": variant, "remembered": REMEMBERED}))
        for state in retired:
            statements.append(rows.replace_in("playlists", rows.playlist_row(state)))
            if not state.current:
                statements += self._unlist(state.variant, state.next_media_sequence, availability)
        for variant, below in trimmed.items():
            statements += self._unlist(variant, below, availability)
        if over:
            statements += self.recordings.end()
        return self.writer.write(*statements, sync=is_new)

    def begin_after(self, numbers: Numbers, until: datetime | None = None) -> None:
        """Let all playlists begin after these numbers: another broadcaster has led meanwhile.

        What was listed here is listed no more, what was on its way is given up, the recording has ended, and
        the catalog is behind the bucket. A stream that begins here ``until`` a time goes on with the bucket's
        open recording. Call it before ``load``; raises CatalogError.
        """
        states = [rows.playlist_of(row) for row in self._connection.execute("SELECT * FROM playlists")]
        statements = [
            statement
            for state in states
            for statement in self._unlist(
                state.variant,
                state.next_media_sequence,
                GIVEN_UP_TARGET_DURATIONS * timedelta(seconds=state.target_duration),
            )
        ]
        first = f"{numbers.sequence} {numbers.discontinuity}"
        reached = [rows.fact(FIRST, first), rows.fact(EXPECTED, json.dumps(sorted(numbers.variants or ())))]
        if numbers.end:
            reached.append(rows.fact(FIRST_TIME, str(rows.to_microseconds(numbers.end))))
        statements += [
            ("DELETE FROM playlists", {}),
            ("DELETE FROM facts WHERE name = :name", {"name": FIRST_TIME}),
            ("UPDATE runs SET identity = identity || ' before ' || :first", {"first": first}),
            (rows.GIVE_UP, {"now": self._policy.now}),
        ]
        statements += [*reached, *self.recordings.end(), *self.recordings.await_stream(until)]
        self.writer.write(*statements, sync=True)
        self.is_behind, self.first = True, numbers

    def check_not_behind(self) -> None:
        """Raise NotPossible while the catalog is behind the bucket."""
        if self.is_behind:
            text = "recordings and clips of another broadcaster are being read: try again in a minute"
            raise NotPossible(text)

    def caught_up(self) -> Transaction:
        """Note that recordings and clips are those of the bucket."""
        self.is_behind = False
        return self.writer.write(*self.recordings.caught_up())

    def described(self, described: MultivariantPlaylist) -> Transaction:
        """Write the source's variants."""
        facts = (rows.fact(name, text) for name, text in rows.described_row(described).items())
        return self.writer.write(*facts, *self.recordings.describe(described))

    def prefixes(self, prefix: str) -> tuple[str, ...]:
        """Note the present prefix; returns all prefixes that keys have had, the present one last.

        Below another prefix than before, all recordings and clips are written again.
        """
        known = (*(other for other in self._prefixes if other != prefix), prefix)
        if known != self._prefixes:
            statements = [rows.fact("prefixes", " ".join(known))]
            if self._prefixes:
                statements += [(rows.RECORDING_AGAIN, {}), (rows.CLIP_AGAIN, {})]
            self._prefixes = known
            self.writer.write(*statements)
        return known

    async def views(self) -> list[Recording | Clip]:
        """All recordings and clips, also in the bin, and until their last object is deleted."""
        return [*await self.recordings.every(), *await self.clips.every()]

    async def was_noticed(self, recording: str, begin: datetime, end: datetime) -> bool:
        """Whether a recording has media of a time by this machine's clock: from ``begin`` on, before ``end``.

        The times of the recording are the encoder's, whose clock may be wrong.
        """
        bounds = {"begin": rows.to_microseconds(begin), "end": rows.to_microseconds(end)}
        return bool(await self.writer.select(NOTICED, {"recording": recording, **bounds}, tuple))

    async def due(self, most: int) -> list[str]:
        """Keys of objects to delete now, oldest first; none while the disk fails."""
        try:
            return await self.writer.read(lambda: self._due(most))
        except CatalogError:
            return []

    async def deleted(self, keys: Iterable[str]) -> None:
        """Note that the bucket has deleted these objects."""
        updates = "SET step = 'deleted' WHERE key = :key", "SET map_key = NULL WHERE map_key = :key"
        statements = ((f"UPDATE segments {update}", {"key": key}) for key in keys for update in updates)
        await self.writer.write(*statements)

    async def postponed(self, keys: Iterable[str], by: timedelta) -> None:
        """Note that the bucket could not delete these objects: they are due again later."""
        at = rows.to_microseconds(self.now() + by)
        update = "UPDATE segments SET delete_at = :at WHERE key = :key OR map_key = :key AND step = 'deleted'"
        await self.writer.write(*((update, {"at": at, "key": key}) for key in keys))

    def note_sizes(self, objects: Iterable[tuple[str, int]]) -> Transaction:
        """Write the sizes in bytes of restored segments."""
        return self.writer.write(*((NOTE_SIZE, {"key": key, "size": size}) for key, size in objects))

    def write_again(self, names: Iterable[str]) -> Transaction:
        """Have these recordings and clips written again: their sizes may have been unknown before."""
        updates = f"{rows.RECORDING_AGAIN} WHERE id = :id", f"{rows.CLIP_AGAIN} WHERE id = :id"
        return self.writer.write(*((update, {"id": name}) for name in names for update in updates))

    def _update(self, update: PlaylistUpdate) -> list[rows.Statement]:
        segment, playlist, added = update.segment, update.playlist, update.added
        statements = [
            rows.insert_run(segment.run),
            (
                "UPDATE runs SET shift = :shift WHERE number = :number",
                {"number": segment.run.number, "shift": rows.to_microseconds(update.shift)},
            ),
            rows.replace_in("playlists", rows.playlist_row(playlist)),
        ]
        discontinuity = playlist.current_discontinuity - sum(entry.discontinuity for _, entry, _ in added)
        row = rows.segment_row(segment, SegmentStep.LISTED)
        row |= {"availability": rows.to_microseconds(update.availability), "part": self.recordings.part}
        gap = {"variant": segment.variant, "fault": segment.fault or "nothing came"}
        is_too_long = bool(segment.size and added[-1][1].gap)
        for place, (number, entry, independent) in enumerate(added, 1):
            discontinuity += entry.discontinuity
            columns = rows.listed_row(number, entry, discontinuity) | {"independent": independent}
            is_own = place == len(added) and not is_too_long
            statements.append(rows.save(row | columns) if is_own else rows.insert("segments", gap | columns))
        if is_too_long:  # below the window, which has gaps instead; in recordings and clips it is whole
            whole = replace(segment.media, gap=False, program_date_time=segment.time)
            statements.append(rows.save(row | rows.listed_row(-1, whole, discontinuity) | {"fault": None}))
        return statements + self._unlist(segment.variant, update.first, update.availability)

    def _unlist(self, variant: str, below: int, availability: timedelta) -> list[rows.Statement]:
        values = {
            "variant": variant,
            "below": below,
            "now": self._policy.now,
            "availability": rows.to_microseconds(availability),
            "retention": self._policy.retention,  # None: DELETE_AT is NULL
        }
        return [(rows.UNLIST_GAPS, values), (rows.UNLIST, values)]

    def _due(self, most: int) -> list[str]:
        self.stored_bytes = int(self._connection.execute(rows.STORED_BYTES).fetchone()[0])
        now = self.now()
        values = {
            "now": rows.to_microseconds(now),
            "opened": rows.to_microseconds(self._opened),
            "here": rows.to_microseconds(now - self._opened),
            "most": most,
        }
        keys = [row[0] for row in self._connection.execute(rows.DUE, values)]
        return keys or [row[0] for row in self._connection.execute(rows.DUE_MAPS, values)]
