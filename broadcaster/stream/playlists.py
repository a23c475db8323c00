"""What the playlists of all variants list; nobody sees it yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from broadcaster.catalog.records import PlaylistState, PlaylistUpdate, Segment, StreamSnapshot
from broadcaster.hls import MediaPlaylist, bit_rate
from broadcaster.hls.manifest import DvrBacklog, ManifestGenerator
from broadcaster.ipc.messages import MaxViewerDelay, Version
from broadcaster.stream.multivariant_builder import MeasuredBandwidth
from broadcaster.stream.timeline import Timeline, recalled_timeline

SLACK_TARGET_DURATIONS = 2  # beyond what the most delayed viewer is at


class DvrDepth:
    """How far back a stream stays listed for viewers who are paused or behind, as their pages report.

    Reports may be forged: nobody gets more than ``most``, nor than ``size`` bytes. A new process that serves
    viewers has heard of nobody: so what was needed a moment ago is remembered here, too. ``now`` is
    monotonic, seconds.
    """

    def __init__(self, most: timedelta, size: int) -> None:
        self.is_on = bool(most and size)
        self._most = most.total_seconds()
        self._size = size
        self._furthest = MaxViewerDelay()

    def report(self, behind: float, now: float) -> None:
        """The most delayed viewer is so many seconds behind live."""
        self._furthest.note(min(max(0.0, behind), self._most), now)

    def hold(self, now: float) -> None:
        """Assume the most: an earlier process knew who was behind."""
        self._furthest.note(self._most, now)

    def need(self, target_duration: int, now: float) -> timedelta:
        """How far back from the end of the newest segment a viewer may want to go on."""
        if not (furthest := min(self._furthest.seconds(now), self._most)):
            return timedelta()
        return timedelta(seconds=furthest + SLACK_TARGET_DURATIONS * target_duration)

    def cap(self, bandwidth: int) -> timedelta:
        """How much may be listed at all of variants that never need more bits per second together."""
        carried = 8 * self._size / bandwidth if bandwidth else self._most
        return timedelta(seconds=min(self._most, carried))


@dataclass(slots=True)
class VariantPlaylist:
    """What one variant's playlist lists, and what is known of the variant."""

    generator: ManifestGenerator
    kept: DvrBacklog
    newest_run: int = -1
    end: datetime | None = None  # of the newest segment, by the encoder's clock
    others: Counter[str] = field(default_factory=Counter)  # segments of other variants since its newest
    peak_bandwidth: int = 0  # bits per second
    iframe_bandwidth: int = 0  # the peak of its key frames, bits per second

    @property
    def measured(self) -> MeasuredBandwidth:
        """What is known of it by its segments."""
        independent = self.generator.independent_segments
        return MeasuredBandwidth(self.peak_bandwidth, self.iframe_bandwidth, independent)

    @property
    def duration(self) -> timedelta:
        """Of all that is listed, for those who are behind as well."""
        return self.kept.duration + self.generator.duration

    @property
    def first(self) -> int:
        """The first media sequence number that is listed, for those who are behind as well."""
        return self.kept.first(self.generator.media_sequence)


