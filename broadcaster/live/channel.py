"""When a stream goes live, what is listed, and when it is over.

A stream goes live when it is known which variants it has: those of its multivariant playlist, or of the
stream before, and nobody else has a place in the folder; or when waiting for that takes too long. From then
on TARGETDURATION is fixed.

After ``end()`` the playlists stay, finished. The next segment begins new playlists under the same
URLs: only new segments, numbers that go on, and a raised discontinuity number. What players were told
cannot change: so the same happens, at once, when a segment is too long for the TARGETDURATION that they know,
or when the source's variants become fewer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from broadcaster.catalog.memory import Book, Change, ChannelMemory, NoLedger, Publication
from broadcaster.events import Observer, SegmentLost, StreamEnded, StreamStarted
from broadcaster.hls import MultivariantPlaylist, Variant, rounded_seconds
from broadcaster.hls.manifest import ManifestGenerator
from broadcaster.ingest.reports import VariantsListed
from broadcaster.live.outgrown import RunBegin, gone, is_too_long, room_for
from broadcaster.live.snapshot import Snapshot, attributed
from broadcaster.live.start_gate import StartGate
from broadcaster.live.timeline import Timeline, recalled_timeline
from broadcaster.live.variant_playlist import VariantPlaylist, announcement

logger = logging.getLogger(__name__)

# How long ENDLIST is there before new playlists. Whoever polls asks once in a target duration (§6.3.4), of a
# cache that keeps half of one; and the mirror needs time for a write after the one before it.
SEEN_TARGET_DURATIONS, SEEN_SECONDS = 1.5, 3.0
REMEMBERED_RUNS = 16


class State(StrEnum):
    """Where the stream stands, for viewers."""

    OFFLINE = "offline"  # nothing has been served yet
    STARTING = "starting"  # segments come, but not yet of all variants
    LIVE = "live"
    ENDED = "ended"


class Channel:
    """Takes publications and keeps what is served. ``clock`` gives the wall time.

    ``target_duration`` (seconds) overrules the source's, as room for segments of varying length.
    ``ledger`` is told of every change before it can be seen; ``memory`` is what an earlier process told it.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        window_segments: int,
        clock: Callable[[], datetime],
        observe: Observer,
        target_duration: int | None = None,
        *,
        window: timedelta = timedelta(),
        catalog: Book | None = None,
        memory: ChannelMemory | None = None,
    ) -> None:
        self.clock = clock
        self.state = State.OFFLINE
        self.published = 0  # segments since the start
        self._window_segments = window_segments
        self._window = window
        self._observe = observe
        self._fixed_target_duration = target_duration
        self._catalog = catalog or NoLedger()
        self._source = VariantsListed(())
        self._described: tuple[Variant, ...] = ()  # what is told of the variants
        self._variants: dict[str, VariantPlaylist] = {}
        self._positions: dict[str, tuple[int, int]] = {}  # next media sequence, newest discontinuity number
        self._runs: tuple[str, ...] = ()
        self._timeline = Timeline({})
        self._longest = timedelta()  # of all playlists, ended ones too: players may still hold one
        self._run_began = RunBegin()
        self._gate = StartGate()
        self._main: Snapshot | None = None
        if memory:
            self._restore(memory)

    @property
    def main(self) -> Snapshot | None:
        """The multivariant playlist, or the media playlist itself where there is one variant."""
        return self._main

    def media(self, variant: str) -> Snapshot | None:
        """The media playlist of one variant."""
        state = self._variants.get(variant)
        return state.version if state else None

    @property
    def variants(self) -> list[str]:
        """The names of all variants served."""
        return list(self._variants)

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the latest encoder runs, newest last: a viewer who stays was told an earlier one."""
        return self._runs

    @property
    def listed(self) -> int:
        """How many segments all playlists list together."""
        return sum(state.generator.segment_count for state in self._variants.values())

    @property
    def target_duration(self) -> int | None:
        """Seconds; None before the first stream."""
        return next((state.generator.target_duration for state in self._variants.values()), None)

    def list_variants(self, listed: VariantsListed) -> None:
        """Take what the source says of its variants, as it is now."""
        self._source = listed
        described = {one.uri: one for one in listed.variants}
        if not described.keys() >= listed.present:
            # It is of another run, or of the idle clip: what was known is better.
            described |= {one.uri: one for one in self._described}
        if described and tuple(described.values()) != self._described:
            self._described = tuple(described.values())
            self._catalog.listed(self._described)
            if self.state is State.LIVE:
                self._render_main()
        if self.state is State.STARTING and self._gate.is_due(listed, self._variants.keys()):
            self._go_live()

    def expect(self, variant: str) -> None:
        """A segment of this variant is on its way: a stream that starts does not leave it out."""
        self._gate.expected[variant] += 1

    def publish(self, publication: Publication) -> None:
        """Make a segment visible to viewers."""
        self._gate.expected[publication.variant] -= 1
        if self.state is State.LIVE and (reason := self._outgrown(publication)):
            logger.warning("the playlists end and new ones begin at once: %s", reason)
            target_duration = self.target_duration or 0
            newest_run = max(served.newest_run for served in self._variants.values())
            self.end(going_on=True)
            self._gate.rest = max(SEEN_TARGET_DURATIONS * target_duration, SEEN_SECONDS)
            self._gate.room = room_for(publication, target_duration, newest_run)
        if self.state is not State.LIVE:
            self.state = State.STARTING
            self._gate.add(publication)
            if self._gate.is_due(self._source, self._variants.keys()):
                self._go_live()
            return
        known = publication.variant in self._variants
        change = self._append(publication, self.target_duration or publication.target_duration)
        self._catalog.published([change])
        self._show(publication, change)
        if not known:
            self._render_main()

    def tick(self, now: float) -> None:
        """Let time pass (monotonic, seconds): a stream whose variants stay unknown goes live all the same."""
        if self.state is State.STARTING and self._gate.is_due(self._source, self._variants.keys(), now):
            self._go_live()

    def end(self, *, going_on: bool = False) -> None:
        """The stream is over for viewers; or ``going_on``, and new playlists follow at once."""
        if self.state is State.STARTING:
            self._go_live()
        if self.state is not State.LIVE:
            return
        for state in self._variants.values():
            state.generator.end()
        states = [state.memory(name, self._timeline) for name, state in self._variants.items()]
        self._catalog.published([], states)
        self.state = State.ENDED
        for state in self._variants.values():
            self._replace(state)
        self._render_main()
        self._observe(StreamEnded(self.clock(), going_on))

    def _outgrown(self, publication: Publication) -> str | None:
        """Why the playlists cannot go on with this segment; None when they can."""
        if is_too_long(publication, self.target_duration or 0):
            seconds = publication.segment.duration.total_seconds()
            return (
                f"{publication.key} lasts {seconds:.3f} s, more than TARGETDURATION, {self.target_duration} s"
                " (BROADCASTER_TARGET_DURATION, set above the longest, prevents that)"
            )
        if publication.variant not in self._variants:
            # The main address is the media playlist of an only variant; with two it would be another kind.
            alone = len(self._variants) == 1
            return f"variant {publication.variant} comes beside an only one" if alone else None
        expected = self._gate.expected
        self._gate.dropped = gone(
            publication, self._variants, self._source.present, expected, self._run_began
        )
        names = ", ".join(sorted(self._gate.dropped))
        return f"there is no variant {names} any more" if names else None

    def _go_live(self) -> None:
        held = self._gate.publications
        target_duration = self._gate.target_duration(self._fixed_target_duration)
        self._gate = StartGate(expected=self._gate.expected)
        previous, self._variants = self._variants, {}
        if len({publication.variant for publication in held}) == 1:
            self._take_main_address(held[0])
        changes = [self._append(publication, target_duration) for publication in held]
        gone = [
            replace(state.memory(name, self._timeline), current=False)
            for name, state in previous.items()
            if name not in self._variants
        ]
        # In one piece: half of it would be neither the old stream nor the new one.
        self._catalog.published(changes, gone, self._longest + timedelta(seconds=target_duration))
        self.state = State.LIVE
        for publication, change in zip(held, changes, strict=True):
            self._show(publication, change)
        self._render_main()
        variants = tuple(sorted(self._variants))
        self._observe(StreamStarted(variants, target_duration, held[-1].run.id, self.clock()))

    def _take_main_address(self, publication: Publication) -> None:
        """The main address becomes this variant's: whoever had it before, numbers must not fall (§6.2.2)."""
        _, discontinuity = self._positions.get(publication.variant, (1, publication.run.number))
        sequence = max((number for number, _ in self._positions.values()), default=1)
        self._positions[publication.variant] = (sequence, discontinuity)

    def _append(self, publication: Publication, target_duration: int) -> Change:
        """Put a segment into its window, where nobody sees it yet; returns what has to be remembered."""
        state = self._variants.get(publication.variant)
        if state is None:
            state = VariantPlaylist(self._new_generator(publication, target_duration))
            self._variants[publication.variant] = state
        if publication.run.id not in self._runs:
            self._runs = (*self._runs, publication.run.id)[-REMEMBERED_RUNS:]
        generator, number = state.generator, state.generator.next_media_sequence
        run = max(publication.run.number, generator.current_discontinuity)
        segment = self._timeline.place(publication.segment, publication.variant, run)
        if not segment.gap and rounded_seconds(segment.duration) > generator.target_duration:
            self._lose(publication, generator.target_duration)
        generator.append(segment, discontinuity=run, independent=publication.independent)
        for other in self._variants.values():
            other.others[publication.variant] += 1
        state.others.clear()
        time = publication.segment.program_date_time
        state.newest_run, state.end = run, time and time + segment.duration
        self._run_began.note(publication)
        self._longest = max(self._longest, generator.longest)
        self._positions[publication.variant] = (generator.next_media_sequence, run)
        state.measure(publication.size, segment.duration)
        return Change(
            state=state.memory(publication.variant, self._timeline),
            added=generator.listed_from(number),
            availability=self._longest + timedelta(seconds=target_duration),
            run=publication.run,
            shift=self._timeline.shift(run),
            key=publication.key,
            map_key=publication.map_key,
            size=publication.size,
        )

    def _lose(self, publication: Publication, target_duration: int) -> None:
        fault = f"is longer than TARGETDURATION, {target_duration} s, can be"
        logger.error("%s %s; it is listed as gaps", publication.key, fault)
        self._observe(SegmentLost(publication.variant, publication.key, fault))

    def _show(self, publication: Publication, change: Change) -> None:
        self._replace(self._variants[publication.variant])
        self.published += 1
        self._observe(announcement(publication, change, self.clock()))

    def _replace(self, served: VariantPlaylist) -> None:
        """Put a new version in the place of the old one, and wake whoever waits for it."""
        old = served.renew(self.clock())
        if len(self._variants) == 1:
            self._main = served.version  # before anybody wakes up who asked under the main address
        if old:
            old.superseded.set()

    def _new_generator(self, publication: Publication, target_duration: int) -> ManifestGenerator:
        """Numbers go on where this variant's last playlist stood: they never fall under one URL (§6.2.2)."""
        sequence, discontinuity = self._positions.get(publication.variant, (1, publication.run.number))
        return ManifestGenerator(
            target_duration,
            self._window_segments,
            self._window,
            media_sequence=sequence,
            discontinuity_sequence=discontinuity,
        )

    def _restore(self, memory: ChannelMemory) -> None:
        self._described = tuple(memory.variants)
        self._runs = tuple(memory.runs)
        self._timeline = recalled_timeline(memory)
        all_ended = all(one.state.ended for one in memory.playlists if one.state.current)
        for playlist in memory.playlists:
            was = playlist.state
            self._positions[was.variant] = (was.next_media_sequence, was.current_discontinuity)
            if was.current and (all_ended or not was.ended):
                served = VariantPlaylist.recalled(playlist, self._window_segments, self._window, self.clock())
                self._longest = max(self._longest, served.generator.longest)
                self._variants[was.variant] = served
        if self._variants:
            self.state = State.ENDED if all_ended else State.LIVE
            self._render_main()

    def _render_main(self) -> None:
        states = self._variants
        if len(states) == 1:
            self._main = next(iter(states.values())).version
            return
        bandwidths = {name: state.peak_bandwidth for name, state in states.items()}
        independent = all(state.generator.independent_segments for state in states.values())
        playlist = MultivariantPlaylist(attributed(self._described, bandwidths), independent)
        self._main = Snapshot(playlist, self.target_duration or 1, self.clock())
