"""Turns one media playlist that keeps changing into segments, in order, each once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from broadcaster.discovery import Run, SourceEnded, SourceEvent, SourceFile, SourcePosition, SourceSegment
from broadcaster.playlist import MediaPlaylist, Segment
from broadcaster.source.completeness import NOT_THERE, CompletenessCheck
from broadcaster.source.names import encoder_id, is_offline_clip, local_name
from broadcaster.source.pending import Pending
from broadcaster.source.playlist_file import printable
from broadcaster.source.rescue import left_behind, missed_between

logger = logging.getLogger(__name__)

SAME_TIME = timedelta(milliseconds=500)  # a restarted encoder cannot be back within this
MIN_PATIENCE = 1.0  # seconds
GONE_FOR = 2.0  # seconds; a file system that is away for a moment is no wipe
LOOKED_AT_ONCE = 50  # pending segments
STALE_TARGET_DURATIONS = 6
STALE_MIN = 15.0  # seconds

RunAssigner = Callable[[str], Run]


class Follower:
    """Follows the media playlist of one variant.

    ``assign_run`` turns the identity of an encoder run into a Run that all variants share; ``breaks`` is how
    many runs of a writer without ids there were before; ``clock`` gives the wall time. ``unsettled`` asks for
    another look soon.
    """

    def __init__(  # noqa: PLR0913 - where it is, what it is called, and what it shares with its siblings
        self,
        root: Path,
        folder: Path,
        variant: str,
        assign_run: RunAssigner,
        clock: Callable[[], datetime],
        *,
        breaks: int = 0,
    ) -> None:
        self.variant = variant
        self.following = False
        self.unsettled = False
        self._root = root
        self._folder = folder
        self._assign_run = assign_run
        self._clock = clock
        self._pending: deque[Pending] = deque()
        self._known: dict[int, Segment] = {}
        self._last: int | None = None
        self._encoder_id = ""
        self._breaks = breaks
        self._next_time: tuple[Run, datetime] | None = None
        self._ended = False
        self._latest_run = -1
        self._gone_since: float | None = None  # monotonic

    def absorb(self, playlist: MediaPlaylist, modified: float, now: float, *, whole: bool = True) -> None:
        """Take in a new version of the playlist, last modified at ``modified`` (seconds since the epoch).

        Unless it is ``whole``, its end may be missing.
        """
        self._gone_since = None
        listed = {
            playlist.media_sequence + index: segment
            for index, segment in enumerate(playlist.segments)
            if not is_offline_clip(segment)
        }
        if not listed:
            if playlist.ended:
                self.forget()  # the idle clip: the folder has been wiped
            return
        if not self.following and self._is_over(playlist, modified):
            return
        if self._last is not None and max(listed) < self._last and not whole:
            return
        if self._restarted(listed):
            self._rescue_left_behind(playlist, now)
            self._last, self._known = None, {}
            self._breaks += 1
        first = not self.following
        self.following, self._ended = True, playlist.ended
        for sequence, segment in listed.items():
            if self._last is None or sequence > self._last:
                self._rescue_missed(sequence, segment, playlist, now)
                self._accept(sequence, segment, playlist, first=first, now=now)
                self._last, self._known[sequence] = sequence, segment
        oldest = min(listed)
        # A torn version lists less than is known, so keep what it leaves out at its end.
        self._known = {number: one for number, one in self._known.items() if number >= oldest} | listed

    def recall(self, position: SourcePosition) -> None:
        """Go on where an earlier process stood: only what is new after that is reported."""
        self._encoder_id, _, breaks = position.run.identity.rpartition("#")
        self._breaks = int(breaks)
        self._known = {
            number: Segment(uri, timedelta(), program_date_time=time)
            for number, (uri, time) in position.known.items()
        }
        self._last = max(self._known)
        self._latest_run = position.run.number
        self.following = True

    def miss(self, now: float) -> None:
        """The playlist cannot be read now (monotonic, seconds); it may be back in a moment."""
        self._gone_since = now if self._gone_since is None else self._gone_since
        if self.following and now - self._gone_since > GONE_FOR:
            self.forget()

    def forget(self) -> None:
        """The playlist is gone: what comes next under its name is a new run."""
        if self.following:
            self._breaks += 1
        self.following, self._ended, self._last, self._known = False, False, None, {}

    def settle(self, now: float) -> list[SourceEvent]:
        """What has become finished, or hopeless, by now (monotonic, seconds)."""
        events: list[SourceEvent] = []
        # All of them, so that those behind a broken one are known to be quiet when their turn comes.
        for pending in islice(self._pending, LOOKED_AT_ONCE):
            pending.look(now)
        while self._pending:
            event = self._judge(self._pending[0], now)
            if event is None:
                break
            self._pending.popleft()
            if isinstance(event, SourceSegment):
                events.append(event)
        self.unsettled = bool(self._pending)
        if self._ended and not self._pending:
            self._ended = False
            events.append(SourceEnded(self.variant))
        return events

    def _is_over(self, playlist: MediaPlaylist, modified: float) -> bool:
        """A playlist first met when it is finished, or long untouched, is not a live stream."""
        age = self._clock().timestamp() - modified
        return playlist.ended or age > max(STALE_MIN, STALE_TARGET_DURATIONS * playlist.target_duration)

    def _restarted(self, listed: dict[int, Segment]) -> bool:
        """Whether numbers that are known already stand for something else, or numbering fell back."""
        if self._last is None:
            return False
        newest = max(listed)
        # Numbers that lie before all that is known mean nothing by themselves: after a restart of ours,
        # they are those that were never remembered.
        return (
            encoder_id(listed[newest]) != self._encoder_id
            or newest < self._last
            or any(
                not _same(self._known[number], segment)
                for number, segment in listed.items()
                if number in self._known
            )
        )

    def _rescue_missed(self, sequence: int, segment: Segment, playlist: MediaPlaylist, now: float) -> None:
        """Nobody looked while the playlist moved on: take what lies between, or mark the break."""
        before = self._known.get(self._last) if self._last is not None else None
        if self._last is None or before is None or sequence == self._last + 1:
            return
        steps = sequence - self._last
        missed = missed_between(self._folder, before, segment, steps, playlist.target_duration)
        logger.warning("%s: %d segments are no longer listed", self.variant, steps - 1)
        if missed is None:
            self._breaks += 1
            return
        for number, one in enumerate(missed, self._last + 1):
            self._accept(number, one, playlist, first=False, now=now)

    def _rescue_left_behind(self, playlist: MediaPlaylist, now: float) -> None:
        """A new run has replaced the playlist: take what its predecessor had finished and nobody saw."""
        last = self._known.get(self._last) if self._last is not None else None
        if self._last is None or last is None or not encoder_id(last):
            return  # without an id in its name a file may be the new run's
        duration = last.duration or timedelta(seconds=playlist.target_duration)
        for number, one in enumerate(left_behind(self._folder, last, duration), self._last + 1):
            self._accept(number, one, playlist, first=False, now=now)

    def _accept(
        self, sequence: int, segment: Segment, playlist: MediaPlaylist, *, first: bool, now: float
    ) -> None:
        name = local_name(segment.uri)
        current_id = encoder_id(segment)
        if current_id != self._encoder_id:
            self._encoder_id, self._breaks = current_id, 0
        elif segment.discontinuity and self._last is not None:
            self._breaks += 1
        map_name = local_name(segment.map_uri) if segment.map_uri else None
        self._pending.append(
            Pending(
                segment=segment,
                run=self._run(current_id),
                sequence=sequence,
                name=name or "invalid",
                target_duration=playlist.target_duration,
                independent=playlist.independent_segments,
                noticed=self._clock(),
                since=now,
                check=self._checker(name) if name else None,
                map_check=self._checker(map_name) if map_name else None,
                first=first,
            )
        )

    def _run(self, encoder: str) -> Run:
        """The run of an encoder's segment; an id that comes back after another one is a new run."""
        run = self._assign_run(f"{encoder}#{self._breaks}")
        while run.number < self._latest_run:
            self._breaks += 1
            run = self._assign_run(f"{encoder}#{self._breaks}")
        self._latest_run = run.number
        return run

    def _checker(self, name: str) -> CompletenessCheck:
        return CompletenessCheck(self._root, self._folder / name, name)

    def _judge(self, pending: Pending, now: float) -> SourceSegment | str | None:
        """The segment, or a word when it is left out, or None while there is hope."""
        uri = printable(pending.segment.uri)
        if pending.segment.gap:
            return self._report(pending, None, None, "is a gap in the source")
        if pending.check is None:
            return self._report(pending, None, None, f"has a name that is not followed: {uri}")
        look, map_look = pending.look(now)
        fault = look.fault or map_look.fault
        if not fault:
            return self._report(pending, look.file, map_look.file, None)
        patience = max(MIN_PATIENCE, float(pending.target_duration))
        waited = now - pending.since > patience and now - pending.looked_since > MIN_PATIENCE / 2
        hopeless = waited or look.hopeless or map_look.hopeless
        if pending.first and look.fault == NOT_THERE and (hopeless or self._later_is_there()):
            return "left out"
        return self._report(pending, None, None, fault) if hopeless else None

    def _later_is_there(self) -> bool:
        return any(later.check and later.check.exists() for later in islice(self._pending, 1, None))

    def _report(
        self, pending: Pending, file: SourceFile | None, map_file: SourceFile | None, fault: str | None
    ) -> SourceSegment:
        if fault:
            logger.warning("%s/%s %s; it is listed as a gap", self.variant, printable(pending.name), fault)
        time = pending.segment.program_date_time or self._derived_time(pending, file)
        self._next_time = (pending.run, time + pending.segment.duration)
        return SourceSegment(
            variant=self.variant,
            run=pending.run,
            sequence=pending.sequence,
            uri=pending.segment.uri,
            name=pending.name,
            duration=pending.segment.duration,
            program_date_time=time,
            target_duration=pending.target_duration,
            independent=pending.independent,
            noticed=pending.noticed,
            file=file,
            fault=fault,
            map_file=map_file,
        )

    def _derived_time(self, pending: Pending, file: SourceFile | None) -> datetime:
        """For writers without PROGRAM-DATE-TIME: go on from the last segment, or from the file's time."""
        if self._next_time and self._next_time[0] == pending.run:
            return self._next_time[1]
        end = file.modified if file else pending.noticed
        return end - pending.segment.duration


def _same(known: Segment | None, segment: Segment) -> bool:
    if known is None or known.uri != segment.uri:
        return False
    if known.program_date_time is None or segment.program_date_time is None:
        return True
    return abs(known.program_date_time - segment.program_date_time) < SAME_TIME
