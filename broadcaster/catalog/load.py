"""Reads back, at a start, what an earlier process wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from broadcaster.catalog.records import (
    ChannelMemory,
    FileIdentity,
    Listed,
    Memory,
    PlaylistState,
    Run,
    SourceMemory,
)
from broadcaster.catalog.records import SourcePosition as Position
from broadcaster.catalog.rows import (
    EPOCH,
    MICROSECOND,
    NOT_DESCRIBED,
    described_of,
    listed_segment,
    playlist_of,
    segment_of,
)

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
