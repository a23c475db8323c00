"""What is on its way: one variant's queue, and one segment in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from broadcaster.catalog.records import Run, Segment
from broadcaster.catalog.writer import Transaction

AHEAD = 12  # segments of one variant that wait for their turn at once: as many as may have one


@dataclass(slots=True, eq=False)
class InFlight:
    """A segment on its way. ``kept`` is where the spool has its bytes, None where it has not."""

    segment: Segment
    kept: Path | None
    since: float  # monotonic
    recovered: bool = False  # from an earlier process: the bucket may have it already
    upload: asyncio.Task[Segment] | None = None  # once it has begun
    abandoned: str | None = None  # why it was given up
    noticed: Transaction = field(default_factory=Transaction)  # the catalog knows it after that
    stored: Transaction = field(default_factory=Transaction)  # and what became of it after that


class VariantQueue:
    """The order of one variant."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[InFlight] = asyncio.Queue()
        # A queue of tasks: its order is the order of publication.
        self.uploads: asyncio.Queue[tuple[InFlight, asyncio.Task[Segment]]] = asyncio.Queue(AHEAD)
        self.maps: dict[str, asyncio.Task[None]] = {}  # object key → upload of an EXT-X-MAP
        self.map_key: tuple[Run, str] | None = None  # the latest


def key_of(segment: Segment, prefix: str) -> str:
    """An object key that is never used twice.

    Owncast's names are unique in their run; other writers may use theirs in turn, so the number goes in.
    """
    name = segment.name if segment.run.has_encoder_id else f"{segment.sequence}-{segment.name}"
    return f"{prefix}/{segment.run.id}/{segment.variant}/{name}"


def map_key_of(segment: Segment, key: str) -> str | None:
    """The object key of the segment's EXT-X-MAP, beside its own."""
    return f"{key.rpartition('/')[0]}/{segment.map_file.name}" if segment.map_file else None
