"""Turns one media playlist that keeps changing into segments, in order, each once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from broadcaster.catalog.records import Run, SourcePosition
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.ingest.known import KnownSegments
from broadcaster.ingest.names import is_idle_clip, is_offline_clip, local_name
from broadcaster.ingest.pending import Pending, PendingSegments, Reported
from broadcaster.ingest.reports import SourceEnded, SourceEvent
from broadcaster.ingest.rescue import begun_before, left_behind, missed_between, missed_runs
from broadcaster.ingest.runs import SAME_TIME, RunBook, Spot
from broadcaster.printable import printable

logger = logging.getLogger(__name__)

STALE_TARGET_DURATIONS = 6
STALE_MIN = 15.0  # seconds


class Follower:
    """Follows the media playlist of one variant, which may be away, or show the idle clip, at any time.

    ``runs`` is what all variants share; ``clock`` gives the wall time. ``idle`` says that the playlist shows
    Owncast's idle clip and nothing else, ``hidden`` that the clip is in the place of what a stream may have,
    ``over`` that it was finished, or long untouched, when it was first met, which is no live stream.
    ``known`` is what it has listed, ``pending`` what of that is not reported yet.
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
        self.pending = PendingSegments(root, folder, variant, runs)
        self.known = KnownSegments(folder, clock)
        self._playlist = MediaPlaylist(target_duration=0)  # the latest with segments of a stream
        self._met = ""  # the newest segment of the version that was met first
        self._ended = False
        self._recalled = False  # and nothing was read since
        self._renumbered = False  # and that was said
        self._left_out = ""  # the newest segment of the latest version, where that was taken for an old one
        self._now = 0.0  # of the latest look, monotonic

    def absorb(self, playlist: MediaPlaylist, modified: float, now: float, *, whole: bool = True) -> None:
        """Take in a new version of the playlist, last modified at ``modified`` (seconds since the epoch).

        Unless it is ``whole``, its end may be missing. Raises OSError when it is to be taken in once more.
        """
        listed = _numbered(playlist)
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
        if self.known.last is not None and newest < self.known.last and not whole:
            return
        self._now = now
        placed = self._placed(listed, whole=whole)
        if placed is None:
            return
        self._left_out = ""
        listed, restarted = placed
        newest = max(listed)
        if restarted:
            # Its predecessors may have finished what nobody saw.
            self._take_left_behind()
            self._take_missed_runs(listed[min(listed)])
        known = KnownSegments(self._folder, self._clock) if restarted else self.known
        first, self._playlist = not self.following, playlist
        listed = known.timed(listed)
        self._runs.compare(self.variant, listed[newest], self._spot(newest, listed[newest]))
        if restarted or first:
            listed = self._begun(listed) | listed
        self.known, self._ended, self.following = known, playlist.ended, True  # all files could be looked at
        for sequence, segment in listed.items():
            if self.known.last is None or sequence > self.known.last:
                breaks = restarted or (segment.discontinuity and self.known.last is not None)
                self._take(sequence, segment, breaks=breaks, first=first)
                restarted = False
        self.known.replace(listed)

    def recall(self, position: SourcePosition) -> None:
        """Go on where an earlier process stood: only what is new after that is reported."""
        self._playlist = MediaPlaylist(position.target_duration, independent_segments=position.independent)
        self.known.recall(position)
        names = {number: local_name(uri) or uri for number, (uri, _) in position.known.items()}
        files = ((file, names[number]) for number, file in position.files.items() if number in names)
        newest, last = self.known.newest, self.known.last
        file = position.files.get(last) if last is not None else None
        self.pending.recall(files, Reported(position.run, newest, file) if newest and file else None)
        self.following = self._recalled = True

    @property
    def encoder(self) -> str:
        """The id of the encoder run that is followed; empty where there is none, or its writer has no ids."""
        last = self.known.newest
        return self._runs.encoder(self.variant, last) if last else ""

    def is_beside(self, playlist: MediaPlaylist, encoder: str, folder: Path) -> bool:
        """Whether another playlist is of the same stream: of this encoder, or with the same times."""
        if encoder and encoder == self.encoder:
            return True
        return self.known.is_beside(_numbered(playlist), folder, self._playlist.target_duration)

    @property
    def closed(self) -> bool:
        """Whether the latest version was finished: Owncast may do that just before the last segment comes."""
        return self.following and self._playlist.ended

    def miss(self) -> None:
        """The playlist is not there now, which says nothing: Owncast removes it at each of its starts."""
        self.idle = self.hidden = False

    def take_unlisted(self, now: float) -> None:
        """Take what was finished after the segments that are known, by its files: no playlist can be read."""
        self._now = now
        self._take_left_behind()

    def settle(self, now: float) -> list[SourceEvent]:
        """What has become finished, or hopeless, by now (monotonic, seconds)."""
        segments = self.pending.settle(now, ended=self._ended)
        self.known.note_files(segments)
        events: list[SourceEvent] = [*segments]
        if self._ended and self.pending.pause is None:
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
        # What moves is live: its file system may have another clock.
        self._met = self._met or newest.uri
        moves = newest.uri != self._met
        stale = age > max(STALE_MIN, STALE_TARGET_DURATIONS * playlist.target_duration) and not moves
        return stale or (playlist.ended and not self.following)

    def _placed(
        self, listed: dict[int, MediaSegment], *, whole: bool
    ) -> tuple[dict[int, MediaSegment], bool] | None:
        """What is listed by the numbers that are known, and whether the encoder has started over.

        Numbers and names are what the source says; where they do not agree with what is known, files and
        times tell what is new. None where nothing is: a version from before.
        """
        newest = max(listed)
        if self.known.last is None:
            return listed, False
        encoder = self._runs.encoder(self.variant, listed[newest])
        target_duration = self._playlist.target_duration
        if encoder != self.encoder:
            if not (whole and self._goes_on(listed)):
                return listed, True
            # A date in the names, or what else an encoder changes as it goes on.
            self._runs.disprove(encoder, self.encoder)
            encoder = ""
        if self.known.agrees_with(listed, target_duration, by_name=bool(encoder)):
            return listed, False
        shift = self.known.shift(listed, target_duration)
        if shift is not None:
            if shift and not self._renumbered:
                self._renumbered = True
                logger.warning(
                    "%s: the media sequence number jumped by %d, though the segments are the same: they keep"
                    " the numbers that they had",
                    self.variant,
                    -shift,
                )
            return {number + shift: segment for number, segment in listed.items()}, False
        is_newer = self.known.is_newer(listed)
        is_old = is_newer is False or (is_newer is None and encoder and newest < self.known.last)
        if is_old and not self._goes_on_from_left_out(listed):
            return None
        if encoder and newest < self.known.last:
            self._runs.disprove(encoder)  # it has started over under it
        return listed, True

    def _goes_on_from_left_out(self, listed: dict[int, MediaSegment]) -> bool:
        """Whether the list grows version by version, so that it is live, though its dates are old ones.

        Somebody has set the clock back, and the encoder has started over.
        """
        before, self._left_out = self._left_out, listed[max(listed)].uri
        uris = {segment.uri for segment in listed.values()}
        return before in uris and before != self._left_out

    def _goes_on(self, listed: dict[int, MediaSegment]) -> bool:
        """Whether the newest segments follow those that are known in one list, without a break."""
        known, last = self.known.newest, self.known.last
        following = listed.get(last + 1) if last is not None else None
        if known is None or last is None or following is None or last not in listed:
            return False
        ends = known.program_date_time and known.program_date_time + known.duration
        time = following.program_date_time
        return (
            listed[last].uri == known.uri
            and not any(one.discontinuity for number, one in listed.items() if number > last)
            and (time is None or ends is None or abs(time - ends) < SAME_TIME)
        )

    def _take(self, sequence: int, segment: MediaSegment, *, breaks: bool, first: bool) -> None:
        """Take the next one listed, and what lies between where nobody looked while the list moved on."""
        before = self.known.newest
        if self.known.last is not None and before and sequence > self.known.last + 1:
            steps = sequence - self.known.last
            missed = missed_between(self._folder, before, segment, steps, self._playlist.target_duration)
            begins = missed is None
            if missed is None:  # what is known does not lead here; what has the same id in its name does
                has_id = self._runs.encoder(self.variant, segment)
                missed = begun_before(self._folder, segment)[1 - steps :] if has_id else []
            logger.warning("%s: %d segments are no longer listed", self.variant, steps - 1)
            guessed = all(one.gap for one in missed)  # no file of them is there: perhaps there never was
            for number, one in enumerate(missed, sequence - len(missed)):
                self._accept(number, one, breaks=begins, guessed=guessed, passed_by=True)
                begins = False
            breaks = breaks or begins
        self._accept(sequence, segment, breaks=breaks, first=first)

    def _take_left_behind(self) -> None:
        """Take what was finished after the segments that are known, by its files."""
        last, run = self.known.newest, self._runs.current(self.variant)
        if self.known.last is None or last is None or run is None or not self.encoder:
            return  # without an id in its name a file may be another run's
        duration = last.duration or timedelta(seconds=self._playlist.target_duration)
        for number, one in enumerate(left_behind(self._folder, last, duration), self.known.last + 1):
            self._accept(number, one, run=run, unlisted=True)

    def _take_missed_runs(self, listed: MediaSegment) -> None:
        """Take what encoders finished that came and went while nobody looked, before what is listed now."""
        last, following = self.known.newest, self._runs.encoder(self.variant, listed)
        if last is None or not following or self._runs.has_passed(self.variant, following):
            return  # without an id of its own, or with one that comes back, its files may be among these
        duration = timedelta(seconds=self._playlist.target_duration)
        for encoder, names in missed_runs(self._folder, last, listed).items():
            if encoder == following or self._runs.has_passed(self.variant, encoder):
                continue
            # What a fragment of MP4 begins with is known by its playlist alone.
            is_takeable = all(name.endswith(".ts") for name in names.values())
            if not (is_takeable and self._runs.has_turn(encoder, following)):
                missed = "%s: %d segments of encoder %s cannot be listed any more"
                logger.warning(missed, self.variant, len(names), printable(encoder))
                continue
            for number, name in names.items():
                segment = MediaSegment(name, duration)
                time = self.known.file_time(segment)
                self._accept(number, replace(segment, program_date_time=time), unlisted=True)

    def _begun(self, listed: dict[int, MediaSegment]) -> dict[int, MediaSegment]:
        """What a run had finished, and lists no more, when it was met; not what was there before us."""
        oldest = min(listed)
        encoder = self._runs.encoder(self.variant, listed[oldest])
        # Without an id of its own, or with one that comes back, the files may be an earlier run's.
        if not encoder or self._runs.has_passed(self.variant, encoder):
            return {}
        begun = begun_before(self._folder, listed[oldest], partial(self._runs.is_ours, encoder))
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
        guessed: bool = False,
        passed_by: bool = False,
    ) -> None:
        if run is None:
            encoder = self._runs.encoder(self.variant, segment)
            run = self._runs.place(self.variant, encoder, self._spot(sequence, segment), breaks=breaks)
        pending = Pending(segment, run, sequence, self._playlist, self._clock(), self._now, first, unlisted)
        pending.taken, pending.guessed = self.known.taken_file(segment), guessed
        pending.passed_by = passed_by or unlisted
        self.pending.add(pending)
        self.known.add(sequence, segment)

    def _spot(self, sequence: int, segment: MediaSegment) -> Spot:
        target = timedelta(seconds=self._playlist.target_duration)
        return Spot(sequence, segment.program_date_time or self._clock(), target)


def _numbered(playlist: MediaPlaylist) -> dict[int, MediaSegment]:
    """The segments of a stream by their numbers; what is listed twice in one version counts once."""
    listed: dict[int, MediaSegment] = {}
    names, number = set[str](), playlist.media_sequence
    for segment in playlist.segments:
        name = local_name(segment.uri) or segment.uri
        if name in names and not (segment.gap or segment.discontinuity):
            continue
        names.add(name)
        if not is_offline_clip(segment):
            listed[number] = segment
        number += 1
    return listed
