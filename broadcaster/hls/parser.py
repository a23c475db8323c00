"""Reads foreign playlists through the ``m3u8`` package.

Playlists are first rewritten for that strict parser: tags that are used in canonical form, without tags whose
values make no sense.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TypeVar

import m3u8

from broadcaster.errors import PlaylistError
from broadcaster.hls.media_playlist import NO_DURATION, ByteRange, MediaPlaylist, MediaSegment, ServerControl
from broadcaster.hls.multivariant import AUDIO, CLOSED_CAPTIONS, MultivariantPlaylist, Rendition, Variant

T = TypeVar("T")

# No live stream comes near these limits; larger numbers and times overflow later.
MAX_SECONDS = 600
MAX_NUMBER = 2**53 - 1
MAX_SEQUENCE = 2**64 - 1  # a decimal-integer (§4.2)
MAX_OFFSET = 10**9  # seconds
YEARS = range(1971, 2200)
MARGIN = 0.001  # seconds, by which rounding makes a segment longer
LONGEST_TARGET = 60  # seconds; no player waits so long for a new version of a live playlist
STREAM_INF = re.compile(r"^\s*#EXT-X-STREAM-INF\b", re.MULTILINE | re.IGNORECASE)
# Tools put byte order marks, blanks and comments before the first line.
BEFORE_FIRST = re.compile(r"(?:[\s\ufeff\u200b]|#(?!EXT).*\n)*+(?=#EXTM3U)", re.IGNORECASE)
INVISIBLE = "\ufeff\u200b"  # where files are joined
# Encoders in a locale with a decimal comma write ``0,500000,``; a title is rarely made of digits alone.
DECIMAL_COMMA = re.compile(r"\s*(\d+),(\d{3,9})\s*(?:,.*)?|\s*(\d+),(\d{1,9})\s*,.*")
# Without another comma ``3,96`` can be 3 s with a title, too.
SHORT_COMMA = re.compile(r"^#EXTINF:\s*(\d+),(\d{1,2})\s*$", re.IGNORECASE | re.MULTILINE)
NUMBER = re.compile(r"\s*\"?\s*([+-]?[0-9.,]+(?:[eE][+-]?\d{1,3})?)\s*\"?\s*,?\s*")
ATTRIBUTE = re.compile(r"\s*([A-Za-z0-9-]+)\s*=\s*(?:\"([^\"]*)\"|([^,]*))\s*(?:,|$)")
DATE_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[T ](?P<minute>\d\d:\d\d):(?P<second>\d\d)(?P<fraction>[.,]\d+)?"
    r"\s*(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?"
)
MEDIA_NAME = re.compile(
    r"[^#\s].*\.(ts|m2ts|mts|m4s|mp4|m4a|m4v|cmf[vat]|aac|e?ac3|mp3|vtt|webvtt)([?#].*)?", re.IGNORECASE
)
# Each of two writers of one file has written over a part of what the other wrote.
MIXED = "has parts of two versions"
RESOLUTION = re.compile(r"([1-9]\d{0,4})[xX*]([1-9]\d{0,4})")
MIN_FRAME_RATE, MAX_FRAME_RATE = 0.001, 1000
VIDEO_RANGES = {"SDR", "HLG", "PQ"}  # (§4.4.6.2)
LEAP_SECOND = 60


def plain_lines(text: str) -> str:
    """The text with plain line ends, and without anything before its first line."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text[match.end() :] if (match := BEFORE_FIRST.match(text)) else text


def is_multivariant(text: str) -> bool:
    """Whether it is a multivariant playlist."""
    return STREAM_INF.search(text) is not None


def number_of(text: str) -> float | None:
    """A finite number, with a point or a comma; None without one."""
    match = NUMBER.fullmatch(text)
    try:
        value = float(match[1].replace(",", ".")) if match else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def attributes_of(text: str) -> dict[str, str]:
    """The attributes of a tag (§4.2), by their names, without attributes that cannot be read."""
    found = {name.upper(): quoted or plain.strip() for name, quoted, plain in ATTRIBUTE.findall(text)}
    return {name: value for name, value in found.items() if '"' not in value and value.isprintable()}


