"""Writes down what happens, one transaction per event.

A full disk is no reason to stop a stream: what cannot be written waits in memory, in order, and ``fault``
says so. What a killed process loses of it is the price of a full disk alone.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from broadcaster.catalog.database import open_database
from broadcaster.catalog.load import Recalled, recall, to_microseconds, variants_to_text
from broadcaster.catalog.memory import Change, PlaylistState
from broadcaster.catalog.records import Segment
from broadcaster.catalog.statements import (
    COUNT_BYTES,
    DUE,
    FORGET_SEGMENTS,
    INSERT_ENTRY,
    INSERT_RUN,
    INSERT_SEGMENT,
    KEEP_BYTES,
    LAST_REMOVAL,
    REMOVE_ENTRIES,
    REMOVE_KEYS,
    REMOVE_MAPS,
    STORED_BYTES,
    Statement,
    file_columns,
    state_statement,
)
from broadcaster.errors import CatalogError
from broadcaster.hls import Variant

logger = logging.getLogger(__name__)

# Published segments that are remembered per variant: enough to recognise a source's whole playlist again.
REMEMBERED_SEGMENTS = 2000
FORGET_EVERY = 200  # publications of a variant


class Catalog:
    """The journal in ``folder``; what leaves the window is kept for ``retention`` at least.

    ``clock`` gives the time, and must not jump: it tells what is to be deleted. What an earlier process left,
    by a clock that may have been another, waits for its availability time once more.
    Raises JournalError when the file cannot be used, OSError when the folder cannot be made.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], datetime], retention: timedelta | None = None
    ) -> None:
        self._clock = clock
        self._opened = clock()
        self._retention = to_microseconds(retention or timedelta())
        self.fault: str | None = None
        self._path = folder / "journal.db"
        folder.mkdir(parents=True, exist_ok=True)
        self._connection = open_database(self._path)
        self._connection.executescript(COUNT_BYTES)
        self._earlier = int(self._connection.execute(LAST_REMOVAL).fetchone()[0])
        self._unsaved: deque[list[Statement]] = deque()  # one transaction each
        self._publications: Counter[str] = Counter()

    def close(self) -> None:
        """Write what can still be written and close the file."""
        try:
            self.save()
        finally:
            self._connection.close()

    def recall(self) -> Recalled:
        """Return everything that an earlier process left."""
        try:
            return recall(self._connection)
        except (sqlite3.Error, LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise CatalogError(
                f"{self._path} does not make sense ({error}); move it away to start with an empty one"
            ) from None

    def discovered(self, segment: Segment, key: str) -> None:
        """A segment is on its way."""
        run = segment.run
        self._write(
            (INSERT_RUN, (run.number, run.id, run.identity)),
            (
                INSERT_SEGMENT,
                (
                    key,
                    segment.variant,
                    run.number,
                    segment.sequence,
                    segment.uri,
                    segment.name,
                    to_microseconds(segment.duration),
                    to_microseconds(segment.program_date_time),
                    segment.target_duration,
                    segment.independent,
                    to_microseconds(segment.noticed),
                    *file_columns(segment.file)[1:],
                    segment.fault,
                    *file_columns(segment.map_file),
                ),
            ),
        )

    def published(
        self,
        changes: Sequence[Change],
        retired: Sequence[PlaylistState] = (),
        availability: timedelta = timedelta(),
    ) -> None:
        """Remember all of it or nothing (a channel's Ledger)."""
        statements: list[Statement] = []
        for change in changes:
            statements += self._change_statements(change)
            variant = change.state.variant
            self._publications[variant] += 1
            if self._publications[variant] % FORGET_EVERY == 0:
                statements.append((FORGET_SEGMENTS, (variant, variant, REMEMBERED_SEGMENTS)))
        for state in retired:
            statements.append(state_statement(state))
            if not state.current:
                statements += self._removal_statements(state.variant, state.next_media_sequence, availability)
        self._write(*statements)

    def listed(self, variants: Sequence[Variant]) -> None:
        """Remember what is told of the variants (a Ledger)."""
        self._write(("INSERT OR REPLACE INTO facts VALUES ('variants', ?)", (variants_to_text(variants),)))

    def removals(self, most: int) -> list[str]:
        """Keys that left the window, oldest first."""
        return self._keys("SELECT key FROM removals ORDER BY position LIMIT ?", (most,))

    def due(self, most: int) -> list[str]:
        """Keys that have to be deleted now, oldest first."""
        now, here = self._clock(), to_microseconds(self._clock() - self._opened)
        return self._keys(DUE, (to_microseconds(now), self._earlier, here, most))

    def _keys(self, query: str, values: Sequence[int]) -> list[str]:
        if self._unsaved:
            return []  # what was deleted lately may be among them, and could not be crossed out
        try:
            return [key for (key,) in map(tuple, self._connection.execute(query, values))]
        except sqlite3.OperationalError as error:
            logger.warning("the journal cannot be read, nothing is deleted now: %s", error)
            return []

    def postponed(self, keys: Sequence[str], by: timedelta) -> None:
        """These could not be deleted: they are due again later."""
        at = to_microseconds(self._clock() + by)
        self._write(*(("UPDATE removals SET delete_at = ? WHERE key = ?", (at, key)) for key in keys))

    def prefixes(self, prefix: str) -> tuple[str, ...]:
        """Remember this prefix; returns all that keys of this journal have ever begun with."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = 'prefixes'").fetchone()
        known = dict.fromkeys([*(row[0].split() if row else ()), prefix])
        self._write(("INSERT OR REPLACE INTO facts VALUES ('prefixes', ?)", (" ".join(known),)))
        return tuple(known)

    def removed(self, keys: Sequence[str], *, kept: bool = False) -> None:
        """Forget these objects: they are deleted, or kept for ever."""
        keeping: list[Statement] = [(KEEP_BYTES, (key,)) for key in keys] if kept else []
        self._write(*keeping, *(("DELETE FROM removals WHERE key = ?", (key,)) for key in keys))

    @property
    def stored_bytes(self) -> int:
        """What the segments in the bucket take up, as far as this journal goes back."""
        try:
            return int(self._connection.execute(STORED_BYTES).fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # it is said elsewhere that the journal cannot be read

    def save(self) -> None:
        """Try again to write what could not be written."""
        if self._unsaved:
            self._flush()

    def _change_statements(self, change: Change) -> list[Statement]:
        state = change.state
        statements: list[Statement] = [
            (INSERT_RUN, (change.run.number, change.run.id, change.run.identity)),
            (
                "UPDATE runs SET shift = ? WHERE number = ?",
                (to_microseconds(change.shift), change.run.number),
            ),
            ("UPDATE segments SET state = 'published' WHERE key = ?", (change.key,)),
            state_statement(state),
        ]
        for index, (number, segment, independent) in enumerate(change.added):
            time = segment.program_date_time
            entry = (
                state.variant,
                number,
                change.key,
                change.map_key,
                segment.uri,
                to_microseconds(segment.duration),
                None if time is None else to_microseconds(time),
                segment.discontinuity,
                segment.map_uri,
                segment.gap,
                independent,
                0 if index else change.size,  # one object, of however many entries
                to_microseconds(change.availability),
            )
            statements.append((INSERT_ENTRY, entry))
        return statements + self._removal_statements(state.variant, state.media_sequence, change.availability)

    def _removal_statements(self, variant: str, below: int, availability: timedelta) -> list[Statement]:
        values = (
            variant,
            below,
            to_microseconds(self._clock()),
            to_microseconds(availability),
            self._retention,
        )
        return [(REMOVE_KEYS, values), (REMOVE_MAPS, values), (REMOVE_ENTRIES, (variant, below))]

    def _write(self, *statements: Statement) -> None:
        if statements:
            self._unsaved.append(list(statements))
            self._flush()

    def _flush(self) -> None:
        try:
            while self._unsaved:
                self._transact(self._unsaved[0])
                self._unsaved.popleft()
        except sqlite3.OperationalError as error:
            if self.fault is None:
                logger.error("the journal cannot be written, which a restart would suffer from: %s", error)
            self.fault = str(error)
            return
        except sqlite3.Error:
            self._unsaved.popleft()  # it would fail again, and keep the file from being closed in order
            raise
        if self.fault:
            logger.info("the journal is written again")
            self.fault = None

    def _transact(self, statements: Sequence[Statement]) -> None:
        try:
            self._connection.execute("BEGIN")
            for statement, values in statements:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
