"""The times in a segment's media: its duration, and whether the next segment continues it; its codecs.

Transport streams have time stamps (ISO 13818-1), fragments of MP4 decode times (ISO 14496-12). Players follow
these, not names or dates: if they go back, or skip more than rounding explains, the encoder has restarted.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from broadcaster.catalog.records import SourceFile
from broadcaster.hls.codecs import find_codecs
from broadcaster.hls.mp4 import inside, integer
from broadcaster.hls.mpegts import PACKET, SYNC, UNIT_START, payload

LONGEST = timedelta(seconds=60)
CLOCK = 90_000  # Hz, of the time stamps
WRAP = 1 << 33  # they have 33 bits
VIDEO, SOUND = range(0xE0, 0xF0), {0xBD, *range(0xC0, 0xE0)}  # stream ids (table 2-22)
HAS_PTS = 0x80


def media_duration(data: bytes, header: bytes = b"") -> timedelta | None:
    """The time from the first picture, or sound, to the end of the last; ``header`` is that of fragments."""
    duration = _stamps_duration(data) or _fragments_duration(data, header)
    return duration if duration and duration < LONGEST else None


def _stamps_duration(data: bytes) -> timedelta | None:
    pictures, sound = list[int](), list[int]()
    for start in range(0, len(data) - PACKET + 1, PACKET):
        if data[start] == SYNC and data[start + 1] & UNIT_START:
            found = _stamp(payload(data, start))
            if found:
                stamps = pictures if found[1] in VIDEO else sound
                first = stamps[0] if stamps else found[0]
                stamps.append(first + (found[0] - first + WRAP // 2) % WRAP - WRAP // 2)
    stamps = pictures or sound
    steps = sorted(later - earlier for earlier, later in pairwise(sorted(stamps)))
    if not steps:
        return None
    return timedelta(seconds=(max(stamps) - min(stamps) + steps[len(steps) // 2]) / CLOCK)


def first_stamp(data: bytes) -> tuple[int, str] | None:
    """The first time stamp of pictures, else of sound, and the word for which."""
    sound: tuple[int, str] | None = None
    for start in range(0, len(data) - PACKET + 1, PACKET):
        if data[start] != SYNC:
            return sound
        if not data[start + 1] & UNIT_START:
            continue
        found = _stamp(payload(data, start))
        if found and found[1] in VIDEO:
            return found[0], "pictures"
        if found and sound is None:
            sound = found[0], "sound"
    return sound


def _stamp(pes: bytes) -> tuple[int, int] | None:
    """The presentation time stamp of a PES packet (2.4.3.6), and its stream id."""
    if pes[:3] != b"\0\0\1" or len(pes) < 14 or not pes[7] & HAS_PTS:  # noqa: PLR2004 - up to the stamp's end
        return None
    if pes[3] not in VIDEO and pes[3] not in SOUND:
        return None
    high, middle, low = pes[9] >> 1 & 7, int.from_bytes(pes[10:12]) >> 1, int.from_bytes(pes[12:14]) >> 1
    return high << 30 | middle << 15 | low, pes[3]


HEAD = 512 * 1024  # bytes of a segment in which its first time stamp is
LARGEST_BOX = 1024 * 1024  # bytes of a map that are read
SAME_PLACE = timedelta(milliseconds=200)  # sound and pictures do not begin together in each segment
FARTHEST = 10**12  # seconds
TOLERANCE = timedelta(milliseconds=900)  # durations in whole seconds, pictures out of order, a lost picture
ROUNDED = timedelta(milliseconds=500)  # more for each segment that could not be read
MOST_ROUNDED = 4
TS_PERIOD = timedelta(seconds=WRAP / CLOCK)  # after which time stamps of a transport stream wrap around
DISTRUSTED_AFTER = 2  # breaks in a row: its writer resets the clock at each segment


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where the media of a segment begins; stamps of one ``kind`` may be compared."""

    time: timedelta
    kind: str
    period: timedelta | None = None


def first_time(file: SourceFile, map_file: SourceFile | None) -> Stamp | None:
    """Where the media of a finished file begins; None if unknown."""
    try:
        head = file.read(HEAD)
        if found := first_stamp(head):
            stamp, kind = found
            return Stamp(timedelta(seconds=stamp / CLOCK), kind, TS_PERIOD)
        if map_file is None:
            return None
        scales = dict(_time_scales(map_file.read(LARGEST_BOX)))
    except OSError:
        return None
    try:
        return _fragment_time(head, scales)
    except (struct.error, IndexError, OverflowError, ZeroDivisionError):
        return None


def codecs_of(file: SourceFile, map_file: SourceFile | None) -> tuple[str, ...]:
    """The codecs of a finished file (RFC 6381); empty if unknown."""
    try:
        return find_codecs(file.read(HEAD), map_file.read(LARGEST_BOX) if map_file else b"")
    except OSError:
        return ()


