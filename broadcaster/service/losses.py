"""Whether what is on reaches viewers at all: each segment may be lost for a reason of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from broadcaster.events import Event, SegmentLost, SegmentPublished, StreamEnded, StreamStarted

MANY = 3  # segments of one variant in a row, and none of another one listed meanwhile


class Losses:
    """An observer that counts the segments lost, and the time, since one was listed whole."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._lost: Counter[str] = Counter()  # by variant
        self._reason = ""

    def __call__(self, event: Event) -> None:
        """Take note of what happened."""
        match event:
            case SegmentLost():
                self._lost[event.variant] += 1
                self._reason = event.reason
            case StreamEnded():
                self._lost.clear()
            case SegmentPublished() if not event.segment.gap:
                self._lost.clear()
                self._since = self._clock()
            case StreamStarted():
                self._since = self._clock()

    @property
    def frozen(self) -> float:
        """Seconds since viewers got a segment that can be played, or since a stream began."""
        return self._clock() - self._since

    @property
    def trouble(self) -> str | None:
        """What the operator has to know; None while segments are listed."""
        if max(self._lost.values(), default=0) < MANY:
            return None
        return f"the last {self._lost.total()} segments were lost: {self._reason}"
