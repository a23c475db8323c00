"""Identifies encoder runs: one ID and one number for all variants.

Most writers do not announce a restart, and a variant may be absent during it: a follower reports positions
of segments and breaks of its playlist, and the run is decided here from all variants.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from broadcaster.catalog.records import Run, SourceSnapshot
from broadcaster.hls import MediaSegment
from broadcaster.source.owncast_names import encoder_id

logger = logging.getLogger(__name__)

DRAW = partial(secrets.token_hex, 3)
SAME_TIME = timedelta(milliseconds=500)  # a restarted encoder cannot be back within this
MAX_STEP_TARGET_DURATIONS = 3  # a longer time per segment is a pause
NEAR_TARGET_DURATIONS = 6
FAR_APART = 100  # segments of two variants at the same time
REMEMBERED_SPOTS = 8
SLOW_START = timedelta(minutes=1)  # for which this service may have been down, or slow to start


@dataclass(frozen=True, slots=True)
class TimelinePosition:
    """The position of a segment: its number in the source playlist, and its time."""

    number: int
    time: datetime
    target: timedelta  # the playlist's target duration

    def agrees_with(self, other: TimelinePosition) -> bool:
        """Whether one numbering may have both: numbers and times rise together, at a likely pace."""
        steps, gap = self.number - other.number, self.time - other.time
        if steps < 0:
            steps, gap = -steps, -gap
        return gap >= -self.target / 2 and gap / self.target <= steps * MAX_STEP_TARGET_DURATIONS + 0.5


@dataclass(slots=True)
class _Known:
    """A run with its beginning and latest segment, as far as these are known."""

    run: Run
    began: datetime | None = None
    last: TimelinePosition | None = None
    last_variant: str = ""

    @property
    def encoder(self) -> str:
        return self.run.identity.rpartition("#")[0]

    def has(self, spot: TimelinePosition) -> bool:
        if self.began is None or self.last is None:
            return False
        return self.began <= spot.time + spot.target / 2 and spot.agrees_with(self.last)

    def is_near(self, spot: TimelinePosition) -> bool:
        return self.last is not None and abs(spot.time - self.last.time) < NEAR_TARGET_DURATIONS * spot.target

    def note(self, variant: str, spot: TimelinePosition) -> None:
        self.began = min(self.began or spot.time, spot.time)
        if self.last is None or spot.time >= self.last.time:
            self.last, self.last_variant = spot, variant


class EncoderRunTracker:
    """Gives each encoder run its number and its ID, whose random part is of ``draw``, for all variants."""

    def __init__(
        self, clock: Callable[[], datetime], memory: SourceSnapshot, draw: Callable[[], str] = DRAW
    ) -> None:
        self._clock = clock
        self._since = clock() - SLOW_START
        self._draw = draw
        self._next_run = memory.next_run
        self._runs = [_Known(run) for run in sorted(memory.runs, key=lambda run: run.number)]
        self._current: dict[str, _Known] = {}  # by variant
        self._spots: dict[str, deque[tuple[str, TimelinePosition]]] = defaultdict(
            lambda: deque(maxlen=REMEMBERED_SPOTS)
        )
        self._no_ids: set[str] = set()  # texts that looked like encoders' IDs
        self._far_apart: set[frozenset[str]] = set()  # pairs of variants with separate numbers
        for variant, position in memory.positions.items():
            known = self._current[variant] = next(run for run in self._runs if run.run == position.run)
            for number, (uri, time) in position.known.items():
                target = timedelta(seconds=position.target_duration)
                known.note(variant, TimelinePosition(number, time, target))
                if number == max(position.known) and encoder_id(uri) != known.encoder:
                    self._no_ids |= {encoder_id(uri), known.encoder} - {""}

    def encoder(self, variant: str, segment: MediaSegment) -> str:
        """The ID of the encoder in the segment's name; empty for a writer without IDs."""
        encoder = encoder_id(segment.uri)  # for ffmpeg's stream-%v-%d.ts that is the variant's name
        return "" if encoder in self._no_ids or variant.endswith(encoder) else encoder

    def disprove(self, *encoders: str) -> None:
        """Note that these are no IDs of encoders."""
        self._no_ids |= {*encoders} - {""}

    def compare(self, variant: str, segment: MediaSegment, spot: TimelinePosition) -> None:
        """Compare a variant's newest segment with segments of other variants at the same time.

        An ID that differs between variants is no ID, and numbers that are far apart mean nothing together.
        """
        encoder = self.encoder(variant, segment)
        for other, spots in self._spots.items():
            for theirs, there in spots:
                if other == variant or abs(spot.time - there.time) >= SAME_TIME:
                    continue
                if spot.number == there.number and encoder != theirs:
                    self._no_ids |= {encoder, theirs} - {""}
                pair = {frozenset((variant, other))}
                if abs(spot.number - there.number) > FAR_APART:
                    self._far_apart |= pair
                else:
                    self._far_apart -= pair
        self._spots[variant].append((encoder, spot))

    def has_passed(self, variant: str, encoder: str) -> bool:
        """Whether a run of that encoder is the variant's, or lies before it."""
        current = self._current.get(variant)
        numbers = [known.run.number for known in self._runs if known.encoder == encoder]
        return current is not None and bool(numbers) and numbers[0] <= current.run.number

    def is_ours(self, encoder: str, time: datetime | None, finished: datetime) -> bool:
        """Whether a segment of a new run is as new as this service, or as the run in other variants."""
        began = next((known.began for known in self._runs if known.encoder == encoder), None)
        followed = any(known.encoder != encoder for known in self._runs)
        beside = time is not None and began is not None and time >= began - SAME_TIME
        return followed or beside or finished >= self._since

    def has_turn(self, encoder: str, following: str) -> bool:
        """Whether a run of ``encoder`` comes, or can still come, before the latest of ``following``."""
        numbers = {known.encoder: known.run.number for known in self._runs}
        return following not in numbers or numbers.get(encoder, math.inf) < numbers[following]

    def current(self, variant: str) -> Run | None:
        """The run of the variant's latest segment."""
        return self._current[variant].run if variant in self._current else None

    def place(self, variant: str, encoder: str, spot: TimelinePosition, *, breaks: bool) -> Run:
        """The latest run that has a segment's position; ``breaks``: it does not follow the segment before."""
        current = self._current.get(variant)
        changed = current is None or self._id_of(current) != encoder
        number = current.run.number if current else -1
        later = [run for run in self._runs if run.run.number > number and self._id_of(run) == encoder]
        found = [run for run in later if self._has(run, variant, spot)]
        if not found and changed:
            # An ID is enough; without one, a new variant is likely beside a known variant.
            found = [run for run in later if encoder or (current is None and run.is_near(spot))]
        if found:
            current = found[-1]
        elif current is None or changed or breaks:
            current = self._begin(encoder)
        current.note(variant, spot)
        self._current[variant] = current
        return current.run

    def _has(self, known: _Known, variant: str, spot: TimelinePosition) -> bool:
        has_own_numbers = frozenset((variant, known.last_variant)) in self._far_apart
        return known.is_near(spot) if has_own_numbers else known.has(spot)

    def _id_of(self, known: _Known) -> str:
        return "" if known.encoder in self._no_ids else known.encoder

    def _begin(self, encoder: str) -> _Known:
        number = max((known.run.number + 1 for known in self._runs), default=0)
        number = max(number, self._next_run)
        counts = [
            int(known.run.identity.rpartition("#")[2]) for known in self._runs if known.encoder == encoder
        ]
        run_id = f"{self._clock():%Y%m%dT%H%M%SZ}-{number}-{self._draw()}"
        if encoder:
            run_id += "-" + re.sub(r"[^A-Za-z0-9_-]", "-", encoder)[:40]
        logger.info("encoder run %s begins", run_id)
        known = _Known(Run(number, run_id, f"{encoder}#{max(counts, default=-1) + 1}"))
        self._runs.append(known)
        return known
