"""Generates media playlists: the live window, the DVR playlist with older segments, and VOD playlists.

Pure: no clock, no I/O. Section numbers are those of draft-pantos-hls-rfc8216bis.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import count, islice

from broadcaster.hls import MediaPlaylist, MediaSegment, ServerControl, bit_rate, rounded_seconds
from broadcaster.hls.media_playlist import lowest_version

MIN_WINDOW_SEGMENTS = 6  # Apple's authoring specification, 8.11
MIN_WINDOW_TARGET_DURATIONS = 3  # §6.2.2
HOLD_BACK_TARGET_DURATIONS = 3  # at least (§4.4.3.8)
SKIP_TARGET_DURATIONS = 6  # at least (§4.4.3.8)
# Below this, a delta update saves less than its own address costs caches.
DELTA_WINDOW = timedelta(minutes=2)
MIN_FILLER = timedelta(milliseconds=100)  # gap in the place of a run without segments


class ManifestGenerator:
    """Grows one media playlist segment by segment and removes the oldest segments.

    ``target_duration`` is in seconds and never changes (§6.2.1). The window has ``window_segments`` segments
    or lasts ``window``, whichever is more, and more if the specification asks for it. ``media_sequence`` is
    the number of the next segment, 1 at the start: hls.js does not block on a last number of 0.
    ``discontinuity_sequence`` is the latest discontinuity number. ``on_leave`` takes each segment that leaves
    the window: its number, the discontinuity number before it, the segment, and whether it is independent.

    ``longest`` is the longest duration that the playlist has had.
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
        """Restore the segments of an earlier process, each with whether it was independent."""
        for segment, independent in segments:
            self._push(segment, independent=independent)
        self.current_discontinuity = current_discontinuity
        self.ended = ended

    def append(self, segment: MediaSegment, *, discontinuity: int, independent: bool) -> None:
        """Add the newest segment; ``independent``: it starts with a key frame.

        ``discontinuity`` is the segment's discontinuity number, the same in every variant (§6.2.4). A segment
        longer than TARGETDURATION, which never changes (§6.2.1), becomes several EXT-X-GAP segments. Raises
        ValueError after ``end()``, or when the discontinuity number falls.
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
        rows = zip(count(self.media_sequence), self._segments, self._independent, strict=False)
        return list(islice(rows, max(media_sequence - self.media_sequence, 0), None))

    @property
    def independent_segments(self) -> bool:
        """Whether every segment listed can be decoded on its own (§4.4.2.1)."""
        return bool(self._segments) and not self._dependent

    @property
    def playlist(self) -> MediaPlaylist:
        """The playlist for players now."""
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
        """Add gaps for encoder runs in which only other variants had segments."""
        if missed <= 0:
            return
        if not self._segments:
            self.discontinuity_sequence += missed
            return
        before, time = self._segments[-1], segment.program_date_time
        step = timedelta(seconds=self.target_duration)
        if time and before.program_date_time:
            room = time - before.program_date_time - before.duration
            step = min(step, max(room, timedelta()) / missed)
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
    pieces = math.ceil(segment.duration / timedelta(seconds=target_duration))
    step = segment.duration / pieces
    return [
        replace(
            segment,
            duration=step,
            gap=True,
            program_date_time=segment.program_date_time and segment.program_date_time + number * step,
        )
        for number in range(pieces)
    ]


class DvrBacklog:
    """The segments before a window, without a hole between."""

    def __init__(self) -> None:
        self._segments: deque[tuple[MediaSegment, bool]] = deque()  # each with whether it is independent
        self._media_sequence = self._discontinuity_sequence = 0
        self.duration = timedelta()  # of all of them

    def add(self, number: int, discontinuity_sequence: int, segment: MediaSegment, independent: bool) -> None:  # noqa: FBT001
        """Add the segment that has just left the window; ``discontinuity_sequence`` applies before it."""
        if not self._segments:
            self._media_sequence, self._discontinuity_sequence = number, discontinuity_sequence
        self._segments.append((segment, independent))
        self.duration += segment.duration

    def trim(self, window: timedelta, *, need: timedelta, most: timedelta) -> bool:
        """Drop segments before the last ``need``, or beyond ``most``; returns whether there were any."""
        before = len(self._segments)
        while self._segments:
            whole, oldest = self.duration + window, self._segments[0][0]
            if whole <= most and whole - oldest.duration < need:
                break
            self._segments.popleft()
            self.duration -= oldest.duration
            self._media_sequence += 1
            self._discontinuity_sequence += oldest.discontinuity  # §6.2.2
        return len(self._segments) < before

    def first(self, window: int) -> int:
        """The first media sequence number of backlog and window; ``window`` is the window's."""
        return self._media_sequence if self._segments else window

    def playlist(self, window: MediaPlaylist) -> MediaPlaylist:
        """The playlist of backlog and window; delta updates leave out older segments (§6.2.5.1)."""
        control = window.server_control or ServerControl()
        skip = timedelta(seconds=SKIP_TARGET_DURATIONS * window.target_duration)
        whole = replace(window, server_control=replace(control, can_skip_until=skip))
        if not self._segments:
            return whole
        independent = window.independent_segments and all(whether for _, whether in self._segments)
        return replace(
            whole,
            media_sequence=self._media_sequence,
            discontinuity_sequence=self._discontinuity_sequence,
            independent_segments=independent,
            segments=(*(segment for segment, _ in self._segments), *window.segments),
        )


