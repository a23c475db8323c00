"""Records each step of a segment in one transaction, and loads the state of an earlier process at a start."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType

from broadcaster.catalog.clips import Clips
from broadcaster.catalog.files import Files
from broadcaster.catalog.recordings import Expiry, Recordings
from broadcaster.catalog.records import (
    ChannelMemory,
    FileIdentity,
    Listed,
    Listing,
    Memory,
    PlaylistState,
    Run,
    Segment,
    SourceMemory,
    Step,
)
from broadcaster.catalog.records import SourcePosition as Position
from broadcaster.catalog.rows import (
    DUE,
    DUE_MAPS,
    EPOCH,
    FORGET,
    MICROSECOND,
    NOT_DESCRIBED,
    STORED_BYTES,
    UNLIST,
    UNLIST_GAPS,
    Row,
    Statement,
    described_of,
    described_row,
    fact,
    insert,
    insert_run,
    listed_row,
    listed_segment,
    playlist_of,
    playlist_row,
    replace_in,
    save,
    segment_of,
    segment_row,
    to_microseconds,
)
from broadcaster.catalog.schema import open_database
from broadcaster.catalog.writer import Transaction, Writer
from broadcaster.errors import CatalogError
from broadcaster.hls import MultivariantPlaylist

REMEMBERED = 2000  # segments of each variant: enough to recognise a source's whole playlist again
# After a power cut the file may be some seconds behind what viewers were told. No variant has brought so many
# segments in that time: numbers that are raised by it were never used.
MARGIN = 1000
# One step in the index for each: a DISTINCT would go through every segment of every recording.
VARIANTS = """
WITH RECURSIVE names (variant) AS (
    SELECT min(variant) FROM segments
    UNION ALL
    SELECT (SELECT min(variant) FROM segments WHERE variant > names.variant) FROM names
    WHERE names.variant IS NOT NULL
)
SELECT variant FROM names WHERE variant IS NOT NULL
"""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def load(connection: sqlite3.Connection) -> Memory:
    """Read it all; raises sqlite3.Error, and others where it makes no sense."""
    connection.row_factory = sqlite3.Row
    runs = {
        row["number"]: Run(row["number"], row["id"], row["identity"])
        for row in connection.execute("SELECT number, id, identity FROM runs ORDER BY number")
    }
    pending = connection.execute(
        "SELECT * FROM segments WHERE step IN ('noticed', 'stored', 'lost') ORDER BY position"
    )
    variants = [row["variant"] for row in connection.execute(VARIANTS)]
    positions = {name: _position(connection, name, runs) for name in variants}
    return Memory(
        source=SourceMemory(tuple(runs.values()), {name: one for name, one in positions.items() if one}),
        channel=_channel(connection),
        pending=[segment_of(row, runs) for row in pending],
    )


def boot_id() -> str:
    """What tells one start of the machine from the next; empty where the system has no such thing."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def raise_numbers(connection: sqlite3.Connection) -> bool:
    """If the machine has started anew, and the file was not closed before, raise every number to come."""
    row = connection.execute("SELECT value FROM facts WHERE name = 'boot'").fetchone()
    if row is None or row[0] == boot_id():
        return False
    connection.executescript(
        f"""
        BEGIN;
        UPDATE playlists SET
            media_sequence = media_sequence + {MARGIN}, next_media_sequence = next_media_sequence + {MARGIN};
        -- In two steps: a number on its way up must not meet the next one.
        UPDATE segments SET number = -number - {MARGIN} WHERE step = 'listed';
        UPDATE segments SET number = -number WHERE step = 'listed';
        DELETE FROM facts WHERE name = 'boot';
        COMMIT;
        """  # noqa: S608 - a constant
    )
    return True


