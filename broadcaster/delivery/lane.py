"""One variant's way through the pipeline: what waits, what is in flight, and which keys are taken."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadcaster.catalog.memory import Publication
from broadcaster.catalog.records import Run, Segment

AHEAD = 12  # segments of one variant that wait for their turn at once: as many as may have one


@dataclass(slots=True, eq=False)
class Waiting:
    """A segment on its way. ``kept`` is where its bytes are, None for a gap."""

    segment: Segment
    key: str
    kept: Path | None
    spooled: bool  # ``kept`` is ours to drop; else it is the source's own file
    since: float  # monotonic
    recovered: bool = False  # from an earlier process: the bucket may have it already
    upload: asyncio.Task[Any] | None = None  # once it has begun
    abandoned: str | None = None  # why it was given up


class Lane:
    """The order of one variant."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[Waiting] = asyncio.Queue()
        # A queue of tasks: its order is the order of publication.
        self.uploads: asyncio.Queue[tuple[Waiting, asyncio.Task[Publication]]] = asyncio.Queue(AHEAD)
        self.maps: dict[str, asyncio.Task[None]] = {}  # object key → upload of an EXT-X-MAP
        self.map_key: tuple[Run, str] | None = None  # the latest


def key_of(segment: Segment, folder: str) -> str:
    """An object key that is never used twice.

    Owncast's names are unique in their run; other writers may use theirs in turn, so the number goes in.
    """
    name = segment.name if segment.run.has_encoder_id else f"{segment.sequence}-{segment.name}"
    return f"{folder}/{name}"


def map_key_of(segment: Segment, key: str) -> str | None:
    """The object key of the segment's EXT-X-MAP, beside its own."""
    return f"{key.rpartition('/')[0]}/{segment.map_file.name}" if segment.map_file else None
