"""What is known of the run that a playlist lists: its segments, with their times and their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from broadcaster.catalog.records import FileIdentity, Segment, SourcePosition
from broadcaster.hls import MediaSegment
from broadcaster.ingest.names import local_name, media_kind
from broadcaster.ingest.rescue import file_identity, modified_ns
from broadcaster.ingest.runs import SAME_TIME

FAR = timedelta(days=1)  # from other times; clocks that are set back or forth differ by less, or come right
REWRITTEN_AFTER = 500_000_000  # ns for each second of the target duration
BESIDE = 3  # segments by which two playlists are compared
COMPARED = 64  # files of listed segments that are looked at to find out what is new


class KnownSegments:
    """The segments of one numbering, as they were listed last, in the order of their numbers.

    ``last`` is the number of the newest, ``clock`` gives the wall time.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self.last: int | None = None
        self._folder = folder
        self._clock = clock
        self._segments: dict[int, MediaSegment] = {}
        self._numbers: dict[str, int] = {}  # by the names of their files
        self._files: dict[int, FileIdentity] = {}  # of those reported

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
        self._numbers[_name(segment)] = number

    def recall(self, position: SourcePosition) -> None:
        """Know what an earlier process knew; how long each lasts follows from their times."""
        duration = timedelta(seconds=position.target_duration)
        for number, (uri, time) in sorted(position.known.items()):
            before = self._segments.get(number - 1)
            if before and before.program_date_time:
                duration = time - before.program_date_time  # of the one before, and likely of this one
            self.add(number, MediaSegment(uri, duration, program_date_time=time))
        self._files = dict(position.files)

    def replace(self, listed: dict[int, MediaSegment]) -> None:
        """Know them as they are listed now; a torn version may leave out some at its end."""
        oldest = min(listed)
        self._segments = {number: one for number, one in self._segments.items() if number >= oldest} | listed
        self._numbers = {_name(one): number for number, one in self._segments.items()}
        self._files = {number: file for number, file in self._files.items() if number >= oldest}

    def note_files(self, reported: Iterable[Segment]) -> None:
        """Remember which files they were."""
        self._files |= {one.sequence: one.file.identity for one in reported if one.file}

    def is_beside(self, listed: dict[int, MediaSegment], folder: Path, target_duration: int) -> bool:
        """Whether the newest of these, in another folder or list, have the same media, numbers and times."""
        shared = [number for number in listed if number in self._segments][-BESIDE:]
        return bool(shared) and all(
            self._is_beside(number, listed[number], folder, target_duration) for number in shared
        )

    def _is_beside(self, number: int, segment: MediaSegment, folder: Path, target_duration: int) -> bool:
        known, target = self._segments[number], timedelta(seconds=target_duration)
        if media_kind(known) != media_kind(segment) or abs(known.duration - segment.duration) > target / 2:
            return False
        if segment.program_date_time and known.program_date_time:
            return abs(segment.program_date_time - known.program_date_time) < SAME_TIME
        ours, theirs = modified_ns(self._folder, known.uri), modified_ns(folder, segment.uri)
        return bool(ours and theirs and abs(ours - theirs) < target_duration * REWRITTEN_AFTER)

    def taken_file(self, segment: MediaSegment) -> FileIdentity | None:
        """The file that was taken under the segment's name, when it was another number."""
        number = self._numbers.get(_name(segment))
        return None if number is None else self._files.get(number)

    def agrees_with(self, listed: dict[int, MediaSegment], target_duration: int, *, by_name: bool) -> bool:
        """Whether the numbers that are listed mean what they meant; with ``by_name`` no dates are needed."""
        newest = max(listed)
        if self.last is None or newest < self.last:
            return self.last is None
        shared = [number for number in listed if number in self._segments]
        if not all(self._is_same(number, listed[number], by_name=by_name) for number in shared):
            return False
        if any(_name(one) in self._numbers for number, one in listed.items() if number not in self._segments):
            return False
        dated = by_name or any(segment.program_date_time for segment in listed.values())
        return not shared or dated or not self._is_rewritten(shared[-1], target_duration)

    def shift(self, listed: dict[int, MediaSegment], target_duration: int) -> int | None:
        """What to add to the numbers that are listed, so that the same files have the numbers they had.

        None where no file that is listed is one that is known.
        """
        found: Counter[int] = Counter()
        taken = {file: number for number, file in self._files.items()}
        fell = self.last is not None and max(listed) < self.last
        for number, segment in islice(reversed(listed.items()), COMPARED):
            file = file_identity(self._folder, segment.uri)
            known = taken.get(file) if file else None
            if known is not None and fell and self._is_dated_anew(known, segment):
                continue  # its file may be about to be written again
            if known is None:
                known = self._by_name(number, segment, file, target_duration)
                if known is None and file and self._numbers.get(_name(segment)) == number in self._files:
                    return None  # it was made anew under its name and number
            if known is not None:
                found[known - number] += 1
        if not found or found[0]:
            return 0 if found else None
        return found.most_common(1)[0][0]

    def is_newer(self, listed: dict[int, MediaSegment]) -> bool | None:
        """Whether some of these were made after the newest that is known; None where nothing tells."""
        latest = [segment for _, segment in islice(reversed(listed.items()), COMPARED)]
        files = [file for one in latest if (file := file_identity(self._folder, one.uri))]
        taken, newest = self._files.get(self.last or 0), self.newest
        told: list[bool] = []
        if files and taken:
            modified = max(file.modified_ns for file in files)
            told += [modified > taken.modified_ns] if modified != taken.modified_ns else []
        time, known = latest[0].program_date_time, newest and newest.program_date_time
        if time and known and abs(time - known) > SAME_TIME:
            told.append(time > known)
        return any(told) if told else None

    def _is_dated_anew(self, number: int, segment: MediaSegment) -> bool:
        time, known = segment.program_date_time, self._segments[number].program_date_time
        return time is not None and known is not None and abs(time - known) >= SAME_TIME

    def _by_name(
        self, number: int, segment: MediaSegment, file: FileIdentity | None, target_duration: int
    ) -> int | None:
        """The number under which the segment is known by its name, unless its file was made anew since."""
        known = self._numbers.get(_name(segment))
        if known is None:
            return None
        taken = self._files.get(known)
        half_there = bool(
            file and taken and abs(file.modified_ns - taken.modified_ns) < target_duration * REWRITTEN_AFTER
        )
        if self._is_dated_anew(known, segment):
            return None
        if file and taken and not (half_there and known == number):
            # Another file under the same name: a copy of it, if it has the same date and size.
            return known if segment.program_date_time and file.size == taken.size else None
        return known if segment.program_date_time or known == number else None

    def _is_same(self, number: int, segment: MediaSegment, *, by_name: bool) -> bool:
        known, time = self._segments[number], segment.program_date_time
        same_name = known.uri == segment.uri or _name(known) == _name(segment)
        if by_name or not same_name or time is None or known.program_date_time is None:
            return same_name
        return abs(known.program_date_time - time) < SAME_TIME

    def _is_rewritten(self, number: int, target_duration: int) -> bool:
        """Whether its file was finished again; what was only half there when it was taken is so sooner."""
        before = self._files.get(number)
        after = modified_ns(self._folder, self._segments[number].uri)
        return bool(before and after and after - before.modified_ns >= target_duration * REWRITTEN_AFTER)

    def timed(self, listed: dict[int, MediaSegment]) -> dict[int, MediaSegment]:
        """Without PROGRAM-DATE-TIME each segment follows the one before, or its file tells its time."""
        timed: dict[int, MediaSegment] = {}
        for number, segment in listed.items():
            known = self._segments.get(number)
            time = segment.program_date_time
            if time and (
                (known and known.program_date_time == time)
                or (self._is_likely(time, number, timed) and not self._is_slip(time, number, listed, timed))
            ):
                timed[number] = segment
            elif known:
                timed[number] = known
            else:
                before = timed.get(number - 1) or self._segments.get(number - 1)
                time = _end(before) if before and not segment.discontinuity else None
                time = time or _time_before(number, listed) or self.file_time(segment)
                timed[number] = replace(segment, program_date_time=time)
        return timed

    def _is_slip(
        self, time: datetime, number: int, listed: dict[int, MediaSegment], timed: dict[int, MediaSegment]
    ) -> bool:
        """Whether the segments around it have times that follow from each other, and it has another."""
        expected = _end(timed.get(number - 1) or self._segments.get(number - 1))
        segment, after = listed[number], listed.get(number + 1)
        if (
            not (expected and after and after.program_date_time)
            or segment.discontinuity
            or after.discontinuity
        ):
            return False
        goes_on = abs(after.program_date_time - (expected + segment.duration)) < SAME_TIME
        return goes_on and abs(time - expected) > 2 * SAME_TIME

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


def _time_before(number: int, listed: dict[int, MediaSegment]) -> datetime | None:
    """When a segment without a time begins by the time of a later one."""
    lasts = listed[number].duration
    while (after := listed.get(number := number + 1)) and not after.discontinuity:
        if after.program_date_time:
            return after.program_date_time - lasts
        lasts += after.duration
    return None


def _name(segment: MediaSegment) -> str:
    return local_name(segment.uri) or segment.uri
