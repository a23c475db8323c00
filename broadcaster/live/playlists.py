"""What the playlists of all variants list; nobody sees it yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from broadcaster.catalog.records import ChannelMemory, Listing, PlaylistState, Segment
from broadcaster.hls.manifest import ManifestGenerator
from broadcaster.live.attributes import Measured
from broadcaster.live.timeline import Timeline, recalled_timeline


@dataclass(slots=True)
class VariantPlaylist:
    """What one variant's playlist lists, and what is known of the variant."""

    generator: ManifestGenerator
    newest_run: int = -1
    end: datetime | None = None  # of the newest segment, by the encoder's clock
    others: Counter[str] = field(default_factory=Counter)  # segments of other variants since its newest
    peak_bandwidth: int = 0  # bits per second

    @property
    def measured(self) -> Measured:
        """What is known of it by its segments."""
        generator = self.generator
        iframe_bandwidth = generator.playlist.iframe_bandwidth
        return Measured(self.peak_bandwidth, iframe_bandwidth, generator.independent_segments)


class Playlists:
    """The playlists of a stream by variant, and the numbers of those before, which never fall.

    ``window_segments`` and ``window`` are how much each lists (ManifestGenerator).
    """

    def __init__(self, window_segments: int, window: timedelta) -> None:
        self.current: dict[str, VariantPlaylist] = {}
        self.longest = timedelta()  # there has been: players may still hold one
        self.run = -1  # the newest, and when it began by the encoder's clock
        self.run_began: datetime | None = None
        self._window_segments = window_segments
        self._window = window
        self._positions: dict[str, tuple[int, int]] = {}  # next media sequence, newest discontinuity number
        self._timeline = Timeline({})

    def restore(self, memory: ChannelMemory) -> bool:
        """Take up what an earlier process listed; returns whether that had ended."""
        self._timeline = recalled_timeline(memory)
        ended = all(state.ended for state, _ in memory.playlists if state.current)
        for state, listed in memory.playlists:
            self._positions[state.variant] = (state.next_media_sequence, state.current_discontinuity)
            if not state.current or (state.ended and not ended):
                continue
            generator = ManifestGenerator(
                state.target_duration,
                self._window_segments,
                self._window,
                media_sequence=state.media_sequence,
                discontinuity_sequence=state.discontinuity_sequence,
            )
            generator.restore(
                ((segment, independent) for _, segment, independent in listed),
                current_discontinuity=state.current_discontinuity,
                ended=state.ended,
            )
            self.longest = max(self.longest, generator.longest)
            self.current[state.variant] = VariantPlaylist(
                generator, state.current_discontinuity, peak_bandwidth=state.peak_bandwidth
            )
        return ended

    @property
    def target_duration(self) -> int | None:
        """Seconds; None before the first stream."""
        return next((one.generator.target_duration for one in self.current.values()), None)

    @property
    def newest_run(self) -> int:
        """The number of the newest run that any of them lists."""
        return max((one.newest_run for one in self.current.values()), default=-1)

    def begin(self, held: Sequence[Segment]) -> Mapping[str, VariantPlaylist]:
        """Make room for new playlists, which these segments will begin; returns those before."""
        previous, self.current = self.current, {}
        if len({segment.variant for segment in held}) == 1:
            self._take_main_address(held[0])
        return previous

    def retired(self, previous: Mapping[str, VariantPlaylist]) -> list[PlaylistState]:
        """What to remember of those that have no successor."""
        return [
            replace(self._state(name, one), current=False)
            for name, one in previous.items()
            if name not in self.current
        ]

    def append(self, segment: Segment, target_duration: int) -> Listing:
        """List a segment."""
        variant = segment.variant
        playlist = self.current.get(variant)
        if playlist is None:
            playlist = self.current[variant] = VariantPlaylist(self._new_generator(segment, target_duration))
        generator, first = playlist.generator, playlist.generator.next_media_sequence
        run = max(segment.run.number, generator.current_discontinuity)
        media = self._timeline.place(segment.media, variant, run)
        generator.append(media, discontinuity=run, independent=segment.independent)
        for other in self.current.values():
            other.others[variant] += 1
        playlist.others.clear()
        playlist.newest_run, playlist.end = run, segment.program_date_time + segment.duration
        if segment.run.number != self.run:
            self.run, self.run_began = segment.run.number, segment.program_date_time
        self.longest = max(self.longest, generator.longest)
        self._positions[variant] = (generator.next_media_sequence, run)
        if segment.size and segment.duration:
            bandwidth = int(segment.size * 8 / segment.duration.total_seconds())
            playlist.peak_bandwidth = max(playlist.peak_bandwidth, bandwidth)
        added = generator.listed_from(first)
        number, last, _ = added[-1]
        return Listing(
            segment=replace(
                segment,
                number=number,
                time=media.program_date_time,
                fault=segment.fault or ("is too long" if last.gap else None),
            ),
            playlist=self._state(variant, playlist),
            added=added,
            availability=self.longest + timedelta(seconds=target_duration),
            shift=self._timeline.shift(run),
        )

    def end(self) -> list[PlaylistState]:
        """Nothing more will come; returns what to remember."""
        for playlist in self.current.values():
            playlist.generator.end()
        return [self._state(name, playlist) for name, playlist in self.current.items()]

    def _take_main_address(self, segment: Segment) -> None:
        """The main address becomes this variant's: whoever had it before, numbers must not fall (§6.2.2)."""
        _, discontinuity = self._positions.get(segment.variant, (1, segment.run.number))
        sequence = max((number for number, _ in self._positions.values()), default=1)
        self._positions[segment.variant] = (sequence, discontinuity)

    def _new_generator(self, segment: Segment, target_duration: int) -> ManifestGenerator:
        """Numbers go on where this variant's last playlist stood: they never fall under one URL (§6.2.2)."""
        sequence, discontinuity = self._positions.get(segment.variant, (1, segment.run.number))
        return ManifestGenerator(
            target_duration,
            self._window_segments,
            self._window,
            media_sequence=sequence,
            discontinuity_sequence=discontinuity,
        )

    def _state(self, variant: str, playlist: VariantPlaylist) -> PlaylistState:
        generator = playlist.generator
        return PlaylistState(
            variant=variant,
            current=True,
            target_duration=generator.target_duration,
            media_sequence=generator.media_sequence,
            next_media_sequence=generator.next_media_sequence,
            discontinuity_sequence=generator.discontinuity_sequence,
            current_discontinuity=generator.current_discontinuity,
            ended=generator.ended,
            peak_bandwidth=playlist.peak_bandwidth,
            end=self._timeline.end(variant),
        )
