"""What the playlists of all variants list: media playlists, the multivariant playlist, and their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil, log2

from broadcaster.catalog.records import Numbers, PlaylistState, PlaylistUpdate, Segment, StreamSnapshot
from broadcaster.hls import MediaPlaylist, MediaSegment, MultivariantPlaylist, Rendition, Variant, bit_rate
from broadcaster.hls.manifest import DvrBacklog, ManifestGenerator
from broadcaster.ipc.messages import MaxViewerDelay, Version

SLACK_TARGET_DURATIONS = 2  # beyond what the most delayed viewer is at


class DvrDepth:
    """How far back a stream stays listed for delayed viewers, by the reports of their pages.

    Reports may be forged: ``most`` and ``size`` (bytes) limit their effect. A new viewer server has none yet:
    the latest delay is remembered here. ``now`` is monotonic, seconds.
    """

    def __init__(self, most: timedelta, size: int) -> None:
        self.is_on = bool(most and size)
        self._most = most.total_seconds()
        self._size = size
        self._delay = MaxViewerDelay()

    def report(self, behind: float, now: float) -> None:
        """The most delayed viewer is so many seconds behind live."""
        self._delay.note(min(max(0.0, behind), self._most), now)

    def hold(self, now: float) -> None:
        """Assume the most: an earlier process knew who was behind."""
        self._delay.note(self._most, now)

    def need(self, target_duration: int, now: float) -> timedelta:
        """How far back from the end of the newest segment the most delayed viewer is, and a little more."""
        if not (delay := min(self._delay.seconds(now), self._most)):
            return timedelta()
        return timedelta(seconds=delay + SLACK_TARGET_DURATIONS * target_duration)

    def cap(self, bandwidth: int) -> timedelta:
        """The longest DVR playlist, if all variants together have this peak bandwidth, bits per second."""
        carried = 8 * self._size / bandwidth if bandwidth else self._most
        return timedelta(seconds=min(self._most, carried))


@dataclass(slots=True)
class VariantPlaylist:
    """The playlist of one variant, and what is known of the variant."""

    generator: ManifestGenerator
    backlog: DvrBacklog
    newest_run: int = -1
    end: datetime | None = None  # of the newest segment, by the encoder's clock
    others: Counter[str] = field(default_factory=Counter)  # segments of other variants since its newest
    peak_bandwidth: int = 0  # bits per second
    iframe_bandwidth: int = 0  # the peak of its key frames, bits per second

    @property
    def measured(self) -> MeasuredBandwidth:
        """The bandwidths of the listed segments."""
        independent = self.generator.independent_segments
        return MeasuredBandwidth(self.peak_bandwidth, self.iframe_bandwidth, independent)

    @property
    def duration(self) -> timedelta:
        """Of window and DVR backlog."""
        return self.backlog.duration + self.generator.duration

    @property
    def first(self) -> int:
        """The first media sequence number of the DVR backlog, or of the window."""
        return self.backlog.first(self.generator.media_sequence)


class Playlists:
    """The playlists of a stream by variant, and their numbers, which never fall."""

    def __init__(self, window_segments: int, window: timedelta, dvr: DvrDepth) -> None:
        self.current: dict[str, VariantPlaylist] = {}
        self._longest = timedelta()  # playlist so far, which players may still hold
        self._replaced = timedelta()  # the longest of the previous playlists
        self.run = -1  # the newest, and when it began by the encoder's clock
        self.run_began: datetime | None = None
        self._window_segments = window_segments
        self._window = window
        self.dvr = dvr
        self._positions: dict[str, tuple[int, int]] = {}  # next media sequence, newest discontinuity number
        self._first = Numbers()  # of variants that have no position
        self._timeline = Timeline({})

    def restore(self, memory: StreamSnapshot, now: float) -> bool:
        """Restore what an earlier process listed; returns whether its stream had ended."""
        self._timeline, self._first = recalled_timeline(memory), memory.first
        ended = all(state.ended for state, _ in memory.playlists if state.current)
        for state, listed in memory.playlists:
            self._positions[state.variant] = (state.next_media_sequence, state.current_discontinuity)
            if not state.current or (state.ended and not ended):
                continue
            playlist = self._new_playlist(
                state.target_duration, state.media_sequence, state.discontinuity_sequence
            )
            generator, older = playlist.generator, memory.kept.get(state.variant, ())
            discontinuity = state.discontinuity_sequence - sum(media.discontinuity for _, media, _ in older)
            for number, segment, independent in older:
                playlist.backlog.add(number, discontinuity, segment, independent)
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
    def numbers(self) -> Numbers:
        """What the playlists have reached."""
        numbers = self._first
        for position in self._positions.values():
            numbers = numbers.at_least(Numbers(*position))
        live = frozenset(name for name, known in self.current.items() if not known.generator.ended)
        return replace(
            numbers, end=self._timeline.latest, variants=live if self.current else numbers.variants
        )

    @property
    def target_duration(self) -> int | None:
        """Seconds; None before the first stream."""
        return next((playlist.generator.target_duration for playlist in self.current.values()), None)

    @property
    def newest_run(self) -> int:
        """The number of the newest listed run."""
        return max((playlist.newest_run for playlist in self.current.values()), default=-1)

    def begin(self, held: Sequence[Segment]) -> Mapping[str, VariantPlaylist]:
        """Prepare new playlists, which begin with these segments; returns the previous playlists."""
        previous, self.current = self.current, {}
        self._replaced = max((playlist.duration for playlist in previous.values()), default=timedelta())
        if len({segment.variant for segment in held}) == 1:
            self._take_main_address(held[0])
        return previous

    def retired(self, previous: Mapping[str, VariantPlaylist]) -> list[PlaylistState]:
        """The states of the previous playlists without a successor."""
        ended = previous.keys() - self.current.keys()
        return [replace(self._state(name, previous[name]), current=False) for name in sorted(ended)]

    def availability(self, *, replaced: bool) -> timedelta:
        """How long segments stay readable after removal (§6.2.2), or after playlists were ``replaced``."""
        longest = max(self._longest, self._replaced) if replaced else self._longest
        return longest + timedelta(seconds=self.target_duration or 0)

    def append(self, segment: Segment, target_duration: int, now: float) -> PlaylistUpdate:
        """List a segment."""
        variant = segment.variant
        playlist = self.current.get(variant)
        if is_first := playlist is None:
            # Numbers go on from this variant's last playlist: at one URL they never fall (§6.2.2).
            position = self._position(segment)
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
        """The playlists of these variants as they are now, in the order of ``current``."""
        versions = dict[str, Version[MediaPlaylist]]()
        for name in self.current:
            if name in names:
                playlist = self.current[name].generator.playlist
                whole = self.current[name].backlog.playlist(playlist) if self.dvr.is_on else None
                versions[name] = Version(playlist, now, playlist.target_duration, whole)
        return versions

    def trim(self, now: float) -> dict[str, int]:
        """Drop segments that no viewer needs; returns the first listed numbers of changed variants."""
        # Players do not reload a playlist that has ended, and play all of it.
        live = (name for name, playlist in self.current.items() if not playlist.generator.ended)
        trimmed = [name for name in live if self._trim(self.current[name], now)]
        return {name: self.current[name].first for name in trimmed}

    def end(self) -> list[PlaylistState]:
        """End all playlists; returns their states."""
        for playlist in self.current.values():
            playlist.generator.end()
        return [self._state(name, playlist) for name, playlist in self.current.items()]

    def _take_main_address(self, segment: Segment) -> None:
        """Give this variant the main address, at which numbers must not fall either (§6.2.2)."""
        _, discontinuity = self._position(segment)
        sequence = max((number for number, _ in self._positions.values()), default=self._first.sequence)
        self._positions[segment.variant] = (sequence, discontinuity)

    def _position(self, segment: Segment) -> tuple[int, int]:
        """Where a new playlist of the segment's variant begins."""
        discontinuity = max(segment.run.number, self._first.discontinuity)
        return self._positions.get(segment.variant, (self._first.sequence, discontinuity))

    def _new_playlist(self, target_duration: int, sequence: int, discontinuity: int) -> VariantPlaylist:
        backlog = DvrBacklog()
        generator = ManifestGenerator(
            target_duration,
            self._window_segments,
            self._window,
            media_sequence=sequence,
            discontinuity_sequence=discontinuity,
            on_leave=backlog.add,
        )
        return VariantPlaylist(generator, backlog)

    def _trim(self, playlist: VariantPlaylist, now: float) -> bool:
        need = self.dvr.need(playlist.generator.target_duration, now)
        bandwidth = sum(current.peak_bandwidth for current in self.current.values())
        return playlist.backlog.trim(playlist.generator.duration, need=need, most=self.dvr.cap(bandwidth))

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


