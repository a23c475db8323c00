"""Keeps PROGRAM-DATE-TIME in order, whatever the encoder's clock does between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from broadcaster.playlist import Segment

MAX_OVERLAP = timedelta(milliseconds=50)  # rounding between runs, not a clock that was set back
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
        self._newest: dict[str, tuple[datetime, datetime]] = {}  # of each variant: time and end

    def shift(self, run: int) -> timedelta:
        """What the times of a run are moved by."""
        return self._shifts.get(run, timedelta())

    def place(self, segment: Segment, variant: str, run: int) -> Segment:
        """Return the segment with the time that players are told."""
        time = segment.program_date_time
        if time is None:
            return segment
        if run not in self._shifts:
            earlier = (end for number, end in self._ends.items() if number < run)
            behind = max(earlier, default=time) - time
            self._shifts[run] = behind if behind > MAX_OVERLAP else timedelta()
        time += self._shifts[run]
        newest, end = self._newest.get(variant, (time, time))
        if time < newest:
            self._shifts[run] += end - time
            time = end
        placed = replace(segment, program_date_time=time)
        self.pass_by(placed, variant, run)
        return placed

    def pass_by(self, placed: Segment, variant: str, run: int) -> None:
        """Take note of a segment that has its final time."""
        time = placed.program_date_time
        if time is None:
            return
        self._newest[variant] = (time, time + placed.duration)
        self._ends[run] = max(self._ends.get(run, time), time + placed.duration)
        for known in (self._shifts, self._ends):
            for old in sorted(known)[:-REMEMBERED_RUNS]:
                del known[old]
