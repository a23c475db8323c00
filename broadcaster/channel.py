"""The live state of all variants: what is served now, rendered once per version.

A stream goes live when it is known which variants it has: its multivariant playlist has been written
since its first segment (Owncast writes it once, after every variant's first segment) and every variant
listed there has a segment; or when waiting for that takes too long. From then on TARGETDURATION is fixed.

After ``end()`` the playlists stay, finished. The next segment begins new playlists under the same
URLs: only new segments, numbers that go on, and a raised discontinuity number.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from broadcaster.discovery import Run, VariantsListed
from broadcaster.events import Observer, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.manifest import ManifestGenerator
from broadcaster.playlist import MultivariantPlaylist, Segment, Variant, rounded_seconds

LINEUP_TARGET_DURATIONS = 2  # how long to wait for a multivariant playlist that names all variants


class State(StrEnum):
    """Where the stream stands, for viewers."""

    OFFLINE = "offline"  # nothing has been served yet
    STARTING = "starting"  # segments come, but not yet of all variants
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Rendered:
    """One version of a playlist, ready to be sent."""

    body: bytes
    gzipped: bytes
    etag: str  # of ``body``, without quotes
    modified: datetime
    max_age: int  # seconds
    ended: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """A segment that the bucket has (or a gap), in its turn."""

    variant: str
    run: Run
    segment: Segment
    independent: bool
    target_duration: int  # seconds, of the source playlist
    completed: datetime | None  # when the file was finished; None for a gap
    size: int = 0  # bytes


@dataclass(slots=True)
class _VariantState:
    generator: ManifestGenerator
    rendered: Rendered | None = None
    peak_bandwidth: int = 0  # bits per second


@dataclass(slots=True)
class _Lineup:
    """A stream that is about to go live."""

    held: dict[str, list[Publication]] = field(default_factory=dict)
    since: float | None = None  # monotonic


class Channel:
    """Takes publications and keeps what is served. ``clock`` gives the wall time.

    ``target_duration`` (seconds) overrules the source's, as room for segments of varying length.
    """

    def __init__(
        self,
        window_segments: int,
        clock: Callable[[], datetime],
        observe: Observer,
        target_duration: int | None = None,
    ) -> None:
        self.state = State.OFFLINE
        self.published = 0  # segments since the start
        self._window_segments = window_segments
        self._clock = clock
        self._observe = observe
        self._fixed_target_duration = target_duration
        self._source = VariantsListed((), datetime.min.replace(tzinfo=clock().tzinfo))
        self._variants: dict[str, _VariantState] = {}
        self._positions: dict[str, tuple[int, int]] = {}  # next media sequence, last discontinuity number
        self._lineup = _Lineup()
        self._main: Rendered | None = None

    @property
    def main(self) -> Rendered | None:
        """The multivariant playlist, or the media playlist itself where there is one variant."""
        return self._main

    def media(self, variant: str) -> Rendered | None:
        """The media playlist of one variant."""
        state = self._variants.get(variant)
        return state.rendered if state else None

    @property
    def listed(self) -> int:
        """How many segments all playlists list together."""
        return sum(state.generator.segment_count for state in self._variants.values())

    @property
    def target_duration(self) -> int | None:
        """Seconds; None before the first stream."""
        return next((state.generator.target_duration for state in self._variants.values()), None)

    def list_variants(self, listed: VariantsListed) -> None:
        """The source's multivariant playlist, as it is now."""
        self._source = listed
        if self.state is State.STARTING and self._is_complete():
            self._go_live()
        elif self.state is State.LIVE:
            self._render_main()

    def publish(self, publication: Publication) -> None:
        """Make a segment visible to viewers."""
        if self.state is not State.LIVE:
            self.state = State.STARTING
            self._lineup.held.setdefault(publication.variant, []).append(publication)
            if self._is_complete():
                self._go_live()
            return
        known = publication.variant in self._variants
        self._append(publication, self.target_duration or publication.target_duration)
        if not known or len(self._variants) == 1:
            self._render_main()

    def tick(self, now: float) -> None:
        """Let time pass (monotonic, seconds): a stream whose variants stay unknown goes live all the same."""
        if self.state is not State.STARTING:
            return
        if self._lineup.since is None:
            self._lineup.since = now
        if now - self._lineup.since >= LINEUP_TARGET_DURATIONS * self._lineup_target_duration():
            self._go_live()

    def end(self) -> None:
        """The stream is over for viewers."""
        if self.state is State.STARTING:
            self._go_live()
        if self.state is not State.LIVE:
            return
        for state in self._variants.values():
            state.generator.end()
            state.rendered = self._render_media(state.generator)
        self.state = State.ENDED
        self._render_main()
        self._observe(StreamEnded())

    def _is_complete(self) -> bool:
        held = self._lineup.held
        began = min((p.completed for ps in held.values() for p in ps if p.completed), default=None)
        names = {variant.uri for variant in self._source.variants}
        return began is not None and self._source.modified >= began and names == held.keys()

    def _lineup_target_duration(self) -> int:
        if self._fixed_target_duration:
            return self._fixed_target_duration
        # Never below what has been seen. The encoder rounds its own up, which is the room to spare.
        held = [publication for publications in self._lineup.held.values() for publication in publications]
        return max(max(one.target_duration, rounded_seconds(one.segment.duration)) for one in held)

    def _go_live(self) -> None:
        target_duration = self._lineup_target_duration()
        lineup, self._lineup = self._lineup, _Lineup()
        self._variants = {}
        self.state = State.LIVE
        for publications in lineup.held.values():
            for publication in publications:
                self._append(publication, target_duration)
        self._render_main()
        self._observe(StreamStarted(tuple(sorted(self._variants))))

    def _append(self, publication: Publication, target_duration: int) -> None:
        state = self._variants.get(publication.variant)
        if state is None:
            state = self._variants[publication.variant] = _VariantState(
                self._new_generator(publication, target_duration)
            )
        generator, segment = state.generator, publication.segment
        generator.append(segment, discontinuity=publication.run.number, independent=publication.independent)
        self._positions[publication.variant] = (generator.next_media_sequence, publication.run.number)
        if publication.size and segment.duration:
            bits_per_second = int(publication.size * 8 / segment.duration.total_seconds())
            state.peak_bandwidth = max(state.peak_bandwidth, bits_per_second)
        state.rendered = self._render_media(generator)
        self.published += 1
        completed = publication.completed
        delay = (self._clock() - completed).total_seconds() if completed else None
        self._observe(SegmentPublished(publication.variant, segment, delay))

    def _new_generator(self, publication: Publication, target_duration: int) -> ManifestGenerator:
        """Numbers go on where this variant's last playlist stood: they never fall under one URL (§6.2.2)."""
        sequence, discontinuity = self._positions.get(publication.variant, (1, publication.run.number))
        return ManifestGenerator(
            target_duration,
            self._window_segments,
            media_sequence=sequence,
            discontinuity_sequence=discontinuity,
        )

    def _render_media(self, generator: ManifestGenerator) -> Rendered:
        return self._render(generator.playlist.render(), generator.target_duration, ended=generator.ended)

    def _render_main(self) -> None:
        states = self._variants
        if len(states) == 1:
            self._main = next(iter(states.values())).rendered
            return
        described = {variant.uri: variant for variant in self._source.variants}
        order = [name for name in described if name in states] + sorted(states.keys() - described.keys())
        variants = []
        for name in order:
            variant = described.get(name, Variant(name, 0))
            bandwidth = variant.bandwidth or states[name].peak_bandwidth  # BANDWIDTH is required (§4.4.6.2)
            variants.append(replace(variant, uri=f"{name}/playlist.m3u8", bandwidth=bandwidth))
        independent = all(state.generator.playlist.independent_segments for state in states.values())
        text = MultivariantPlaylist(tuple(variants), independent_segments=independent).render()
        self._main = self._render(text, self.target_duration or 1, ended=self.state is State.ENDED)

    def _render(self, text: str, target_duration: int, *, ended: bool) -> Rendered:
        body = text.encode()
        return Rendered(
            body=body,
            gzipped=gzip.compress(body, mtime=0),
            etag=hashlib.sha256(body).hexdigest()[:32],
            modified=self._clock(),
            max_age=max(1, target_duration // 2),  # appendix B.1: half a target duration
            ended=ended,
        )