class MediaClock:
    """Follows the clock of one variant from segment to segment."""

    def __init__(self) -> None:
        self._last: Stamp | None = None
        self._next = timedelta()  # expected
        self._lasts = timedelta()  # the segment that begins at the latest stamp, by its playlist
        self._unread = 0  # segments since that could not be read
        self._breaks = 0  # in a row

    def begin(self, stamp: Stamp | None, duration: timedelta) -> None:
        """Another run begins with this segment."""
        self._last = None
        self._take(stamp, duration)

    def is_broken(self, stamp: Stamp | None) -> bool:
        """Whether the next segment, which begins at this stamp, cannot continue the segments before.

        A stamp at the same place as the last is of the same media, and shows nothing.
        """
        last = self._last
        if stamp is None or last is None or stamp.kind != last.kind or self._is_same_place(stamp):
            return False
        ahead = stamp.time - self._next
        if stamp.period:
            ahead = (ahead + stamp.period / 2) % stamp.period - stamp.period / 2
        return abs(ahead) > TOLERANCE + min(self._unread, MOST_ROUNDED) * ROUNDED

    def correct(self, lasts: timedelta) -> None:
        """Set the real duration of the segment that begins at the latest stamp."""
        self._next += lasts - self._lasts
        self._lasts = lasts

    def _is_same_place(self, stamp: Stamp) -> bool:
        return self._last is not None and abs(stamp.time - self._last.time) < SAME_PLACE

    def has_missed(self, stamp: Stamp | None, missed: timedelta, count: int) -> bool:
        """Whether ``count`` segments may be missing before the next; True if unknown."""
        if stamp is None or self._last is None or not self.is_broken(stamp):
            return stamp is None or self._last is None or self._is_same_place(stamp)
        before = self._next, self._unread
        self._next, self._unread = self._next + missed, self._unread + count
        is_broken = self.is_broken(stamp)
        self._next, self._unread = before
        return not is_broken

    def goes_on(self, stamp: Stamp | None, duration: timedelta) -> bool:
        """Take the next segment of a run; returns whether the run goes on."""
        is_broken = self.is_broken(stamp)
        believed = self._breaks < DISTRUSTED_AFTER
        if stamp is not None and not self._is_same_place(stamp):
            self._breaks = self._breaks + 1 if is_broken else 0
        self._take(stamp, duration)
        return not (is_broken and believed)

    def _take(self, stamp: Stamp | None, duration: timedelta) -> None:
        if stamp is None:
            self._next += duration
            self._unread += 1
        else:
            self._last, self._next, self._unread = stamp, stamp.time + duration, 0
            self._lasts = duration


def _time_scales(data: bytes) -> Iterator[tuple[int, int]]:
    """By track: the units of its times in a second (8.4.2)."""
    for first, last in inside(data, (b"moov", b"trak"), 0, len(data)):
        try:
            header = next(inside(data, (b"tkhd",), first, last))[0]
            media = next(inside(data, (b"mdia", b"mdhd"), first, last))[0]
            track = integer(data, header + (20 if data[header] else 12))
            yield track, integer(data, media + (20 if data[media] else 12))
        except (StopIteration, struct.error, IndexError):
            continue


def _fragment_time(data: bytes, scales: dict[int, int]) -> Stamp | None:
    """Where the first fragment of the first track begins (8.8.12)."""
    for first, last in inside(data, (b"moof", b"traf"), 0, len(data)):
        header = next(inside(data, (b"tfhd",), first, last), None)
        decode = next(inside(data, (b"tfdt",), first, last), None)
        if header is None or decode is None:
            continue
        track = integer(data, header[0] + 4)
        time = struct.unpack_from(">Q" if data[decode[0]] else ">I", data, decode[0] + 4)[0]
        if (scale := scales.get(track)) and time // scale < FARTHEST:
            return Stamp(timedelta(seconds=time / scale), f"track {track}")
    return None


def _fragments_duration(data: bytes, header: bytes) -> timedelta | None:
    """The duration of all samples of the first track; None if unknown."""
    try:
        scales, lasts = dict(_time_scales(header)), Counter[int]()
        defaults = {  # of each track's samples (8.8.3)
            integer(header, at + 4): integer(header, at + 12)
            for at, _ in inside(header, (b"moov", b"mvex", b"trex"), 0, len(header))
        }
        for first, last in inside(data, (b"moof", b"traf"), 0, len(data)):
            at = next(inside(data, (b"tfhd",), first, last))[0]
            flags, track = integer(data, at), integer(data, at + 4)
            default = defaults.get(track, 0)
            if flags & 0x08:  # after a data offset and a description's index, where these are there (8.8.7)
                default = integer(data, at + 8 + (8 if flags & 0x01 else 0) + (4 if flags & 0x02 else 0))
            runs = (at for at, _ in inside(data, (b"trun",), first, last))
            lasts[track] += sum(_run_duration(data, at, default) for at in runs)
        track = next(iter(lasts))
        return timedelta(seconds=lasts[track] / scales[track])
    except (struct.error, StopIteration, KeyError, OverflowError, ZeroDivisionError):
        return None


def _run_duration(data: bytes, at: int, default: int) -> int:
    """The duration of a track run's samples (8.8.8), in the track's units."""
    flags, count = integer(data, at), integer(data, at + 4)
    if not flags & 0x100:
        return count * default
    size = 4 * (flags & 0xF00).bit_count()
    begin = at + 8 + 4 * (flags & 0x05).bit_count()
    return sum(integer(data, begin + number * size) for number in range(count))