MAX_OVERLAP = timedelta(milliseconds=50)  # rounding between runs, not a clock that was set back
# Within a run. No more than half a TARGETDURATION: each of the gaps that a long segment becomes is longer.
MAX_JITTER = timedelta(milliseconds=500)
REMEMBERED_RUNS = 10


class Timeline:
    """Keeps PROGRAM-DATE-TIME in order: moves the times of a run that would begin before earlier runs ended.

    A run has one shift for all segments and variants, so that their times stay consistent (§6.2.4). The shift
    grows if a variant, which had segments of the previous run for longer, would still go back in time.
    """

    def __init__(self, shifts: Mapping[int, timedelta]) -> None:
        self._shifts = dict(shifts)
        self._ends: dict[int, datetime] = {}  # of each run
        self._newest: dict[str, tuple[int, datetime]] = {}  # of each variant: run, and where it ends

    def shift(self, run: int) -> timedelta:
        """By how much the times of a run are moved."""
        return self._shifts.get(run, timedelta())

    def end(self, variant: str) -> datetime | None:
        """When the variant's newest segment ends."""
        return self._newest[variant][1] if variant in self._newest else None

    @property
    def latest(self) -> datetime | None:
        """When the newest segment of all variants ends."""
        return max((end for _, end in self._newest.values()), default=None)

    def place(self, segment: MediaSegment, variant: str, run: int) -> MediaSegment:
        """Return the segment with the time for players."""
        time = segment.program_date_time
        if time is None:
            return segment
        if run not in self._shifts:
            earlier = (end for number, end in self._ends.items() if number < run)
            behind = max(earlier, default=time) - time
            self._shifts[run] = behind if behind > MAX_OVERLAP else timedelta()
        try:
            time += self._shifts[run]
        except OverflowError:  # an encoder whose clock went to and fro by centuries
            self._shifts[run] = timedelta()
        newest_run, end = self._newest.get(variant, (run, time))
        if end - time > (MAX_JITTER if newest_run == run else MAX_OVERLAP):
            self._shifts[run] += end - time
            time = end
        placed = replace(segment, program_date_time=time)
        self.pass_by(placed, variant, run)
        return placed

    def pass_by(self, placed: MediaSegment, variant: str, run: int) -> None:
        """Note a segment that has its final time."""
        if placed.program_date_time is not None:
            self.reach(placed.program_date_time + placed.duration, variant, run)

    def reach(self, end: datetime, variant: str, run: int) -> None:
        """Note when the newest segment of a variant ends."""
        self._newest[variant] = (run, end)
        self._ends[run] = max(self._ends.get(run, end), end)
        for known in (self._shifts, self._ends):
            for old in sorted(known)[:-REMEMBERED_RUNS]:
                del known[old]