def date_time_of(text: str) -> datetime | None:
    """A date and time of ISO 8601, as encoders write it; None without one, or if it is out of range."""
    match = DATE_TIME.fullmatch(text.strip().strip("\"'").strip().upper())
    if match is None:
        return None
    leap = int(match["second"]) == LEAP_SECOND
    second = "59" if leap else match["second"]
    second += (match["fraction"] or "").replace(",", ".")[:7]
    try:
        time = datetime.fromisoformat(f"{match['date']}T{match['minute']}:{second}{match['zone'] or ''}")
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)) + timedelta(seconds=leap)
        time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time if time.year in YEARS else None


def canonical(text: str) -> str:
    """The playlist with the tags that are used; raises PlaylistError if segments cannot be numbered."""
    lines = [line.strip().strip(INVISIBLE) for line in text.split("\n")]
    kept = _multivariant_lines(lines) if is_multivariant(text) else _media_lines(lines)
    return "\n".join(("#EXTM3U", *kept)) + "\n"


def _media_lines(lines: list[str]) -> Iterator[str]:
    if _short_commas_are_decimal(lines):
        lines = [SHORT_COMMA.sub(r"#EXTINF:\1.\2,", line) for line in lines]
    said = (duration_of(line[8:]) for line in lines if line.upper().startswith("#EXTINF:"))
    durations = [seconds for seconds in said if seconds]
    target = _target_duration(lines, durations)
    if target:
        yield f"#EXT-X-TARGETDURATION:{target}"
    has_duration, before = False, ""
    for line in lines:
        if not line.startswith("#"):
            if line and not has_duration and MEDIA_NAME.fullmatch(line):
                if before and not MEDIA_NAME.fullmatch(before):  # the end of a tag has taken the EXTINF
                    raise PlaylistError(MIXED)
                yield f"#EXTINF:{target or 1},{NO_DURATION}"
            yield line
            has_duration, before = has_duration and not line, line
            continue
        before = ""
        name, _, value = line[1:].partition(":")
        name = name.rstrip().upper()  # with a blank before it, it is a comment
        if name == "EXTINF":
            duration, has_duration = duration_of(value), True
            yield f"#EXTINF:{target or 1},{NO_DURATION}" if duration is None else f"#EXTINF:{duration:.6f},"
        elif kept := MEDIA_TAGS.get(name):
            yield from kept(value)


def _short_commas_are_decimal(lines: list[str]) -> bool:
    """Whether ``3,96`` is a duration of 3.96 s in this playlist, and not one of 3 s with the title 96."""
    values = [line for line in lines if line.upper().startswith("#EXTINF:")]
    found = [match.groups() for line in values if (match := SHORT_COMMA.fullmatch(line))]
    others = (line[8:] for line in values if not SHORT_COMMA.fullmatch(line))
    if not found or not all(value.isdecimal() or DECIMAL_COMMA.fullmatch(value) for value in others):
        return False
    longest = max(float(f"{whole}.{digits}") for whole, digits in found)
    if target := _announced_target(lines):
        # "The EXTINF duration of each Media Segment ..., when rounded to the nearest integer, MUST be less
        # than or equal to the Target Duration" (§4.4.3.1), and most writers announce no more than needed.
        if target < int(longest + 0.5):
            return False
        if target <= math.ceil(longest) and target > max(int(whole) for whole, _ in found):
            return True
    steps = {int(later) - int(earlier) for (_, earlier), (_, later) in pairwise(found)}
    return bool(steps) and steps != {1} and len({len(digits) for _, digits in found}) == 1


