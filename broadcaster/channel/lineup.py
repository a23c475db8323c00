"""A stream that is about to go live: who is there already, and whether that is everybody."""

from __future__ import annotations

from dataclasses import dataclass, field

from broadcaster.channel.memory import Publication
from broadcaster.discovery import VariantsListed
from broadcaster.playlist import rounded_seconds

PATIENCE_TARGET_DURATIONS = 2  # how long to wait for a multivariant playlist that names all variants


@dataclass(slots=True)
class Lineup:
    """The segments that wait for their siblings, by variant, in order."""

    held: dict[str, list[Publication]] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)  # variants with segments on their way
    since: float | None = None  # monotonic

    def add(self, publication: Publication) -> None:
        """Another segment waits."""
        self.held.setdefault(publication.variant, []).append(publication)

    @property
    def publications(self) -> list[Publication]:
        """All that wait."""
        return [publication for publications in self.held.values() for publication in publications]

    def is_complete(self, source: VariantsListed) -> bool:
        """Whether the multivariant playlist is of this stream, and every variant that it lists is here."""
        began = min((one.completed for one in self.publications if one.completed), default=None)
        names = {variant.uri for variant in source.variants}
        return began is not None and source.modified >= began and names == self.held.keys()

    def has_waited(self, now: float) -> bool:
        """Whether it has taken too long by now (monotonic, seconds), and nothing that comes is missing."""
        if self.since is None:
            self.since = now
        return (
            self.expected <= self.held.keys()
            and now - self.since >= PATIENCE_TARGET_DURATIONS * self.target_duration
        )

    @property
    def target_duration(self) -> int:
        """Seconds; never below what has been seen. The encoder rounds up: that is the room to spare."""
        return max(
            max(one.target_duration, rounded_seconds(one.segment.duration)) for one in self.publications
        )
