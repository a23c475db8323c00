"""Boxes of fragmented MP4 (ISO 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

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


def integer(data: bytes, at: int) -> int:
    """The 32 bits at this offset; raises struct.error past the end."""
    return int(struct.unpack_from(">I", data, at)[0])