def _announced_target(lines: list[str]) -> float | None:
    said = (line.partition(":")[2] for line in lines if line.upper().startswith("#EXT-X-TARGETDURATION"))
    return number_of(next(said, ""))


def duration_of(value: str) -> float | None:
    """The duration in the value of an EXTINF, in seconds; None without one."""
    if comma := DECIMAL_COMMA.fullmatch(value):
        whole, fraction = (comma[1], comma[2]) if comma[1] else (comma[3], comma[4])
        value = f"{whole}.{fraction}"
    seconds = number_of(value.partition(",")[0])
    return seconds if seconds is not None and 0 <= seconds <= MAX_SECONDS else None


def _target_duration(lines: list[str], durations: list[float]) -> int:
    """Seconds: a plausible EXT-X-TARGETDURATION, rounded up, else what the segments need; 0 without any."""
    value = _announced_target(lines)
    longest = max(durations, default=0.0)
    # A recording with a longer segment may need more.
    if value is not None and 0 < value <= max(LONGEST_TARGET, 2 * longest):
        return math.ceil(value)
    is_media = any(
        line.upper().startswith("#EXT-X-TARGETDURATION") or MEDIA_NAME.fullmatch(line) for line in lines
    )
    if is_media:
        usual = (seconds for seconds in durations if seconds <= LONGEST_TARGET)
        return math.ceil(max(max(usual, default=longest) - MARGIN, 1))
    return 0


def _sequence(value: str) -> Iterator[str]:
    number = number_of(value)
    if number is not None and not number % 1:
        digits = value.strip().strip('"')
        exact = int(digits) if digits.isdecimal() else int(number)
        if 0 <= exact <= MAX_SEQUENCE:
            yield f"#EXT-X-MEDIA-SEQUENCE:{exact}"
            return
    raise PlaylistError(f"has a media sequence number out of range: {value[:40]!r}")


def _discontinuity_sequence(value: str) -> Iterator[str]:
    if value.strip().isdecimal() and int(value.strip()[:20]) <= MAX_NUMBER:
        yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{int(value)}"


def _playlist_type(value: str) -> Iterator[str]:
    if (kind := value.strip().upper()) in {"EVENT", "VOD"}:
        yield f"#EXT-X-PLAYLIST-TYPE:{kind}"


def _program_date_time(value: str) -> Iterator[str]:
    if time := date_time_of(value):
        yield f"#EXT-X-PROGRAM-DATE-TIME:{time.isoformat()}"


def _key(value: str) -> Iterator[str]:
    found = attributes_of(value)
    method = re.sub(r"[^A-Z0-9-]", "", found.get("METHOD", "").upper())[:40]
    if method == "NONE":
        yield "#EXT-X-KEY:METHOD=NONE"
    elif method or found.get("URI"):
        yield f'#EXT-X-KEY:METHOD={method or "UNKNOWN"},URI="key"'


def _map(value: str) -> Iterator[str]:
    found = attributes_of(value)
    if uri := found.get("URI"):
        part = f',BYTERANGE="{found["BYTERANGE"]}"' if found.get("BYTERANGE") else ""
        yield f'#EXT-X-MAP:URI="{uri}"{part}'


def _start(value: str) -> Iterator[str]:
    offset = number_of(attributes_of(value).get("TIME-OFFSET", ""))
    if offset is not None and abs(offset) <= MAX_OFFSET:
        yield f"#EXT-X-START:TIME-OFFSET={offset:.6f}"


def _server_control(value: str) -> Iterator[str]:
    found = attributes_of(value)
    kept = list[str]()
    for name in ("HOLD-BACK", "CAN-SKIP-UNTIL"):
        seconds = number_of(found.get(name, ""))
        if seconds is not None and 0 <= seconds <= MAX_OFFSET:
            kept.append(f"{name}={seconds:.6f}")
    if found.get("CAN-BLOCK-RELOAD") == "YES":
        kept.append("CAN-BLOCK-RELOAD=YES")
    yield f"#EXT-X-SERVER-CONTROL:{','.join(kept) or 'CAN-BLOCK-RELOAD=NO'}"


