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
from broadcaster.source.reports import SourceEnded, SourceEvent

FAR = timedelta(days=1)  # from other times; clocks that are set back or forth differ by less, or come right
REWRITTEN_AFTER = 500_000_000  # ns for each second of the target duration
BESIDE = 3  # segments by which two playlists are compared
# A media sequence number can have 64 bits (§4.2). Numbers beyond these are folded: SQLite's have 63 bits,
# and numbers in JSON 53.
NUMBERS = 4 * 10**15
COMPARED = 64  # files of listed segments that are looked at to find out what is new


class SourcePlaylistHistory:
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

    def restore(self, position: SourcePosition) -> None:
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
        self, root: Path, folder: Path, variant: str, runs: EncoderRunTracker, clock: Callable[[], datetime]
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
        self.known = SourcePlaylistHistory(folder, clock)
        self._playlist = MediaPlaylist(target_duration=0)  # the latest with segments of a stream
        self._met = ""  # the newest segment of the version that was met first
        self._ended = False
        self._recalled = False  # and nothing was read since
        self._renumbered = False  # and that was said
        self._left_out = ""  # the newest segment of the latest version, where that was taken for an old one
        self._now = 0.0  # of the latest look, monotonic

    def update(self, playlist: MediaPlaylist, modified: float, now: float, *, whole: bool = True) -> None:
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
        known = SourcePlaylistHistory(self._folder, self._clock) if restarted else self.known
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

    def restore(self, position: SourcePosition) -> None:
        """Go on where an earlier process stood: only what is new after that is reported."""
        self._playlist = MediaPlaylist(position.target_duration, independent_segments=position.independent)
        self.known.restore(position)
        names = {number: local_name(uri) or uri for number, (uri, _) in position.known.items()}
        files = ((file, names[number]) for number, file in position.files.items() if number in names)
        newest, last = self.known.newest, self.known.last
        file = position.files.get(last) if last is not None else None
        self.pending.restore(files, Reported(position.run, newest, file) if newest and file else None)
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

    def on_missing(self) -> None:
        """The playlist is not there now, which says nothing: Owncast removes it at each of its starts."""
        self.idle = self.hidden = False

    def take_unlisted(self, now: float) -> None:
        """Take what was finished after the segments that are known, by its files: no playlist can be read."""
        self._now = now
        self._take_left_behind()

    def collect_ready(self, now: float) -> list[SourceEvent]:
        """The segments that are finished or lost by ``now`` (monotonic, seconds)."""
        segments = self.pending.collect_ready(now, ended=self._ended)
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
            missed = interpolate_missing(self._folder, before, segment, steps, self._playlist.target_duration)
            begins = missed is None
            if missed is None:  # what is known does not lead here; what has the same id in its name does
                has_id = self._runs.encoder(self.variant, segment)
                missed = leading_unlisted(self._folder, segment)[1 - steps :] if has_id else []
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
        for number, one in enumerate(trailing_unlisted(self._folder, last, duration), self.known.last + 1):
            self._accept(number, one, run=run, unlisted=True)

    def _take_missed_runs(self, listed: MediaSegment) -> None:
        """Take what encoders finished that came and went while nobody looked, before what is listed now."""
        last, following = self.known.newest, self._runs.encoder(self.variant, listed)
        if last is None or not following or self._runs.has_passed(self.variant, following):
            return  # without an id of its own, or with one that comes back, its files may be among these
        duration = timedelta(seconds=self._playlist.target_duration)
        for encoder, names in unseen_runs(self._folder, last, listed).items():
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
        begun = leading_unlisted(self._folder, listed[oldest], partial(self._runs.is_ours, encoder))
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

    def _spot(self, sequence: int, segment: MediaSegment) -> TimelinePosition:
        target = timedelta(seconds=self._playlist.target_duration)
        return TimelinePosition(sequence, segment.program_date_time or self._clock(), target)


def _numbered(playlist: MediaPlaylist) -> dict[int, MediaSegment]:
    """The segments of a stream by their numbers; what is listed twice in one version counts once."""
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