class Playlists:
    """The playlists of a stream by variant, and the numbers of those before, which never fall.

    ``window_segments`` and ``window`` are how much each lists (ManifestGenerator), ``dvr`` how much more
    for those who are behind.
    """

    def __init__(self, window_segments: int, window: timedelta, dvr: DvrDepth) -> None:
        self.current: dict[str, VariantPlaylist] = {}
        self._longest = timedelta()  # there has been: players may still hold one
        self._replaced = timedelta()  # the longest of those that the current ones have replaced
        self.run = -1  # the newest, and when it began by the encoder's clock
        self.run_began: datetime | None = None
        self._window_segments = window_segments
        self._window = window
        self.dvr = dvr
        self._positions: dict[str, tuple[int, int]] = {}  # next media sequence, newest discontinuity number
        self._timeline = Timeline({})

    def restore(self, memory: StreamSnapshot, now: float) -> bool:
        """Take up what an earlier process listed; returns whether that had ended."""
        self._timeline = recalled_timeline(memory)
        ended = all(state.ended for state, _ in memory.playlists if state.current)
        for state, listed in memory.playlists:
            self._positions[state.variant] = (state.next_media_sequence, state.current_discontinuity)
            if not state.current or (state.ended and not ended):
                continue
            playlist = self._new_playlist(
                state.target_duration, state.media_sequence, state.discontinuity_sequence
            )
            generator, older = playlist.generator, memory.kept.get(state.variant, ())
            discontinuity = state.discontinuity_sequence - sum(one.discontinuity for _, one, _ in older)
            for number, segment, independent in older:
                playlist.kept.add(number, discontinuity, segment, independent)
            generator.restore(
                ((segment, independent) for _, segment, independent in listed),
                current_discontinuity=state.current_discontinuity,
                ended=state.ended,
            )
            self._longest = max(self._longest, generator.longest)
            playlist.newest_run, playlist.peak_bandwidth = state.current_discontinuity, state.peak_bandwidth
            playlist.iframe_bandwidth = generator.playlist.iframe_bandwidth
            self.current[state.variant] = playlist
        if self.current:
            self.dvr.hold(now)
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
        self._replaced = max((one.duration for one in previous.values()), default=timedelta())
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

    def availability(self, *, replaced: bool) -> timedelta:
        """How long that stays readable which is listed no more (§6.2.2).

        Players read a playlist again, but not one that has ended and was ``replaced``: who holds that plays
        it to its end, with what is in it for those who are behind.
        """
        longest = max(self._longest, self._replaced) if replaced else self._longest
        return longest + timedelta(seconds=self.target_duration or 0)

    def append(self, segment: Segment, target_duration: int, now: float) -> PlaylistUpdate:
        """List a segment."""
        variant = segment.variant
        playlist = self.current.get(variant)
        if is_first := playlist is None:
            # Numbers go on where this variant's last playlist stood: they never fall under one URL (§6.2.2).
            position = self._positions.get(variant, (1, segment.run.number))
            playlist = self.current[variant] = self._new_playlist(target_duration, *position)
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
        self._longest = max(self._longest, generator.longest)
        self._positions[variant] = (generator.next_media_sequence, run)
        playlist.iframe_bandwidth = max(playlist.iframe_bandwidth, media.iframe_bandwidth)
        bandwidth = bit_rate(segment.size, segment.duration, target_duration)
        playlist.peak_bandwidth = max(playlist.peak_bandwidth, bandwidth)
        self._trim(playlist, now)
        added = generator.listed_from(first)
        number, last, _ = added[-1]
        return PlaylistUpdate(
            segment=replace(
                segment,
                number=number,
                time=media.program_date_time,
                fault=segment.fault or ("is too long" if last.gap else None),
            ),
            playlist=self._state(variant, playlist),
            added=added,
            first=playlist.first,
            availability=self.availability(replaced=is_first),
            shift=self._timeline.shift(run),
        )

    def versions(self, names: Collection[str], now: datetime) -> dict[str, Version[MediaPlaylist]]:
        """What they list now, in their order."""
        found = {name: self.current[name].generator.playlist for name in self.current if name in names}
        return {
            name: Version(
                playlist,
                now,
                playlist.target_duration,
                self.current[name].kept.playlist(playlist) if self.dvr.is_on else None,
            )
            for name, playlist in found.items()
        }

    def trim(self, now: float) -> dict[str, int]:
        """Let go of what nobody needs any more; returns, by variant, the first number that is listed then.

        Of what has ended nothing: nobody reads that again, and who holds it plays it to its end.
        """
        live = {name: one for name, one in self.current.items() if not one.generator.ended}
        return {name: one.first for name, one in live.items() if self._trim(one, now)}

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

    def _new_playlist(self, target_duration: int, sequence: int, discontinuity: int) -> VariantPlaylist:
        kept = DvrBacklog()
        generator = ManifestGenerator(
            target_duration,
            self._window_segments,
            self._window,
            media_sequence=sequence,
            discontinuity_sequence=discontinuity,
            on_leave=kept.add,
        )
        return VariantPlaylist(generator, kept)

    def _trim(self, playlist: VariantPlaylist, now: float) -> bool:
        need = self.dvr.need(playlist.generator.target_duration, now)
        bandwidth = sum(one.peak_bandwidth for one in self.current.values())
        return playlist.kept.trim(playlist.generator.duration, need=need, most=self.dvr.cap(bandwidth))

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
