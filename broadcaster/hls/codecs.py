"""CODECS of a segment (RFC 6381), by the heads of its media: nothing is decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from broadcaster.hls.mp4 import boxes, inside
from broadcaster.hls.mpegts import find_streams

SAMPLE_TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
VISUAL, SOUND = 78, 28  # bytes of a sample entry before its boxes (ISO 14496-12, 12.1.3, 12.2.3)
# Sample entries that say all, and how the codec is written; "Opus" is its sample entry, players know "opus".
PLAIN = {b"Opus": "opus", b"fLaC": "flac", b"ac-3": "ac-3", b"ec-3": "ec-3", b".mp3": "mp4a.40.34"}
CONFIGURATIONS = {
    **dict.fromkeys((b"avc1", b"avc3"), (VISUAL, b"avcC")),
    **dict.fromkeys((b"hvc1", b"hev1"), (VISUAL, b"hvcC")),
    b"av01": (VISUAL, b"av1C"),
    b"vp09": (VISUAL, b"vpcC"),
    b"mp4a": (SOUND, b"esds"),
}
# ISO 13818-1, table 2-34, and ATSC A/52 and A/53; data streams have no codec.
H264, HEVC, ADTS, PRIVATE = 0x1B, 0x24, 0x0F, 0x06
STREAM_TYPES = {0x81: "ac-3", 0x87: "ec-3"}
MPEG_AUDIO = {0x03, 0x04}
LAYERS = {1: "mp4a.40.34", 2: "mp4a.40.33", 3: "mp4a.40.32"}  # III (MP3), II and I in a frame's header
DATA = {0x05, 0x15, 0x86}
DESCRIBED = ((b"\x05\x04Opus", "opus"), (b"\x6a", "ac-3"), (b"\x7a", "ec-3"))  # beginnings of descriptors
H264_SPS = re.compile(rb"\x00\x00\x01[\x07\x27\x47\x67](...)", re.DOTALL)
HEVC_SPS = re.compile(rb"\x00\x00\x01\x42.(.{32})", re.DOTALL)
ESCAPE = re.compile(rb"\x00\x00\x03")  # within a unit: two zeros, and no start code
MP3 = {0x69, 0x6B}  # object types of esds
AAC_OBJECT = 0x40
SBR = 0x2B7  # syncExtensionType: HE-AAC that says so behind what older players read (ISO 14496-3, 1.6.5)


def find_codecs(head: bytes, header: bytes = b"") -> tuple[str, ...]:
    """The codecs of a segment, by its beginning and its map, video first; empty if any is unknown."""
    try:
        found = [*(_of_map(header) if header else _of_stream(head))]
    except (IndexError, struct.error):
        return ()
    video_first = sorted(dict.fromkeys(found), key=lambda codec: not codec.startswith(("av", "h", "vp")))
    return () if "" in found else tuple(video_first)


def same_codecs(given: str, found: tuple[str, ...]) -> bool:
    """Whether a CODECS attribute means these codecs: HE-AAC may look like AAC, AV1 may be said in full."""
    return {_plain(codec) for codec in given.split(",")} == {*map(_plain, found)}


def _plain(codec: str) -> str:
    codec = re.sub(r"^(mp4a\.40)\.(5|29)$", r"\1.2", codec.strip().lower())
    return re.sub(r"^(av01\.\d\.\d\d[mh]\.\d\d)\..*", r"\1", codec)


def _of_map(data: bytes) -> Iterator[str]:
    for first, last in inside(data, SAMPLE_TABLE, 0, len(data)):
        for kind, begin, end in boxes(data, first + 8, last):
            yield PLAIN.get(kind) or _configured(data, kind, begin, end)


def _configured(data: bytes, kind: bytes, begin: int, end: int) -> str:
    """The codec of a sample entry by its configuration; empty if unknown."""
    fixed, wanted = CONFIGURATIONS.get(kind, (0, b""))
    for first, last in inside(data, (wanted,), begin + fixed, end):
        return READERS[wanted](kind.decode(), data[first:last])
    return ""


def _avc(name: str, box: bytes) -> str:
    return f"{name}.{box[1:4].hex()}"


def _av1(name: str, box: bytes) -> str:
    """By profile, level, tier and depth ("AV1 in ISOBMFF", section 5)."""
    depth = (12 if box[2] & 0x20 else 10) if box[2] & 0x40 else 8
    return f"{name}.{box[1] >> 5}.{box[1] & 0x1F:02}{'H' if box[2] & 0x80 else 'M'}.{depth:02}"


def _vp9(name: str, box: bytes) -> str:
    return f"{name}.{box[4]:02}.{box[5]:02}.{box[6] >> 4:02}"


def _hevc(name: str, profile: bytes) -> str:
    """By profile, compatibility, constraints and level (ISO 14496-15, annex E)."""
    space = ("", "A", "B", "C")[profile[0] >> 6]
    tier = "H" if profile[0] & 0x20 else "L"
    flags = int(f"{int.from_bytes(profile[1:5]):032b}"[::-1], 2)
    constraints = "".join(f".{byte:X}" for byte in profile[5:11].rstrip(b"\0"))
    return f"{name}.{space}{profile[0] & 0x1F}.{flags:X}.{tier}{profile[11]}{constraints}"


def _mpeg4(_: str, data: bytes) -> str:
    """By the descriptors of esds (ISO 14496-1, 7.2.6)."""
    at, object_type = 4, 0
    while at < len(data):
        kind, at = data[at], at + 1
        while data[at] & 0x80:
            at += 1
        at += 1  # past the length
        if kind == 0x03:  # noqa: PLR2004 - ES_Descriptor: its fields, and as many optional ones as it says
            flags = data[at + 2]
            at += 3 + (2 if flags & 0x80 else 0) + (1 + data[at + 3] if flags & 0x40 else 0)
        elif kind == 0x04:  # noqa: PLR2004 - DecoderConfigDescriptor
            object_type, at = data[at], at + 13
            if object_type in MP3:
                return "mp4a.40.34"
        elif kind == 0x05 and object_type == AAC_OBJECT:  # noqa: PLR2004 - DecoderSpecificInfo
            return f"mp4a.40.{_audio_object(data[at:])}"
        else:
            break
    return ""


READERS: dict[bytes, Callable[[str, bytes], str]] = {
    b"avcC": _avc,
    b"hvcC": lambda name, box: _hevc(name, box[1:13]),
    b"av1C": _av1,
    b"vpcC": _vp9,
    b"esds": _mpeg4,
}


def _audio_object(config: bytes) -> int:
    kind = config[0] >> 3
    if kind == 31:  # noqa: PLR2004 - six more bits follow
        return 32 + ((config[0] & 7) << 3 | config[1] >> 5)
    has_sbr = kind == 2 and len(config) > 4 and int.from_bytes(config[2:4]) >> 5 == SBR  # noqa: PLR2004
    return 5 if has_sbr and config[4] & 0x80 else kind


def _of_stream(data: bytes) -> Iterator[str]:
    for (kind, _, descriptors), unit in find_streams(data).items():
        if kind in STREAM_TYPES:
            yield STREAM_TYPES[kind]
        elif kind in MPEG_AUDIO:
            frame = unit[9 + unit[8] :]
            yield LAYERS.get(frame[1] >> 1 & 0b11, "") if frame[:1] == b"\xff" else ""
        elif kind == H264:
            found = H264_SPS.search(unit)
            yield f"avc1.{found[1].hex()}" if found else ""
        elif kind == HEVC:
            found = HEVC_SPS.search(unit)
            yield _hevc("hvc1", ESCAPE.sub(b"\0\0", found[1])[1:13]) if found else ""
        elif kind == ADTS:
            frame = unit[9 + unit[8] :]
            yield f"mp4a.40.{(frame[2] >> 6) + 1}" if frame[:1] == b"\xff" and frame[1] >> 4 == 0xF else ""  # noqa: PLR2004
        elif kind == PRIVATE:
            yield from (name for begin, name in DESCRIBED if descriptors.startswith(begin))
        elif kind not in DATA:
            yield ""
