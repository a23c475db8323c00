"""What is known of the run that a playlist lists: its segments, with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.catalog.records import Segment, SourcePosition
from broadcaster.hls import MediaSegment
from broadcaster.ingest.rescue import modified_ns
from broadcaster.ingest.runs import SAME_TIME

FAR = timedelta(days=1)  # from other times; clocks that are set back or forth differ by less, or come right
REWRITTEN_AFTER = 500_000_000  # ns for each second of the target duration


class KnownSegments:
    """The segments of one numbering, as they were listed last, in the order of their numbers.

    ``last`` is the number of the newest, ``clock`` gives the wall time.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self.last: int | None = None
        self._folder = folder
        self._clock = clock
        self._segments: dict[int, MediaSegment] = {}
        self._modified: dict[int, int] = {}  # when the files of those reported were finished, in ns

    @property
    def newest(self) -> MediaSegment | None:
        """The latest segment."""
        return None if self.last is None else self._segments.get(self.last)

    def has_any(self, uris: set[str]) -> bool:
        """Whether one of these is among them."""
        return any(segment.uri in uris for segment in self._segments.values())

    def add(self, number: int, segment: MediaSegment) -> None:
        """Know one more."""
        self.last, self._segments[number] = number, segment

    def recall(self, position: SourcePosition) -> None:
        """Know what an earlier process knew; how long each lasts follows from their times."""
        duration = timedelta(seconds=position.target_duration)
        for number, (uri, time) in sorted(position.known.items()):
            before = self._segments.get(number - 1)
            if before and before.program_date_time:
                duration = time - before.program_date_time  # of the one before, and likely of this one
            self.add(number, MediaSegment(uri, duration, program_date_time=time))

    def replace(self, listed: dict[int, MediaSegment]) -> None:
        """Know them as they are listed now; a torn version may leave out some at its end."""
        oldest = min(listed)
        self._segments = {number: one for number, one in self._segments.items() if number >= oldest} | listed
        self._modified = {number: at for number, at in self._modified.items() if number >= oldest}

    def note_files(self, reported: Iterable[Segment]) -> None:
        """Remember when their files were finished."""
        self._modified |= {one.sequence: one.file.modified_ns for one in reported if one.file}

    def has_others(self, listed: dict[int, MediaSegment], target_duration: int, *, by_name: bool) -> bool:
        """Whether a number that is known stands for something else now; with ``by_name`` names tell."""
        shared = [number for number in listed if number in self._segments]
        if any(not self._is_same(number, listed[number], by_name=by_name) for number in shared):
            return True
        dated = by_name or any(segment.program_date_time for segment in listed.values())
        return bool(shared) and not dated and self._is_rewritten(shared[-1], target_duration)

    def _is_same(self, number: int, segment: MediaSegment, *, by_name: bool) -> bool:
        known, time = self._segments[number], segment.program_date_time
        if by_name or known.uri != segment.uri or time is None or known.program_date_time is None:
            return known.uri == segment.uri
        return abs(known.program_date_time - time) < SAME_TIME

    def _is_rewritten(self, number: int, target_duration: int) -> bool:
        """Whether its file was finished again; what was only half there when it was taken is so sooner."""
        before = self._modified.get(number)
        after = modified_ns(self._folder, self._segments[number].uri)
        return bool(before and after and after - before >= target_duration * REWRITTEN_AFTER)

    def timed(self, listed: dict[int, MediaSegment]) -> dict[int, MediaSegment]:
        """Without PROGRAM-DATE-TIME each segment follows the one before, or its file tells its time."""
        timed: dict[int, MediaSegment] = {}
        for number, segment in listed.items():
            known = self._segments.get(number)
            if segment.program_date_time and self._is_likely(segment.program_date_time, number, timed):
                timed[number] = segment
            elif known:
                timed[number] = known
            else:
                before = timed.get(number - 1) or self._segments.get(number - 1)
                time = _end(before) if before and not segment.discontinuity else None
                timed[number] = replace(segment, program_date_time=time or self.file_time(segment))
        return timed

    def _is_likely(self, time: datetime, number: int, timed: dict[int, MediaSegment]) -> bool:
        """Whether the time is no slip: one that is far from those before it, and from the clock as well."""
        expected = _end(timed.get(number - 1) or self._segments.get(number - 1) or self.newest)
        if expected is None:
            expected = time
        return abs(time - expected) < FAR or abs(time - self._clock()) < FAR

    def file_time(self, segment: MediaSegment) -> datetime:
        """When it began by its file, or by the clock where there is none; never before the newest ends."""
        finished = modified_ns(self._folder, segment.uri)
        end = datetime.fromtimestamp(finished / 1e9, UTC) if finished else self._clock()
        return max(end - segment.duration, _end(self.newest) or end - segment.duration)


def _end(segment: MediaSegment | None) -> datetime | None:
    return segment.program_date_time + segment.duration if segment and segment.program_date_time else None
