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
from broadcaster.source.media_clock import MediaClock, Stamp, first_time, media_duration
from broadcaster.source.owncast_names import local_name
from broadcaster.source.recovery import file_identity

logger = logging.getLogger(__name__)

REMEMBERED = 2000  # files reported
MIN_PATIENCE = 1.0  # seconds
# What a playlist says of a segment's duration beyond these is looked up in the segment.
PLAUSIBLE = (timedelta(milliseconds=100), timedelta(seconds=60))
# Target durations for which a file is waited for that is not there: until its writer's ways are known, and at
# most. Players hold back three.
UNKNOWN_TARGET_DURATIONS, MOST_TARGET_DURATIONS = 2.25, 10
LAG_FACTOR = 1.5
LAGS, ENOUGH = 20, 5  # segments by which a writer is known
LATE_FOR = 120.0  # seconds for which one that was given up is looked for
LOOKED_AT_ONCE = 50  # pending segments
UNSEEN = FileCheck(None)
NOT_WRITTEN_AGAIN = FileCheck(None, NOT_THERE)
# Seconds for which a file cannot be read while those after it can: what is wrong is its own.
OWN_FAULT_AFTER = 60.0
# A file that its writer keeps open and writes nothing into is waited for as long as players have something to
# show: they hold back three target durations. It is taken then if it can be whole, as from a writer that
# never lets go of anything.
LET_GO_TARGET_DURATIONS = 4


@dataclass(frozen=True, slots=True)
class Reported:
    """The newest segment that an earlier process has reported of a variant."""

    run: Run
    segment: MediaSegment
    file: FileIdentity


@dataclass(slots=True, eq=False)
class Pending:
    """A listed segment that has not been reported yet, with the latest looks at its file and its map."""

    segment: MediaSegment
    run: Run
    sequence: int
    playlist: MediaPlaylist  # the version that listed it
    noticed: datetime
    since: float  # monotonic
    first: bool = False  # listed when the playlist was first seen: may be gone already
    unlisted: bool = False  # found by its file: how long it lasts is measured
    guessed: bool = False  # a gap that only numbers tell of
    passed_by: bool = False  # not listed any more: its file is not written again
    taken: FileIdentity | None = None  # the file that was under its name when that was another segment's
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
        """Find out by the names in the playlist where the files will be."""
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
        self.map_check = CompletenessCheck(root, folder / map_name, map_name) if map_name else None

    def look(self, now: float, let_go: float) -> None:
        """Look at the segment and at its map, once for each ``now``."""
        if self.looked_at == now:
            return
        self.looked_at, self.looked_since = now, min(now, self.looked_since)
        was_there = self.file.fault not in {"", NOT_THERE} or self.file.file is not None
        if self.check:
            self.file = self.check.look(now, let_go)
            if self.taken and self.file.file and self.file.file.identity == self.taken:
                self.file = replace(NOT_WRITTEN_AGAIN, permanent=self.passed_by)
            if self.file.fault != NOT_THERE and not was_there:
                self.arrived = now
        if self.map_check:
            self.map = self.map_check.look(now, let_go)

    @property
    def fault(self) -> str:
        """What is wrong with it, or with its map."""
        return self.file.fault or self.map.fault

    def has_fault(self, fault: str) -> bool:
        """Whether that is wrong with one of them."""
        return fault in (self.file.fault, self.map.fault)

    @property
    def transient(self) -> bool:
        """Whether it is the machine's fault."""
        return self.file.transient or self.map.transient

    @property
    def changed(self) -> float:
        """When it was listed, or one of its files last changed (monotonic)."""
        return max(self.since, self.file.changed, self.map.changed)


