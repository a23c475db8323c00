"""HLS playlists as frozen data: rendering, and parsing through the ``m3u8`` package.

Section numbers are those of draft-pantos-hls-rfc8216bis. Media time is ``timedelta``, wall time an
aware ``datetime``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import m3u8

from broadcaster.errors import PlaylistError

MEDIA_TYPE = "application/vnd.apple.mpegurl"
# No live stream comes near these; beyond them numbers and times overflow somewhere further on.
MAX_SECONDS = 600
MAX_NUMBER = 2**53 - 1
YEARS = range(1971, 2200)


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment of a playlist, in the order of its tags (§4.4.4)."""

    uri: str
    duration: timedelta  # EXTINF
    discontinuity: bool = False  # EXT-X-DISCONTINUITY
    map_uri: str | None = None  # EXT-X-MAP that applies to this segment
    program_date_time: datetime | None = None  # EXT-X-PROGRAM-DATE-TIME
    gap: bool = False  # EXT-X-GAP


@dataclass(frozen=True, slots=True)
class ServerControl:
    """EXT-X-SERVER-CONTROL (§4.4.3.8): what the server can do for a client."""

    can_block_reload: bool = False  # CAN-BLOCK-RELOAD
    hold_back: timedelta | None = None  # HOLD-BACK, at least 3 target durations
    can_skip_until: timedelta | None = None  # CAN-SKIP-UNTIL, at least 6 target durations


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """A media playlist (§4.4.3), in the order of its tags."""

    target_duration: int  # EXT-X-TARGETDURATION, seconds
    media_sequence: int = 0  # EXT-X-MEDIA-SEQUENCE
    discontinuity_sequence: int = 0  # EXT-X-DISCONTINUITY-SEQUENCE
    independent_segments: bool = False  # EXT-X-INDEPENDENT-SEGMENTS
    server_control: ServerControl | None = None  # EXT-X-SERVER-CONTROL
    segments: tuple[Segment, ...] = ()
    ended: bool = False  # EXT-X-ENDLIST

    @property
    def duration(self) -> timedelta:
        """The sum of all segment durations."""
        return sum((segment.duration for segment in self.segments), timedelta())

    @property
    def version(self) -> int:
        """The lowest EXT-X-VERSION that covers what is used (§8; GAP needs 8 for strict parsers)."""
        if any(segment.gap for segment in self.segments):
            return 8
        return 6 if any(segment.map_uri for segment in self.segments) else 3

    def render(self) -> str:
        """The playlist as text."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "#EXTM3U"
        yield f"#EXT-X-VERSION:{self.version}"
        yield f"#EXT-X-TARGETDURATION:{self.target_duration}"
        yield f"#EXT-X-MEDIA-SEQUENCE:{self.media_sequence}"
        yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{self.discontinuity_sequence}"
        if self.independent_segments:
            yield "#EXT-X-INDEPENDENT-SEGMENTS"
        if self.server_control:
            yield _server_control_line(self.server_control)
        map_uri = None
        for segment in self.segments:
            yield from _segment_lines(segment, map_uri)
            map_uri = segment.map_uri
        if self.ended:
            yield "#EXT-X-ENDLIST"


@dataclass(frozen=True, slots=True)
class Variant:
    """EXT-X-STREAM-INF (§4.4.6.2): one encoding of the stream."""

    uri: str
    bandwidth: int  # BANDWIDTH, bits per second
    average_bandwidth: int | None = None  # AVERAGE-BANDWIDTH, bits per second
    codecs: str | None = None  # CODECS
    resolution: tuple[int, int] | None = None  # RESOLUTION, width and height in pixels
    frame_rate: float | None = None  # FRAME-RATE

    def line(self) -> str:
        """The tag that introduces this variant."""
        attributes = [f"BANDWIDTH={self.bandwidth}"]
        if self.average_bandwidth:
            attributes.append(f"AVERAGE-BANDWIDTH={self.average_bandwidth}")
        if self.codecs:
            attributes.append(f'CODECS="{self.codecs}"')
        if self.resolution:
            attributes.append(f"RESOLUTION={self.resolution[0]}x{self.resolution[1]}")
        if self.frame_rate:
            attributes.append(f"FRAME-RATE={self.frame_rate:.3f}")
        return f"#EXT-X-STREAM-INF:{','.join(attributes)}"


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """A multivariant playlist (§4.4.6)."""

    variants: tuple[Variant, ...] = ()
    independent_segments: bool = False

    def render(self) -> str:
        """The playlist as text."""
        lines = ["#EXTM3U", "#EXT-X-VERSION:3"]
        if self.independent_segments:
            lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
        for variant in self.variants:
            lines += [variant.line(), variant.uri]
        return "\n".join(lines) + "\n"


def rounded_seconds(duration: timedelta) -> int:
    """A duration in whole seconds, rounded as §4.4.3.1 compares it with the target duration."""
    return int(duration.total_seconds() + 0.5)


def parse(text: str) -> MediaPlaylist | MultivariantPlaylist:
    """Read a playlist.

    A last line without its line break is taken for the torn end of a file that is being written, and
    left out. Raises PlaylistError for what is not a playlist, or is one we cannot carry (byte ranges,
    encryption).
    """
    whole = text[: text.rfind("\n") + 1]
    if not whole.startswith("#EXTM3U"):
        raise PlaylistError("does not start with #EXTM3U")
    try:
        parsed = m3u8.loads(whole)
        return _multivariant(parsed) if parsed.is_variant else _media(parsed)
    except PlaylistError:
        raise
    except Exception as error:  # the parser meets hostile text with whatever its code happens to raise
        raise PlaylistError(f"cannot be parsed: {type(error).__name__}: {error}") from error


def _media(parsed: m3u8.M3U8) -> MediaPlaylist:
    if not parsed.target_duration or parsed.target_duration < 0:
        raise PlaylistError("has no EXT-X-TARGETDURATION")
    if parsed.target_duration > MAX_SECONDS:
        raise PlaylistError(f"has an EXT-X-TARGETDURATION above {MAX_SECONDS} s")
    numbers = (parsed.media_sequence or 0, parsed.discontinuity_sequence or 0)
    if not all(0 <= number <= MAX_NUMBER for number in numbers):
        raise PlaylistError("has a sequence number out of range")
    control = parsed.server_control
    return MediaPlaylist(
        target_duration=int(parsed.target_duration),
        media_sequence=int(parsed.media_sequence or 0),
        discontinuity_sequence=int(parsed.discontinuity_sequence or 0),
        independent_segments=bool(parsed.is_independent_segments),
        server_control=ServerControl(
            can_block_reload=control.can_block_reload == "YES",
            hold_back=_optional_seconds(control.hold_back),
            can_skip_until=_optional_seconds(control.can_skip_until),
        )
        if control
        else None,
        segments=tuple(_segment(segment) for segment in parsed.segments if segment.uri),
        ended=bool(parsed.is_endlist),
    )


def _segment(parsed: m3u8.Segment) -> Segment:
    if parsed.byterange or (parsed.init_section and parsed.init_section.byterange):
        raise PlaylistError("uses EXT-X-BYTERANGE: one file per segment is needed")
    if parsed.key and parsed.key.method not in (None, "NONE"):
        raise PlaylistError("uses EXT-X-KEY: encrypted segments are not carried")
    if parsed.duration is None or not 0 <= parsed.duration <= MAX_SECONDS:
        raise PlaylistError(f"has no valid EXTINF for {parsed.uri!r}")
    time = parsed.current_program_date_time
    if time and time.year not in YEARS:
        raise PlaylistError("has an EXT-X-PROGRAM-DATE-TIME out of range")
    return Segment(
        uri=parsed.uri,
        duration=timedelta(seconds=parsed.duration),
        discontinuity=bool(parsed.discontinuity),
        map_uri=parsed.init_section.uri if parsed.init_section else None,
        program_date_time=(time if time.tzinfo else time.replace(tzinfo=UTC)) if time else None,
        gap=bool(parsed.gap_tag),
    )


def _multivariant(parsed: m3u8.M3U8) -> MultivariantPlaylist:
    return MultivariantPlaylist(
        variants=tuple(
            Variant(
                uri=playlist.uri,
                bandwidth=int(info.bandwidth or 0),
                average_bandwidth=info.average_bandwidth,
                codecs=info.codecs,
                resolution=tuple(info.resolution) if info.resolution else None,
                frame_rate=info.frame_rate,
            )
            for playlist in parsed.playlists
            for info in (playlist.stream_info,)
        ),
        independent_segments=bool(parsed.is_independent_segments),
    )


def _optional_seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


def _server_control_line(control: ServerControl) -> str:
    attributes = []
    if control.can_block_reload:
        attributes.append("CAN-BLOCK-RELOAD=YES")
    if control.hold_back:
        attributes.append(f"HOLD-BACK={control.hold_back.total_seconds():.3f}")
    if control.can_skip_until:
        attributes.append(f"CAN-SKIP-UNTIL={control.can_skip_until.total_seconds():.3f}")
    return f"#EXT-X-SERVER-CONTROL:{','.join(attributes)}"


def _segment_lines(segment: Segment, map_uri: str | None) -> Iterator[str]:
    if segment.discontinuity:
        yield "#EXT-X-DISCONTINUITY"
    # "It applies to every Media Segment that appears after it in the Playlist until the next
    # EXT-X-MAP tag or until the end of the Playlist" (§4.4.4.5): so repeat it only where it changes.
    if segment.map_uri and segment.map_uri != map_uri:
        yield f'#EXT-X-MAP:URI="{segment.map_uri}"'
    if segment.program_date_time:
        utc = segment.program_date_time.astimezone(UTC)
        yield f"#EXT-X-PROGRAM-DATE-TIME:{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
    if segment.gap:
        yield "#EXT-X-GAP"
    yield f"#EXTINF:{segment.duration.total_seconds():.6f},"
    yield segment.uri
