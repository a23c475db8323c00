"""Keeps PROGRAM-DATE-TIME in order, whatever the encoder's clock does between two runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from broadcaster.playlist import Segment

MAX_OVERLAP = timedelta(milliseconds=50)  # rounding between runs, not a clock that was set back
REMEMBERED_RUNS = 10


class Timeline:
    """Moves the times of a run that would begin before the last one ended.

    A run keeps one shift for all its segments and variants, so that their times stay consistent (§6.2.4).
    ``shifts`` by run number and ``listed`` are what an earlier process knew.
    """

    def __init__(self, shifts: Mapping[int, timedelta], listed: Iterable[Segment]) -> None:
        self._shifts = dict(shifts)
        ends = [one.program_date_time + one.duration for one in listed if one.program_date_time]
        self._latest_end: datetime | None = max(ends, default=None)

    def shift(self, run: int) -> timedelta:
        """What the times of a run are moved by."""
        return self._shifts.get(run, timedelta())

    def place(self, segment: Segment, run: int) -> Segment:
        """Return the segment with the time that players are told."""
        time = segment.program_date_time
        if time is None:
            return segment
        if run not in self._shifts:
            behind = self._latest_end - time if self._latest_end else timedelta()
            self._shifts[run] = behind if behind > MAX_OVERLAP else timedelta()
            for old in sorted(self._shifts)[:-REMEMBERED_RUNS]:
                del self._shifts[old]
        time += self._shifts[run]
        self._latest_end = max(self._latest_end or time, time + segment.duration)
        return replace(segment, program_date_time=time)
