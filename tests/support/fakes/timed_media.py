"""Segments by hand whose media has a clock: transport streams with PTS, and fragments of MP4 with tfdt."""

import struct

from tests.support.fakes.mpegts import AUDIO, DELIMITER, TABLES, VIDEO, packet

TICKS = 90_000  # Hz
INIT_SCALE = 15_360  # Hz, of the MP4's track


def pes(seconds: float, stream: int = 0xE0) -> bytes:
    """The head of a PES packet that is shown then."""
    pts = round(seconds * TICKS) % (1 << 33)
    stamp = bytes([0x21 | (pts >> 30) << 1]) + struct.pack(
        ">HH", (pts >> 15 & 0x7FFF) << 1 | 1, (pts & 0x7FFF) << 1 | 1
    )
    return b"\x00\x00\x01" + bytes([stream]) + b"\x00\x00\x80\x80\x05" + stamp


def transport_stream(begin: float, duration: float, *, sound_only: bool = False) -> bytes:
    """One of three pictures a second, or of sound."""
    stream, pid = (0xC0, AUDIO) if sound_only else (0xE0, VIDEO)
    times = [begin + number / 3 for number in range(max(2, round(duration * 3)))]
    unit = DELIMITER + b"\x00\x00\x01\x65\x88"
    pictures = (packet(pid, pes(time, stream) + unit, starts=True) for time in times)
    return TABLES + b"".join(pictures)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def mp4_init(track: int = 1) -> bytes:
    """What fragments begin with, as much of it as tells their units of time."""
    tkhd = _box(b"tkhd", struct.pack(">IIII", 0, 0, 0, track) + bytes(68))
    mdhd = _box(b"mdhd", struct.pack(">IIII", 0, 0, 0, INIT_SCALE) + bytes(8))
    trak = _box(b"trak", tkhd + _box(b"mdia", mdhd))
    return _box(b"ftyp", b"iso6\0\0\0\0") + _box(b"moov", _box(b"mvhd", bytes(100)) + trak)


def mp4_fragment(begin: float, track: int = 1) -> bytes:
    """A fragment that begins then."""
    tfhd = _box(b"tfhd", struct.pack(">II", 0x020000, track))
    tfdt = _box(b"tfdt", struct.pack(">IQ", 0x01000000, round(begin * INIT_SCALE)))
    moof = _box(b"moof", _box(b"mfhd", bytes(8)) + _box(b"traf", tfhd + tfdt))
    return _box(b"styp", b"msdh\0\0\0\0") + moof + _box(b"mdat", bytes(500))


def mp4_map_with_flags(later: int = 0x10000, track: int = 1) -> bytes:
    """A map by which the samples that a fragment says nothing of need earlier ones."""
    trex = _box(b"trex", struct.pack(">6I", 0, track, 1, 1, 0, later))
    return _box(b"moov", _box(b"mvex", trex))


def mp4_pictures(track: int = 1) -> bytes:
    """A fragment of two pictures of 100 bytes, of which it says that the first is a key frame."""
    tfhd = _box(b"tfhd", struct.pack(">II", 0x020000, track))
    trun = _box(b"trun", struct.pack(">6I", 0x205, 2, 72, 0, 100, 100))
    moof = _box(b"moof", _box(b"traf", tfhd + trun))
    return moof + _box(b"mdat", bytes(200))