def _position(connection: sqlite3.Connection, variant: str, runs: dict[int, Run]) -> Position | None:
    """The segments that the source listed last: back to where its numbers began, whatever the run."""
    rows = connection.execute(
        """
        SELECT run, sequence, uri, program_date_time, target_duration, independent, inode, modified_ns,
            file_size FROM segments
        WHERE variant = ? AND sequence IS NOT NULL ORDER BY position DESC LIMIT ?
        """,
        (variant, REMEMBERED),
    )
    position: Position | None = None
    oldest, files = 0, dict[int, FileIdentity]()
    for row in rows:
        if position is None:
            run, target = runs[row["run"]], max(row["target_duration"], 1)
            position = Position(run, {}, target, bool(row["independent"]), files)
        elif row["sequence"] >= oldest:
            break  # an earlier numbering
        oldest = row["sequence"]
        position.known[oldest] = (row["uri"], EPOCH + row["program_date_time"] * MICROSECOND)
        if row["inode"]:
            files[oldest] = FileIdentity(row["inode"], row["modified_ns"], row["file_size"])
    return position


def _channel(connection: sqlite3.Connection) -> ChannelMemory:
    states = [playlist_of(row) for row in connection.execute("SELECT * FROM playlists")]
    facts = {row["name"]: row["value"] for row in connection.execute("SELECT name, value FROM facts")}
    newest = connection.execute("SELECT number, id, shift FROM runs ORDER BY number DESC LIMIT 10").fetchall()
    playlists, kept = list[tuple[PlaylistState, Sequence[Listed]]](), dict[str, Sequence[Listed]]()
    for state in states:
        listed = _listed(connection, state)
        older = [one for one in listed if one[0] < state.media_sequence]
        kept[state.variant] = older
        playlists.append((state, listed[len(older) :]))
    return ChannelMemory(
        playlists=playlists,
        kept=kept,
        described=described_of(NOT_DESCRIBED | facts),
        shifts={row["number"]: row["shift"] * MICROSECOND for row in newest if row["shift"] is not None},
        runs=[row["id"] for row in reversed(newest)],
    )


def _listed(connection: sqlite3.Connection, state: PlaylistState) -> list[Listed]:
    rows = connection.execute(
        """
        SELECT number, url, duration, discontinuity, map_url, time, fault, independent, iframe_offset,
            iframe_length FROM segments
        WHERE step = 'listed' AND variant = ? ORDER BY number
        """,
        (state.variant,),
    )
    listed, discontinuity = list[Listed](), state.discontinuity_sequence
    for row in rows:
        if not listed and row["number"] < state.media_sequence:
            discontinuity = row["discontinuity"]  # before the first, nobody can be told of a change
        listed.append((row["number"], listed_segment(row, discontinuity), bool(row["independent"])))
        discontinuity = row["discontinuity"]
    return listed


logger = logging.getLogger(__name__)

FORGET_EVERY = 200  # listings of a variant


