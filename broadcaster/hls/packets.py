"""The packets of an MPEG transport stream (ISO 13818-1, 2.4.3)."""

from __future__ import annotations

PACKET = 188  # bytes
SYNC = 0x47
UNIT_START = 0x40  # payload_unit_start_indicator, in the second byte (2.4.3.2)


def payload(data: bytes, at: int) -> bytes:
    """What the packet that begins there carries (2.4.3.3)."""
    flags, end = data[at + 3], at + PACKET
    begin = at + 5 + data[at + 4] if flags & 0x20 else at + 4  # adaptation_field_control
    return data[begin:end] if flags & 0x10 else b""
