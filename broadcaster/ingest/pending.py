"""Segments that are listed and not reported yet: each waits for its file, and for its turn."""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import islice
from pathlib import Path

from broadcaster.catalog.records import Run, Segment
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.ingest.completeness import (
    LONGEST_PAUSE,
    MISSING_PAUSE,
    NOT_THERE,
    WRITTEN,
    CompletenessCheck,
    Look,
    pause,
)
from broadcaster.ingest.names import local_name
from broadcaster.ingest.playlist_file import printable
from broadcaster.ingest.runs import RunBook
from broadcaster.ingest.transport_stream import media_duration

logger = logging.getLogger(__name__)

MIN_PATIENCE = 1.0  # seconds
LOOKED_AT_ONCE = 50  # pending segments
# Seconds for which a file cannot be read while those after it can: what is wrong is its own.
OWN_FAULT_AFTER = 60.0
# A file that its writer keeps open and writes nothing into is waited for as long as players have something to
# show: they hold back three target durations. It is taken then if it can be whole, as from a writer that
# never lets go of anything.
LET_GO_TARGET_DURATIONS = 4


class Verdict(Enum):
    """What becomes of a segment when it is looked at."""

    REPORT = auto()
    LEAVE_OUT = auto()
    WAIT = auto()


@dataclass(frozen=True, slots=True)
class Pending:
    """A listed segment that has not been reported yet."""

    segment: MediaSegment
    run: Run
    sequence: int
    playlist: MediaPlaylist  # the version that listed it
    noticed: datetime
    since: float  # monotonic
    first: bool = False  # listed when the playlist was first seen: may be gone already
    unlisted: bool = False  # found by its file: how long it lasts is measured


class _Watched:
    """What is pending, with its files."""

    def __init__(self, root: Path, folder: Path, what: Pending) -> None:
        self.what = what
        name, map_uri = local_name(what.segment.uri), what.segment.map_uri
        map_name = local_name(map_uri) if map_uri else None
        self.name = name or "invalid"
        self.check = CompletenessCheck(root, folder / name, name) if name else None
        self.map_check = CompletenessCheck(root, folder / map_name, map_name) if map_name else None
        self.looked_at = self.looked_since = math.inf  # monotonic
        self.own_fault_since: float | None = None
        self.file = self.map = Look(None)

    def look(self, now: float, let_go: float) -> None:
        """Look at the segment and at its map, once for each ``now``."""
        if self.looked_at == now:
            return
        self.looked_at, self.looked_since = now, min(now, self.looked_since)
        if self.check:
            self.file = self.check.look(now, let_go)
        if self.map_check:
            self.map = self.map_check.look(now, let_go)

    @property
    def fault(self) -> str:
        if self.what.segment.gap:
            return "is a gap in the source, or has no valid EXTINF"
        if self.check is None:
            return f"has a name that is not followed: {printable(self.what.segment.uri)}"
        return self.file.fault or self.map.fault

    @property
    def is_hopeless(self) -> bool:
        return self.what.segment.gap or self.check is None or self.file.hopeless or self.map.hopeless

    @property
    def is_written(self) -> bool:
        return WRITTEN in (self.file.fault, self.map.fault)

    @property
    def is_passing(self) -> bool:
        return self.file.passing or self.map.passing

    @property
    def is_missing(self) -> bool:
        return NOT_THERE in (self.file.fault, self.map.fault)

    @property
    def changed(self) -> float:
        """When it was listed, or one of its files last changed (monotonic)."""
        return max(self.what.since, self.file.changed, self.map.changed)


