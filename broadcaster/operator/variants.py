"""How each variant is getting on, for the operator's dashboard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from broadcaster.events import Event, SegmentDiscovered, SegmentLost, SegmentPublished

SEGMENTS = 10  # whose bit rate is told


@dataclass(slots=True)
class _Variant:
    waiting: int = 0  # segments finished and not yet listed
    gaps: int = 0
    published: datetime | None = None
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SEGMENTS))  # bytes, seconds


class VariantTable:
    """Call it with each event; ``clock`` gives the wall time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._variants: dict[str, _Variant] = {}

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SegmentDiscovered(variant=name):
                self._of(name).waiting += 1
            case SegmentLost(variant=name):
                self._of(name).gaps += 1
            case SegmentPublished(segment=segment, published=published):
                variant = self._of(segment.variant)
                # What an earlier process had noticed was never counted here.
                variant.waiting = max(variant.waiting - 1, 0)
                variant.published = published
                if segment.size:
                    variant.recent.append((segment.size, segment.duration.total_seconds()))

    def row(self, name: str) -> dict[str, object]:
        """Of one: bits per second, seconds since a segment was listed, what waits, and what was lost."""
        variant = self._variants.get(name, _Variant())
        size, seconds = (sum(one[column] for one in variant.recent) for column in (0, 1))
        published = variant.published
        return {
            "bitrate": 8 * size / seconds if seconds else None,
            "age": (self._clock() - published).total_seconds() if published else None,
            "waiting": variant.waiting,
            "gaps": variant.gaps,
        }

    def _of(self, name: str) -> _Variant:
        return self._variants.setdefault(name, _Variant())