class _Lag:
    """How long after it lists a segment a writer brings its file, as far as that is known."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=LAGS)
        self._late: deque[Pending] = deque(maxlen=LAGS)  # given up, and looked for to learn from them

    def patience(self, target: float) -> float:
        """Seconds for which a file is waited for, with a target duration of so many."""
        longest = max(self._seconds, default=0.0)
        least = target if len(self._seconds) >= ENOUGH else UNKNOWN_TARGET_DURATIONS * target
        return min(max(least, LAG_FACTOR * longest + MIN_PATIENCE), MOST_TARGET_DURATIONS * target)

    def note(self, one: Pending, now: float) -> None:
        """A segment is reported, with its file or without."""
        if one.check and one.has_fault(NOT_THERE):
            self._late.append(one)
        elif one.check and not one.first and not one.unlisted and not one.fault:
            self._seconds.append(max(0.0, min(now, one.arrived) - one.since))

    def look_for_late(self, now: float) -> None:
        """See which of those that were given up have come after all."""
        for one in list(self._late):
            is_there = one.check is not None and one.check.is_there()
            if is_there:
                self._seconds.append(now - one.since)
            if is_there or now - one.since > LATE_FOR:
                self._late.remove(one)


class PendingSegments:
    """What one variant's playlist has listed, in order.

    ``pause`` is how many seconds from now to look again, None when nothing is waited for.
    """

    def __init__(self, root: Path, folder: Path, variant: str, runs: EncoderRunTracker) -> None:
        self.pause: float | None = None
        self._root = root
        self._folder = folder
        self._variant = variant
        self._runs = runs
        self._waiting: deque[Pending] = deque()
        self._next_time: tuple[Run, datetime] | None = None
        self._lag = _Lag()
        self._has_begun = False  # a segment was reported
        self._media = MediaClock()
        self._media_run: Run | None = None
        # Where the media's clock was read last, with its map.
        self._read_last: tuple[SourceFile, SourceFile | None] | None = None
        self._recalled: Reported | None = None
        self._told: dict[FileIdentity, str] = {}  # names of the files reported, the latest last
        self._identities: dict[str, FileIdentity] = {}  # by their names

    def add(self, pending: Pending) -> None:
        """Wait for one more."""
        pending.find(self._root, self._folder)
        pending.taken = pending.taken or self._identities.get(pending.name)
        self._waiting.append(pending)

    @property
    def fault(self) -> str:
        """What is wrong with the machine, for which the next segment waits; empty while nothing is."""
        if not (self._waiting and self._waiting[0].transient):
            return ""
        return f"{self._variant}/{printable(self._waiting[0].name)} {self._waiting[0].fault}"

    def collect_ready(self, now: float, *, ended: bool) -> list[Segment]:
        """The segments that are finished or lost by ``now`` (monotonic, seconds).

        ``ended`` says that the playlist will list nothing more.
        """
        segments: list[Segment] = []
        # All of them, so that those behind a broken one are known to be quiet when their turn comes.
        for one in islice(self._waiting, LOOKED_AT_ONCE):
            self._look(one, now, ended=ended)
        self.pause = None
        while self._waiting:
            head = next((one for one in self._waiting if not one.guessed), self._waiting[0])
            self._look(head, now, ended=ended)
            if not self._is_decided(head, now):
                seldom = head.transient or head.has_fault(NOT_THERE)
                self.pause = pause(now - head.changed, MISSING_PAUSE if seldom else LONGEST_PAUSE)
                break
            if self._waiting[0].guessed:
                self._judge_guesses(head)
                continue
            self._waiting.popleft()
            if self._is_gone(head) or self._is_told(head):
                continue
            self._has_begun = True
            self._lag.note(head, now)
            segments.append(self._reported(head))
        self._lag.look_for_late(now)
        return segments

    def restore(self, files: Iterable[tuple[FileIdentity, str]], newest: Reported | None) -> None:
        """Know the files, and their names, that an earlier process has reported; the last is the newest."""
        self._told |= dict(reversed([*files]))
        self._identities |= {name: file for file, name in self._told.items()}
        self._recalled = newest

    def _is_told(self, head: Pending) -> bool:
        """Whether its file was reported before, under whatever name and number."""
        file = head.file.file
        if file is None or not head.check:
            return head.taken is not None and head.has_fault(NOT_THERE)
        name = self._told.get(file.identity)
        if name is None or not file.inode:
            self._told[file.identity], self._identities[head.name] = head.name, file.identity
            if len(self._told) > REMEMBERED:
                oldest = next(iter(self._told))
                if self._identities.get(self._told[oldest]) == oldest:
                    del self._identities[self._told[oldest]]
                del self._told[oldest]
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
        """Read where the media's clock stood when an earlier process ended."""
        before, self._recalled = self._recalled, None
        if before is None or before.run != head.run:
            return
        name = local_name(before.segment.uri) or ""
        if file_identity(self._folder, before.segment.uri) == before.file:
            inode, modified_ns, size = before.file.inode, before.file.modified_ns, before.file.size
            path = Path(os.path.realpath(self._folder), name)
            last = SourceFile(name, path, size, modified_ns, inode)
            stamp = first_time(last, head.map.file)
            # The catalog knows when it began, the playlist how long it lasts, if it is still listed.
            listed = (one.duration for one in head.playlist.segments if local_name(one.uri) == name)
            self._media.begin(stamp, next(listed, before.segment.duration))
            self._media_run = before.run
            self._read_last = (last, head.map.file) if stamp else None

    def _judge_guesses(self, after: Pending) -> None:
        """Keep gaps that only numbers tell of if the media's clock has left them out, or tells nothing."""
        self._resume_clock(after)
        guesses = [one for one in self._waiting if one.guessed]
        stamp = self._checked_stamp(after)
        missed = sum((one.segment.duration for one in guesses), timedelta())
        are_gaps = guesses[0].run != self._media_run or self._media.has_missed(stamp, missed, len(guesses))
        if are_gaps:
            for one in guesses:
                one.guessed = False
        else:
            self._waiting = deque(one for one in self._waiting if not one.guessed)
            logger.info("%s: the numbers have jumped, and no segment is missing", self._variant)

    def _follow_clock(self, head: Pending, duration: timedelta) -> None:
        """Begin another run, where the time stamps of the media do not go on from those before."""
        self._resume_clock(head)
        stamp, run = self._checked_stamp(head), head.run
        if run != self._media_run:
            self._media.begin(stamp, duration)
        elif not self._media.goes_on(stamp, duration):
            head.run = self._next_run(head)
            for one in self._waiting:
                if one.run == run:
                    one.run = head.run
            logger.info("%s: the media's clock begins anew at %s", self._variant, printable(head.name))
        self._media_run = head.run
        if stamp and head.file.file:
            self._read_last = head.file.file, head.map.file

    def _checked_stamp(self, one: Pending) -> Stamp | None:
        """Where its media begins; where that is not expected, the segment before it is measured.

        Some writers give all segments one duration, or round it up.
        """
        stamp, before = _stamp(one), self._read_last
        if before and one.run == self._media_run and self._media.is_broken(stamp):
            self._read_last = None
            if lasts := _duration(*before):
                self._media.correct(lasts)
        return stamp

    def _next_run(self, head: Pending) -> Run:
        later = next((one.run for one in self._waiting if one.run.number > head.run.number), None)
        if later:
            return later
        target = timedelta(seconds=head.playlist.target_duration)
        spot = TimelinePosition(head.sequence, head.segment.program_date_time or head.noticed, target)
        encoder = self._runs.encoder(self._variant, head.segment)
        return self._runs.place(self._variant, encoder, spot, breaks=True)

    def _look(self, one: Pending, now: float, *, ended: bool) -> None:
        goes_on = not ended and one is self._waiting[-1]
        one.look(now, math.inf if goes_on else LET_GO_TARGET_DURATIONS * one.playlist.target_duration)

    def _is_decided(self, head: Pending, now: float) -> bool:
        """Whether the next one is finished, or never will be."""
        if not head.fault or head.file.permanent or head.map.permanent:
            return True
        if head.transient or head.has_fault(WRITTEN):
            later = islice(self._waiting, 1, LOOKED_AT_ONCE)
            alone = any(one.check and not one.fault for one in later)
            head.own_fault_since = min(now, head.own_fault_since) if alone else math.inf
            longest = OWN_FAULT_AFTER
            if not head.transient:  # it grows without end, unless it can be let go of by then
                longest = max(longest, 2 * LET_GO_TARGET_DURATIONS * head.playlist.target_duration)
            is_long = now - head.own_fault_since > longest
            if head.transient or is_long:
                return is_long
        target = max(MIN_PATIENCE, float(head.playlist.target_duration))
        patience = self._lag.patience(target) if head.has_fault(NOT_THERE) else target
        waited = now - head.changed > patience and now - head.looked_since > MIN_PATIENCE / 2
        if waited and head.has_fault(NOT_THERE) and now - head.changed < MOST_TARGET_DURATIONS * target:
            # What was listed together may come in any order.
            together = (one for one in self._waiting if one.since == head.since)
            waited = not any(now - one.arrived < target for one in together)
        # The folder is removed when the next run starts: what has gone with it does not come any more.
        wiped = head.has_fault(NOT_THERE) and self._runs.is_closed(self._variant, head.run)
        if self._is_gone(head) and self._later_is_there():
            return True
        return wiped or (waited and not head.has_fault(WRITTEN))

    def _is_gone(self, head: Pending) -> bool:
        """Whether its writer may have removed it before it was looked for: none before it is there either."""
        return head.first and head.file.fault == NOT_THERE and not self._has_begun

    def _later_is_there(self) -> bool:
        later = (one.check for one in islice(self._waiting, 1, None) if one.check)
        return any(check.is_there() for check in later)

    def _reported(self, what: Pending) -> Segment:
        segment, file = what.segment, what.file.file
        duration, measured = segment.duration, None
        if file and (what.unlisted or segment.fault or not PLAUSIBLE[0] <= duration <= PLAUSIBLE[1]):
            measured = _duration(file, what.map.file)
        fault = what.fault or ("" if measured else segment.fault) or None
        if fault:
            logger.warning("%s/%s %s; it is listed as a gap", self._variant, printable(what.name), fault)
        file = None if fault else file
        duration = max(measured or duration, SHORTEST)
        self._follow_clock(what, duration)
        # Where the segment before it in its run has ended.
        follows = self._next_time[1] if self._next_time and self._next_time[0] == what.run else None
        time = None if what.unlisted and follows else segment.program_date_time
        # For writers without PROGRAM-DATE-TIME: go on from the last segment, or from the file's time.
        time = time or follows or (file.modified if file else what.noticed) - duration
        self._next_time = (what.run, time + duration)
        return Segment(
            variant=self._variant,
            run=what.run,
            sequence=what.sequence,
            uri=segment.uri,
            name=what.name,
            duration=duration,
            program_date_time=time,
            target_duration=what.playlist.target_duration,
            independent=what.playlist.independent_segments,
            noticed=what.noticed,
            file=file,
            fault=fault,
            map_file=None if fault else what.map.file,
        )


def _stamp(one: Pending) -> Stamp | None:
    """Where its media begins, by the media's own clock."""
    file, map_file = one.file.file, one.map.file
    return None if one.fault or file is None else first_time(file, map_file)


def _duration(file: SourceFile, map_file: SourceFile | None) -> timedelta | None:
    try:
        descriptor = file.open()
    except OSError:
        return None
    try:
        return media_duration(descriptor, map_file)
    finally:
        os.close(descriptor)
