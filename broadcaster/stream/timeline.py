"""Keeps PROGRAM-DATE-TIME in order, whatever the encoder's clock does between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from broadcaster.catalog.records import StreamSnapshot
from broadcaster.hls import MediaSegment

MAX_OVERLAP = timedelta(milliseconds=50)  # rounding between runs, not a clock that was set back
# Within a run. No more than half a TARGETDURATION: each of the gaps that a long segment becomes is longer.
MAX_JITTER = timedelta(milliseconds=500)
REMEMBERED_RUNS = 10


class Timeline:
    """Moves the times of a run that would begin before earlier ones ended.

    A run has one shift for all its segments and variants, so that their times stay consistent (§6.2.4). It
    grows, for all of them, where a variant would go back in time all the same: one that still had segments
    of the run before when another variant began the new one.
    ``shifts`` by run number is what an earlier process knew; what it listed is told by ``pass_by``.
    """

    def __init__(self, shifts: Mapping[int, timedelta]) -> None:
        self._shifts = dict(shifts)
        self._ends: dict[int, datetime] = {}  # of each run
        self._newest: dict[str, tuple[int, datetime]] = {}  # of each variant: run, and where it ends

    def shift(self, run: int) -> timedelta:
        """What the times of a run are moved by."""
        return self._shifts.get(run, timedelta())

    def end(self, variant: str) -> datetime | None:
        """Where the variant's newest segment ends."""
        return self._newest[variant][1] if variant in self._newest else None

    def place(self, segment: MediaSegment, variant: str, run: int) -> MediaSegment:
        """Return the segment with the time that players are told."""
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
        """Take note of a segment that has its final time."""
        if placed.program_date_time is not None:
            self.reach(placed.program_date_time + placed.duration, variant, run)

    def reach(self, end: datetime, variant: str, run: int) -> None:
        """Take note of where the newest segment of a variant ends."""
        self._newest[variant] = (run, end)
        self._ends[run] = max(self._ends.get(run, end), end)
        for known in (self._shifts, self._ends):
            for old in sorted(known)[:-REMEMBERED_RUNS]:
                del known[old]


def recalled_timeline(memory: StreamSnapshot) -> Timeline:
    """As it stood when all that is listed had been placed."""
    timeline = Timeline(memory.shifts)
    for state, listed in memory.playlists:
        run = state.discontinuity_sequence
        for _, segment, _ in listed:
            run += segment.discontinuity
            timeline.pass_by(segment, state.variant, run)
        if not listed and state.end:
            timeline.reach(state.end, state.variant, state.current_discontinuity)
    return timeline
