"""One variant's way through the pipeline: what waits, what is in flight, and which keys are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadcaster.channel import Publication
from broadcaster.discovery import SourceSegment

PARALLEL_UPLOADS = 6  # of one variant
REMEMBERED_KEYS = 4096  # more than any writer's cycle of names


@dataclass(slots=True, eq=False)
class Waiting:
    """A segment on its way. ``kept`` is where its bytes are, None for a gap."""

    segment: SourceSegment
    key: str
    kept: Path | None
    spooled: bool  # ``kept`` is ours to drop; else it is the source's own file
    since: float  # monotonic
    recovered: bool = False  # from an earlier process: the bucket may have it already
    upload: asyncio.Task[Any] | None = None  # once it has begun
    abandoned: str | None = None  # why it was given up


class Lane:
    """The order of one variant. ``keys`` are those that an earlier process used."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self.waiting: asyncio.Queue[Waiting] = asyncio.Queue()
        # A queue of tasks: its bound is the parallelism, its order the order of publication.
        self.uploads: asyncio.Queue[tuple[Waiting, asyncio.Task[Publication]]] = asyncio.Queue(
            PARALLEL_UPLOADS
        )
        self.maps: dict[str, asyncio.Task[int]] = {}  # object key → upload of an EXT-X-MAP
        self._keys = dict.fromkeys(keys)

    def key(self, folder: str, name: str) -> str:
        """An object key that was not used before, even when a writer reuses its names in turn."""
        key = f"{folder}/{name}"
        repeats = 1
        while key in self._keys:
            repeats += 1
            key = f"{folder}/{repeats}-{name}"
        self._keys[key] = None
        if len(self._keys) > REMEMBERED_KEYS:
            del self._keys[next(iter(self._keys))]
        return key