ALL = 10**8  # segments: no stream has more


class VodPlaylistBuilder:
    """Grows one media playlist of a recording or a clip.

    ``target_duration`` is the encoder's, seconds; ``first`` is the first discontinuity number.
    With ``on_settled`` only the latest segments are kept; that function takes the others, in order.
    ``peak_bandwidth`` and ``iframe_bandwidth`` are the peaks of segments and key frames, bits per second.
    """

    def __init__(
        self, target_duration: int, first: int, on_settled: Callable[[MediaSegment], None] | None = None
    ) -> None:
        self.peak_bandwidth = 0
        self.iframe_bandwidth = 0
        self._first = first
        self._on_settled = on_settled
        kept = MIN_WINDOW_SEGMENTS if on_settled else ALL
        self._generator = ManifestGenerator(target_duration, kept, on_leave=self._settle)
        # Of segments that are not kept: the discontinuity number before them, and what the head needs.
        self._begin: int | None = None
        self._gaps = self._maps = self._dependent = self._frameless = False

    def append(self, segment: MediaSegment, *, discontinuity: int, independent: bool, size: int) -> None:
        """Add the newest segment, of ``size`` bytes; its discontinuity number is the same in every variant.

        TARGETDURATION is the recording's own, and rises with a longer segment while the stream is on, which
        §6.2.1 does not foresee. Listed segments and their numbers never change.
        """
        generator = self._generator
        generator.target_duration = max(generator.target_duration, rounded_seconds(segment.duration))
        number = max(discontinuity - self._first, generator.current_discontinuity)
        generator.append(segment, discontinuity=number, independent=independent)
        self.iframe_bandwidth = max(self.iframe_bandwidth, segment.iframe_bandwidth)
        bandwidth = bit_rate(size, segment.duration, generator.target_duration)
        self.peak_bandwidth = max(self.peak_bandwidth, bandwidth)

    @property
    def independent_segments(self) -> bool:
        """Whether every segment can be decoded on its own (§4.4.2.1)."""
        return self._generator.independent_segments and not self._dependent

    @property
    def latest(self) -> tuple[MediaSegment, ...]:
        """The segments that are kept."""
        return self._generator.playlist.segments

    def heads(self, *, ended: bool) -> tuple[str, str]:
        """The heads of the playlist and of the I-frame playlist."""
        generator, kept = self._generator, self.latest
        begin = generator.discontinuity_sequence if self._begin is None else self._begin
        playlist = replace(
            self.playlist(ended=ended),
            media_sequence=generator.media_sequence if self._begin is None else 1,
            discontinuity_sequence=begin,
            independent_segments=self.independent_segments,
        )
        maps = self._maps or any(segment.map_uri for segment in kept)
        version = lowest_version(gaps=self._gaps or any(segment.gap for segment in kept), maps=maps)
        frameless = self._frameless or any(segment.gap or segment.iframe is None for segment in kept)
        return "".join(playlist.head(version)), "".join(playlist.iframe_head(gaps=frameless, maps=maps))

    def playlist(self, *, ended: bool, start: timedelta | None = None) -> MediaPlaylist:
        """The playlist now: an EVENT, to which segments are added, or VOD once it has ended (§4.4.3.5)."""
        kind = "VOD" if ended else "EVENT"
        playlist = self._generator.playlist
        return replace(playlist, playlist_type=kind, server_control=None, start=start, ended=ended)

    def _settle(self, _: int, discontinuity: int, segment: MediaSegment, independent: bool) -> None:  # noqa: FBT001
        if self._begin is None:
            self._begin = discontinuity
        self._gaps |= segment.gap
        self._maps |= segment.map_uri is not None
        self._dependent |= not independent
        self._frameless |= segment.gap or segment.iframe is None
        if self._on_settled:
            self._on_settled(segment)
