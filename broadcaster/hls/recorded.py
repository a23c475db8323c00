"""The playlist of what was recorded: nothing leaves it, and what no live playlist could list is in it, whole.

Pure: no clock, no I/O. Section numbers are those of draft-pantos-hls-rfc8216bis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from broadcaster.hls import MediaPlaylist, MediaSegment, bit_rate, rounded_seconds
from broadcaster.hls.manifest import MIN_WINDOW_SEGMENTS, ManifestGenerator
from broadcaster.hls.types import lowest_version

ALL = 10**8  # segments: no stream has more


class RecordedPlaylist:
    """Grows one media playlist of a recording or a clip.

    ``target_duration`` is what the encoder announced, in seconds, ``first`` the first discontinuity number
    of all variants. With ``on_settled`` it keeps the latest segments alone; the others are given to that
    function, in order. ``peak_bandwidth`` is the highest of any segment, in bits per second, and
    ``iframe_bandwidth`` that of any key frame, 0 where none are known.
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
        # Of what is not kept: the discontinuity number before it, and what the beginning tells of it.
        self._begin: int | None = None
        self._gaps = self._maps = self._dependent = self._frameless = False

    def append(self, segment: MediaSegment, *, discontinuity: int, independent: bool, size: int) -> None:
        """Add the newest segment, of so many bytes; its discontinuity number is the same in every variant.

        TARGETDURATION is the recording's own, and never less than its longest segment. While a stream is on
        it rises with a longer one, which §6.2.1 does not foresee; what is listed, and its number, never
        change.
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
        """What the playlist, and the I-frame playlist, begin with."""
        generator, kept = self._generator, self.latest
        begin = generator.discontinuity_sequence if self._begin is None else self._begin
        playlist = replace(
            self.playlist(ended=ended),
            media_sequence=generator.media_sequence if self._begin is None else 1,
            discontinuity_sequence=begin,
            independent_segments=self.independent_segments,
        )
        version = lowest_version(
            gaps=self._gaps or any(one.gap for one in kept),
            maps=self._maps or any(one.map_uri for one in kept),
        )
        whole = not self._frameless and all(one.iframe and not one.gap for one in kept)
        return "".join(playlist.head(version)), "".join(playlist.iframe_head(whole=whole))

    def playlist(self, *, ended: bool, start: timedelta | None = None) -> MediaPlaylist:
        """As it is now: an EVENT, to which segments are added, or, once it has ended, VOD (§4.4.3.5)."""
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
