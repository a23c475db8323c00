"""A stream that is about to go live: who is there already, and whether that is everybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from broadcaster.catalog.records import Segment
from broadcaster.hls import rounded_seconds
from broadcaster.live.outgrown import LONGEST_ROOM
from broadcaster.source.reports import VariantsListed

PATIENCE_TARGET_DURATIONS = 2  # how long to wait for a multivariant playlist that names all variants


@dataclass(slots=True)
class StartGate:
    """The segments that wait for their siblings, by variant, in order."""

    held: dict[str, list[Segment]] = field(default_factory=dict)
    expected: Counter[str] = field(default_factory=Counter)  # segments on their way, by variant
    rest: float = 0  # seconds for which the finished playlists have to be there before
    room: int = 0  # seconds that TARGETDURATION has to leave for segments
    dropped: set[str] = field(default_factory=set)  # variants that bring nothing any more
    since: float | None = None  # monotonic

    def add(self, segment: Segment) -> None:
        """Another segment waits."""
        self.held.setdefault(segment.variant, []).append(segment)

    @property
    def segments(self) -> list[Segment]:
        """All that wait; the segments of a run before those of the next, as a timeline wants them."""
        everything = (segment for segments in self.held.values() for segment in segments)
        return sorted(everything, key=lambda segment: segment.run.number)

    def is_due(self, source: VariantsListed, known: AbstractSet[str], now: float | None = None) -> bool:
        """Whether to go live: everybody is there, or it has taken too long by now (monotonic, seconds).

        ``known`` are the variants of the stream before.
        """
        if now is not None:
            self.since = now if self.since is None else self.since
            self.rest = self.rest if now - self.since < self.rest else 0
        if self.rest or not self.held or not (+self.expected).keys() <= self.held.keys():
            return False
        # A multivariant playlist may be an older run's, or the idle clip's, and files tell nothing by their
        # times. It is this run's when it names all that has come, and nothing else has a place in the folder.
        awaited = source.present - self.dropped
        known = known - self.dropped
        complete = awaited <= self.held.keys() and self.held.keys() in (source.playlist.uris, known)
        return complete or (now is not None and self._has_waited(now))

    def _has_waited(self, now: float) -> bool:
        patience = PATIENCE_TARGET_DURATIONS * self._seen_target_duration(None)
        return self.since is not None and now - self.since >= patience

    def target_duration(self, configured: int | None) -> int:
        """Seconds; never below what has been seen, unless no player could follow that."""
        return max(self.room, self._seen_target_duration(configured))

    def _seen_target_duration(self, configured: int | None) -> int:
        # The encoder rounds up what it announces: that is the room to spare.
        announced = configured or max(one.target_duration for one in self.segments)
        longest = max(one.duration for one in self.segments)
        return max(announced, min(rounded_seconds(longest), LONGEST_ROOM))
