"""Reads back, at a start, what an earlier process wrote."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.catalog.memory import ChannelMemory, PlaylistMemory, PlaylistState
from broadcaster.catalog.records import Run, Segment, SourceFile, SourceMemory, SourcePosition
from broadcaster.hls import MediaSegment, Variant

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class PendingSegment:
    """A segment that was on its way."""

    segment: Segment
    key: str


@dataclass(frozen=True, slots=True)
class Recalled:
    """Everything an earlier process left."""

    source: SourceMemory
    channel: ChannelMemory
    pending: Sequence[PendingSegment]


def recall(connection: sqlite3.Connection) -> Recalled:
    """Read it all; raises sqlite3.Error."""
    connection.row_factory = sqlite3.Row
    runs = {
        row["number"]: Run(row["number"], row["id"], row["identity"])
        for row in connection.execute("SELECT * FROM runs ORDER BY number")
    }
    pending = connection.execute("SELECT * FROM segments WHERE state = 'pending' ORDER BY position")
    return Recalled(
        source=SourceMemory(tuple(runs.values()), _positions(connection, runs)),
        channel=_channel(connection),
        pending=[PendingSegment(_segment(row, runs[row["run"]]), row["key"]) for row in pending],
    )


def to_microseconds(time: datetime | timedelta) -> int:
    """How SQLite keeps a time or a duration."""
    return ((time - EPOCH) if isinstance(time, datetime) else time) // MICROSECOND


def variants_to_text(variants: Sequence[Variant]) -> str:
    """What is told of the variants as JSON."""
    return json.dumps([asdict(variant) for variant in variants])


def _variants_from_text(text: str) -> tuple[Variant, ...]:
    variants = json.loads(text)
    for variant in variants:
        variant["resolution"] = tuple(variant["resolution"]) if variant["resolution"] else None
    return tuple(Variant(**variant) for variant in variants)


def _positions(connection: sqlite3.Connection, runs: dict[int, Run]) -> dict[str, SourcePosition]:
    """The segments that the source listed last: back to where its numbers began, whatever the run."""
    positions: dict[str, SourcePosition] = {}
    rows = connection.execute(
        "SELECT variant, run, sequence, uri, time, target_duration, independent FROM segments"
        " ORDER BY position DESC"
    )
    oldest: dict[str, int] = {}
    for row in rows:
        variant, sequence = row["variant"], row["sequence"]
        newest = SourcePosition(runs[row["run"]], {}, row["target_duration"], bool(row["independent"]))
        position = positions.setdefault(variant, newest)
        if sequence < oldest.get(variant, sequence + 1):
            oldest[variant] = sequence
            position.known[sequence] = (row["uri"], EPOCH + row["time"] * MICROSECOND)
        else:
            oldest[variant] = -1  # an earlier numbering
    return positions


def _channel(connection: sqlite3.Connection) -> ChannelMemory:
    playlists = []
    names = [field.name for field in fields(PlaylistState)]
    for row in connection.execute("SELECT * FROM playlists"):
        values = {name: row[name] for name in names}
        end = None if row["end"] is None else EPOCH + row["end"] * MICROSECOND
        values |= {"current": bool(row["current"]), "ended": bool(row["ended"]), "end": end}
        entries = connection.execute(
            "SELECT * FROM entries WHERE variant = ? ORDER BY number", (row["variant"],)
        )
        listed = [(entry["number"], _entry(entry), bool(entry["independent"])) for entry in entries]
        playlists.append(PlaylistMemory(PlaylistState(**values), listed))
    variants = connection.execute("SELECT value FROM facts WHERE name = 'variants'").fetchone()
    newest = connection.execute("SELECT number, id, shift FROM runs ORDER BY number DESC LIMIT 10").fetchall()
    return ChannelMemory(
        playlists=playlists,
        variants=_variants_from_text(variants["value"]) if variants else (),
        shifts={row["number"]: row["shift"] * MICROSECOND for row in newest if row["shift"] is not None},
        runs=[row["id"] for row in reversed(newest)],
    )


def _entry(row: sqlite3.Row) -> MediaSegment:
    return MediaSegment(
        uri=row["uri"],
        duration=row["duration"] * MICROSECOND,
        discontinuity=bool(row["discontinuity"]),
        map_uri=row["map_uri"],
        program_date_time=None if row["time"] is None else EPOCH + row["time"] * MICROSECOND,
        gap=bool(row["gap"]),
    )


def _segment(row: sqlite3.Row, run: Run) -> Segment:
    return Segment(
        variant=row["variant"],
        run=run,
        sequence=row["sequence"],
        uri=row["uri"],
        name=row["name"],
        duration=row["duration"] * MICROSECOND,
        program_date_time=EPOCH + row["time"] * MICROSECOND,
        target_duration=row["target_duration"],
        independent=bool(row["independent"]),
        noticed=EPOCH + row["noticed"] * MICROSECOND,
        file=_file(row["name"], row["path"], row["size"], row["modified_ns"]),
        fault=row["fault"],
        map_file=_file(row["map_name"], row["map_path"], row["map_size"], row["map_modified_ns"]),
    )


def _file(name: str | None, path: str | None, size: int, modified_ns: int) -> SourceFile | None:
    return SourceFile(name, Path(path), size, modified_ns) if name and path else None
