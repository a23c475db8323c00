"""An MPEG transport stream by hand, as small as one can be (ISO 13818-1)."""

PACKET = 188  # bytes
PROGRAM, VIDEO, AUDIO = 0x1000, 0x100, 0x101  # PIDs
PES = b"\x00\x00\x01\xe0\x00\x00\x80\x00\x00"
DELIMITER = b"\x00\x00\x00\x01\x09\xf0"
IDR, SLICE = (PES + DELIMITER + b"\x00\x00\x01" + unit + b"\x88" * 20 for unit in (b"\x65", b"\x41"))


def packet(pid: int, payload: bytes, *, starts: bool = False) -> bytes:
    """One packet, filled up by its adaptation field."""
    head = bytes([0x47, 0x40 * starts | pid >> 8, pid & 0xFF])
    room = PACKET - 4 - len(payload)
    if room == 0:
        return head + b"\x10" + payload
    stuffing = b"\x00" + b"\xff" * (room - 2) if room > 1 else b""
    return head + b"\x30" + bytes([room - 1]) + stuffing + payload


def _table(pid: int, number: int, body: bytes) -> bytes:
    length = 5 + len(body) + 4
    head = bytes([number, 0xB0 | length >> 8, length & 0xFF]) + b"\x00\x01\xc1\x00\x00"
    return packet(pid, b"\x00" + head + body + bytes(4), starts=True)


def _stream(kind: int, pid: int) -> bytes:
    return bytes([kind, 0xE0 | pid >> 8, pid & 0xFF, 0xF0, 0])


TABLES = _table(0, 0, b"\x00\x01" + (0xE000 | PROGRAM).to_bytes(2)) + _table(
    PROGRAM, 2, (0xE000 | VIDEO).to_bytes(2) + b"\xf0\x00" + _stream(0x0F, AUDIO) + _stream(0x1B, VIDEO)
)


def segment() -> bytes:
    """A segment of two pictures: a key frame of two packets, and one that needs it."""
    key = packet(VIDEO, IDR, starts=True) + packet(VIDEO, b"\x88" * 50)
    return TABLES + key + packet(VIDEO, SLICE, starts=True) + packet(AUDIO, b"\x00", starts=True)
