"""Reading playlists that others wrote, through the ``m3u8`` package, into our types."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, timedelta

import m3u8

from broadcaster.errors import PlaylistError
from broadcaster.hls.canonical import canonical, is_multivariant, plain_lines
from broadcaster.hls.multivariant import MultivariantPlaylist, Rendition, Variant
from broadcaster.hls.types import NO_DURATION, ByteRange, MediaPlaylist, MediaSegment, ServerControl

# What belongs to a segment; EXT-X-MAP does too, and stays in front of all of them while the first ones leave.
SEGMENT_TAG = re.compile(
    r"^#EXT(INF|-X-(BITRATE|BYTERANGE|CUE|DATERANGE|DISCONTINUITY\s|GAP|KEY|PROGRAM-DATE-TIME))", re.MULTILINE
)
PLAYLIST_TAG = re.compile(
    r"^#EXT(M3U|-X-(VERSION|TARGETDURATION|SERVER|DISCONTINUITY-|MEDIA|INDEP|STREAM|DEFINE))", re.MULTILINE
)
SEQUENCE = re.compile(r"^#EXT-X-MEDIA-SEQUENCE:(\d{1,16})\s*$", re.MULTILINE)
BYTE_RANGE = re.compile(
    r"^#EXT-X-BYTERANGE:(?P<length>\d{1,12})@(?P<offset>\d{1,12})\n(?P<uri>[^#\s].*)$", re.MULTILINE
)
MAP = re.compile(r"^#EXT-X-MAP:.*", re.MULTILINE)
URI_LINE = re.compile(r"^[^#\s].*\n", re.MULTILINE)
ENCRYPTED = "is encrypted with {} (EXT-X-KEY), and encrypted segments are not carried"
ENCRYPTED_WITH = re.compile("is encrypted with ([A-Z0-9-]+) ")
# What the gaps of a version last, and what it announces, follows from all of its durations without this.
PLAIN_TARGET = re.compile(r"^#EXT-X-TARGETDURATION:([1-9]|[1-5]\d)\s*$", re.MULTILINE)
KINDS = {"SUBTITLES": "subtitles", "VIDEO": "other views"}  # of EXT-X-MEDIA
# A writer that was killed closes its file as well: a line without its break counts where nothing can lack.
WHOLE_LINE = re.compile(
    r"#EXT-X-ENDLIST|[^#].*\.(m3u8|ts|m2ts|mts|m4s|mp4|m4a|m4v|cmf[vat]|aac|e?ac3|mp3)([?#].*)?",
    re.IGNORECASE,
)


def byte_ranges(text: str) -> dict[str, ByteRange]:
    """Where the key frames are that an I-frame playlist of ours lists, by URI."""
    found = ((one["uri"], int(one["length"]), int(one["offset"])) for one in BYTE_RANGE.finditer(text))
    return {uri: ByteRange(length, offset) for uri, length, offset in found}


def parse(text: str, *, closed: bool = False) -> MediaPlaylist | MultivariantPlaylist:
    """Read a playlist.

    A last line without its line break is taken for the torn end of a file that is being written, and
    left out, unless the file is ``closed`` and the line looks whole. A tag that makes no sense is left out.
    A segment that cannot be carried (without a valid EXTINF, encrypted, a byte range) is a gap, with its
    ``fault``: those around it keep their numbers and times. Raises PlaylistError for what is not a playlist,
    has a media sequence number that is none, or lists nothing that can be carried.
    """
    return PlaylistReader().read(text, closed=closed)


class PlaylistReader:
    """Reads the versions of one playlist, each as ``parse`` does, but what was there before only once.

    A playlist of hours has 14,400 segments, and a version for each. It is kept as text and as segments; what
    a version has in common with the one before is found by its bytes. ``parsed`` counts segments.
    """

    def __init__(self) -> None:
        self.parsed = 0
        self._maps: list[str] = []
        self._first = 0  # media sequence number
        self._body = ""  # from the first segment's first tag to the last one's URI
        self._ends: list[int] = []  # of each segment in it
        self._segments: tuple[MediaSegment, ...] = ()

    def read(self, text: str, *, closed: bool = False) -> MediaPlaylist | MultivariantPlaylist:
        """Read a version; raises PlaylistError."""
        text = plain_lines(text)
        end = text.rfind("\n") + 1
        whole = text + "\n" if closed and WHOLE_LINE.fullmatch(text, end) else text[:end]
        start = match.start() if (match := SEGMENT_TAG.search(whole)) else len(whole)
        head, body = whole[:start], whole[start:]
        sequence, maps = SEQUENCE.search(head), MAP.findall(head)
        first = int(sequence[1]) if sequence else 0
        begin, known, ends = self._known(first, maps, body) if PLAIN_TARGET.search(head) else (0, (), [])
        tail = body[begin:]
        playlist = _parse(head + _carried(known) + tail)
        if isinstance(playlist, MultivariantPlaylist):
            return playlist
        self.parsed += len(playlist.segments)
        ends += [begin + line.end() for line in URI_LINE.finditer(tail)]
        playlist = replace(playlist, segments=known + playlist.segments)
        # Where a tag for the whole playlist stands among the segments, each version is read as a whole.
        all_in_body = len(ends) == len(playlist.segments) and not URI_LINE.search(head)
        if all_in_body and not PLAYLIST_TAG.search(tail) and not playlist.ended:
            self._maps, self._first, self._ends, self._segments = maps, first, ends, playlist.segments
            self._body = body[: ends[-1]] if ends else ""
        faults = [one.fault for one in playlist.segments]
        if faults and all(fault and fault != NO_DURATION for fault in faults):
            raise PlaylistError(f"lists nothing that can be carried: each segment {faults[-1]}")
        return playlist

    def _known(
        self, first: int, maps: list[str], body: str
    ) -> tuple[int, tuple[MediaSegment, ...], list[int]]:
        """How much of the body is known, as characters, segments, and where those end."""
        dropped = first - self._first
        if maps == self._maps and 0 <= dropped < len(self._ends):
            begin = self._ends[dropped - 1] if dropped else 0
            if body.startswith(self._body[begin:]):
                ends = [end - begin for end in self._ends[dropped:]]
                return ends[-1], self._segments[dropped:], ends
        return 0, (), []


def _carried(known: tuple[MediaSegment, ...]) -> str:
    """The tags that say of the next segment what follows from those before it."""
    if not known:
        return ""
    last = known[-1]
    lines = f'#EXT-X-MAP:URI="{last.map_uri}"\n' if last.map_uri else ""
    if match := ENCRYPTED_WITH.match(last.fault):
        lines += f"#EXT-X-KEY:METHOD={match[1]}\n"
    if last.program_date_time:
        lines += f"#EXT-X-PROGRAM-DATE-TIME:{(last.program_date_time + last.duration).isoformat()}\n"
    return lines


def _parse(text: str) -> MediaPlaylist | MultivariantPlaylist:
    if not text[:7].upper() == "#EXTM3U":
        raise PlaylistError("does not start with #EXTM3U")
    try:
        parsed = m3u8.loads(canonical(text))
        return _multivariant(parsed) if is_multivariant(text) else _media(parsed)
    except PlaylistError:
        raise
    except Exception as error:  # the parser meets hostile text with whatever its code happens to raise
        raise PlaylistError(f"cannot be parsed: {type(error).__name__}: {error}") from error


def _media(parsed: m3u8.M3U8) -> MediaPlaylist:
    if not parsed.target_duration:
        raise PlaylistError("has no EXT-X-TARGETDURATION and no segments")
    media_sequence, discontinuity_sequence = parsed.media_sequence or 0, parsed.discontinuity_sequence or 0
    control = parsed.server_control
    return MediaPlaylist(
        target_duration=int(parsed.target_duration),
        media_sequence=int(media_sequence),
        discontinuity_sequence=int(discontinuity_sequence),
        playlist_type=parsed.playlist_type.upper() if parsed.playlist_type else None,
        independent_segments=bool(parsed.is_independent_segments),
        start=_optional_seconds(parsed.start.time_offset) if parsed.start else None,
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


def _segment(parsed: m3u8.MediaSegment) -> MediaSegment:
    fault = parsed.title or ""
    if parsed.byterange:
        fault = "is a part of a file (EXT-X-BYTERANGE): one file per segment is needed"
    if parsed.key and parsed.key.method not in (None, "NONE"):
        fault = ENCRYPTED.format(parsed.key.method)
    time = parsed.current_program_date_time
    return MediaSegment(
        uri=parsed.uri,
        duration=timedelta(seconds=parsed.duration),
        discontinuity=bool(parsed.discontinuity),
        map_uri=parsed.init_section.uri if parsed.init_section else None,
        program_date_time=(time if time.tzinfo else time.replace(tzinfo=UTC)) if time else None,
        gap=bool(parsed.gap_tag or fault),
        fault=fault,
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
                audio=info.audio,
                video_range=info.video_range,
            )
            for playlist in parsed.playlists
            for info in (playlist.stream_info,)
        ),
        independent_segments=bool(parsed.is_independent_segments),
        renditions=tuple(
            Rendition(
                group_id=media.group_id,
                name=media.name,
                uri=media.uri,
                language=media.language,
                default=media.default == "YES",
                autoselect=media.autoselect == "YES",
                channels=media.channels,
            )
            for media in parsed.media
            if media.type == "AUDIO"
        ),
        not_carried=tuple(
            (media.uri, f"holds {KINDS.get(media.type, media.type)}, which are not carried")
            for media in parsed.media
            if media.type != "AUDIO" and media.uri
        ),
    )


def _optional_seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
