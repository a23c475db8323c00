"""The time stamps of a finished MPEG transport stream segment (ISO 13818-1)."""

from __future__ import annotations

import os
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from broadcaster.catalog.records import LARGEST
from broadcaster.descriptors import READ, read_all
from broadcaster.hls.packets import PACKET, SYNC, UNIT_START, payload

LONGEST = timedelta(seconds=60)
CLOCK = 90_000  # Hz, of the time stamps
WRAP = 1 << 33  # they have 33 bits
VIDEO, SOUND = range(0xE0, 0xF0), {0xBD, *range(0xC0, 0xE0)}  # stream ids (table 2-22)
HAS_PTS = 0x80


def media_duration(file: Path | int) -> timedelta | None:
    """The time from the first picture of a file, or of an open descriptor, to the end of the last one.

    Of sound, where there is no picture. None where there are no two of them, where their time stamps have
    jumped, or where the file is gone.
    """
    try:
        descriptor = os.dup(file) if isinstance(file, int) else os.open(file, READ)
        try:
            data = read_all(descriptor, LARGEST)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    pictures, sound = list[int](), list[int]()
    for start in range(0, len(data) - PACKET + 1, PACKET):
        # Only where a unit starts is a PES header, with a time stamp.
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
    duration = timedelta(seconds=(max(stamps) - min(stamps) + steps[len(steps) // 2]) / CLOCK)
    return duration if duration < LONGEST else None


def first_stamp(data: bytes) -> tuple[int, str] | None:
    """The first time stamp of the pictures, else that of the sound, and which of them it is."""
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