def _flag(tag: str) -> Callable[[str], Iterator[str]]:
    return lambda _: iter((f"#{tag}",))


MEDIA_TAGS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "EXT-X-MEDIA-SEQUENCE": _sequence,
    "EXT-X-DISCONTINUITY-SEQUENCE": _discontinuity_sequence,
    "EXT-X-PLAYLIST-TYPE": _playlist_type,
    "EXT-X-PROGRAM-DATE-TIME": _program_date_time,
    "EXT-X-KEY": _key,
    "EXT-X-MAP": _map,
    "EXT-X-START": _start,
    "EXT-X-SERVER-CONTROL": _server_control,
    "EXT-X-BYTERANGE": lambda value: iter((f"#EXT-X-BYTERANGE:{value.strip() or '?'}",)),
    "EXT-X-INDEPENDENT-SEGMENTS": _flag("EXT-X-INDEPENDENT-SEGMENTS"),
    "EXT-X-DISCONTINUITY": _flag("EXT-X-DISCONTINUITY"),
    "EXT-X-GAP": _flag("EXT-X-GAP"),
    "EXT-X-ENDLIST": _flag("EXT-X-ENDLIST"),
}


def _multivariant_lines(lines: list[str]) -> Iterator[str]:
    stream_inf = ""
    for line in lines:
        name, _, value = line[1:].partition(":")
        name = name.rstrip().upper()
        if line and not line.startswith("#"):
            if stream_inf:
                yield from (stream_inf, line)
            stream_inf = ""
        elif name == "EXT-X-STREAM-INF":
            stream_inf = _stream_inf(attributes_of(value))
        elif name == "EXT-X-MEDIA":
            yield from _canonical_media(attributes_of(value))
        elif name == "EXT-X-INDEPENDENT-SEGMENTS":
            yield "#EXT-X-INDEPENDENT-SEGMENTS"


def _stream_inf(found: Mapping[str, str]) -> str:
    kept = [f"BANDWIDTH={_integer(found.get('BANDWIDTH')) or 0}"]
    if average := _integer(found.get("AVERAGE-BANDWIDTH")):
        kept.append(f"AVERAGE-BANDWIDTH={average}")
    if match := RESOLUTION.fullmatch(found.get("RESOLUTION", "").strip()):
        kept.append(f"RESOLUTION={match[1]}x{match[2]}")
    rate = number_of(found.get("FRAME-RATE", ""))
    if rate and MIN_FRAME_RATE <= rate <= MAX_FRAME_RATE:
        kept.append(f"FRAME-RATE={rate:.3f}")
    if (video_range := found.get("VIDEO-RANGE", "").upper()) in VIDEO_RANGES:
        kept.append(f"VIDEO-RANGE={video_range}")
    kept += [f'{name}="{found[name]}"' for name in ("CODECS", "AUDIO") if found.get(name)]
    if SUPPLEMENTAL.fullmatch(supplemental := found.get("SUPPLEMENTAL-CODECS", "")):
        kept.append(f'SUPPLEMENTAL-CODECS="{supplemental}"')
    if captions := found.get(CLOSED_CAPTIONS):
        kept.append(f'{CLOSED_CAPTIONS}="{captions}"')
    return f"#EXT-X-STREAM-INF:{','.join(kept)}"


def _canonical_media(found: Mapping[str, str]) -> Iterator[str]:
    kind = found.get("TYPE", "").upper()
    if not kind or not found.get("GROUP-ID") or not found.get("NAME"):
        return
    quoted = [f'{name}="{found[name]}"' for name in QUOTED if found.get(name)]
    flags = [f"{name}=YES" for name in ("DEFAULT", "AUTOSELECT") if found.get(name, "").upper() == "YES"]
    yield f"#EXT-X-MEDIA:{','.join((f'TYPE={kind}', *quoted, *flags))}"


