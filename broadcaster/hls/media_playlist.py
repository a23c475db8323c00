"""HLS playlists as frozen data that render themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import cached_property
from itertools import islice

MEDIA_TYPE = "application/vnd.apple.mpegurl"
MAX_AHEAD = 2  # segments that a blocking reload may ask for beyond the last (§6.2.5.2)
# EXT-X-VERSION of a playlist with EXT-X-I-FRAMES-ONLY, and with EXT-X-GAP, as strict parsers have it (§8).
IFRAMES_VERSION, GAP_VERSION = 4, 8
SKIP_VERSION = 9  # EXT-X-VERSION of a playlist with EXT-X-SKIP (§8)
ENDLIST = "#EXT-X-ENDLIST\n"
SHORTEST = timedelta(milliseconds=1)  # of a segment: bit rates are divided by durations
# A fault of a segment in a foreign playlist; its file may have the duration.
NO_DURATION = "has no valid EXTINF"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a resource, in bytes (§4.4.4.2)."""

    length: int
    offset: int


@dataclass(frozen=True)
class MediaSegment:
    """One media segment of a playlist, in the order of its tags (§4.4.4)."""

    uri: str
    duration: timedelta  # EXTINF
    discontinuity: bool = False  # EXT-X-DISCONTINUITY
    map_uri: str | None = None  # EXT-X-MAP that applies to this segment
    program_date_time: datetime | None = None  # EXT-X-PROGRAM-DATE-TIME
    gap: bool = False  # EXT-X-GAP
    iframe: ByteRange | None = None  # EXT-X-BYTERANGE of its key frame, if known
    fault: str = ""  # why a segment of a foreign playlist without EXT-X-GAP is a gap

    @property
    def iframe_bandwidth(self) -> int:
        """The bit rate of its key frame, bits per second; 0 if unknown."""
        if self.gap or self.iframe is None or not self.duration:
            return 0
        return int(8 * self.iframe.length / self.duration.total_seconds())

    @cached_property
    def text(self) -> str:
        """Its lines without EXT-X-MAP. Cached: a window of hours is rendered with every version."""
        return self._text(None if self.gap else "")

    @cached_property
    def iframe_text(self) -> str:
        """Its lines in the I-frame playlist, with EXT-X-MAP; a gap without a known key frame."""
        if self.gap or self.iframe is None:
            return self._text(None)
        map_line = f'#EXT-X-MAP:URI="{self.map_uri}"\n' if self.map_uri else ""
        return self._text(f"{map_line}#EXT-X-BYTERANGE:{self.iframe.length}@{self.iframe.offset}\n")

    def _text(self, part: str | None) -> str:
        """The lines with a line before the URI; ``part`` is None for a gap."""
        lines = ["#EXT-X-DISCONTINUITY"] if self.discontinuity else []
        if self.program_date_time:
            utc = self.program_date_time.astimezone(UTC)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z")
        if part is None:
            lines.append("#EXT-X-GAP")
        lines += [f"#EXTINF:{self.duration.total_seconds():.6f},", f"{part or ''}{self.uri}", ""]
        return "\n".join(lines)


class BlockingReloadResult(Enum):
    """The result of a blocking playlist reload (§6.2.5.2)."""

    READY = auto()  # this version is the answer
    PENDING = auto()  # the request waits for a later version
    TOO_FAR_AHEAD = auto()  # 400


