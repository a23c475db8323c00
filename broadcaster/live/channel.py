"""When a stream goes live, what is listed, and when it is over.

A stream goes live when it is known which variants it has: those of its multivariant playlist, or of the
stream before, and nobody else has a place in the folder; or when waiting for that takes too long. From then
on TARGETDURATION is fixed.

After ``end()`` the playlists stay, finished. The next segment begins new playlists under the same
URLs: only new segments, numbers that go on, and a raised discontinuity number. What players were told
cannot change: so the same happens, at once, when a segment is too long for the TARGETDURATION that they know,
or when the source's variants become fewer. All is written down first, and shown when that is done: what
decides something returns ``Decisions``, and awaiting those returns when viewers see it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import ChannelMemory, Listing, PlaylistState, Segment
from broadcaster.catalog.writer import Transaction
from broadcaster.events import Event, Observer, SegmentLost, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.ipc import AnyVersion, State, Version, View
from broadcaster.live.attributes import multivariant
from broadcaster.live.outgrown import gone, room_for, why_outgrown
from broadcaster.live.playlists import Playlists
from broadcaster.live.retention import Retention
from broadcaster.live.start_gate import StartGate
from broadcaster.live.state import NEXT, Occasion
from broadcaster.source.reports import VariantsListed

logger = logging.getLogger(__name__)

# How long ENDLIST is there before new playlists. Whoever polls asks once in a target duration (§6.3.4), of a
# cache that keeps half of one; and the mirror needs time for a write after the one before it.
SEEN_TARGET_DURATIONS, SEEN_SECONDS = 1.5, 3.0
REMEMBERED_RUNS = 16


class Decisions(tuple[Transaction, ...]):
    """What was decided at once. Awaiting it returns when viewers see it, and raises what was not written."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        for one in self:
            yield from one.__await__()