def recalled_timeline(memory: StreamSnapshot) -> Timeline:
    """The timeline after all segments that an earlier process listed."""
    timeline = Timeline(memory.shifts)
    if memory.end:
        timeline.reach(memory.end, "", memory.first.discontinuity)
    for state, listed in memory.playlists:
        run = state.discontinuity_sequence
        for _, segment, _ in listed:
            run += segment.discontinuity
            timeline.pass_by(segment, state.variant, run)
        if not listed and state.end:
            timeline.reach(state.end, state.variant, state.current_discontinuity)
    return timeline


PLAYLIST, IFRAMES = "playlist.m3u8", "iframes.m3u8"  # a media playlist, and the I-frame playlist beside it
H264 = "avc"
VIDEO = (H264, "hvc", "hev", "av01", "vp09")  # beginnings of the CODECS whose key frames are found (RFC 6381)
STEPS = 4  # to twice the bandwidth


@dataclass(frozen=True, slots=True)
class MeasuredBandwidth:
    """Bandwidths of a playlist, by its segments."""

    bandwidth: int  # bits per second, the peak
    iframe_bandwidth: int  # of its key frames alone; 0 if none are known
    independent: bool  # all segments can be decoded on their own (§4.4.2.1)


def multivariant(
    source: MultivariantPlaylist, playlists: Mapping[str, MeasuredBandwidth]
) -> MultivariantPlaylist:
    """The multivariant playlist of these playlists, with the source's attributes."""
    variants, sound = _attributed(source, {name: known.bandwidth for name, known in playlists.items()})
    names = {_address(name): name for name in playlists if playlists[name].iframe_bandwidth}
    with_frames = (variant for variant in variants if variant.uri in names)
    # One I-frame playlist: in H.264, which all browsers decode, and of the smallest variant, to come fast.
    if iframes := min(with_frames, key=_rank_of_iframes, default=None):
        name = names[iframes.uri]
        codecs = [codec for codec in (iframes.codecs or "").split(",") if codec.strip().startswith(VIDEO)]
        iframes = Variant(
            f"{name}/{IFRAMES}",
            _rounded(playlists[name].iframe_bandwidth),
            codecs=",".join(codecs) or None,
            resolution=iframes.resolution,
            video_range=iframes.video_range,
        )
    independent = all(known.independent for known in playlists.values())
    return MultivariantPlaylist(variants, independent, sound, iframes)


