"""One variant's playlist as it is served, and what is told of a segment that has just been listed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from broadcaster.catalog.memory import Change, PlaylistMemory, PlaylistState, Publication
from broadcaster.events import SegmentPublished
from broadcaster.hls.manifest import ManifestGenerator
from broadcaster.live.snapshot import Snapshot
from broadcaster.live.timeline import Timeline


@dataclass(slots=True)
class VariantPlaylist:
    """What a variant's playlist lists, and the version of it that players get."""

    generator: ManifestGenerator
    version: Snapshot | None = None
    newest_run: int = -1
    end: datetime | None = None  # of the newest segment, by the encoder's clock
    others: Counter[str] = field(default_factory=Counter)  # segments of other variants since its newest
    peak_bandwidth: int = 0  # bits per second

    @classmethod
    def recalled(
        cls, playlist: PlaylistMemory, window_segments: int, window: timedelta, now: datetime
    ) -> Self:
        """As an earlier process left it."""
        was = playlist.state
        generator = ManifestGenerator(
            was.target_duration,
            window_segments,
            window,
            media_sequence=was.media_sequence,
            discontinuity_sequence=was.discontinuity_sequence,
        )
        generator.restore(
            ((segment, independent) for _, segment, independent in playlist.listed),
            current_discontinuity=was.current_discontinuity,
            ended=was.ended,
        )
        version = Snapshot(generator.playlist, generator.target_duration, now)
        return cls(generator, version, was.current_discontinuity, peak_bandwidth=was.peak_bandwidth)

    def renew(self, now: datetime) -> Snapshot | None:
        """Serve what the generator lists now; returns the version before."""
        old = self.version
        self.version = Snapshot(self.generator.playlist, self.generator.target_duration, now)
        return old

    def measure(self, size: int, duration: timedelta) -> None:
        """Take note of a segment's bit rate; ``size`` in bytes."""
        if size and duration:
            self.peak_bandwidth = max(self.peak_bandwidth, int(size * 8 / duration.total_seconds()))

    def memory(self, variant: str, timeline: Timeline) -> PlaylistState:
        """What has to be remembered of it."""
        generator = self.generator
        return PlaylistState(
            variant=variant,
            current=True,
            target_duration=generator.target_duration,
            media_sequence=generator.media_sequence,
            next_media_sequence=generator.next_media_sequence,
            discontinuity_sequence=generator.discontinuity_sequence,
            current_discontinuity=generator.current_discontinuity,
            ended=generator.ended,
            peak_bandwidth=self.peak_bandwidth,
            end=timeline.end(variant),
        )


def announcement(publication: Publication, change: Change, now: datetime) -> SegmentPublished:
    """The event for a segment that has been listed ``now``."""
    completed = publication.completed
    sequence, segment, _ = change.added[-1]
    return SegmentPublished(
        publication.variant,
        segment,
        delay=(now - completed).total_seconds() if completed else None,
        sequence=sequence,
        run=publication.run.id,
        published=now,
        noticed=publication.noticed,
        uploaded=publication.uploaded,
        size=publication.size,
        sha256=publication.sha256,
    )
