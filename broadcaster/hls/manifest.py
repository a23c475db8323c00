"""The rolling window of one variant: what a player is told, by the rules of a live playlist.

Pure: no clock, no I/O. Section numbers are those of draft-pantos-hls-rfc8216bis.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import islice

from broadcaster.hls import MediaPlaylist, MediaSegment, ServerControl, rounded_seconds

MIN_WINDOW_SEGMENTS = 6  # Apple's authoring specification, 8.11
MIN_WINDOW_TARGET_DURATIONS = 3  # §6.2.2
HOLD_BACK_TARGET_DURATIONS = 3  # at least (§4.4.3.8)
SKIP_TARGET_DURATIONS = 6  # at least (§4.4.3.8)
# Below this, a delta update saves less than its additional address costs the caches in between.
DELTA_WINDOW = timedelta(minutes=2)
MIN_FILLER = timedelta(milliseconds=100)  # in the place of a run that took no time


class ManifestGenerator:
    """Grows one media playlist segment by segment and lets the oldest roll off.

    ``target_duration`` is in seconds and never changes (§6.2.1). ``window_segments`` and ``window`` are how
    many segments are listed, and for how long: whichever is more, and more yet where the specification
    asks for it. ``media_sequence`` is the number of the first segment to come: numbering starts at 1,
    because hls.js does not block on a last number of 0. ``discontinuity_sequence`` is the discontinuity
    number that players already know. ``on_leave`` takes each segment that leaves the window: its number, the
    discontinuity number before it, the segment, and whether it is independent.

    It then has ``media_sequence`` and ``discontinuity_sequence`` as the playlist's tags have them,
    ``current_discontinuity``, the number of the newest segment, ``duration``, that of the playlist, and
    ``longest``, that of the longest there has been.
    """

    def __init__(  # noqa: PLR0913 - what it begins with
        self,
        target_duration: int,
        window_segments: int,
        window: timedelta = timedelta(),
        *,
        media_sequence: int = 1,
        discontinuity_sequence: int = 0,
        on_leave: Callable[[int, int, MediaSegment, bool], None] = lambda *_: None,
    ) -> None:
        self.target_duration = target_duration
        self.ended = False
        self._window_segments = max(window_segments, MIN_WINDOW_SEGMENTS)
        # "A server MUST NOT remove a Media Segment ... if that would produce a Playlist whose duration is
        # less than three times the target duration" (§6.2.2).
        self._window = max(window, timedelta(seconds=MIN_WINDOW_TARGET_DURATIONS * target_duration))
        target = timedelta(seconds=target_duration)
        has_deltas = max(self._window, self._window_segments * target) >= DELTA_WINDOW
        self._server_control = ServerControl(
            can_block_reload=True,
            hold_back=HOLD_BACK_TARGET_DURATIONS * target,
            can_skip_until=SKIP_TARGET_DURATIONS * target if has_deltas else None,
        )
        self._segments: deque[MediaSegment] = deque()
        self._independent: deque[bool] = deque()  # of each segment
        self._dependent = 0  # how many are not
        self._on_leave = on_leave
        self.duration = timedelta()
        self.media_sequence = media_sequence
        self.discontinuity_sequence = discontinuity_sequence
        self.current_discontinuity = discontinuity_sequence
        self.longest = timedelta()

    def restore(
        self, segments: Iterable[tuple[MediaSegment, bool]], *, current_discontinuity: int, ended: bool
    ) -> None:
        """Take up what an earlier process had listed, each segment with whether it was independent."""
        for segment, independent in segments:
            self._push(segment, independent=independent)
        self.current_discontinuity = current_discontinuity
        self.ended = ended

    def append(self, segment: MediaSegment, *, discontinuity: int, independent: bool) -> None:
        """Add the newest segment.

        ``discontinuity`` is the segment's discontinuity number, the same in every variant (§6.2.4);
        the tag is derived from it. ``independent`` says whether the segment starts with a key frame.
        Raises ValueError after ``end()``, or when the discontinuity number falls.

        A segment longer than the target duration cannot be listed, because TARGETDURATION never
        changes (§6.2.1): it becomes as many EXT-X-GAP segments as its duration fills.
        """
        if self.ended:
            raise ValueError("the playlist has ended")
        jump = discontinuity - self.current_discontinuity
        if jump < 0:
            raise ValueError("discontinuity numbers never fall")
        self._skip_runs(jump - 1, segment)
        self.current_discontinuity = discontinuity
        is_long = rounded_seconds(segment.duration) > self.target_duration
        pieces = _gaps(segment, self.target_duration) if is_long else [segment]
        for number, piece in enumerate(pieces):
            self._push(replace(piece, discontinuity=jump > 0 and number == 0), independent=independent)
        self._roll_off()

    def end(self) -> None:
        """Nothing more will come: EXT-X-ENDLIST (§6.2.5)."""
        self.ended = True

    @property
    def next_media_sequence(self) -> int:
        """The media sequence number of the segment to come."""
        return self.media_sequence + len(self._segments)

    def listed_from(self, media_sequence: int) -> list[tuple[int, MediaSegment, bool]]:
        """The segments from a number on: number, segment, whether it is independent."""
        first = max(media_sequence, self.media_sequence)
        skipped = first - self.media_sequence
        tail = zip(
            islice(self._segments, skipped, None), islice(self._independent, skipped, None), strict=True
        )
        return [(number, segment, independent) for number, (segment, independent) in enumerate(tail, first)]

    @property
    def segment_count(self) -> int:
        """How many segments are listed."""
        return len(self._segments)

    @property
    def independent_segments(self) -> bool:
        """Whether every segment listed can be decoded on its own (§4.4.2.1)."""
        return bool(self._segments) and not self._dependent

    @property
    def playlist(self) -> MediaPlaylist:
        """What a player is told now."""
        return MediaPlaylist(
            target_duration=self.target_duration,
            media_sequence=self.media_sequence,
            discontinuity_sequence=self.discontinuity_sequence,
            independent_segments=self.independent_segments,
            server_control=self._server_control,
            segments=tuple(self._segments),
            ended=self.ended,
        )

    def _skip_runs(self, missed: int, segment: MediaSegment) -> None:
        """Account for encoder runs in which this variant brought nothing, but another one did."""
        if missed <= 0:
            return
        if not self._segments:
            self.discontinuity_sequence += missed
            return
        before, time = self._segments[-1], segment.program_date_time
        longest = step = timedelta(seconds=self.target_duration)
        if time and before.program_date_time:
            room = time - before.program_date_time - before.duration
            step = min(longest, max(room, timedelta()) / missed)
        duration = max(step, MIN_FILLER)
        for number in range(missed, 0, -1):
            begin = time and time - number * step
            gap = MediaSegment(segment.uri, duration, discontinuity=True, program_date_time=begin, gap=True)
            self._push(gap, independent=True)

    def _push(self, segment: MediaSegment, *, independent: bool) -> None:
        self._segments.append(segment)
        self._independent.append(independent)
        self._dependent += not independent
        self.duration += segment.duration
        self.longest = max(self.longest, self.duration)

    def _roll_off(self) -> None:
        while len(self._segments) > self._window_segments:
            if self.duration - self._segments[0].duration < self._window:
                break
            oldest, independent = self._segments.popleft(), self._independent.popleft()
            self._on_leave(self.media_sequence, self.discontinuity_sequence, oldest, independent)
            self._dependent -= not independent
            self.duration -= oldest.duration
            self.media_sequence += 1
            # "If the server removes an EXT-X-DISCONTINUITY tag ... it MUST increment the value of the
            # EXT-X-DISCONTINUITY-SEQUENCE tag" (§6.2.2).
            self.discontinuity_sequence += oldest.discontinuity


def _gaps(segment: MediaSegment, target_duration: int) -> list[MediaSegment]:
    count = math.ceil(segment.duration / timedelta(seconds=target_duration))
    step = segment.duration / count
    return [
        replace(
            segment,
            duration=step,
            gap=True,
            program_date_time=segment.program_date_time and segment.program_date_time + number * step,
        )
        for number in range(count)
    ]