class Channel:
    """Takes segments that are stored or lost, and keeps what is served. ``clock`` gives the wall time.

    ``target_duration`` (seconds) overrules the source's, as room for segments of varying length.
    ``retention`` is for how long what leaves the playlists stays listed for those who are behind.
    ``catalog`` is told of everything before it can be seen; ``memory`` is what an earlier process told it.
    ``view`` is what viewers see, and ``show`` is called with each new one.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        window_segments: int,
        clock: Callable[[], datetime],
        observe: Observer,
        target_duration: int | None = None,
        *,
        window: timedelta = timedelta(),
        retention: Retention | None = None,
        catalog: Catalog | None = None,
        memory: ChannelMemory | None = None,
        show: Callable[[View], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.view = View()
        self.published = 0  # segments since the start
        self._decided = State.OFFLINE
        self._observe = observe
        self._fixed_target_duration = target_duration
        self._catalog = catalog
        self._source = VariantsListed()
        self._described = MultivariantPlaylist()  # what is told of the variants, by their names
        self._playlists = Playlists(window_segments, window, retention or Retention())
        self._runs: tuple[str, ...] = ()
        self._on_view = show
        self._gate = StartGate()
        self._undelivered: list[Transaction] = []
        if memory:
            self._restore(memory)

    @property
    def state(self) -> State:
        """What viewers see."""
        return self.view.state

    @property
    def listed(self) -> int:
        """How many segments all playlists list together."""
        return sum(one.generator.segment_count for one in self._playlists.current.values())

    @property
    def target_duration(self) -> int | None:
        """Seconds; None before the first stream."""
        return self._playlists.target_duration

    def list_variants(self, listed: VariantsListed) -> Decisions:
        """Take what the source says of its variants, as it is now."""
        self._source = listed
        described, known = listed.playlist, self._described
        if not described.uris >= listed.present:
            # It is of another run, or of the idle clip: what was known is better.
            variants = {one.uri: one for one in (*described.variants, *known.variants)}
            renditions = known.renditions or described.renditions
            described = MultivariantPlaylist(tuple(variants.values()), renditions=renditions)
        if described.variants and described != known:
            self._described = described
            if self._catalog:
                self._catalog.described(described)
            if self._decided is State.LIVE:
                self._decide()
        self._go_live_if_due()
        return self._taken()

    def expect(self, variant: str) -> None:
        """A segment of this variant is on its way: a stream that starts does not leave it out."""
        self._gate.expected[variant] += 1

    def publish(self, segment: Segment) -> Decisions:
        """Make a segment visible to viewers."""
        self._gate.expected[segment.variant] -= 1
        if self._decided is State.LIVE and (reason := self._outgrown(segment)):
            logger.warning("the playlists end and new ones begin at once: %s", reason)
            target_duration = self.target_duration or 0
            self._gate.room = room_for(segment, target_duration, self._playlists.newest_run)
            self._gate.rest = max(SEEN_TARGET_DURATIONS * target_duration, SEEN_SECONDS)
            self._finish(Occasion.OUTGROWN)
        else:
            self._decided = NEXT[self._decided, Occasion.SEGMENT]
        if self._decided is State.LIVE:
            self._decide([self._list(segment, self.target_duration or segment.target_duration)])
            return self._taken()
        if self.state not in (State.LIVE, self._decided):
            self._see(replace(self.view, state=self._decided))
        self._gate.add(segment)
        self._go_live_if_due()
        return self._taken()

    def tick(self, now: float) -> Decisions:
        """Let time pass (monotonic, seconds): for variants that stay unknown, and viewers who were behind."""
        self._go_live_if_due(now)
        if trimmed := self._playlists.trim():
            self._decide(trimmed=trimmed)
        return self._taken()

    def end(self) -> Decisions:
        """The stream is over for viewers."""
        if self._decided is State.STARTING:
            self._go_live()
        if self._decided is State.LIVE:
            self._finish(Occasion.OVER)
        return self._taken()

    def _taken(self) -> Decisions:
        """What was decided since the last call."""
        decisions, self._undelivered = Decisions(self._undelivered), []
        return decisions

    def _outgrown(self, segment: Segment) -> str | None:
        """Why the playlists cannot go on with this segment; None when they can."""
        dropped = set[str]()
        if segment.variant in self._playlists.current:
            dropped = gone(segment, self._playlists, self._source.present, self._gate.expected)
        self._gate.dropped = dropped
        return why_outgrown(segment, self._playlists, dropped)

    def _go_live_if_due(self, now: float | None = None) -> None:
        known = self._playlists.current.keys()
        if self._decided is State.STARTING and self._gate.is_due(self._source, known, now):
            self._go_live()

    def _go_live(self) -> None:
        held = self._gate.segments
        target_duration = self._gate.target_duration(self._fixed_target_duration)
        self._gate = StartGate(expected=self._gate.expected)
        previous = self._playlists.begin(held)
        # In one piece: half of it would be neither the old stream nor the new one.
        listings = [self._list(segment, target_duration) for segment in held]
        self._decided = NEXT[self._decided, Occasion.COMPLETE]
        variants = tuple(sorted(self._playlists.current))
        started = partial(StreamStarted, variants, target_duration, held[-1].run.id)
        self._decide(listings, self._playlists.retired(previous), started)

    def _finish(self, occasion: Occasion) -> None:
        self._decided = NEXT[self._decided, occasion]
        ended = partial(StreamEnded, going_on=occasion is Occasion.OUTGROWN)
        self._decide(retired=self._playlists.end(), event=ended)

    def _list(self, segment: Segment, target_duration: int) -> Listing:
        if segment.run.id not in self._runs:
            self._runs = (*self._runs, segment.run.id)[-REMEMBERED_RUNS:]
        listing = self._playlists.append(segment, target_duration)
        if listing.added[-1][1].gap and not segment.gap:
            fault = f"is longer than TARGETDURATION, {target_duration} s, can be"
            logger.error("%s %s; it is listed as gaps", segment.key, fault)
            self._observe(SegmentLost(segment.variant, segment.key, fault))
        return listing

    def _decide(
        self,
        listings: Sequence[Listing] = (),
        retired: Sequence[PlaylistState] = (),
        event: Callable[[datetime], Event] | None = None,
        trimmed: Mapping[str, int] | None = None,
    ) -> None:
        """Write down how the playlists are now; then show that, and tell of the event, which changes all."""
        current, now = self._playlists.current, self.clock()
        changed = set(current) if event else {*(trimmed or ()), *(one.segment.variant for one in listings)}
        versions = self._playlists.versions(changed, now)
        main = None if len(current) == 1 else self._multivariant(now)
        show = partial(self._show, self._decided, versions, main, self._runs, listings, event)
        if self._catalog:
            availability = self._playlists.availability(replaced=bool(retired))
            trimmed, over = trimmed or {}, self._decided is State.ENDED
            written = self._catalog.listed(
                listings, retired, availability, trimmed=trimmed, over=over, then=show
            )
            self._undelivered.append(written)
        else:
            show()

    def _show(  # noqa: PLR0913, PLR0917 - all that was decided together
        self,
        state: State,
        versions: dict[str, Version[MediaPlaylist]],
        main: AnyVersion | None,
        runs: tuple[str, ...],
        listings: Sequence[Listing],
        event: Callable[[datetime], Event] | None,
    ) -> None:
        """Put new versions in the place of the old ones, and tell of it."""
        playlists = versions if event else {**self.view.playlists, **versions}
        main = main or (next(iter(playlists.values())) if len(playlists) == 1 else self.view.main)
        state = State.STARTING if self._decided is State.STARTING else state
        self._see(View(state, self.target_duration, runs, playlists, main))
        now = self.clock()
        for listing in listings:
            self.published += 1
            self._observe(SegmentPublished(listing.segment, now))
        if event:
            self._observe(event(now))

    def _see(self, view: View) -> None:
        self.view = view
        self._on_view(view)

    def _multivariant(self, now: datetime) -> AnyVersion:
        measured = {name: one.measured for name, one in self._playlists.current.items()}
        playlist = multivariant(self._described, measured)
        version, before = Version(playlist, now, self.target_duration or 1), self.view.main
        return before if before and before == replace(version, modified=before.modified) else version

    def _restore(self, memory: ChannelMemory) -> None:
        self._described, self._runs = memory.described, tuple(memory.runs)
        ended = self._playlists.restore(memory)
        if current := self._playlists.current:
            self._decided = State.ENDED if ended else State.LIVE
            versions = self._playlists.versions(current, now := self.clock())
            main = next(iter(versions.values())) if len(current) == 1 else self._multivariant(now)
            self.view = View(self._decided, self.target_duration, self._runs, versions, main)
