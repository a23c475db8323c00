"""The stream machine with an owner that executes its effects at once, for tests that need no bucket."""

import math
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment, StreamSnapshot
from broadcaster.events import (
    Event,
    Observer,
    SegmentDiscovered,
    SegmentPublished,
    SourceIdle,
    VariantsListed,
    happened,
)
from broadcaster.ipc.messages import State, View
from broadcaster.stream import Effect, Instant, StreamLimits, StreamMachine, Tick, model
from tests.support.fakes.pipeline_parts import stored_segment


class Channel:
    """A ``Stream`` whose segments are stored when they are published.

    ``clock`` gives the wall time, ``monotonic`` the other one, which else is as of the latest tick.
    ``catalog`` takes what is listed; segments that are found and stored are the test's own.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        window_segments: int,
        clock: Callable[[], datetime],
        observe: Observer,
        target_duration: int | None = None,
        *,
        window: timedelta = timedelta(),
        dvr: tuple[timedelta, int] = (timedelta(), 0),
        monotonic: Callable[[], float] | None = None,
        catalog: Catalog | None = None,
        memory: StreamSnapshot | None = None,
        show: Callable[[View], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.published = 0
        self.behind = 0.0  # seconds, of the most delayed viewer
        self._observe = observe
        self._catalog = catalog
        self._on_view = show
        self._monotonic = monotonic
        self._elapsed = 0.0
        limits = StreamLimits(window_segments, window, target_duration, *dvr, end_grace=math.inf)
        self.stream = StreamMachine(limits, self._now(), memory)
        self.view = self.stream.view
        self._expected: defaultdict[str, deque[str]] = defaultdict(deque)  # keys that stand for segments
        self._count = 0
        self._placeholder = stored_segment("expected")

    @property
    def state(self) -> State:
        return self.view.state

    @property
    def listed(self) -> int:
        return sum(len(playlist.playlist.segments) for playlist in self.view.playlists.values())

    @property
    def target_duration(self) -> int | None:
        return self.stream.target_duration

    def list_variants(self, listed: VariantsListed) -> None:
        self._handle(listed)

    def expect(self, variant: str) -> None:
        """A segment of this variant is on its way, which ``publish`` brings."""
        self._count += 1
        segment = replace(self._placeholder, variant=variant, key=f"expected-{self._count}")
        self._expected[variant].append(segment.key)
        self._handle(model.SegmentFound(segment))

    def publish(self, segment: Segment) -> None:
        """The bucket has the segment, or never will."""
        if expected := self._expected[segment.variant]:
            segments = self.stream._segments  # noqa: SLF001 - the real one takes its place
            tracked = segments.pop(expected.popleft())
            tracked.segment = segment
            segments[segment.key] = tracked
        else:
            self._handle(model.SegmentFound(segment))
        self._handle(model.SegmentSpooled(segment.key))
        self._handle(model.SegmentFinished(segment))

    def tick(self, now: float | None = None) -> None:
        """Let time pass."""
        self._elapsed = self._elapsed if now is None else now
        self._handle(Tick(behind=self.behind))

    def end(self) -> None:
        """The stream is over: the source says so."""
        self._handle(SourceIdle())
        self._handle(Tick(behind=self.behind))

    def _now(self) -> Instant:
        return Instant(self.clock(), self._monotonic() if self._monotonic else self._elapsed)

    def _handle(self, event: model.Event) -> None:
        for effect in self.stream.handle(event, self._now()):
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case model.WriteVariants(described) if self._catalog:
                self._catalog.described(described)
            case model.WritePlaylists(listings, retired, availability, trimmed, over) if self._catalog:
                self._catalog.listed(listings, retired, availability, trimmed=trimmed, over=over)
            case model.ShowView(view):
                self.view = view
                self._on_view(view)
            case model.Notify(event):
                self._tell(event)
            case model.Release(segment):
                self._handle(model.SegmentReleased(segment.key))

    def _tell(self, event: Event) -> None:
        self.published += isinstance(event, SegmentPublished)
        if isinstance(event, SegmentDiscovered):
            return  # the test's own
        self._observe(happened(event, self.clock()))
