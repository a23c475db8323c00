"""Listed segments that are not reported yet: each waits for its file and for its predecessors."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from broadcaster.catalog.records import FileIdentity, Run, Segment, SourceFile
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.hls.media_playlist import NO_DURATION, SHORTEST
from broadcaster.printable import printable
from broadcaster.source.encoder_runs import EncoderRunTracker, TimelinePosition
from broadcaster.source.file_checks import (
    LONGEST_PAUSE,
    MISSING_PAUSE,
    NOT_THERE,
    WRITTEN,
    CompletenessCheck,
    FileCheck,
    identity,
    pause,
)
from broadcaster.source.media_clock import (
    LARGEST_BOX,
    MediaClock,
    Stamp,
    codecs_of,
    first_time,
    media_duration,
)
from broadcaster.source.owncast_names import local_name
from broadcaster.source.recovery import file_identity

logger = logging.getLogger(__name__)

REMEMBERED = 2000  # files reported
MIN_PATIENCE = 1.0  # seconds
# Durations of a playlist outside this range are measured in the segment.
PLAUSIBLE = (timedelta(milliseconds=100), timedelta(seconds=60))
# Target durations to wait for a missing file: while the writer's lag is unknown, and at most. Players hold
# back three.
UNKNOWN_TARGET_DURATIONS, MOST_TARGET_DURATIONS = 2.25, 10
LAG_FACTOR = 1.5
LAGS, ENOUGH = 20, 5  # segments by which a writer's lag is known
LATE_FOR = 120.0  # seconds for which a missing file is looked for after it was given up
LOOKED_AT_ONCE = 50  # pending segments
UNSEEN = FileCheck(None)
NOT_WRITTEN_AGAIN = FileCheck(None, NOT_THERE)
# Seconds after which a file that cannot be read, while later files can, is at fault itself.
OWN_FAULT_AFTER = 60.0
# A file that stays open without writes is taken after this time, if it can be whole: some writers close no
# file. Players hold back three target durations.
LET_GO_TARGET_DURATIONS = 4


@dataclass(frozen=True, slots=True)
class Reported:
    """The newest segment of a variant that an earlier process has reported."""

    run: Run
    segment: MediaSegment
    file: FileIdentity


@dataclass(slots=True, eq=False)
class Pending:
    """A listed segment that is not reported yet, with the latest checks of its file and its map."""

    segment: MediaSegment
    run: Run
    sequence: int
    playlist: MediaPlaylist  # the version that listed it
    noticed: datetime
    since: float  # monotonic
    first: bool = False  # listed when the playlist was first seen: its file may be gone
    unlisted: bool = False  # found by its file: its duration is measured
    guessed: bool = False  # a gap by its number alone
    passed_by: bool = False  # not listed any more: its file will not be rewritten
    taken: FileIdentity | None = None  # the file of an earlier segment with its name
    name: str = "invalid"
    check: CompletenessCheck | None = None
    map_check: CompletenessCheck | None = None
    file: FileCheck = UNSEEN
    map: FileCheck = UNSEEN
    looked_at: float = math.inf  # monotonic
    looked_since: float = math.inf
    own_fault_since: float = math.inf
    arrived: float = -math.inf  # when its file was first seen

    def find(self, root: Path, folder: Path) -> None:
        """Derive the files from the names in the playlist."""
        name, map_name = local_name(self.segment.uri), local_name(self.segment.map_uri or "")
        self.name = name or self.name
        if self.segment.gap and self.segment.fault != NO_DURATION:
            fault = self.segment.fault or "is a gap in the source's playlist (EXT-X-GAP)"
            self.file = FileCheck(None, fault, permanent=True)
        elif name is None:
            fault = f"has a name that is not followed: {printable(self.segment.uri)}"
            self.file = FileCheck(None, fault, permanent=True)
        else:
            self.check = CompletenessCheck(root, folder / name, name)
        self.map_check = (
            CompletenessCheck(root, folder / map_name, map_name, is_map=True) if map_name else None
        )

    def inspect(self, now: float, let_go: float) -> None:
        """Check the files of the segment and of its map, once for each ``now``.

        The map stays what it was when the segment was complete: the next run may write into the same file.
        """
        if self.looked_at == now:
            return
        self.looked_at, self.looked_since = now, min(now, self.looked_since)
        before = self.file.file
        was_there = self.file.fault not in {"", NOT_THERE} or self.file.file is not None
        if self.check:
            self.file = self.check.inspect(now, let_go)
            if self.taken and self.file.file and self.file.file.identity == self.taken:
                self.file = replace(NOT_WRITTEN_AGAIN, permanent=self.passed_by)
            if self.file.fault != NOT_THERE and not was_there:
                self.arrived = now
        if self.map_check and not (before and before == self.file.file and self.map.file):
            self.map = self.map_check.inspect(now, let_go)

    @property
    def fault(self) -> str:
        """The fault of its file, or of its map."""
        return self.file.fault or self.map.fault

    def has_fault(self, fault: str) -> bool:
        """Whether one of the files has this fault."""
        return fault in (self.file.fault, self.map.fault)

    @property
    def transient(self) -> bool:
        """Whether it is a fault of the machine."""
        return self.file.transient or self.map.transient

    @property
    def changed(self) -> float:
        """When it was listed, or one of its files changed (monotonic)."""
        return max(self.since, self.file.changed, self.map.changed)


class _FileDelay:
    """How long after listing a segment its writer brings the file."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=LAGS)
        self._late: deque[Pending] = deque(maxlen=LAGS)  # given up, and still looked for

    def patience(self, target: float) -> float:
        """Seconds to wait for a file, with this target duration in seconds."""
        longest = max(self._seconds, default=0.0)
        least = target if len(self._seconds) >= ENOUGH else UNKNOWN_TARGET_DURATIONS * target
        return min(max(least, LAG_FACTOR * longest + MIN_PATIENCE), MOST_TARGET_DURATIONS * target)

    def note(self, segment: Pending, now: float) -> None:
        """Note a segment that is reported, with its file or without."""
        if segment.check and segment.has_fault(NOT_THERE):
            self._late.append(segment)
        elif segment.check and not (segment.first or segment.unlisted or segment.fault):
            self._seconds.append(max(0.0, min(now, segment.arrived) - segment.since))

    def check_given_up(self, now: float) -> None:
        """Note missing files that have come since they were given up."""
        for segment in list(self._late):
            is_there = segment.check is not None and segment.check.is_there()
            if is_there:
                self._seconds.append(now - segment.since)
            if is_there or now - segment.since > LATE_FOR:
                self._late.remove(segment)


