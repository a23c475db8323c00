"""Turns one media playlist that keeps changing into segments, in order, each once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.catalog.records import Run, SourcePosition
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.ingest.names import is_idle_clip, is_offline_clip
from broadcaster.ingest.pending import Pending, PendingSegments
from broadcaster.ingest.reports import SourceEnded, SourceEvent
from broadcaster.ingest.rescue import begun_before, left_behind, missed_between, modified_ns
from broadcaster.ingest.runs import SAME_TIME, RunBook, Spot

logger = logging.getLogger(__name__)

STALE_TARGET_DURATIONS = 6
STALE_MIN = 15.0  # seconds


class Follower:
    """Follows the media playlist of one variant, which may be away, or show the idle clip, at any time.

    ``runs`` is what all variants share; ``clock`` gives the wall time. ``idle`` says that the playlist shows
    Owncast's idle clip and nothing else, ``hidden`` that the clip is in the place of what a stream may have,
    ``over`` that it was finished, or long untouched, when it was first met, which is no live stream.
    """

    def __init__(
        self, root: Path, folder: Path, variant: str, runs: RunBook, clock: Callable[[], datetime]
    ) -> None:
        self.variant = variant
        self.following = False
        self.idle = False
        self.hidden = False
        self.over = False
        self._folder = folder
        self._runs = runs
        self._clock = clock
        self._pending = PendingSegments(root, folder, variant)
        self._known: dict[int, MediaSegment] = {}  # by number; each has its time
        self._last: int | None = None
        self._modified: dict[int, int] = {}  # when the files of those in ``_known`` were finished, in ns
        self._playlist = MediaPlaylist(target_duration=0)  # the latest with segments of a stream
        self._ended = False
        self._recalled = False  # and nothing was read since
        self._now = 0.0  # of the latest look, monotonic

    def absorb(self, playlist: MediaPlaylist, modified: float, now: float, *, whole: bool = True) -> None:
        """Take in a new version of the playlist, last modified at ``modified`` (seconds since the epoch).

        Unless it is ``whole``, its end may be missing.
        """
        listed = {
            playlist.media_sequence + index: segment
            for index, segment in enumerate(playlist.segments)
            if not is_offline_clip(segment)
        }
        # The transcoder of the idle clip goes on for a while beside a stream's, and writes its playlist,
        # unfinished and then finished, over the live one: what is followed is not over by that. Both write
        # into one file, at times at once: what has both is the head of one and the tail of the other, and its
        # numbers mean nothing.
        self.hidden = any(map(is_idle_clip, playlist.segments)) or (bool(playlist.segments) and not listed)
        self.idle = playlist.ended and bool(playlist.segments) and not listed
        if not listed or self.hidden:
            return
        newest = max(listed)
        self.over = self._is_over(playlist, modified, listed[newest])
        if self.over:
            return
        self._recalled = False
        if self._last is not None and newest < self._last and not whole:
            return
        self._now = now
        restarted = self._restarted(listed)
        if restarted:
            # Its predecessor may have finished what nobody saw.
            self._take_left_behind()
            self._last, self._known = None, {}
        first, self._playlist, self._ended = not self.following, playlist, playlist.ended
        self.following = True
        listed = self._timed(listed)
        self._runs.compare(self.variant, listed[newest], self._spot(newest, listed[newest]))
        if restarted:
            listed = self._begun(listed) | listed
        for sequence, segment in listed.items():
            if self._last is None or sequence > self._last:
                breaks = restarted or (segment.discontinuity and self._last is not None)
                self._take(sequence, segment, breaks=breaks, first=first)
                restarted = False
        oldest = min(listed)
        # A torn version lists less than is known, so keep what it leaves out at its end.
        self._known = {number: one for number, one in self._known.items() if number >= oldest} | listed
        self._modified = {number: at for number, at in self._modified.items() if number >= oldest}

    def recall(self, position: SourcePosition) -> None:
        """Go on where an earlier process stood: only what is new after that is reported."""
        self._last = max(position.known)
        self._playlist = MediaPlaylist(position.target_duration, independent_segments=position.independent)
        self.following = self._recalled = True
        duration = timedelta(seconds=position.target_duration)
        for number, (uri, time) in sorted(position.known.items()):
            before = self._known.get(number - 1)
            if before and before.program_date_time:
                duration = time - before.program_date_time  # of the one before, and likely of this one
            self._known[number] = MediaSegment(uri, duration, program_date_time=time)

    @property
    def encoder(self) -> str:
        """The id of the encoder run that is followed; empty where there is none, or its writer has no ids."""
        last = self._newest_known()
        return self._runs.encoder(self.variant, last) if last else ""

    @property
    def closed(self) -> bool:
        """Whether the latest version was finished: Owncast may do that just before the last segment comes."""
        return self.following and self._playlist.ended

    @property
    def pause(self) -> float | None:
        """How many seconds from now to look again, None when nothing is waited for."""
        return self._pending.pause

    def miss(self) -> None:
        """The playlist is not there now, which says nothing: Owncast removes it at each of its starts."""
        self.idle = self.hidden = False

    def take_unlisted(self, now: float) -> None:
        """Take what was finished after the segments that are known, by its files: no playlist can be read."""
        self._now = now
        self._take_left_behind()

    def settle(self, now: float) -> list[SourceEvent]:
        """What has become finished, or hopeless, by now (monotonic, seconds)."""
        segments = self._pending.settle(now, ended=self._ended)
        self._modified |= {one.sequence: one.file.modified_ns for one in segments if one.file}
        events: list[SourceEvent] = [*segments]
        if self._ended and self.pause is None:
            self._ended = False
            events.append(SourceEnded(self.variant))
        return events

    def _is_over(self, playlist: MediaPlaylist, modified: float, newest: MediaSegment) -> bool:
        """A playlist first met when it is finished, or long untouched, is not a live stream.

        One of another encoder than an earlier process followed is first met too; finished just now, it is
        what was missed meanwhile.
        """
        encoder = self._runs.encoder(self.variant, newest)
        if self.following and not (self._recalled and encoder != self.encoder):
            return False
        age = self._clock().timestamp() - modified
        stale = age > max(STALE_MIN, STALE_TARGET_DURATIONS * playlist.target_duration)
        return stale or (playlist.ended and not self.following)

    def _restarted(self, listed: dict[int, MediaSegment]) -> bool:
        """Whether numbers that are known already stand for something else, or numbering fell back."""
        if self._last is None:
            return False
        newest = max(listed)
        encoder = self._runs.encoder(self.variant, listed[newest])
        # Numbers that lie before all that is known mean nothing by themselves: after a restart of ours,
        # they are those that were never remembered. An encoder with an id does not start over under it:
        # a shorter list is a version from before.
        if encoder != self.encoder or (newest < self._last and not encoder):
            return True
        shared = [number for number in listed if number in self._known]
        return any(not self._is_same(number, listed[number], by_name=bool(encoder)) for number in shared)

    def _is_same(self, number: int, segment: MediaSegment, *, by_name: bool) -> bool:
        """Whether the segment is the known one; names with an encoder's id are never used again."""
        known, time = self._known[number], segment.program_date_time
        if known.uri != segment.uri:
            return False
        if by_name:
            return True
        if time and known.program_date_time:
            return abs(known.program_date_time - time) < SAME_TIME
        before, after = self._modified.get(number), modified_ns(self._folder, segment.uri)
        # What was half when it was taken is finished sooner than that.
        return not before or not after or after - before < self._playlist.target_duration * 5e8

    def _timed(self, listed: dict[int, MediaSegment]) -> dict[int, MediaSegment]:
        """Without PROGRAM-DATE-TIME each segment follows the one before, or its file tells its time."""
        timed: dict[int, MediaSegment] = {}
        for number, segment in listed.items():
            known = self._known.get(number)
            if segment.program_date_time:
                timed[number] = segment
            elif known:
                timed[number] = known
            else:
                before = timed.get(number - 1) or self._known.get(number - 1)
                time = _end(before) if before and not segment.discontinuity else None
                timed[number] = replace(segment, program_date_time=time or self._file_time(segment))
        return timed

    def _file_time(self, segment: MediaSegment) -> datetime:
        finished = modified_ns(self._folder, segment.uri)
        end = datetime.fromtimestamp(finished / 1e9, UTC) if finished else self._clock()
        earliest = _end(self._newest_known())
        return max(end - segment.duration, earliest) if earliest else end - segment.duration

    def _take(self, sequence: int, segment: MediaSegment, *, breaks: bool, first: bool) -> None:
        """Take the next one listed, and what lies between where nobody looked while the list moved on."""
        before = self._newest_known()
        if self._last is not None and before and sequence > self._last + 1:
            steps = sequence - self._last
            logger.warning("%s: %d segments are no longer listed", self.variant, steps - 1)
            missed = missed_between(self._folder, before, segment, steps, self._playlist.target_duration)
            for number, one in enumerate(missed or (), self._last + 1):
                self._accept(number, one)
            breaks = breaks or missed is None
        self._accept(sequence, segment, breaks=breaks, first=first)

    def _take_left_behind(self) -> None:
        """Take what was finished after the segments that are known, by its files."""
        last, run = self._newest_known(), self._runs.current(self.variant)
        if self._last is None or last is None or run is None or not self.encoder:
            return  # without an id in its name a file may be another run's
        duration = last.duration or timedelta(seconds=self._playlist.target_duration)
        for number, one in enumerate(left_behind(self._folder, last, duration), self._last + 1):
            self._accept(number, one, run=run, unlisted=True)

    def _begun(self, listed: dict[int, MediaSegment]) -> dict[int, MediaSegment]:
        """What a run had finished, and lists no more, when it was met."""
        oldest = min(listed)
        encoder = self._runs.encoder(self.variant, listed[oldest])
        # Without an id of its own, or with one that comes back, the files may be an earlier run's.
        if not encoder or self._runs.has_passed(self.variant, encoder):
            return {}
        begun = begun_before(self._folder, listed[oldest])
        return dict(enumerate(begun, oldest - len(begun)))

    def _accept(  # noqa: PLR0913 - what is listed, and how it came to be known
        self,
        sequence: int,
        segment: MediaSegment,
        *,
        run: Run | None = None,
        breaks: bool = False,
        first: bool = False,
        unlisted: bool = False,
    ) -> None:
        if run is None:
            encoder = self._runs.encoder(self.variant, segment)
            run = self._runs.place(self.variant, encoder, self._spot(sequence, segment), breaks=breaks)
        self._pending.add(
            Pending(segment, run, sequence, self._playlist, self._clock(), self._now, first, unlisted)
        )
        self._last, self._known[sequence] = sequence, segment

    def _spot(self, sequence: int, segment: MediaSegment) -> Spot:
        target = timedelta(seconds=self._playlist.target_duration)
        return Spot(sequence, segment.program_date_time or self._clock(), target)

    def _newest_known(self) -> MediaSegment | None:
        return None if self._last is None else self._known.get(self._last)


def _end(segment: MediaSegment | None) -> datetime | None:
    return segment.program_date_time + segment.duration if segment and segment.program_date_time else None