class Catalog(Writer):
    """The book in ``folder``; what leaves its last view is kept for ``retention`` at least, for ever if None.

    ``recordings`` is for how long a stream's recording is kept, for ever if None; with zero none is made.
    ``clock`` gives the time, and must not jump: it tells what is to be deleted; ``wall`` may, and recordings
    go only when it agrees. ``stored_bytes`` is what the segments in the bucket took up when it was looked at
    last. Inside ``async with`` a thread of its own writes, so that nobody ever waits for the disk; outside,
    everything is written at once.
    Raises CatalogError when the file cannot be used, OSError when the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime],
        retention: timedelta | None = timedelta(),
        recordings: timedelta | None = timedelta(),
        wall: Callable[[], datetime] | None = None,
    ) -> None:
        self._clock = clock
        self._opened = clock()
        self._retention = None if retention is None else to_microseconds(retention)
        self._path = folder / "journal.db"
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(open_database(self._path))
        self._listings: Counter[str] = Counter()  # by variant
        self._runs: set[str] = set()
        keep = None if recordings is None else to_microseconds(recordings)
        expiry = Expiry(clock, wall)
        self.recordings = Recordings(self, clock, self._retention, keep, expiry)
        self.clips = Clips(self, clock, self._retention, keep, expiry)
        self.files = Files(self, clock, expiry)
        known = self.connection.execute("SELECT value FROM facts WHERE name = 'prefixes'").fetchone()
        self._prefixes: tuple[str, ...] = tuple(known[0].split()) if known else ()
        if retention is None:
            self.write(("UPDATE segments SET delete_at = NULL WHERE step = 'unlisted' AND delete_at > 0", {}))
        self.stored_bytes = int(self.connection.execute(STORED_BYTES).fetchone()[0])

    def close(self) -> None:
        """Write what can still be written and close the file."""
        try:
            self.write(("DELETE FROM facts WHERE name = 'boot'", {}))  # it is closed in order
        finally:
            self.connection.close()

    def load(self) -> Memory:
        """Return everything that an earlier process left; raises CatalogError."""
        try:
            if raise_numbers(self.connection):
                logger.warning("the machine was not shut down in order: numbers go on with a margin")
            memory = load(self.connection)
        except (sqlite3.Error, LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise CatalogError(
                f"{self._path} does not make sense ({error}); move it away to start with an empty one"
            ) from None
        self.write(fact("boot", boot_id()), sync=True)
        return memory

    def knows(self, key: str) -> bool:
        """Whether that was ever the key of a segment's object, or of its EXT-X-MAP's."""
        query = "SELECT 1 FROM segments WHERE key = :key OR map_key = :key"
        return self.connection.execute(query, {"key": key}).fetchone() is not None

    def now(self) -> datetime:
        """The time, by the clock that tells what is to be deleted."""
        return self._clock()

    def find(self, query: str, values: Row) -> bool:
        """Whether the query's only value is true; in a question."""
        return bool(self.connection.execute(query, values).fetchone()[0])

    def noticed(self, segment: Segment) -> Transaction:
        """A segment is on its way."""
        is_new = segment.run.id not in self._runs
        self._runs.add(segment.run.id)
        noticed = insert("segments", segment_row(segment, Step.NOTICED), "INSERT OR IGNORE")
        return self.write(insert_run(segment.run), noticed, sync=is_new)

    def stored(self, segment: Segment) -> Transaction:
        """The bucket has it, or it is lost."""
        return self.write(save(segment_row(segment, Step.LOST if segment.gap else Step.STORED)))

    def listed(
        self,
        listings: Sequence[Listing],
        retired: Sequence[PlaylistState] = (),
        availability: timedelta = timedelta(),
        *,
        trimmed: Mapping[str, int] = MappingProxyType({}),
        over: bool = False,
    ) -> Transaction:
        """Remember all of it or nothing.

        ``retired`` playlists have ended, or, no longer current, list nothing any more: that stays readable
        for ``availability``, and so does what is below the numbers of ``trimmed``, by variant. The stream may
        be ``over``, and so its recording.
        """
        gone = {state.variant for state in retired if not state.current}
        statements = self.recordings.take([listing.segment for listing in listings], gone)
        is_new = any(listing.segment.variant not in self._listings for listing in listings)
        for listing in listings:
            statements += self._listing(listing)
            variant = listing.segment.variant
            self._listings[variant] += 1
            if self._listings[variant] % FORGET_EVERY == 0:
                statements.append((FORGET, {"variant": variant, "remembered": REMEMBERED}))
        for state in retired:
            statements.append(replace_in("playlists", playlist_row(state)))
            if not state.current:
                statements += self._unlist(state.variant, state.next_media_sequence, availability)
        for variant, below in trimmed.items():
            statements += self._unlist(variant, below, availability)
        if over:
            statements += self.recordings.end()
        return self.write(*statements, sync=is_new)

    def described(self, described: MultivariantPlaylist) -> Transaction:
        """Remember what is told of the variants."""
        facts = (fact(name, text) for name, text in described_row(described).items())
        return self.write(*facts, *self.recordings.describe(described))

    def prefixes(self, prefix: str) -> tuple[str, ...]:
        """Remember this prefix; returns all that keys in this book have ever begun with, this one last.

        If it is another one than before, the bucket has nothing of recordings and clips where they belong.
        """
        known = (*(one for one in self._prefixes if one != prefix), prefix)
        if known != self._prefixes:
            statements = [fact("prefixes", " ".join(known))]
            if self._prefixes:  # what is told of recordings is told anew, there
                moved = "UPDATE recordings SET revision = revision + 1", "UPDATE clips SET written = 0"
                statements += [(one, {}) for one in moved]
            self._prefixes = known
            self.write(*statements)
        return known

    async def due(self, most: int) -> list[str]:
        """Keys of objects that have to be deleted now, oldest first."""
        return await self.ask(partial(self._due, most)) or []

    async def deleted(self, keys: Iterable[str]) -> None:
        """These objects are gone."""
        updates = "SET step = 'deleted' WHERE key = :key", "SET map_key = NULL WHERE map_key = :key"
        await self.write(*((f"UPDATE segments {one}", {"key": key}) for key in keys for one in updates))

    async def postponed(self, keys: Iterable[str], by: timedelta) -> None:
        """These could not be deleted: they are due again later."""
        at = to_microseconds(self._clock() + by)
        update = "UPDATE segments SET delete_at = :at WHERE key = :key OR map_key = :key AND step = 'deleted'"
        await self.write(*((update, {"at": at, "key": key}) for key in keys))

    def _listing(self, listing: Listing) -> list[Statement]:
        segment, playlist, added = listing.segment, listing.playlist, listing.added
        statements = [
            insert_run(segment.run),
            (
                "UPDATE runs SET shift = :shift WHERE number = :number",
                {"number": segment.run.number, "shift": to_microseconds(listing.shift)},
            ),
            replace_in("playlists", playlist_row(playlist)),
        ]
        discontinuity = playlist.current_discontinuity - sum(one.discontinuity for _, one, _ in added)
        row = segment_row(segment, Step.LISTED) | {"availability": to_microseconds(listing.availability)}
        row["part"] = self.recordings.part
        gap = {"variant": segment.variant, "fault": segment.fault or "nothing came"}
        is_too_long = bool(segment.size and added[-1][1].gap)
        for place, (number, one, independent) in enumerate(added, 1):
            discontinuity += one.discontinuity
            line = listed_row(number, one, discontinuity) | {"independent": independent}
            own = place == len(added) and not is_too_long
            statements.append(save(row | line) if own else insert("segments", gap | line))
        if is_too_long:  # for the window, below which its number is; other views have it whole
            whole = replace(segment.media, gap=False, program_date_time=segment.time)
            statements.append(save(row | listed_row(-1, whole, discontinuity) | {"fault": None}))
        return statements + self._unlist(segment.variant, listing.first, listing.availability)

    def _unlist(self, variant: str, below: int, availability: timedelta) -> list[Statement]:
        values = {
            "variant": variant,
            "below": below,
            "now": to_microseconds(self._clock()),
            "availability": to_microseconds(availability),
            "retention": self._retention,  # with none, the time to delete it is none
        }
        return [(UNLIST_GAPS, values), (UNLIST, values)]

    def _due(self, most: int) -> list[str]:
        self.stored_bytes = int(self.connection.execute(STORED_BYTES).fetchone()[0])
        now = self._clock()
        values = {
            "now": to_microseconds(now),
            "opened": to_microseconds(self._opened),
            "here": to_microseconds(now - self._opened),
            "most": most,
        }
        keys = [row[0] for row in self.connection.execute(DUE, values)]
        return keys or [row[0] for row in self.connection.execute(DUE_MAPS, values)]
