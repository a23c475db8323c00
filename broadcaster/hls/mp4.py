"""Boxes of fragmented MP4 (ISO 14496-12), and the key frame that a segment begins with."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from itertools import islice

from broadcaster.hls.media_playlist import ByteRange

Box = tuple[bytes, int, int]  # its kind, and where its content begins and ends


def boxes(data: bytes, begin: int, end: int) -> Iterator[Box]:
    """The boxes between two offsets (4.2)."""
    while begin + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        head = 8
        if size == 1 and begin + 16 <= end:
            size, head = struct.unpack_from(">Q", data, begin + 8)[0], 16
        size = size or end - begin
        if size < head:
            return
        yield kind, begin + head, min(begin + size, end)
        begin += size


def inside(data: bytes, path: tuple[bytes, ...], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the content of the boxes with this path begins and ends."""
    for kind, first, last in boxes(data, begin, end):
        if kind == path[0]:
            if len(path) == 1:
                yield first, last
            else:
                yield from inside(data, path[1:], first, last)


NO_DEFAULTS: Mapping[int, int] = {}
TREX = 24  # bytes of its content
MOST_FRAGMENTS = 1000  # of a segment, that are looked at
NOT_SYNC = 0x10000  # sample_is_non_sync_sample, in a sample's flags (8.8.3.1)
# Flags of tfhd (8.8.7): fields that are there, each with its size, in their order.
TRACK_FIELDS = ((0x01, 8), (0x02, 4), (0x08, 4), (0x10, 4), (0x20, 4))
BASE, DEFAULT_SIZE, DEFAULT_FLAGS = 0x01, 0x10, 0x20
DATA_OFFSET, FIRST_FLAGS = 0x01, 0x04  # of trun (8.8.8)
DURATION, SIZE, FLAGS, COMPOSITION = 0x100, 0x200, 0x400, 0x800  # of trun, fields of each sample


def default_flags(header: bytes) -> dict[int, int]:
    """The flags of each track's samples where a fragment says nothing, by an EXT-X-MAP (8.8.3)."""
    found = inside(header, (b"moov", b"mvex", b"trex"), 0, len(header))
    return {integer(header, at + 4): integer(header, at + 20) for at, end in found if end - at >= TREX}


def find_iframe(data: bytes, defaults: Mapping[int, int] = NO_DEFAULTS) -> ByteRange | None:
    """The bytes from the first picture's moof to the end of the picture, if that is a key frame.

    ``defaults`` are the ``default_flags`` of the map. The track of pictures is the one whose later samples
    need earlier ones. A fragment can have one sample (CMAF chunks), so the later ones may be in the next
    fragments.
    """
    first = dict[int, ByteRange | None]()  # by track: its first sample, if that needs no other
    fragments = ((begin, end) for kind, begin, end in boxes(data, 0, len(data)) if kind == b"moof")
    for begin, end in islice(fragments, MOST_FRAGMENTS):
        moof = begin - 8
        for track, track_end in inside(data, (b"traf",), begin, end):
            for number, last, is_sync in _samples(data, moof, track, track_end, defaults):
                if number not in first:
                    first[number] = ByteRange(last - moof, moof) if is_sync and last <= len(data) else None
                elif not is_sync and (found := first[number]):
                    return found
    return None


def _samples(
    data: bytes, moof: int, begin: int, end: int, map_flags: Mapping[int, int]
) -> Iterator[tuple[int, int, bool]]:
    """Of a track's first two samples: its number, where the first sample ends, and whether each is sync."""
    head = next((first for first, _ in inside(data, (b"tfhd",), begin, end)), None)
    run = next((first for first, _ in inside(data, (b"trun",), begin, end)), None)
    if head is None or run is None:
        return
    number = integer(data, head + 4)
    defaults = {DEFAULT_FLAGS: map_flags.get(number, 0)}
    at, flags = head + 8, integer(data, head) & 0xFFFFFF
    for field, width in TRACK_FIELDS:
        if flags & field:
            defaults[field] = int.from_bytes(data[at : at + width])
            at += width
    flags, count, at = integer(data, run) & 0xFFFFFF, integer(data, run + 4), run + 8
    offset = integer(data, at) if flags & DATA_OFFSET else None
    at += 4 if flags & DATA_OFFSET else 0
    first_flags = integer(data, at) if flags & FIRST_FLAGS else None
    at += 4 if flags & FIRST_FLAGS else 0
    width = 4 * (flags & (DURATION | SIZE | FLAGS | COMPOSITION)).bit_count()

    def field_of(sample: int, field: int) -> int | None:
        before = (flags & (field - 1) & (DURATION | SIZE | FLAGS)).bit_count()
        return integer(data, at + sample * width + 4 * before) if flags & field else None

    def is_sync(sample: int) -> bool:
        own = first_flags if sample == 0 and first_flags is not None else field_of(sample, FLAGS)
        return not (defaults[DEFAULT_FLAGS] if own is None else own) & NOT_SYNC

    size = field_of(0, SIZE) or defaults.get(DEFAULT_SIZE)
    if offset is None or not size:
        return
    for sample in range(min(count, 2)):
        yield number, defaults.get(BASE, moof) + offset + size, is_sync(sample)


def integer(data: bytes, at: int) -> int:
    """The 32 bits at this offset; raises struct.error past the end."""
    return int(struct.unpack_from(">I", data, at)[0])
