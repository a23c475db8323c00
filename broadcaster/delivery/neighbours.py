"""What the pipeline needs of its neighbours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from broadcaster.catalog.records import Segment
from broadcaster.ingest.reports import SourceEvent


class SegmentSource(Protocol):
    """Where segments come from."""

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled."""


class Keeper(Protocol):
    """Where segments wait."""

    @property
    def size(self) -> int:
        """Bytes that wait."""

    @property
    def limit(self) -> int:
        """Bytes that may wait."""

    async def keep(self, file: Path, key: str, *, copy: bool = False) -> Path:
        """Hold on to a file, to its bytes as they are now with ``copy``; raises OSError."""

    def find(self, key: str) -> Path | None:
        """Return what is kept under a key."""

    def drop(self, kept: Path) -> None:
        """Let go of it."""


class Book(Protocol):
    """Where it is written down what is on its way."""

    def discovered(self, segment: Segment, key: str) -> None:
        """A segment is on its way under this key."""

    def save(self) -> None:
        """Try again to write what could not be written."""


class Encoder(Protocol):
    """What is known of the encoder from elsewhere."""

    @property
    def connected(self) -> bool | None:
        """Whether it is connected; None while that is not known."""

    @property
    def disconnected_since(self) -> float | None:
        """Since when it is known to have gone (monotonic); None while it is not."""

    def ask(self) -> None:
        """Find out soon whether it is still connected."""
