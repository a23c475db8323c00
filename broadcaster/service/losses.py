"""Whether what is on reaches viewers at all: each segment may be lost for a reason of its own."""

from __future__ import annotations

from collections import Counter

from broadcaster.events import Event, SegmentLost, SegmentPublished, StreamEnded

MANY = 3  # segments of one variant in a row, and none of another one listed meanwhile


class Losses:
    """An observer that counts the segments lost since one was listed whole."""

    def __init__(self) -> None:
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

    @property
    def trouble(self) -> str | None:
        """What the operator has to know; None while segments are listed."""
        if max(self._lost.values(), default=0) < MANY:
            return None
        return f"the last {self._lost.total()} segments were lost: {self._reason}"