def _rank_of_iframes(variant: Variant) -> tuple[bool, int]:
    return H264 not in (variant.codecs or ""), variant.bandwidth


def _attributed(
    source: MultivariantPlaylist, bandwidths: Mapping[str, int]
) -> tuple[tuple[Variant, ...], tuple[Rendition, ...]]:
    """The served variants and renditions with the source's attributes.

    ``bandwidths`` are measured, in bits per second, of all playlists, and replace lower values: Owncast's
    are of the first segments, or of its idle clip. A rendition adds to the variants of its group.
    """
    found = [known for known in source.renditions if known.uri is None or known.uri in bandwidths]
    sound = [known for known in found if not known.instream_id]
    groups, alone = {known.group_id for known in sound}, {known.uri for known in sound}
    served = [name for name in bandwidths if name not in alone]
    described = {
        known.uri: known if known.audio in groups else replace(known, audio=None) for known in source.variants
    }
    if not described.keys() >= {*served}:
        # Beside variants with CODECS or RESOLUTION, players take variants without these for sound alone.
        described = {name: Variant(name, known.bandwidth) for name, known in described.items()}
    order = [name for name in described if name in served] + sorted({*served} - described.keys())
    variants = dict[int, Variant]()  # by bandwidth
    for name in order:
        variant = described.get(name, Variant(name, 0))
        beside = (bandwidths[known.uri] for known in sound if known.uri and known.group_id == variant.audio)
        measured = _rounded(bandwidths[name] + max(beside, default=0))
        if variant.bandwidth < measured:
            variant = replace(variant, bandwidth=measured, average_bandwidth=None)
        while variant.bandwidth in variants:  # players take two equal variants for one variant in two places
            variant = replace(variant, bandwidth=variant.bandwidth + 1)
        variants[variant.bandwidth] = replace(variant, uri=_address(name))
    renditions = (replace(known, uri=known.uri and _address(known.uri)) for known in found)
    return tuple(variants.values()), tuple(renditions)


def _rounded(bandwidth: int) -> int:
    """The next higher of few values: BANDWIDTH is the peak (§4.4.6.2), and peers meet by its value."""
    return ceil(2 ** (ceil(log2(bandwidth) * STEPS) / STEPS)) if bandwidth else 0


def _address(name: str) -> str:
    return f"{name}/{PLAYLIST}"