class PendingSegments:
    """What one variant's playlist has listed, in order.

    ``pause`` is how many seconds from now to look again, None when nothing is waited for.
    """

    def __init__(self, root: Path, folder: Path, variant: str, runs: RunBook) -> None:
        self.pause: float | None = None
        self._root = root
        self._folder = folder
        self._variant = variant
        self._runs = runs
        self._waiting: deque[_Watched] = deque()
        self._next_time: tuple[Run, datetime] | None = None

    def add(self, pending: Pending) -> None:
        """Wait for one more."""
        self._waiting.append(_Watched(self._root, self._folder, pending))

    @property
    def fault(self) -> str:
        """What is wrong with the machine, for which the next segment waits; empty while nothing is."""
        if not (self._waiting and self._waiting[0].is_passing):
            return ""
        return f"{self._variant}/{printable(self._waiting[0].name)} {self._waiting[0].fault}"

    def settle(self, now: float, *, ended: bool) -> list[Segment]:
        """What has become finished, or hopeless, by now (monotonic, seconds).

        ``ended`` says that the playlist will list nothing more.
        """
        segments: list[Segment] = []
        # All of them, so that those behind a broken one are known to be quiet when their turn comes.
        for watched in islice(self._waiting, LOOKED_AT_ONCE):
            self._look(watched, now, ended=ended)
        while self._waiting:
            head = self._waiting[0]
            self._look(head, now, ended=ended)
            verdict = self._judge(head, now)
            if verdict is Verdict.WAIT:
                break
            self._waiting.popleft()
            if verdict is Verdict.REPORT:
                segments.append(self._reported(head))
        self.pause = self._pause(now)
        return segments

    def _look(self, watched: _Watched, now: float, *, ended: bool) -> None:
        goes_on = not ended and watched is self._waiting[-1]
        let_go = LET_GO_TARGET_DURATIONS * watched.what.playlist.target_duration
        watched.look(now, math.inf if goes_on else let_go)

    def _judge(self, watched: _Watched, now: float) -> Verdict:
        if not watched.fault:
            return Verdict.REPORT
        if watched.is_passing:
            return self._judge_passing(watched, now)
        patience = max(MIN_PATIENCE, float(watched.what.playlist.target_duration))
        waited = now - watched.changed > patience and now - watched.looked_since > MIN_PATIENCE / 2
        # The folder is removed when the next run starts: what has gone with it does not come any more.
        wiped = watched.is_missing and self._runs.is_closed(self._variant, watched.what.run)
        hopeless = watched.is_hopeless or wiped or (waited and not watched.is_written)
        if watched.what.first and watched.file.fault == NOT_THERE and (hopeless or self._later_is_there()):
            return Verdict.LEAVE_OUT
        return Verdict.REPORT if hopeless else Verdict.WAIT

    def _judge_passing(self, watched: _Watched, now: float) -> Verdict:
        """Wait, however long; but not for one whose fault is its own."""
        if not any(one.check and not one.fault for one in islice(self._waiting, 1, LOOKED_AT_ONCE)):
            watched.own_fault_since = None
        elif watched.own_fault_since is None:
            watched.own_fault_since = now
        elif now - watched.own_fault_since > OWN_FAULT_AFTER:
            return Verdict.REPORT
        return Verdict.WAIT

    def _later_is_there(self) -> bool:
        return any(one.check and one.check.exists() for one in islice(self._waiting, 1, None))

    def _pause(self, now: float) -> float | None:
        if not self._waiting:
            return None
        head = self._waiting[0]
        seldom = head.is_missing or head.is_passing
        return pause(now - head.changed, MISSING_PAUSE if seldom else LONGEST_PAUSE)

    def _reported(self, watched: _Watched) -> Segment:
        what, segment, fault = watched.what, watched.what.segment, watched.fault or None
        if fault:
            logger.warning("%s/%s %s; it is listed as a gap", self._variant, printable(watched.name), fault)
        file = None if fault else watched.file.file
        duration = (what.unlisted and file and media_duration(file.path)) or segment.duration
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
            name=watched.name,
            duration=duration,
            program_date_time=time,
            target_duration=what.playlist.target_duration,
            independent=what.playlist.independent_segments,
            noticed=what.noticed,
            file=file,
            fault=fault,
            map_file=None if fault else watched.map.file,
        )
