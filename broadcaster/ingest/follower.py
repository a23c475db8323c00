"""Turns one media playlist that keeps changing into segments, in order, each once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from broadcaster.catalog.records import Run, SourcePosition
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.ingest.names import encoder_id, is_idle_clip, is_offline_clip
from broadcaster.ingest.pending import Pending, PendingSegments
from broadcaster.ingest.reports import SourceEnded, SourceEvent
from broadcaster.ingest.rescue import begun_before, left_behind, missed_between

logger = logging.getLogger(__name__)

SAME_TIME = timedelta(milliseconds=500)  # a restarted encoder cannot be back within this
STALE_TARGET_DURATIONS = 6
STALE_MIN = 15.0  # seconds

RunAssigner = Callable[[str], Run]


class Follower:
    """Follows the media playlist of one variant, which may be away, or show the idle clip, at any time.

    ``assign_run`` turns the identity of an encoder run into a Run that all variants share; ``breaks`` is how
    many runs of a writer without ids there were before; ``clock`` gives the wall time. ``idle`` says that the
    playlist shows Owncast's idle clip and nothing else, ``hidden`` that the clip is in the place of what a
    stream may have, ``over`` that it was finished, or long untouched, when it was first met, which is no live
    stream.
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
        self.idle = False
        self.hidden = False
        self.over = False
        self._folder = folder
        self._assign_run = assign_run
        self._clock = clock
        self._pending = PendingSegments(root, folder, variant)
        self._known: dict[int, MediaSegment] = {}
        self._last: int | None = None
        self._encoder_id = ""
        self._breaks = breaks
        self._playlist = MediaPlaylist(target_duration=0)  # the latest with segments of a stream
        self._ended = False
        self._recalled = False  # and nothing was read since
        self._latest_run = -1

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
        self.over = self._is_over(playlist, modified, encoder_id(listed[max(listed)]))
        if self.over:
            return
        self._recalled = False
        if self._last is not None and max(listed) < self._last and not whole:
            return
        if self._restarted(listed):
            self._rescue_left_behind(playlist, now)
            self._last, self._known = None, {}
            self._breaks += 1
            self._rescue_begun(listed, playlist, now)
        first = not self.following
        self.following, self._ended, self._playlist = True, playlist.ended, playlist
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
        self._last = max(position.known)
        self._playlist = MediaPlaylist(position.target_duration, independent_segments=position.independent)
        self._recalled = True
        duration = timedelta()
        for number, (uri, time) in sorted(position.known.items()):
            before = self._known.get(number - 1)
            if before and before.program_date_time:
                duration = time - before.program_date_time  # of the one before, and likely of this one
            self._known[number] = MediaSegment(uri, duration, program_date_time=time)
        self._latest_run = position.run.number
        self.following = True

    @property
    def encoder(self) -> str:
        """The id of the encoder run that is followed; empty where there is none, or its writer has no ids."""
        return self._encoder_id if self.following else ""

    @property
    def closed(self) -> bool:
        """Whether the latest version was finished: Owncast may do that just before the last segment comes."""
        return self.following and self._playlist.ended

    def miss(self) -> None:
        """The playlist is not there now, which says nothing: Owncast removes it at each of its starts."""
        self.idle = self.hidden = False

    def take_unlisted(self, now: float) -> None:
        """Take what was finished after the segments that are known, by its files: no playlist can be read."""
        last = self._known.get(self._last) if self._last is not None else None
        if self._last is None or last is None or not self._encoder_id:
            return  # without an id in its name a file may be another run's
        target_duration = timedelta(seconds=self._playlist.target_duration)
        for one in left_behind(self._folder, last, last.duration or target_duration):
            self._last += 1
            self._known[self._last] = one
            self._accept(self._last, one, self._playlist, unlisted=True, now=now)

    def settle(self, now: float) -> list[SourceEvent]:
        """What has become finished, or hopeless, by now (monotonic, seconds)."""
        events: list[SourceEvent] = [*self._pending.settle(now, ended=self._ended)]
        if self._ended and self.pause is None:
            self._ended = False
            events.append(SourceEnded(self.variant))
        return events

    @property
    def pause(self) -> float | None:
        """How many seconds from now to look again, None when nothing is waited for."""
        return self._pending.pause

    def _is_over(self, playlist: MediaPlaylist, modified: float, encoder: str) -> bool:
        """A playlist first met when it is finished, or long untouched, is not a live stream.

        One of another encoder than an earlier process followed is first met too; finished just now, it is
        what was missed meanwhile.
        """
        if self.following and not (self._recalled and encoder != self._encoder_id):
            return False
        age = self._clock().timestamp() - modified
        stale = age > max(STALE_MIN, STALE_TARGET_DURATIONS * playlist.target_duration)
        return stale or (playlist.ended and not self.following)

    def _restarted(self, listed: dict[int, MediaSegment]) -> bool:
        """Whether numbers that are known already stand for something else, or numbering fell back."""
        if self._last is None:
            return False
        newest = max(listed)
        # Numbers that lie before all that is known mean nothing by themselves: after a restart of ours,
        # they are those that were never remembered. An encoder with an id does not start over under it:
        # a shorter list is a version from before.
        return (
            encoder_id(listed[newest]) != self._encoder_id
            or (newest < self._last and not self._encoder_id)
            or any(
                not _same(self._known[number], segment, by_name=bool(self._encoder_id))
                for number, segment in listed.items()
                if number in self._known
            )
        )

    def _rescue_missed(
        self, sequence: int, segment: MediaSegment, playlist: MediaPlaylist, now: float
    ) -> None:
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
            self._accept(number, one, playlist, now=now)

    def _rescue_left_behind(self, playlist: MediaPlaylist, now: float) -> None:
        """A new run has replaced the playlist: take what its predecessor had finished and nobody saw."""
        last = self._known.get(self._last) if self._last is not None else None
        if self._last is None or last is None or not encoder_id(last):
            return  # without an id in its name a file may be the new run's
        duration = last.duration or timedelta(seconds=playlist.target_duration)
        for number, one in enumerate(left_behind(self._folder, last, duration), self._last + 1):
            self._accept(number, one, playlist, unlisted=True, now=now)

    def _rescue_begun(self, listed: dict[int, MediaSegment], playlist: MediaPlaylist, now: float) -> None:
        """A new run began while nobody looked: take what it had finished and lists no more."""
        oldest = min(listed)
        encoder = encoder_id(listed[oldest])
        # Without an id of its own, or with one that comes back, the files may be an earlier run's.
        if not encoder or self._assign_run(f"{encoder}#0").number <= self._latest_run:
            return
        begun = begun_before(self._folder, listed[oldest])
        for number, one in enumerate(begun, oldest - len(begun)):
            self._accept(number, one, playlist, now=now)

    def _accept(  # noqa: PLR0913 - what is listed, and how it came to be known
        self,
        sequence: int,
        segment: MediaSegment,
        playlist: MediaPlaylist,
        *,
        now: float,
        first: bool = False,
        unlisted: bool = False,
    ) -> None:
        current_id = encoder_id(segment)
        if current_id != self._encoder_id:
            self._encoder_id, self._breaks = current_id, 0
        elif segment.discontinuity and self._last is not None:
            self._breaks += 1
        run = self._run(current_id)
        self._pending.add(
            Pending(segment, run, sequence, playlist, self._clock(), now, first=first, unlisted=unlisted)
        )

    def _run(self, encoder: str) -> Run:
        """The run of an encoder's segment; an id that comes back after another one is a new run."""
        run = self._assign_run(f"{encoder}#{self._breaks}")
        while run.number < self._latest_run:
            self._breaks += 1
            run = self._assign_run(f"{encoder}#{self._breaks}")
        self._latest_run = run.number
        return run


def _same(known: MediaSegment, segment: MediaSegment, *, by_name: bool) -> bool:
    """Whether two versions list the same segment; names with an encoder's id are never used again."""
    if known.uri != segment.uri:
        return False
    if by_name or known.program_date_time is None or segment.program_date_time is None:
        return True
    return abs(known.program_date_time - segment.program_date_time) < SAME_TIME
