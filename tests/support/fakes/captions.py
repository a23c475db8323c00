"""H.264 with captions inside (CEA-608), which ffmpeg passes through and cannot make."""

import re
from collections.abc import Iterator

# CTA-608-E, pop-on captions of channel 1: clear what is shown and what is not, begin, bottom row, show.
ERASE, CLEAR, BEGIN, ROW, SHOW = b"\x14\x2c", b"\x14\x2e", b"\x14\x20", b"\x14\x70", b"\x14\x2f"
# ATSC A/53, part 4, 6.2.3: user data of captions, with one pair of bytes, of field 1.
USER_DATA = b"\xb5\x00\x31GA94\x03\x41\xff\xfc%b\xff"
START = re.compile(rb"\x00\x00\x01")


def with_captions(stream: bytes, text: str, every: int) -> bytes:
    """An H.264 byte stream that shows the text anew every so many pictures."""
    begin, picture = 0, 0
    pairs = list(_pairs(text))
    found = []
    for start in START.finditer(stream):
        kind, is_first = stream[start.end()] & 31, stream[start.end() + 1 : start.end() + 2] >= b"\x80"
        if kind in (1, 5) and is_first:  # a slice, of a picture's first macroblock
            if (place := picture % every) < len(pairs):
                found += [stream[begin : start.start()], _sei(pairs[place])]
                begin = start.start()
            picture += 1
    return b"".join([*found, stream[begin:]])


def _pairs(text: str) -> Iterator[bytes]:
    for control in (ERASE, CLEAR, BEGIN, ROW):
        yield from (control, control)  # each is sent twice
    data = text.encode("ascii")
    yield from (data[at : at + 2].ljust(2, b"\0") for at in range(0, len(data), 2))
    yield from (SHOW, SHOW)


def _sei(pair: bytes) -> bytes:
    """A unit of supplemental information (ITU-T T.35) that brings a pair of bytes, which get odd parity."""
    payload = USER_DATA % bytes(byte | 0x80 * (byte.bit_count() % 2 == 0) for byte in pair)
    return b"\x00\x00\x01\x06\x04" + bytes([len(payload)]) + payload + b"\x80"
