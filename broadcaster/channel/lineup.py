"""A stream that is about to go live: who is there already, and whether that is everybody."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from broadcaster.channel.memory import Publication
from broadcaster.discovery import VariantsListed
from broadcaster.playlist import rounded_seconds

PATIENCE_TARGET_DURATIONS = 2  # how long to wait for a multivariant playlist that names all variants


@dataclass(slots=True)
class Lineup:
    """The segments that wait for their siblings, by variant, in order."""

    held: dict[str, list[Publication]] = field(default_factory=dict)
    expected: Counter[str] = field(default_factory=Counter)  # segments on their way, by variant
    rest: float = 0  # seconds for which the finished playlists have to be there before
    since: float | None = None  # monotonic

    def add(self, publication: Publication) -> None:
        """Another segment waits."""
        self.held.setdefault(publication.variant, []).append(publication)

    @property
    def publications(self) -> list[Publication]:
        """All that wait; the segments of a run before those of the next, as a timeline wants them."""
        everything = (publication for publications in self.held.values() for publication in publications)
        return sorted(everything, key=lambda publication: publication.run.number)

    def is_due(self, source: VariantsListed, now: float | None = None) -> bool:
        """Whether to go live: everybody is there, or it has taken too long by now (monotonic, seconds)."""
        if now is not None:
            self.since = now if self.since is None else self.since
            self.rest = self.rest if now - self.since < self.rest else 0
        return not self.rest and (self._is_complete(source) or (now is not None and self._has_waited(now)))

    def _is_complete(self, source: VariantsListed) -> bool:
        """Whether the multivariant playlist is of this stream, and every variant that it lists is here."""
        began = min((one.completed for one in self.publications if one.completed), default=None)
        names = {variant.uri for variant in source.variants}
        return began is not None and source.modified >= began and names == self.held.keys()

    def _has_waited(self, now: float) -> bool:
        """Whether it has taken too long, and nothing that comes is missing."""
        return (
            self.since is not None
            and (+self.expected).keys() <= self.held.keys()
            and now - self.since >= PATIENCE_TARGET_DURATIONS * self.target_duration
        )

    @property
    def target_duration(self) -> int:
        """Seconds; never below what has been seen. The encoder rounds up: that is the room to spare."""
        return max(
            max(one.target_duration, rounded_seconds(one.segment.duration)) for one in self.publications
        )
