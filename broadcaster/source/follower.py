"""Converts the versions of one media playlist to segments, in order, each once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

from broadcaster.catalog.records import FileIdentity, Run, Segment, SourcePosition
from broadcaster.events import SourceEnded, SourceEvent
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.printable import printable
from broadcaster.source.encoder_runs import SAME_TIME, EncoderRunTracker, TimelinePosition
from broadcaster.source.owncast_names import is_idle_clip, is_offline_clip, local_name, media_kind
from broadcaster.source.readiness import Pending, PendingSegments, Reported
from broadcaster.source.recovery import (
    file_identity,
    interpolate_missing,
    leading_unlisted,
    modified_ns,
    trailing_unlisted,
    unseen_runs,
)

logger = logging.getLogger(__name__)

FAR = timedelta(days=1)  # between times; a clock that is set differs by less, or is corrected
REWRITTEN_AFTER = 500_000_000  # ns for each second of the target duration
BESIDE = 3  # segments by which two playlists are compared
# Media sequence numbers have up to 64 bits (§4.2), SQLite's 63, JSON's 53: larger numbers are folded.
NUMBERS = 4 * 10**15
COMPARED = 64  # files of listed segments by which versions are compared
STALE_TARGET_DURATIONS = 6
STALE_MIN = 15.0  # seconds


class SourcePlaylistHistory:
    """The segments of one numbering as they were listed last, in the order of their numbers."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self.last: int | None = None  # number of the newest segment
        self._folder = folder
        self._clock = clock
        self._segments: dict[int, MediaSegment] = {}
        self._numbers: dict[str, int] = {}  # by the names of their files
        self._files: dict[int, FileIdentity] = {}  # of reported segments

    @property
    def newest(self) -> MediaSegment | None:
        """The latest segment."""
        return None if self.last is None else self._segments.get(self.last)

    def has_any(self, uris: set[str]) -> bool:
        """Whether a segment has one of these URIs."""
        return any(segment.uri in uris for segment in self._segments.values())

    def add(self, number: int, segment: MediaSegment) -> None:
        """Add the newest segment."""
        self.last, self._segments[number] = number, segment
        self._numbers[_name(segment)] = number

    def restore(self, position: SourcePosition) -> None:
        """Restore the segments of an earlier process; their durations follow from their times."""
        duration = timedelta(seconds=position.target_duration)
        for number, (uri, time) in sorted(position.known.items()):
            before = self._segments.get(number - 1)
            if before and before.program_date_time:
                duration = time - before.program_date_time  # of the segment before, and likely of this
            self.add(number, MediaSegment(uri, duration, program_date_time=time))
        self._files = dict(position.files)

    def replace(self, listed: dict[int, MediaSegment]) -> None:
        """Replace the segments by a version; a torn version may lack some at its end."""
        oldest = min(listed)
        known = {number: segment for number, segment in self._segments.items() if number >= oldest}
        self._segments = known | listed
        self._numbers = {_name(segment): number for number, segment in self._segments.items()}
        self._files = {number: file for number, file in self._files.items() if number >= oldest}

    def note_files(self, reported: Iterable[Segment]) -> None:
        """Note the files of reported segments."""
        self._files |= {segment.sequence: segment.file.identity for segment in reported if segment.file}

    def is_beside(self, listed: dict[int, MediaSegment], folder: Path, target_duration: int) -> bool:
        """Whether the newest segments of another playlist have the same media, numbers and times."""
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
        """The file that was reported under the segment's name, with another number."""
        number = self._numbers.get(_name(segment))
        return None if number is None else self._files.get(number)

    def agrees_with(self, listed: dict[int, MediaSegment], target_duration: int, *, by_name: bool) -> bool:
        """Whether the listed numbers mean the same segments; with ``by_name`` no dates are needed."""
        newest = max(listed)
        if self.last is None or newest < self.last:
            return self.last is None
        shared = [number for number in listed if number in self._segments]
        if not all(self._is_same(number, listed[number], by_name=by_name) for number in shared):
            return False
        if any(_name(listed[number]) in self._numbers for number in listed.keys() - self._segments.keys()):
            return False
        dated = by_name or any(segment.program_date_time for segment in listed.values())
        return not shared or dated or not self._is_rewritten(shared[-1], target_duration)

    def shift(self, listed: dict[int, MediaSegment], target_duration: int) -> int | None:
        """The difference by which known files keep their numbers; None without known files."""
        found: Counter[int] = Counter()
        taken = {file: number for number, file in self._files.items()}
        fell = self.last is not None and max(listed) < self.last
        for number, segment in islice(reversed(listed.items()), COMPARED):
            file = file_identity(self._folder, segment.uri)
            known = taken.get(file) if file else None
            if known is not None and fell and self._is_dated_anew(known, segment):
                continue  # its file may be rewritten soon
            if known is None:
                known = self._by_name(number, segment, file, target_duration)
                if known is None and file and self._numbers.get(_name(segment)) == number in self._files:
                    return None  # the file was rewritten under its name and number
            if known is not None:
                found[known - number] += 1
        if not found or found[0]:
            return 0 if found else None
        return found.most_common(1)[0][0]

    def is_newer(self, listed: dict[int, MediaSegment]) -> bool | None:
        """Whether a listed segment is newer than the newest known segment; None without evidence."""
        latest = [segment for _, segment in islice(reversed(listed.items()), COMPARED)]
        modified = max(modified_ns(self._folder, segment.uri) or 0 for segment in latest)
        taken, newest = self._files.get(self.last or 0), self.newest
        evidence: list[bool] = []
        if modified and taken and modified != taken.modified_ns:
            evidence.append(modified > taken.modified_ns)
        time, known = latest[0].program_date_time, newest and newest.program_date_time
        if time and known and abs(time - known) > SAME_TIME:
            evidence.append(time > known)
        return any(evidence) if evidence else None

    def _is_dated_anew(self, number: int, segment: MediaSegment) -> bool:
        time, known = segment.program_date_time, self._segments[number].program_date_time
        return time is not None and known is not None and abs(time - known) >= SAME_TIME

    def _by_name(
        self, number: int, segment: MediaSegment, file: FileIdentity | None, target_duration: int
    ) -> int | None:
        """The number under which the segment's name is known, unless its file was rewritten."""
        known = self._numbers.get(_name(segment))
        if known is None or self._is_dated_anew(known, segment):
            return None
        taken = self._files.get(known)
        if file and taken:
            was_unfinished = abs(file.modified_ns - taken.modified_ns) < target_duration * REWRITTEN_AFTER
            if not (was_unfinished and known == number):
                # Another file under the same name: a copy, if it has the same date and size.
                return known if segment.program_date_time and file.size == taken.size else None
        return known if segment.program_date_time or known == number else None

    def _is_same(self, number: int, segment: MediaSegment, *, by_name: bool) -> bool:
        known, time = self._segments[number], segment.program_date_time
        same_name = known.uri == segment.uri or _name(known) == _name(segment)
        if by_name or not same_name or time is None or known.program_date_time is None:
            return same_name
        return abs(known.program_date_time - time) < SAME_TIME

    def _is_rewritten(self, number: int, target_duration: int) -> bool:
        """Whether its file was written again, and not just finished after it was taken."""
        before = self._files.get(number)
        after = modified_ns(self._folder, self._segments[number].uri)
        return bool(before and after and after - before.modified_ns >= target_duration * REWRITTEN_AFTER)

    def timed(self, listed: dict[int, MediaSegment]) -> dict[int, MediaSegment]:
        """The segments with plausible times: from the playlist, the segment before, or the file."""
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
        """Whether the times of the segments before and after fit together without this time."""
        expected = _end(timed.get(number - 1) or self._segments.get(number - 1))
        segment, after = listed[number], listed.get(number + 1)
        if not (expected and after and after.program_date_time):
            return False
        if segment.discontinuity or after.discontinuity:
            return False
        goes_on = abs(after.program_date_time - (expected + segment.duration)) < SAME_TIME
        return goes_on and abs(time - expected) > 2 * SAME_TIME

    def _is_likely(self, time: datetime, number: int, timed: dict[int, MediaSegment]) -> bool:
        """Whether the time is near to the times before, or to the clock."""
        expected = _end(timed.get(number - 1) or self._segments.get(number - 1) or self.newest)
        return expected is None or abs(time - expected) < FAR or abs(time - self._clock()) < FAR

    def file_time(self, segment: MediaSegment) -> datetime:
        """When the segment began, by its file or the clock; never before the newest segment ends."""
        finished = modified_ns(self._folder, segment.uri)
        end = datetime.fromtimestamp(finished / 1e9, UTC) if finished else self._clock()
        return max(end - segment.duration, _end(self.newest) or end - segment.duration)


