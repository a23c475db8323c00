"""What the source brought last, heard on its way to the pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from broadcaster.catalog.records import Segment
from broadcaster.source.reports import SourceEnded, SourceEvent, SourceFault, SourceIdle, SourceRefused


class Looking(Protocol):
    """A source that looks again and again."""

    last_look: float  # monotonic: when the latest look began
    looking: bool  # it is not over

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled."""


class SourceNews:
    """``ended`` says that the source itself called its stream over, and brought no segment since.

    ``fault`` is why nothing can be read in its folder; None while it can be. ``refused`` says which of its
    playlists cannot be followed, and why; None while all can be.
    """

    def __init__(self, source: Looking) -> None:
        self.ended = False
        self.fault: str | None = None
        self.refused: str | None = None
        self._source = source
        # When the last segment was found; when the latest look began that is over, and the latest of all.
        self._last = self._looked = self._begun = self._start = source.last_look
        self._lasts: dict[str, float] = {}  # when the last segment of each variant was found

    async def follow(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event of the source to ``handle``, until cancelled."""

        async def hear(event: SourceEvent) -> None:
            self._note(event)
            await handle(event)

        await self._source.run(hear)

    @property
    def silence(self) -> float:
        """Seconds from the last segment to the latest look: who does not look cannot tell of silence."""
        return max(0.0, self._looked_at() - self._last)

    def _looked_at(self) -> float:
        """When the latest look began that is over."""
        begun = self._source.last_look
        if not self._source.looking:
            self._looked = begun
        elif begun != self._begun:
            self._looked = self._begun
        self._begun = begun
        return self._looked

    def silences(self, variants: Iterable[str]) -> dict[str, float]:
        """The same of each variant; one that has brought nothing yet is silent since the start."""
        looked = self._looked_at()
        return {one: max(0.0, looked - self._lasts.get(one, self._start)) for one in variants}

    def _note(self, event: SourceEvent) -> None:
        match event:
            case Segment():
                self.ended, self._last = False, self._source.last_look
                self._lasts[event.variant] = self._last
            case SourceEnded() | SourceIdle():
                self.ended = True
            case SourceFault():
                self.fault = event.message
            case SourceRefused():
                self.refused = event.message
