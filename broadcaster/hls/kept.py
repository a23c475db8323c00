"""What has left the window of one variant and is still listed for those who are behind: a longer view.

Pure: no clock, no I/O. Section numbers are those of draft-pantos-hls-rfc8216bis.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import timedelta

from broadcaster.hls import MediaPlaylist, MediaSegment, ServerControl
from broadcaster.hls.manifest import SKIP_TARGET_DURATIONS


class Kept:
    """The segments before a window, which follows them without a hole."""

    def __init__(self) -> None:
        self._segments: deque[tuple[MediaSegment, bool]] = deque()  # each with whether it is independent
        self._media_sequence = self._discontinuity_sequence = 0
        self.duration = timedelta()  # of all of them

    def add(self, number: int, discontinuity_sequence: int, segment: MediaSegment, independent: bool) -> None:  # noqa: FBT001
        """Take what has just left the window; ``discontinuity_sequence`` is the number before it."""
        if not self._segments:
            self._media_sequence, self._discontinuity_sequence = number, discontinuity_sequence
        self._segments.append((segment, independent))
        self.duration += segment.duration

    def trim(self, window: timedelta, *, need: timedelta, most: timedelta) -> bool:
        """Let go of what is not needed, or too much, with a window of this duration; whether there was any.

        Who plays it needs all that ends less than ``need`` before the newest segment does.
        """
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
        """The first media sequence number that is listed at all; ``window`` is that of the window."""
        return self._media_sequence if self._segments else window

    def playlist(self, window: MediaPlaylist) -> MediaPlaylist:
        """The longer playlist; its delta updates leave out what is the same as before (§6.2.5.1)."""
        control = window.server_control or ServerControl()
        skip = timedelta(seconds=SKIP_TARGET_DURATIONS * window.target_duration)
        whole = replace(window, server_control=replace(control, can_skip_until=skip))
        if not self._segments:
            return whole
        independent = window.independent_segments and all(one for _, one in self._segments)
        return replace(
            whole,
            media_sequence=self._media_sequence,
            discontinuity_sequence=self._discontinuity_sequence,
            independent_segments=independent,
            segments=(*(one for one, _ in self._segments), *window.segments),
        )
