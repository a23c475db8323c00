"""HLS playlists as frozen data that render themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import cached_property
from itertools import islice

MEDIA_TYPE = "application/vnd.apple.mpegurl"
MAX_AHEAD = 2  # segments that a blocking reload may ask for beyond the last (§6.2.5.2)
SKIP_VERSION = 9  # EXT-X-VERSION of a playlist with EXT-X-SKIP (§8)


@dataclass(frozen=True)
class MediaSegment:
    """One media segment of a playlist, in the order of its tags (§4.4.4)."""

    uri: str
    duration: timedelta  # EXTINF
    discontinuity: bool = False  # EXT-X-DISCONTINUITY
    map_uri: str | None = None  # EXT-X-MAP that applies to this segment
    program_date_time: datetime | None = None  # EXT-X-PROGRAM-DATE-TIME
    gap: bool = False  # EXT-X-GAP

    @cached_property
    def text(self) -> str:
        """Its lines, apart from EXT-X-MAP. Made once: a window of hours is rendered with every version."""
        lines = ["#EXT-X-DISCONTINUITY"] if self.discontinuity else []
        if self.program_date_time:
            utc = self.program_date_time.astimezone(UTC)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z")
        if self.gap:
            lines.append("#EXT-X-GAP")
        lines += [f"#EXTINF:{self.duration.total_seconds():.6f},", self.uri, ""]
        return "\n".join(lines)


class Reload(Enum):
    """What a blocking playlist reload has to wait for (§6.2.5.2)."""

    READY = auto()  # nothing: this version is the answer
    PENDING = auto()  # a later version
    TOO_FAR_AHEAD = auto()  # more than a server has to wait for: 400


@dataclass(frozen=True, slots=True)
class ServerControl:
    """EXT-X-SERVER-CONTROL (§4.4.3.8): what the server can do for a client."""

    can_block_reload: bool = False  # CAN-BLOCK-RELOAD
    hold_back: timedelta | None = None  # HOLD-BACK, at least 3 target durations
    can_skip_until: timedelta | None = None  # CAN-SKIP-UNTIL, at least 6 target durations

    def line(self) -> str:
        """The tag."""
        return _tag(
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
        if any(segment.gap for segment in self.segments):
            return 8
        return 6 if any(segment.map_uri for segment in self.segments) else 3

    def reload(self, media_sequence: int) -> Reload:
        """What a client has to wait for that wants a version with this number, or a later one.

        "If the client requests a Media Sequence Number greater than the Media Sequence Number of the last
        Media Segment in the current Playlist plus two, the server SHOULD immediately return Bad Request"
        (§6.2.5.2). Once the playlist has ended, nothing more will come.
        """
        if self.ended or media_sequence <= self.last:
            return Reload.READY
        return Reload.PENDING if media_sequence <= self.last + MAX_AHEAD else Reload.TOO_FAR_AHEAD

    @property
    def skippable(self) -> int:
        """How many of the oldest segments a delta update leaves out.

        Those that lie before the skip boundary, CAN-SKIP-UNTIL seconds from the end (§6.2.5.1).
        """
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
        return "".join((*self._head(self.version), *self._tail(0)))

    def render_delta(self) -> str:
        """A delta update (§6.2.5.1): EXT-X-SKIP in the place of the oldest segments, where that may be."""
        skipped = self.skippable
        if not skipped:
            return self.render()
        skip = f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"
        return "".join((*self._head(SKIP_VERSION), skip, *self._tail(skipped)))

    def _head(self, version: int) -> Iterator[str]:
        yield f"#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{self.target_duration}\n"
        if self.server_control:
            yield self.server_control.line() + "\n"
        yield f"#EXT-X-MEDIA-SEQUENCE:{self.media_sequence}\n"
        yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{self.discontinuity_sequence}\n"
        if self.playlist_type:
            yield f"#EXT-X-PLAYLIST-TYPE:{self.playlist_type}\n"
        if self.independent_segments:
            yield "#EXT-X-INDEPENDENT-SEGMENTS\n"
        if self.start is not None:
            yield f"#EXT-X-START:TIME-OFFSET={self.start.total_seconds():.3f},PRECISE=YES\n"

    def _tail(self, skipped: int) -> Iterator[str]:
        map_uri = None
        for segment in islice(self.segments, skipped, None):
            # "It applies to every Media Segment that appears after it in the Playlist until the next
            # EXT-X-MAP tag or until the end of the Playlist" (§4.4.4.5): so repeat it only where it changes.
            if segment.map_uri != map_uri:
                map_uri = segment.map_uri
                if map_uri:
                    yield f'#EXT-X-MAP:URI="{map_uri}"\n'
            yield segment.text
        if self.ended:
            yield "#EXT-X-ENDLIST\n"


@dataclass(frozen=True, slots=True)
class Rendition:
    """EXT-X-MEDIA with TYPE=AUDIO (§4.4.6.1): sound that goes with the variants of a group."""

    group_id: str  # GROUP-ID
    name: str  # NAME
    uri: str | None = None  # URI; None where the sound is in the variants' own segments
    language: str | None = None  # LANGUAGE
    default: bool = False  # DEFAULT
    autoselect: bool = False  # AUTOSELECT
    channels: str | None = None  # CHANNELS

    def line(self) -> str:
        """The tag."""
        return _tag(
            "EXT-X-MEDIA",
            "TYPE=AUDIO",
            self.uri and f'URI="{self.uri}"',
            f'GROUP-ID="{self.group_id}"',
            self.language and f'LANGUAGE="{self.language}"',
            f'NAME="{self.name}"',
            self.default and "DEFAULT=YES",
            # "If the AUTOSELECT attribute is present, its value MUST be YES if the value of the DEFAULT
            # attribute is YES" (§4.4.6.1).
            (self.autoselect or self.default) and "AUTOSELECT=YES",
            self.channels and f'CHANNELS="{self.channels}"',
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """EXT-X-STREAM-INF (§4.4.6.2): one encoding of the stream."""

    uri: str
    bandwidth: int  # BANDWIDTH, bits per second
    average_bandwidth: int | None = None  # AVERAGE-BANDWIDTH, bits per second
    codecs: str | None = None  # CODECS
    resolution: tuple[int, int] | None = None  # RESOLUTION, width and height in pixels
    frame_rate: float | None = None  # FRAME-RATE
    audio: str | None = None  # AUDIO, the GROUP-ID of its renditions

    def line(self) -> str:
        """The tag that introduces this variant."""
        return _tag(
            "EXT-X-STREAM-INF",
            f"BANDWIDTH={self.bandwidth}",
            self.average_bandwidth and f"AVERAGE-BANDWIDTH={self.average_bandwidth}",
            self.codecs and f'CODECS="{self.codecs}"',
            self.resolution and f"RESOLUTION={self.resolution[0]}x{self.resolution[1]}",
            self.frame_rate and f"FRAME-RATE={self.frame_rate:.3f}",
            self.audio and f'AUDIO="{self.audio}"',
        )


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """A multivariant playlist (§4.4.6)."""

    variants: tuple[Variant, ...] = ()
    independent_segments: bool = False
    renditions: tuple[Rendition, ...] = ()

    @property
    def uris(self) -> set[str]:
        """All media playlists that it names."""
        renditions = {rendition.uri for rendition in self.renditions if rendition.uri}
        return {variant.uri for variant in self.variants} | renditions

    def render(self) -> str:
        """The playlist as text."""
        lines = ["#EXTM3U", "#EXT-X-VERSION:3"]
        if self.independent_segments:
            lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
        lines += [rendition.line() for rendition in self.renditions]
        for variant in self.variants:
            lines += [variant.line(), variant.uri]
        return "\n".join(lines) + "\n"


def rounded_seconds(duration: timedelta) -> int:
    """A duration in whole seconds, rounded as §4.4.3.1 compares it with the target duration."""
    return int(duration.total_seconds() + 0.5)


def _tag(name: str, *attributes: object) -> str:
    """A tag with those of the attributes that there are."""
    return f"#{name}:{','.join(str(one) for one in attributes if one)}"