class PendingSegments:
    """The listed segments of one variant that are not reported yet, in order."""

    def __init__(self, root: Path, folder: Path, variant: str, runs: EncoderRunTracker) -> None:
        self.pause: float | None = None  # seconds until the next check, None if nothing is pending
        self.codecs: tuple[str, ...] = ()  # of the latest run's media; empty if unknown
        self._root = root
        self._folder = folder
        self._variant = variant
        self._runs = runs
        self._waiting: deque[Pending] = deque()
        self._next_time: tuple[Run, datetime] | None = None
        self._file_delay = _FileDelay()
        self._has_begun = False  # a segment was reported
        self._media = MediaClock()
        self._media_run: Run | None = None
        self._codecs_run: Run | None = None
        # Where the media's clock was read last, with its map.
        self._read_last: tuple[SourceFile, SourceFile | None] | None = None
        self._restored: Reported | None = None
        self._reported: dict[FileIdentity, str] = {}  # names of reported files, the latest last
        self._identities: dict[str, FileIdentity] = {}  # by their names
        self._map: SourceFile | None = None  # the latest: one copy of its content for all segments

    def add(self, pending: Pending) -> None:
        """Add the newest segment."""
        pending.find(self._root, self._folder)
        pending.taken = pending.taken or self._identities.get(pending.name)
        self._waiting.append(pending)

    @property
    def fault(self) -> str:
        """The fault of the machine for which the next segment waits; empty without one."""
        if not (self._waiting and self._waiting[0].transient):
            return ""
        return f"{self._variant}/{printable(self._waiting[0].name)} {self._waiting[0].fault}"

    def collect_ready(self, now: float, *, ended: bool) -> list[Segment]:
        """The segments that are finished or lost; ``ended``: the playlist will list nothing more."""
        segments: list[Segment] = []
        # All of them, so that files after a broken file are known to be unchanged later.
        for pending in islice(self._waiting, LOOKED_AT_ONCE):
            self._look(pending, now, ended=ended)
        self.pause = None
        while self._waiting:
            head = next((pending for pending in self._waiting if not pending.guessed), self._waiting[0])
            self._look(head, now, ended=ended)
            if not self._is_decided(head, now):
                seldom = head.transient or head.has_fault(NOT_THERE)
                self.pause = pause(now - head.changed, MISSING_PAUSE if seldom else LONGEST_PAUSE)
                break
            if self._waiting[0].guessed:
                self._judge_guesses(head)
                continue
            self._waiting.popleft()
            if self._is_gone(head) or self._is_reported(head):
                continue
            self._has_begun = True
            self._file_delay.note(head, now)
            segments.append(self._segment(head))
        self._file_delay.check_given_up(now)
        return segments

    def restore(self, files: Iterable[tuple[FileIdentity, str]], newest: Reported | None) -> None:
        """Restore the files, newest first, that an earlier process has reported."""
        self._reported |= dict(reversed([*files]))
        self._identities |= {name: file for file, name in self._reported.items()}
        self._restored = newest

    def _is_reported(self, head: Pending) -> bool:
        """Whether its file was reported before, under any name and number."""
        file = head.file.file
        if file is None or not head.check:
            return head.taken is not None and head.has_fault(NOT_THERE)
        name = self._reported.get(file.identity)
        if name is None or not file.inode:
            self._reported[file.identity], self._identities[head.name] = head.name, file.identity
            if len(self._reported) > REMEMBERED:
                oldest = next(iter(self._reported))
                oldest_name = self._reported.pop(oldest)
                if self._identities.get(oldest_name) == oldest:
                    del self._identities[oldest_name]
            return False
        if name != head.name and self._leads_to(name, file):
            return False  # two names of one file
        logger.warning("%s/%s was listed before, and is left out", self._variant, printable(head.name))
        return True

    def _leads_to(self, name: str, file: SourceFile) -> bool:
        try:
            found = identity(self._root, self._folder / name)
        except OSError:
            return False
        return found is not None and found.inode == file.inode

    def _resume_clock(self, head: Pending) -> None:
        """Read the media's clock at the end of an earlier process."""
        before, self._restored = self._restored, None
        if before is None or before.run != head.run:
            return
        name = local_name(before.segment.uri) or ""
        if file_identity(self._folder, before.segment.uri) == before.file:
            inode, modified_ns, size = before.file.inode, before.file.modified_ns, before.file.size
            path = Path(os.path.realpath(self._folder), name)
            last = SourceFile(name, path, size, modified_ns, inode)
            stamp = first_time(last, head.map.file)
            # The playlist has the duration, if it still lists the segment.
            listed = (known.duration for known in head.playlist.segments if local_name(known.uri) == name)
            self._media.begin(stamp, next(listed, before.segment.duration))
            self._media_run = before.run
            self._read_last = (last, head.map.file) if stamp else None

    def _judge_guesses(self, after: Pending) -> None:
        """Drop gaps by numbers alone if the media's clock shows that nothing is missing."""
        self._resume_clock(after)
        guesses = [pending for pending in self._waiting if pending.guessed]
        stamp = self._checked_stamp(after)
        missed = sum((guess.segment.duration for guess in guesses), timedelta())
        if guesses[0].run != self._media_run or self._media.has_missed(stamp, missed, len(guesses)):
            for guess in guesses:
                guess.guessed = False
        else:
            self._waiting = deque(pending for pending in self._waiting if not pending.guessed)
            logger.info("%s: the numbers have jumped, and no segment is missing", self._variant)

    def _follow_clock(self, head: Pending, duration: timedelta) -> None:
        """Begin another run if the media's time stamps do not continue."""
        self._resume_clock(head)
        stamp, run = self._checked_stamp(head), head.run
        if run != self._media_run:
            self._media.begin(stamp, duration)
        elif not self._media.goes_on(stamp, duration):
            head.run = self._next_run(head)
            for pending in self._waiting:
                if pending.run == run:
                    pending.run = head.run
            logger.info("%s: the media's clock begins anew at %s", self._variant, printable(head.name))
        self._media_run = head.run
        if head.run != self._codecs_run and head.file.file:
            self._codecs_run, self.codecs = head.run, codecs_of(head.file.file, head.map.file)
        if stamp and head.file.file:
            self._read_last = head.file.file, head.map.file

    def _checked_stamp(self, pending: Pending) -> Stamp | None:
        """Where its media begins; if unexpected, the segment before is measured: its EXTINF may be wrong."""
        file, before = pending.file.file, self._read_last
        stamp = None if pending.fault or file is None else first_time(file, pending.map.file)
        if before and pending.run == self._media_run and self._media.is_broken(stamp):
            self._read_last = None
            if lasts := _duration(*before):
                self._media.correct(lasts)
        return stamp

    def _next_run(self, head: Pending) -> Run:
        for pending in self._waiting:
            if pending.run.number > head.run.number:
                return pending.run
        target = timedelta(seconds=head.playlist.target_duration)
        spot = TimelinePosition(head.sequence, head.segment.program_date_time or head.noticed, target)
        encoder = self._runs.encoder(self._variant, head.segment)
        return self._runs.place(self._variant, encoder, spot, breaks=True)

    def _look(self, pending: Pending, now: float, *, ended: bool) -> None:
        goes_on = not ended and pending is self._waiting[-1]
        pending.inspect(
            now, math.inf if goes_on else LET_GO_TARGET_DURATIONS * pending.playlist.target_duration
        )
        if pending.map.file and pending.map.file == self._map:
            pending.map = replace(pending.map, file=self._map)
        self._map = pending.map.file or self._map

    def _is_decided(self, head: Pending, now: float) -> bool:
        if not head.fault or head.file.permanent or head.map.permanent:
            return True
        if head.transient or head.has_fault(WRITTEN):
            later = islice(self._waiting, 1, LOOKED_AT_ONCE)
            alone = any(pending.check and not pending.fault for pending in later)
            head.own_fault_since = min(now, head.own_fault_since) if alone else math.inf
            longest = OWN_FAULT_AFTER
            if not head.transient:  # it grows without end
                longest = max(longest, 2 * LET_GO_TARGET_DURATIONS * head.playlist.target_duration)
            is_long = now - head.own_fault_since > longest
            if head.transient or is_long:
                return is_long
        target = max(MIN_PATIENCE, float(head.playlist.target_duration))
        patience = self._file_delay.patience(target) if head.has_fault(NOT_THERE) else target
        waited = now - head.changed > patience and now - head.looked_since > MIN_PATIENCE / 2
        if waited and head.has_fault(NOT_THERE) and now - head.changed < MOST_TARGET_DURATIONS * target:
            # Files of segments that were listed together may come in any order.
            together = (pending for pending in self._waiting if pending.since == head.since)
            waited = not any(now - pending.arrived < target for pending in together)
        # The folder is removed when the next run starts: its files do not come back.
        current = self._runs.current(self._variant)
        wiped = head.has_fault(NOT_THERE) and current is not None and current.number > head.run.number
        if self._is_gone(head):
            checks = (pending.check for pending in islice(self._waiting, 1, None) if pending.check)
            if any(check.is_there() for check in checks):
                return True
        return wiped or (waited and not head.has_fault(WRITTEN))

    def _is_gone(self, head: Pending) -> bool:
        """Whether its writer may have removed it before the first check, with all files before it."""
        return head.first and head.file.fault == NOT_THERE and not self._has_begun

    def _segment(self, head: Pending) -> Segment:
        segment, file = head.segment, head.file.file
        duration, measured = segment.duration, None
        if file and (head.unlisted or segment.fault or not PLAUSIBLE[0] <= duration <= PLAUSIBLE[1]):
            measured = _duration(file, head.map.file)
        fault = head.fault or ("" if measured else segment.fault) or None
        if fault:
            logger.warning("%s/%s %s; it is listed as a gap", self._variant, printable(head.name), fault)
        file = None if fault else file
        duration = max(measured or duration, SHORTEST)
        self._follow_clock(head, duration)
        # When the segment before it in its run has ended.
        follows = self._next_time[1] if self._next_time and self._next_time[0] == head.run else None
        time = None if head.unlisted and follows else segment.program_date_time
        # Without PROGRAM-DATE-TIME the segment follows the last segment, or the file's time.
        time = time or follows or (file.modified if file else head.noticed) - duration
        self._next_time = (head.run, time + duration)
        return Segment(
            variant=self._variant,
            run=head.run,
            sequence=head.sequence,
            uri=segment.uri,
            name=head.name,
            duration=duration,
            program_date_time=time,
            target_duration=head.playlist.target_duration,
            independent=head.playlist.independent_segments,
            noticed=head.noticed,
            file=file,
            fault=fault,
            map_file=None if fault else head.map.file,
        )


def _duration(file: SourceFile, map_file: SourceFile | None) -> timedelta | None:
    try:
        return media_duration(file.read(), map_file.read(LARGEST_BOX) if map_file else b"")
    except OSError:
        return None
