"""Packets of MPEG transport streams (ISO 13818-1, 2.4.3), and the key frame that a segment begins with.

The heads of packets up to the second picture are read, and nothing is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from broadcaster.hls.media_playlist import ByteRange

PACKET = 188  # bytes
SYNC = 0x47
UNIT_START = 0x40  # payload_unit_start_indicator, in the second byte (2.4.3.2)


def payload(data: bytes, at: int) -> bytes:
    """The payload of the packet at this offset (2.4.3.3)."""
    flags, end = data[at + 3], at + PACKET
    begin = at + 5 + data[at + 4] if flags & 0x20 else at + 4  # adaptation_field_control
    return data[begin:end] if flags & 0x10 else b""


MOST = 8192 * PACKET  # bytes that are read: a larger picture is too slow for seeking
HEAD = 16_384  # bytes of a picture in which its first slice begins
SECTION_HEAD, CRC = 8, 4  # bytes
# Stream types (table 2-34) with the beginning of a picture's first slice, and its last byte in a key frame:
# in H.264 NAL unit types 1 to 5, where 5 is IDR (table 7-1 there); in HEVC 0 to 31, where 16 to 21 are IRAP
# (table 7-1 there). Within a unit there is no start code: such bytes are escaped.
CODECS = {
    0x1B: (re.compile(rb"\x00\x00\x01[\x01-\x05!-%A-Ea-e]"), frozenset(b"\x05%Ee")),
    0x24: (re.compile(rb"\x00\x00\x01[\x00-?]"), frozenset(range(2 * 16, 2 * 22))),
}
Codec = tuple[re.Pattern[bytes], frozenset[int]]
Stream = tuple[int, int, bytes]  # of a program: its type, its PID, its descriptors
Packet = tuple[int, int, bool]  # where it begins, its PID, and whether a unit begins in it


def find_iframe(data: bytes) -> ByteRange | None:
    """The bytes of the segment's first picture if it is a key frame; None if unknown.

    They go to the packet before the next picture. The tables lie before: "the byte range of an I-frame
    segment ... MUST NOT include its Media Initialization Section" (§4.4.3.6).
    """
    packets = _packets(data)
    pid, codec = _video(data, packets)
    if codec is None:
        return None
    pictures = (at for at, packet_pid, starts in packets if packet_pid == pid and starts)
    begin = next(pictures, None)
    if begin is None or not _is_key(data, begin, pid, codec):
        return None
    end = next(pictures, len(data) if len(data) <= MOST else None)
    return ByteRange(end - begin, begin) if end else None


def _packets(data: bytes, begin: int = 0) -> Iterator[Packet]:
    for at in range(begin, min(len(data), MOST) - PACKET + 1, PACKET):
        if data[at] != SYNC:
            return
        yield at, int.from_bytes(data[at + 1 : at + 3]) & 0x1FFF, bool(data[at + 1] & UNIT_START)


def _is_key(data: bytes, begin: int, pid: int, codec: Codec) -> bool:
    first_slice, keys = codec
    head = b""
    for at, packet_pid, starts in _packets(data, begin):
        if packet_pid != pid:
            continue
        if (starts and head) or len(head) > HEAD:
            return False
        head += payload(data, at)
        if found := first_slice.search(head):
            return found[0][-1] in keys
    return False


def _video(data: bytes, packets: Iterator[Packet]) -> tuple[int, Codec | None]:
    """The PID of the first program's video, and its codec; None without video."""
    streams = _streams(data, packets)
    return next(((pid, codec) for kind, pid, _ in streams if (codec := CODECS.get(kind))), (0, None))


def find_streams(data: bytes) -> dict[Stream, bytes]:
    """The streams of the first program, each with the beginning of its first unit (PES packet)."""
    streams = {stream[1]: stream for stream in _streams(data, _packets(data))}
    units = dict.fromkeys(streams, b"")
    begun, done = set[int](), set[int]()
    for at, pid, starts in _packets(data):
        if pid not in streams or pid in done:
            continue
        if (starts and pid in begun) or len(units[pid]) > HEAD:
            done.add(pid)
            if done == streams.keys():
                break
        elif starts or pid in begun:
            begun.add(pid)
            units[pid] += payload(data, at)
    return {streams[pid]: unit for pid, unit in units.items()}


def _streams(data: bytes, packets: Iterator[Packet]) -> list[Stream]:
    """The streams of the first program (2.4.4.3, 2.4.4.8)."""
    table = 0
    for at, pid, starts in packets:
        if pid != table or not starts:
            continue
        body = _section(payload(data, at))
        if table:
            return [*_listed(body)]
        programs = (body[begin : begin + 4] for begin in range(0, len(body) - 3, 4))
        table = next((int.from_bytes(entry[2:]) & 0x1FFF for entry in programs if any(entry[:2])), 0)
    return []


def _listed(body: bytes) -> Iterator[Stream]:
    at = 4 + (int.from_bytes(body[2:4]) & 0xFFF)
    while at + 5 <= len(body):
        end = at + 5 + (int.from_bytes(body[at + 3 : at + 5]) & 0xFFF)
        yield body[at], int.from_bytes(body[at + 1 : at + 3]) & 0x1FFF, body[at + 5 : end]
        at = end


def _section(data: bytes) -> bytes:
    """The body of the section that begins in a payload (2.4.4), as far as it is in the payload."""
    section = data[1 + data[0] :] if data else b""
    length = int.from_bytes(section[1:3]) & 0xFFF
    return section[SECTION_HEAD : max(3 + length - CRC, 0)]