def _end(segment: MediaSegment | None) -> datetime | None:
    return segment.program_date_time + segment.duration if segment and segment.program_date_time else None


def _time_before(number: int, listed: dict[int, MediaSegment]) -> datetime | None:
    """When a segment without a time begins, by the time of a later segment."""
    lasts = listed[number].duration
    while (after := listed.get(number := number + 1)) and not after.discontinuity:
        if after.program_date_time:
            return after.program_date_time - lasts
        lasts += after.duration
    return None


def _name(segment: MediaSegment) -> str:
    return local_name(segment.uri) or segment.uri


class Follower:
    """Follows the media playlist of one variant, which may be missing, or show the idle clip, at any time."""

    def __init__(
        self, root: Path, folder: Path, variant: str, runs: EncoderRunTracker, clock: Callable[[], datetime]
    ) -> None:
        self.variant = variant
        self.following = False
        self.idle = False  # the playlist shows Owncast's idle clip and nothing else
        self.overwritten = False  # by the idle clip, while a stream may be on
        self.is_stale_or_vod = False  # it was finished, or old, when it was first seen: no live stream
        self._folder = folder
        self._runs = runs
        self._clock = clock
        self.pending = PendingSegments(root, folder, variant, runs)  # listed, and not reported yet
        self.known = SourcePlaylistHistory(folder, clock)
        self._playlist = MediaPlaylist(target_duration=0)  # the latest with segments of a stream
        self._first_newest = ""  # the newest segment of the first version
        self._ended = False
        self._restored = False  # and nothing was read since
        self._renumbered = False  # and that was logged
        self._left_out = ""  # the newest segment of the latest version, if that was taken for an old version
        self._now = 0.0  # of the latest look, monotonic

    def update(self, playlist: MediaPlaylist, modified: float, now: float, *, whole: bool = True) -> None:
        """Take in a new version of the playlist, last modified at ``modified`` (seconds since the epoch).

        Unless it is ``whole``, its end may be missing. Raises OSError if the call has to be repeated.
        """
        listed = _numbered(playlist)
        # The transcoder of the idle clip goes on for a while beside a stream's, and writes its playlist over
        # the live playlist: the stream is not over. A version with segments of both has the head of one
        # and the tail of the other: its numbers mean nothing.
        self.overwritten = any(map(is_idle_clip, playlist.segments)) or (
            bool(playlist.segments) and not listed
        )
        self.idle = playlist.ended and bool(playlist.segments) and not listed
        if not listed or self.overwritten:
            return
        newest = max(listed)
        self.is_stale_or_vod = self._is_stale_or_vod(playlist, modified, listed[newest])
        if self.is_stale_or_vod:
            return
        self._restored, self._now = False, now
        is_torn = self.known.last is not None and newest < self.known.last and not whole
        if is_torn or (placed := self._placed(listed, whole=whole)) is None:
            return
        self._left_out = ""
        listed, restarted = placed
        newest = max(listed)
        if restarted:
            # Earlier runs may have finished segments that were not seen.
            self._take_trailing()
            self._take_missed_runs(listed[min(listed)])
        known = SourcePlaylistHistory(self._folder, self._clock) if restarted else self.known
        first, self._playlist = not self.following, playlist
        listed = known.timed(listed)
        self._runs.compare(self.variant, listed[newest], self._spot(newest, listed[newest]))
        if restarted or first:
            listed = self._leading(listed) | listed
        self.known, self._ended, self.following = known, playlist.ended, True  # all files could be looked at
        for sequence, segment in listed.items():
            if self.known.last is None or sequence > self.known.last:
                breaks = restarted or (segment.discontinuity and self.known.last is not None)
                self._take(sequence, segment, breaks=breaks, first=first)
                restarted = False
        self.known.replace(listed)

    def restore(self, position: SourcePosition) -> None:
        """Go on from the position of an earlier process."""
        self._playlist = MediaPlaylist(position.target_duration, independent_segments=position.independent)
        self.known.restore(position)
        names = {number: local_name(uri) or uri for number, (uri, _) in position.known.items()}
        files = ((file, names[number]) for number, file in position.files.items() if number in names)
        newest, last = self.known.newest, self.known.last
        file = position.files.get(last) if last is not None else None
        self.pending.restore(files, Reported(position.run, newest, file) if newest and file else None)
        self.following = self._restored = True

    @property
    def encoder(self) -> str:
        """The id of the followed encoder run; empty without one."""
        last = self.known.newest
        return self._runs.encoder(self.variant, last) if last else ""

    def is_beside(self, playlist: MediaPlaylist, encoder: str, folder: Path) -> bool:
        """Whether another playlist is of the same stream: by its encoder, or by numbers and times."""
        if encoder and encoder == self.encoder:
            return True
        return self.known.is_beside(_numbered(playlist), folder, self._playlist.target_duration)

    @property
    def closed(self) -> bool:
        """Whether the latest version has ENDLIST: Owncast may write it just before the last segment."""
        return self.following and self._playlist.ended

    def on_missing(self) -> None:
        """The playlist is missing, which means nothing: Owncast removes it at each start."""
        self.idle = self.overwritten = False

    def take_unlisted(self, now: float) -> None:
        """Take segments after the known segments by their files, as no playlist can be read."""
        self._now = now
        self._take_trailing()

    def collect_ready(self, now: float) -> list[SourceEvent]:
        """The segments that are finished or lost at ``now`` (monotonic, seconds)."""
        segments = self.pending.collect_ready(now, ended=self._ended)
        self.known.note_files(segments)
        events: list[SourceEvent] = [*segments]
        if self._ended and self.pending.pause is None:
            self._ended = False
            events.append(SourceEnded(self.variant))
        return events

    def _is_stale_or_vod(self, playlist: MediaPlaylist, modified: float, newest: MediaSegment) -> bool:
        encoder = self._runs.encoder(self.variant, newest)
        if self.following and not (self._restored and encoder != self.encoder):
            return False
        age = self._clock().timestamp() - modified
        # A playlist that changes is live: its file system may have another clock.
        self._first_newest = self._first_newest or newest.uri
        moves = newest.uri != self._first_newest
        stale = age > max(STALE_MIN, STALE_TARGET_DURATIONS * playlist.target_duration) and not moves
        return stale or (playlist.ended and not self.following)

    def _placed(
        self, listed: dict[int, MediaSegment], *, whole: bool
    ) -> tuple[dict[int, MediaSegment], bool] | None:
        """The segments by known numbers, and whether the encoder has restarted; None for an old version."""
        newest = max(listed)
        if self.known.last is None:
            return listed, False
        encoder = self._runs.encoder(self.variant, listed[newest])
        target_duration = self._playlist.target_duration
        if encoder != self.encoder:
            if not (whole and self._goes_on(listed)):
                return listed, True
            # A date in the names, for example.
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
            self._runs.disprove(encoder)  # the encoder has restarted under the same id
        return listed, True

    def _goes_on_from_left_out(self, listed: dict[int, MediaSegment]) -> bool:
        """Whether versions with old dates grow: the clock was set back, and the encoder has restarted."""
        before, self._left_out = self._left_out, listed[max(listed)].uri
        uris = {segment.uri for segment in listed.values()}
        return before in uris and before != self._left_out

    def _goes_on(self, listed: dict[int, MediaSegment]) -> bool:
        """Whether the list continues from the known segments without a break."""
        known, last = self.known.newest, self.known.last
        following = listed.get(last + 1) if last is not None else None
        if known is None or last is None or following is None or last not in listed:
            return False
        ends = known.program_date_time and known.program_date_time + known.duration
        time = following.program_date_time
        return (
            listed[last].uri == known.uri
            and not any(listed[number].discontinuity for number in listed if number > last)
            and (time is None or ends is None or abs(time - ends) < SAME_TIME)
        )

    def _take(self, sequence: int, segment: MediaSegment, *, breaks: bool, first: bool) -> None:
        """Take the next listed segment, and segments before it that were not seen."""
        before = self.known.newest
        if self.known.last is not None and before and sequence > self.known.last + 1:
            steps = sequence - self.known.last
            missed = interpolate_missing(self._folder, before, segment, steps, self._playlist.target_duration)
            begins = missed is None
            if missed is None:  # no times lead here, but files with the same id may
                has_id = self._runs.encoder(self.variant, segment)
                missed = leading_unlisted(self._folder, segment)[1 - steps :] if has_id else []
            logger.warning("%s: %d segments are no longer listed", self.variant, steps - 1)
            guessed = all(segment.gap for segment in missed)  # without any file: the numbers may have jumped
            for number, between in enumerate(missed, sequence - len(missed)):
                self._accept(number, between, breaks=begins, guessed=guessed, passed_by=True)
                begins = False
            breaks = breaks or begins
        self._accept(sequence, segment, breaks=breaks, first=first)

    def _take_trailing(self) -> None:
        last, run = self.known.newest, self._runs.current(self.variant)
        if self.known.last is None or last is None or run is None or not self.encoder:
            return  # a file without an id in its name may be another run's
        duration = last.duration or timedelta(seconds=self._playlist.target_duration)
        found = trailing_unlisted(self._folder, last, duration)
        for number, segment in enumerate(found, self.known.last + 1):
            self._accept(number, segment, run=run, unlisted=True)

    def _take_missed_runs(self, listed: MediaSegment) -> None:
        """Take segments of encoders that came and went unseen, before the listed segment."""
        last, following = self.known.newest, self._runs.encoder(self.variant, listed)
        if last is None or not following or self._runs.has_passed(self.variant, following):
            return  # files without an id, or with an id that comes back, may be the listed run's
        duration = timedelta(seconds=self._playlist.target_duration)
        for encoder, names in unseen_runs(self._folder, last, listed).items():
            if encoder == following or self._runs.has_passed(self.variant, encoder):
                continue
            # Only a playlist names the map of a fragment of MP4.
            is_takeable = all(name.endswith(".ts") for name in names.values())
            if not (is_takeable and self._runs.has_turn(encoder, following)):
                missed = "%s: %d segments of encoder %s cannot be listed any more"
                logger.warning(missed, self.variant, len(names), printable(encoder))
                continue
            for number, name in names.items():
                segment = MediaSegment(name, duration)
                time = self.known.file_time(segment)
                self._accept(number, replace(segment, program_date_time=time), unlisted=True)

    def _leading(self, listed: dict[int, MediaSegment]) -> dict[int, MediaSegment]:
        """The segments of a new run before those listed, unless they are older than this service."""
        oldest = min(listed)
        encoder = self._runs.encoder(self.variant, listed[oldest])
        # Files without an id, or with an id that comes back, may be an earlier run's.
        if not encoder or self._runs.has_passed(self.variant, encoder):
            return {}
        begun = leading_unlisted(self._folder, listed[oldest], partial(self._runs.is_ours, encoder))
        return dict(enumerate(begun, oldest - len(begun)))

    def _accept(  # noqa: PLR0913 - the segment, and how it was found
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

    def _spot(self, sequence: int, segment: MediaSegment) -> TimelinePosition:
        target = timedelta(seconds=self._playlist.target_duration)
        return TimelinePosition(sequence, segment.program_date_time or self._clock(), target)


def _numbered(playlist: MediaPlaylist) -> dict[int, MediaSegment]:
    """The segments of a stream by their numbers; a segment that is listed twice counts once."""
    listed: dict[int, MediaSegment] = {}
    names, number = set[str](), playlist.media_sequence % NUMBERS
    for segment in playlist.segments:
        name = local_name(segment.uri) or segment.uri
        if name in names and not (segment.gap or segment.discontinuity):
            continue
        names.add(name)
        if not is_offline_clip(segment):
            listed[number] = segment
        number += 1
    return listed