@dataclass(frozen=True, slots=True)
class ServerControl:
    """EXT-X-SERVER-CONTROL (§4.4.3.8)."""

    can_block_reload: bool = False  # CAN-BLOCK-RELOAD
    hold_back: timedelta | None = None  # HOLD-BACK, at least 3 target durations
    can_skip_until: timedelta | None = None  # CAN-SKIP-UNTIL, at least 6 target durations

    def line(self) -> str:
        """The tag."""
        return tag(
            "EXT-X-SERVER-CONTROL",
            self.can_block_reload and "CAN-BLOCK-RELOAD=YES",
            self.hold_back and f"HOLD-BACK={self.hold_back.total_seconds():.3f}",
            self.can_skip_until and f"CAN-SKIP-UNTIL={self.can_skip_until.total_seconds():.3f}",
        )


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """A media playlist (§4.4.3), in the order of its tags."""

    target_duration: int  # EXT-X-TARGETDURATION, seconds
    media_sequence: int = 0  # EXT-X-MEDIA-SEQUENCE
    discontinuity_sequence: int = 0  # EXT-X-DISCONTINUITY-SEQUENCE
    playlist_type: str | None = None  # EXT-X-PLAYLIST-TYPE: EVENT or VOD
    independent_segments: bool = False  # EXT-X-INDEPENDENT-SEGMENTS
    start: timedelta | None = None  # EXT-X-START: where to begin, PRECISE
    server_control: ServerControl | None = None  # EXT-X-SERVER-CONTROL
    segments: tuple[MediaSegment, ...] = ()
    ended: bool = False  # EXT-X-ENDLIST

    @property
    def duration(self) -> timedelta:
        """The sum of all segment durations."""
        return sum((segment.duration for segment in self.segments), timedelta())

    @property
    def last(self) -> int:
        """The media sequence number of the last segment."""
        return self.media_sequence + len(self.segments) - 1

    @property
    def version(self) -> int:
        """The lowest EXT-X-VERSION that covers what is used (§8; GAP needs 8 for strict parsers)."""
        gaps = any(segment.gap for segment in self.segments)
        return lowest_version(gaps=gaps, maps=any(segment.map_uri for segment in self.segments))

    def reload(self, media_sequence: int) -> BlockingReloadResult:
        """Whether a client that wants a version with this number has to wait.

        "If the client requests a Media Sequence Number greater than the Media Sequence Number of the last
        Media Segment in the current Playlist plus two, the server SHOULD immediately return Bad Request"
        (§6.2.5.2).
        """
        if self.ended or media_sequence <= self.last:
            return BlockingReloadResult.READY
        is_near = media_sequence <= self.last + MAX_AHEAD
        return BlockingReloadResult.PENDING if is_near else BlockingReloadResult.TOO_FAR_AHEAD

    @property
    def skippable(self) -> int:
        """How many segments lie before the skip boundary, CAN-SKIP-UNTIL seconds from the end (§6.2.5.1)."""
        boundary = self.server_control.can_skip_until if self.server_control else None
        if boundary is None:
            return 0
        count = len(self.segments)
        while count and boundary > timedelta():
            count -= 1
            boundary -= self.segments[count].duration
        return count

    def render(self) -> str:
        """The playlist as text."""
        return "".join((*self.head(self.version, self.server_control), *self._tail(0)))

    @property
    def has_iframes(self) -> bool:
        """Whether the key frame of any segment is known."""
        return any(segment.iframe and not segment.gap for segment in self.segments)

    @property
    def iframe_bandwidth(self) -> int:
        """The peak bit rate of key frames, bits per second; 0 without any."""
        return max((segment.iframe_bandwidth for segment in self.segments), default=0)

    def render_iframes(self) -> str:
        """The I-frame playlist (§4.4.3.6): of each segment the key frame at its beginning.

        A segment without a known key frame is a gap: the others keep their durations, which go "to the
        presentation time of the next I-frame".
        """
        gaps = any(segment.gap or segment.iframe is None for segment in self.segments)
        maps = any(segment.map_uri for segment in self.segments)
        lines = (segment.iframe_text for segment in self.segments)
        return "".join((*self.iframe_head(gaps=gaps, maps=maps), *lines, ENDLIST if self.ended else ""))

    def render_delta(self) -> str:
        """A delta update (§6.2.5.1): EXT-X-SKIP in the place of the oldest segments, if allowed."""
        skipped = self.skippable
        if not skipped:
            return self.render()
        skip = f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"
        return "".join((*self.head(SKIP_VERSION, self.server_control), skip, *self._tail(skipped)))

    def iframe_head(self, *, gaps: bool, maps: bool) -> Iterator[str]:
        """The head of the I-frame playlist; a segment without a known key frame is one of its gaps."""
        yield from self.head(max(IFRAMES_VERSION, lowest_version(gaps=gaps, maps=maps)))
        yield "#EXT-X-I-FRAMES-ONLY\n"

    def head(self, version: int, control: ServerControl | None = None) -> Iterator[str]:
        """The lines before the segments."""
        yield f"#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{self.target_duration}\n"
        if control:
            yield control.line() + "\n"
        yield f"#EXT-X-MEDIA-SEQUENCE:{self.media_sequence}\n"
        yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{self.discontinuity_sequence}\n"
        if self.playlist_type:
            yield f"#EXT-X-PLAYLIST-TYPE:{self.playlist_type}\n"
        if self.independent_segments:
            yield "#EXT-X-INDEPENDENT-SEGMENTS\n"
        if self.start is not None:
            yield f"#EXT-X-START:TIME-OFFSET={self.start.total_seconds():.3f},PRECISE=YES\n"

    def _tail(self, skipped: int) -> Iterator[str]:
        yield from lines_of(islice(self.segments, skipped, None))
        if self.ended:
            yield ENDLIST


def lines_of(segments: Iterable[MediaSegment], map_uri: str | None = None) -> Iterator[str]:
    """The lines of these segments, after a segment with this EXT-X-MAP.

    "It applies to every Media Segment that appears after it in the Playlist until the next EXT-X-MAP tag or
    until the end of the Playlist" (§4.4.4.5).
    """
    for segment in segments:
        if segment.map_uri != map_uri:
            map_uri = segment.map_uri
            if map_uri:
                yield f'#EXT-X-MAP:URI="{map_uri}"\n'
        yield segment.text


def lowest_version(*, gaps: bool, maps: bool) -> int:
    """The lowest EXT-X-VERSION of a playlist with such segments (§8; GAP needs 8 for strict parsers)."""
    return GAP_VERSION if gaps else 6 if maps else 3


def bit_rate(size: int, duration: timedelta, target_duration: int) -> int:
    """Bits per second, of at least half a target duration (§4.4.6.2): a last segment may be one picture."""
    return int(size * 8 / max(duration.total_seconds(), target_duration / 2))


def rounded_seconds(duration: timedelta) -> int:
    """A duration in whole seconds, rounded as §4.4.3.1 compares it with the target duration."""
    return int(duration.total_seconds() + 0.5)


def tag(name: str, *attributes: object) -> str:
    """A tag with its attributes, without empty ones."""
    return f"#{name}:{','.join(str(attribute) for attribute in attributes if attribute)}"