SUPPLEMENTAL = re.compile(r"[\w.-]+(/[\w.-]+)*(,[\w.-]+(/[\w.-]+)*)*", re.ASCII)
QUOTED = ("GROUP-ID", "NAME", "URI", "LANGUAGE", "CHANNELS", "INSTREAM-ID")


def _integer(text: str | None) -> int | None:
    number = number_of(text or "")
    return int(number) if number is not None and 0 <= number <= MAX_NUMBER else None


# Tags of a segment, without EXT-X-MAP, which stays in front of all segments while the first are removed.
SEGMENT_TAG = re.compile(
    r"^#EXT(INF|-X-(BITRATE|BYTERANGE|CUE|DATERANGE|DISCONTINUITY\s|GAP|KEY|PROGRAM-DATE-TIME))", re.MULTILINE
)
PLAYLIST_TAG = re.compile(
    r"^#EXT(M3U|-X-(VERSION|TARGETDURATION|SERVER|DISCONTINUITY-|MEDIA|INDEP|STREAM|DEFINE))", re.MULTILINE
)
SEQUENCE = re.compile(r"^#EXT-X-MEDIA-SEQUENCE:(\d{1,20})\s*$", re.MULTILINE)
BYTE_RANGE = re.compile(
    r"^#EXT-X-BYTERANGE:(?P<length>\d{1,12})@(?P<offset>\d{1,12})\n(?P<uri>[^#\s].*)$", re.MULTILINE
)
MAP = re.compile(r"^#EXT-X-MAP:.*", re.MULTILINE)
URI_LINE = re.compile(r"^[^#\s].*\n", re.MULTILINE)
ENCRYPTED = "is encrypted with {} (EXT-X-KEY), and encrypted segments are not carried"
ENCRYPTED_WITH = re.compile("is encrypted with ([A-Z0-9-]+) ")
# Without such a tag, the target duration and the durations of gaps follow from all segments of a version.
PLAIN_TARGET = re.compile(r"^#EXT-X-TARGETDURATION:([1-9]|[1-5]\d)\s*$", re.MULTILINE)
KINDS = {"SUBTITLES": "subtitles", "VIDEO": "other views"}  # of EXT-X-MEDIA
# The kernel closes the file of a killed writer, too: a last line without its break counts if it looks whole.
WHOLE_LINE = re.compile(
    r"#EXT-X-ENDLIST|[^#].*\.(m3u8|ts|m2ts|mts|m4s|mp4|m4a|m4v|cmf[vat]|aac|e?ac3|mp3)([?#].*)?",
    re.IGNORECASE,
)


def byte_ranges(text: str) -> dict[str, ByteRange]:
    """The byte ranges in an I-frame playlist of ours, by URI."""
    return {
        found["uri"]: ByteRange(int(found["length"]), int(found["offset"]))
        for found in BYTE_RANGE.finditer(text)
    }


def parse(text: str, *, closed: bool = False) -> MediaPlaylist | MultivariantPlaylist:
    """Read a playlist.

    A last line without its line break is left out as torn, unless the file is ``closed`` and the line looks
    whole. A segment that cannot be carried (without a valid EXTINF, encrypted, a byte range) is a gap with a
    ``fault``. Raises PlaylistError if the text is no playlist, has no valid media sequence number, lists
    nothing that can be carried, or is two versions that were written into one file at once.
    """
    return PlaylistParser().read(text, closed=closed)


