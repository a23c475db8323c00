"""The machine: takes an event and the time, and returns effects, in order.

For ``/health`` it keeps the state of the source, and the gaps that viewers see.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice

from broadcaster.catalog.records import Numbers, PlaylistState, PlaylistUpdate, Segment, StreamSnapshot
from broadcaster.events import (
    SegmentDiscovered,
    SegmentLost,
    SegmentPublished,
    SourceEnded,
    SourceFault,
    SourceIdle,
    SourceRefused,
    StreamEnded,
    StreamStarted,
    VariantsListed,
)
from broadcaster.hls import MultivariantPlaylist
from broadcaster.ipc.messages import AnyVersion, State, Version, View
from broadcaster.stream import model
from broadcaster.stream.model import Effect, Event, Instant, Log, Notify, StreamLimits
from broadcaster.stream.playlists import DvrDepth, Playlists, multivariant
from broadcaster.stream.rollover import (
    SEEN_SECONDS,
    SEEN_TARGET_DURATIONS,
    StartupBarrier,
    next_target_duration,
    rollover_reason,
    stalled_variants,
)
from broadcaster.stream.state import SEGMENT, STREAM, Progress, SegmentState, Trigger

FLUSH = 1.5  # seconds in which the last segments are found after their encoder has gone
MANY = 3  # lost segments of a variant while no segment of any variant is listed


@dataclass(slots=True)
class SourceHealth:
    """The state of the source; times are monotonic, in seconds."""

    start: float
    last_segment: float
    last_of: dict[str, float] = field(default_factory=dict)  # the same, by variant
    ended: bool = False  # the source says that its stream has ended, and has brought no segment since
    idle: bool = False  # Owncast shows its idle clip, and no transcoder can be running
    fault: str | None = None  # why the folder cannot be read
    refused: str | None = None  # which playlists cannot be followed, and why

    def brought(self, variant: str, now: float) -> None:
        """The source has finished a segment."""
        self.last_segment = self.last_of[variant] = now
        self.ended = self.idle = False

    def silence(self, looked_at: float, variant: str | None = None) -> float:
        """Seconds from the last segment, or the last of a variant, to the latest look at the folder."""
        last = self.last_of.get(variant, self.start) if variant is not None else self.last_segment
        return max(0.0, looked_at - last)


class GapMonitor:
    """Counts lost segments since the last listed segment that can be played."""

    def __init__(self, now: float) -> None:
        self.since = now  # monotonic: a segment that can be played was listed, or a stream began
        self._lost: Counter[str] = Counter()  # by variant
        self._reason = ""

    def lost(self, variant: str, reason: str) -> None:
        """A segment is a gap."""
        self._lost[variant] += 1
        self._reason = reason

    def listed(self, now: float) -> None:
        """A segment is listed that can be played."""
        self._lost.clear()
        self.since = now

    def began(self, now: float) -> None:
        """A stream begins."""
        self.since = now

    def ended(self) -> None:
        """A stream is over."""
        self._lost.clear()

    @property
    def problem(self) -> str | None:
        """The fault for the operator; None while segments are listed."""
        if max(self._lost.values(), default=0) < MANY:
            return None
        return f"the last {self._lost.total()} segments were lost: {self._reason}"


def encoder_gone(since: float | None, grace: float | None, last_segment: float, now: float) -> bool:
    """Whether the encoder has been disconnected, since ``since``, for ``grace`` seconds and 1.5 s at least.

    An encoder whose segments go on is not gone: the report may be about another encoder.
    """
    if since is None or grace is None or last_segment > since + 2 * FLUSH:
        return False
    return now - max(since, last_segment) > max(grace, FLUSH)


AHEAD = 12  # segments of a variant whose uploads may have begun before the first of them is listed
GRACE_TARGET_DURATIONS = 3  # without a segment, at least, until a stream is over
REMEMBERED_RUNS = 16
LATE_VARIANT = 10.0  # seconds that a rehearsal waits for a variant that brings nothing more


@dataclass(slots=True, eq=False)
class Tracked:
    """A segment between the source and the playlist."""

    segment: Segment
    since: float  # monotonic
    step: SegmentState = SegmentState.EXPECTED

    def move(self, progress: Progress) -> None:
        """Go to the next step."""
        self.step = SEGMENT[self.step, progress]


class StreamMachine:
    """The stream: segments on the way, the playlists, and the view that viewers get."""

    def __init__(
        self,
        limits: StreamLimits,
        now: Instant,
        memory: StreamSnapshot | None = None,
        pending: Iterable[Segment] = (),
        opened: datetime | None = None,
    ) -> None:
        self.view = View()
        self.is_rehearsal = False  # the playlists have media of before the doors opened
        self.state = State.OFFLINE
        self.source = SourceHealth(now.monotonic, now.monotonic)
        self.gaps = GapMonitor(now.monotonic)
        self._limits = limits
        self._now = now
        self._opened = opened
        self._waits_since: float | None = None  # for other variants to come to the opening (monotonic)
        self._effects: list[Effect] = []
        self._segments: dict[str, Tracked] = {}  # by object key, oldest first
        self._queues: defaultdict[str, deque[Tracked]] = defaultdict(deque)  # by variant: before their turn
        self._listed_by_source = VariantsListed()
        self._described = MultivariantPlaylist()  # of the variants as viewers see them, by names
        self._playlists = Playlists(
            limits.window_segments, limits.window, DvrDepth(limits.dvr, limits.dvr_size)
        )
        self._barrier = StartupBarrier()
        self._runs: tuple[str, ...] = ()
        self._expected: AbstractSet[str] = frozenset()  # variants of a stream that another one has shown
        if memory:
            self._restore(memory)
        for segment in pending:
            self._track(Tracked(segment, now.monotonic, SegmentState.FOUND))

    def handle(self, event: Event, now: Instant) -> tuple[Effect, ...]:
        """Return the effects of an event, in order."""
        self._now = now
        match event:
            case model.SegmentFound(segment):
                self.source.brought(segment.variant, now.monotonic)
                self._track(Tracked(segment, now.monotonic))
                self._do(Notify(SegmentDiscovered(segment.variant, segment.name)))
            case model.SegmentSpooled(key):
                tracked = self._segments[key]
                tracked.move(Progress.KEPT)
                self._do(model.WriteFound(tracked.segment))
                self._begin_uploads(tracked.segment.variant)
            case model.SegmentFinished(segment):
                self._finish_upload(segment)
            case model.SegmentReleased(key):
                del self._segments[key]
            case model.Tick():
                self._tick(event)
            case model.DoorsOpened(at):
                self._opened, self.is_rehearsal = at, bool(self._playlists.current)
                self._see(self.view)
            case _:
                self._take_report(event)
        return self._decided()

    def resume(self, now: Instant) -> tuple[Effect, ...]:
        """Return the first effects: uploads that an earlier process did not finish."""
        self._now = now
        for variant in list(self._queues):
            self._begin_uploads(variant)
        return self._decided()

    @property
    def public_view(self) -> View:
        """What viewers see: nothing of a rehearsal, from the opening of the doors until the stream begins."""
        if not self.is_rehearsal:
            return self.view
        return View(State.OFFLINE if self.state is State.ENDED else State.STARTING)

    @property
    def target_duration(self) -> int | None:
        """Seconds; None before the first stream."""
        return self._playlists.target_duration

    @property
    def numbers(self) -> Numbers:
        """What the playlists have reached."""
        return self._playlists.numbers

    @property
    def on_the_way(self) -> list[Segment]:
        """Segments that the spool has taken and viewers cannot see yet, oldest first."""
        tracked = self._segments.values()
        return [known.segment for known in tracked if known.step is not SegmentState.EXPECTED]

    @property
    def waiting(self) -> Counter[str]:
        """By variant: the segments that the source has finished and viewers cannot see yet."""
        held = Counter({name: len(segments) for name, segments in self._barrier.held.items()})
        tracked = (known for known in self._segments.values() if known.step is not SegmentState.HELD)
        return held + Counter(known.segment.variant for known in tracked)

    @property
    def waiting_since(self) -> float | None:
        """When the oldest of these segments was found (monotonic)."""
        return next((tracked.since for tracked in self._segments.values()), None)

    def _decided(self) -> tuple[Effect, ...]:
        effects, self._effects = tuple(self._effects), []
        return effects

    def _take_report(self, report: model.SourceReport) -> None:
        match report:
            case VariantsListed():
                self._list_variants(report)
            case SourceEnded(variant):
                # Owncast can go on with the stream for five minutes; grace counts from the last segment.
                self.source.ended = True
                self._do(Log("info", f"variant {variant} says that it has ended"), model.AskEncoder())
            case SourceIdle():
                self.source.ended = self.source.idle = True
            case SourceFault(message):
                self.source.fault = message
            case SourceRefused(message):
                self.source.refused = message

    # Segments on the way.

    def _track(self, tracked: Tracked) -> None:
        self._segments[tracked.segment.key] = tracked
        self._queues[tracked.segment.variant].append(tracked)

    def _begin_uploads(self, variant: str) -> None:
        for tracked in islice(self._queues[variant], AHEAD):
            if tracked.step is SegmentState.FOUND:
                tracked.move(Progress.BEGUN)
                self._do(model.Upload(tracked.segment))

    def _finish_upload(self, segment: Segment) -> None:
        tracked = self._segments[segment.key]
        tracked.move(Progress.LOST if segment.gap else Progress.CONFIRMED)
        known, tracked.segment = tracked.segment, segment
        if segment.fault and not known.url:
            self._lose(segment, segment.name, segment.fault, "it is listed as a gap")
        place = len(self._effects)
        self._take_turns(segment.variant)
        # A listing writes its segment, too. A segment that had a URL was written by an earlier process.
        if not known.url and tracked.step is not SegmentState.LISTED:
            self._effects.insert(place, model.WriteStored(segment))
        self._begin_uploads(segment.variant)

    def _take_turns(self, *variants: str) -> None:
        ends_rehearsal = self._end_rehearsal()
        for name in self._queues if ends_rehearsal else variants:
            queue = self._queues[name]
            while queue and queue[0].step in (SegmentState.STORED, SegmentState.GAP):
                if self._in_rehearsal and self._is_public(queue[0].segment):
                    break
                self._take_turn(queue.popleft())

    def _is_public(self, segment: Segment) -> bool:
        """Whether nothing of the segment is of the time before the opening of the doors."""
        if self._opened is None or segment.gap:
            return True
        return (segment.completed or segment.noticed) - segment.duration >= self._opened

    @property
    def _in_rehearsal(self) -> bool:
        """Whether a stream is on that began before the doors opened."""
        held = self._barrier.segments if self.state is State.STARTING else ()
        return (self.state is State.LIVE and self.is_rehearsal) or not all(map(self._is_public, held))

    def _end_rehearsal(self) -> bool:
        """End the rehearsal when its variants have come to the opening; returns whether it ended."""
        if not self._in_rehearsal:
            return False
        names = self._barrier.held if self.state is State.STARTING else self._playlists.current
        coming = [self._is_public(self._queues[name][0].segment) for name in names if self._queues[name]]
        if not coming or not all(coming):
            self._waits_since = None
            return False
        if self._waits_since is None:
            self._waits_since = self._now.monotonic
        if len(coming) < len(names) and self._now.monotonic - self._waits_since < LATE_VARIANT:
            return False
        self._waits_since = None
        self._do(Log("info", "the doors have opened: the stream of before ends, and another one begins"))
        if self.state is State.STARTING:
            self._go_live()
        self._finish(Trigger.OVER)
        return True

    def _take_turn(self, tracked: Tracked) -> None:
        segment = tracked.segment
        begun = self.state is State.LIVE or self._barrier.held
        if begun and not self._in_rehearsal and not self._is_public(segment):  # it came late
            segment = tracked.segment = replace(segment, url="", fault="is of before the doors opened")
        if self.state is State.LIVE and (reason := self._rollover_reason(segment)):
            self._do(Log("warning", f"the playlists end and new ones begin at once: {reason}"))
            target_duration = self.target_duration or 0
            self._barrier.room = next_target_duration(segment, target_duration, self._playlists.newest_run)
            self._barrier.rest = max(SEEN_TARGET_DURATIONS * target_duration, SEEN_SECONDS)
            self._finish(Trigger.ROLLOVER)
        else:
            self.state = STREAM[self.state, Trigger.SEGMENT]
        if self.state is State.LIVE:
            tracked.move(Progress.LISTED)
            self._decide([self._list(segment, self.target_duration or segment.target_duration)])
        else:
            if self.view.state is not self.state:
                self._see(replace(self.view, state=self.state))
            tracked.move(Progress.HELD)
            self._barrier.hold(segment)
            self._go_live_if_complete()
        self._do(model.Release(segment))

    def _lose(self, segment: Segment, name: str, fault: str, listed: str) -> None:
        self.gaps.lost(segment.variant, fault)
        self._do(Log("error", f"{segment.key} {fault}; {listed}"))
        self._do(Notify(SegmentLost(segment.variant, name, fault)))

    # The stream.

    def _list_variants(self, listed: VariantsListed) -> None:
        self._listed_by_source = listed
        described, known = listed.playlist, self._described
        if not described.uris >= listed.present:
            # It is of another run, or of the idle clip: the known description is better.
            variants = {variant.uri: variant for variant in (*described.variants, *known.variants)}
            renditions = known.renditions or described.renditions
            described = MultivariantPlaylist(tuple(variants.values()), renditions=renditions)
        if described.variants and described != known:
            self._described = described
            self._do(model.WriteVariants(described))
            if self.state is State.LIVE:
                self._decide()
        self._go_live_if_complete()

    def _tick(self, tick: model.Tick) -> None:
        now = self._now.monotonic
        self._playlists.dvr.report(tick.behind, now)
        self._go_live_if_complete(now)
        if self._opened:
            self._take_turns(*self._queues)
        if trimmed := self._playlists.trim(now):
            self._decide(trimmed=trimmed)
        if self._segments or self._barrier.rest or self.state not in (State.STARTING, State.LIVE):
            return
        # A shorter grace time would end the stream after each segment.
        grace = max(self._limits.end_grace, GRACE_TARGET_DURATIONS * (self.target_duration or 0))
        last, encoder = self.source.last_segment, tick.encoder
        since = encoder.disconnected_since if encoder and encoder.connected is False else None
        gone = encoder_gone(since, self._limits.disconnect_grace, last, now)
        if self.source.idle or now - last > grace or gone:
            self._end()

    def _end(self) -> None:
        if self.state is State.STARTING:
            self._go_live()
        if self.state is State.LIVE:
            self._finish(Trigger.OVER)

    def _rollover_reason(self, segment: Segment) -> str | None:
        stalled = set[str]()
        if segment.variant in self._playlists.current:
            on_the_way = {name: len(queue) for name, queue in self._queues.items()}
            stalled = stalled_variants(segment, self._playlists, self._listed_by_source.present, on_the_way)
        self._barrier.stalled = stalled
        return rollover_reason(segment, self._playlists, stalled)

    def _go_live_if_complete(self, now: float | None = None) -> None:
        if self.state is not State.STARTING:
            return
        known = self._playlists.current.keys() or self._expected
        on_the_way = {name for name, queue in self._queues.items() if queue}
        if self._barrier.opens(self._listed_by_source, known, on_the_way, now):
            self._go_live()

    def _go_live(self) -> None:
        held = self._barrier.segments
        target_duration = self._barrier.target_duration(self._limits.target_duration)
        self._barrier = StartupBarrier()
        previous = self._playlists.begin(held)
        self.is_rehearsal = not all(map(self._is_public, held))
        # All at once: a part of them is neither the old stream nor the new stream.
        listings = [self._list(segment, target_duration) for segment in held]
        self.state = STREAM[self.state, Trigger.COMPLETE]
        self.gaps.began(self._now.monotonic)
        variants = tuple(sorted(self._playlists.current))
        started = StreamStarted(variants, target_duration, held[-1].run.id, self._now.wall)
        self._decide(listings, self._playlists.retired(previous), started)

    def _finish(self, trigger: Trigger) -> None:
        self.state = STREAM[self.state, trigger]
        self.gaps.ended()
        ended = StreamEnded(self._now.wall, going_on=trigger is Trigger.ROLLOVER)
        self._decide(retired=self._playlists.end(), event=ended)

    def _list(self, segment: Segment, target_duration: int) -> PlaylistUpdate:
        if segment.run.id not in self._runs:
            self._runs = (*self._runs, segment.run.id)[-REMEMBERED_RUNS:]
        listing = self._playlists.append(segment, target_duration, self._now.monotonic)
        if not listing.added[-1][1].gap:
            self.gaps.listed(self._now.monotonic)
        elif not segment.gap:
            fault = f"is longer than TARGETDURATION, {target_duration} s, can be"
            self._lose(segment, segment.key, fault, "it is listed as gaps")
        return listing

    def _decide(
        self,
        listings: Sequence[PlaylistUpdate] = (),
        retired: Sequence[PlaylistState] = (),
        event: StreamStarted | StreamEnded | None = None,
        trimmed: Mapping[str, int] | None = None,
    ) -> None:
        """Write the playlists, then show them, then notify; an event changes all playlists."""
        current, wall, trimmed = self._playlists.current, self._now.wall, trimmed or {}
        listed = [listing.segment for listing in listings]
        changed = set(current) if event else {*trimmed, *(segment.variant for segment in listed)}
        versions = self._playlists.versions(changed, wall)
        playlists = versions if event else {**self.view.playlists, **versions}
        main = next(iter(playlists.values())) if len(current) == 1 else self._multivariant()
        availability = self._playlists.availability(replaced=bool(retired))
        over = self.state is State.ENDED
        self._do(model.WritePlaylists(listings, retired, availability, trimmed, over))
        self._see(View(self.state, self.target_duration, self._runs, playlists, main))
        self._do(*(Notify(SegmentPublished(segment, wall)) for segment in listed))
        if event:
            self._do(Notify(event))

    def _see(self, view: View) -> None:
        self.view = view
        self._do(model.ShowView(self.public_view))

    def _multivariant(self) -> AnyVersion:
        measured = {name: playlist.measured for name, playlist in self._playlists.current.items()}
        playlist = multivariant(self._described, measured)
        version = Version(playlist, self._now.wall, self.target_duration or 1)
        before = self.view.main
        return before if before and before == replace(version, modified=before.modified) else version

    def _restore(self, memory: StreamSnapshot) -> None:
        self._described, self._runs = memory.described, tuple(memory.runs)
        self._expected = memory.expected
        ended = self._playlists.restore(memory, self._now.monotonic)
        if current := self._playlists.current:
            self.state = State.ENDED if ended else State.LIVE
            versions = self._playlists.versions(current, self._now.wall)
            main = next(iter(versions.values())) if len(current) == 1 else self._multivariant()
            self.view = View(self.state, self.target_duration, self._runs, versions, main)
            self.is_rehearsal = self._opened is not None

    def _do(self, *effects: Effect) -> None:
        self._effects += effects