class PlaylistParser:
    """Reads the versions of one playlist as ``parse`` does, and known segments only once.

    A playlist of four hours can have 14,400 segments, and a version for each. Text that the version before
    had as well is not parsed again. ``parsed`` counts segments.
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
        if SHORT_COMMA.search(body, begin):  # all durations decide what the comma means
            begin, known, ends = 0, (), []
        tail = body[begin:]
        playlist = _parse(head + _carried(known) + tail)
        if isinstance(playlist, MultivariantPlaylist):
            return playlist
        self.parsed += len(playlist.segments)
        ends += [begin + line.end() for line in URI_LINE.finditer(tail)]
        playlist = replace(playlist, segments=known + playlist.segments)
        # With a tag for the whole playlist among the segments, each version is read as a whole.
        all_in_body = len(ends) == len(playlist.segments) and not URI_LINE.search(head)
        if all_in_body and not PLAYLIST_TAG.search(tail) and not playlist.ended:
            self._maps, self._first, self._ends, self._segments = maps, first, ends, playlist.segments
            self._body = body[: ends[-1]] if ends else ""
        faults = [segment.fault for segment in playlist.segments]
        if faults and all(fault and fault != NO_DURATION for fault in faults):
            raise PlaylistError(f"lists nothing that can be carried: each segment {faults[-1]}")
        return playlist

    def _known(
        self, first: int, maps: list[str], body: str
    ) -> tuple[int, tuple[MediaSegment, ...], list[int]]:
        """The known part of the body: its length, its segments, and where these end."""
        dropped = first - self._first
        if maps == self._maps and 0 <= dropped < len(self._ends):
            begin = self._ends[dropped - 1] if dropped else 0
            if body.startswith(self._body[begin:]):
                ends = [end - begin for end in self._ends[dropped:]]
                return ends[-1], self._segments[dropped:], ends
        return 0, (), []


def _carried(known: tuple[MediaSegment, ...]) -> str:
    """The tags for what the next segment takes over from the known segments."""
    if not known:
        return ""
    last = known[-1]
    lines = f'#EXT-X-MAP:URI="{last.map_uri}"\n' if last.map_uri else ""
    if match := ENCRYPTED_WITH.match(last.fault):
        lines += f"#EXT-X-KEY:METHOD={match[1]}\n"
    if last.program_date_time:
        lines += f"#EXT-X-PROGRAM-DATE-TIME:{(last.program_date_time + last.duration).isoformat()}\n"
    return lines


def load(text: str) -> m3u8.M3U8:
    """The playlist with ``plain_lines`` as ``m3u8`` reads its canonical form; raises PlaylistError."""
    return _guarded(text, lambda parsed: parsed)


def _parse(text: str) -> MediaPlaylist | MultivariantPlaylist:
    if is_multivariant(text):
        return _guarded(text, lambda parsed: _multivariant(parsed, canonical(text)))
    return _guarded(text, _media)


def _guarded(text: str, convert: Callable[[m3u8.M3U8], T]) -> T:
    if not text[:7].upper() == "#EXTM3U":
        raise PlaylistError("does not start with #EXTM3U")
    try:
        return convert(m3u8.loads(canonical(text)))
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


def _multivariant(parsed: m3u8.M3U8, text: str) -> MultivariantPlaylist:
    tags = (line for line in text.split("\n") if line.startswith("#EXT-X-STREAM-INF:"))
    found = [attributes_of(tag.partition(":")[2]) for tag in tags]
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
                supplemental_codecs=attributes.get("SUPPLEMENTAL-CODECS"),  # the library does not know it
                closed_captions=attributes.get(CLOSED_CAPTIONS),
            )
            for playlist, attributes in zip(parsed.playlists, found, strict=True)
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
                instream_id=media.instream_id if media.type == CLOSED_CAPTIONS else None,
            )
            for media in parsed.media
            if media.type == AUDIO or (media.type == CLOSED_CAPTIONS and media.instream_id)
        ),
        not_carried=tuple(
            (media.uri, f"holds {KINDS.get(media.type, media.type)}, which are not carried")
            for media in parsed.media
            if media.type not in {AUDIO, CLOSED_CAPTIONS} and media.uri
        ),
    )


def _optional_seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
