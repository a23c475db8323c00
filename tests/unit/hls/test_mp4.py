"""Key frames of fragmented MP4: byte ranges that a player can decode behind the map."""

import struct
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.demo.encoder import ffmpeg
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.hls.media_playlist import ByteRange
from broadcaster.hls.mp4 import default_flags, find_iframe, inside
from broadcaster.hls.parser import byte_ranges
from tests.support.fakes.timed_media import mp4_fragment

FILM = "testsrc2=size=128x96:rate=10:duration=1[out0];sine=sample_rate=48000:duration=1[out1]"
PICTURES = ("-map", "0:v", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-sc_threshold", "0")
CODECS = {
    "H.264": (),
    "HEVC": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0:pools=1"),
    "AV1": ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"),
}
SOUND = ("-map", "0:a", "-c:a", "aac")


def run(*options: str | Path) -> str:
    command = [*ffmpeg(), "-loglevel", "error", *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fragments(folder: Path, *options: str) -> tuple[bytes, bytes]:
    """The map, and the first segment, of half a second."""
    folder.mkdir()
    output = ("-f", "hls", "-hls_time", "0.5", "-hls_segment_type", "fmp4", "-y", folder / "stream.m3u8")
    run("-f", "lavfi", "-i", FILM, *options, *output)
    return (folder / "init.mp4").read_bytes(), (folder / "stream0.m4s").read_bytes()


@pytest.mark.parametrize("codec", CODECS)
def test_the_first_picture_of_a_fragment(tmp_path: Path, codec: str) -> None:
    """Behind the map the range is one picture, whole; what has another file's beginning has none."""
    header, data = fragments(tmp_path / "both", *PICTURES, *CODECS[codec], "-g", "5", *SOUND)
    found = find_iframe(data)
    assert found
    assert data[found.offset + 4 : found.offset + 8] == b"moof"
    assert found.length < len(data) / 2
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(header + data[found.offset : found.offset + found.length])
    decoded = run("-i", picture, "-map", "0:v", "-f", "framemd5", "-")
    assert decoded.splitlines()[-1].startswith("0,")
    assert sum(line.startswith("0,") for line in decoded.splitlines()) == 1
    for length in (0, 40, found.offset + 60, found.offset + found.length - 1):
        assert find_iframe(data[:length]) is None


def test_a_fragment_for_each_picture(tmp_path: Path) -> None:
    """The next fragments distinguish a key frame in a fragment of its own (CMAF chunks) from sound."""
    dash = ("-f", "dash", "-seg_duration", "0.5", "-streaming", "1", "-ldash", "1", tmp_path / "main.mpd")
    run("-f", "lavfi", "-i", FILM, *PICTURES, "-g", "5", *SOUND, *dash)
    names = ("init-stream0.m4s", "chunk-stream0-00001.m4s")
    header, data = ((tmp_path / name).read_bytes() for name in names)
    assert data.count(b"moof") == 5
    found = find_iframe(data)
    assert found
    assert data[found.offset + 4 : found.offset + 8] == b"moof"
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(header + data[found.offset : found.offset + found.length])
    decoded = run("-i", picture, "-f", "framemd5", "-")
    assert sum(line.startswith("0,") for line in decoded.splitlines()) == 1
    assert find_iframe((tmp_path / "chunk-stream1-00001.m4s").read_bytes()) is None
    assert find_iframe(data[: found.offset + found.length]) is None


def with_flags_in_the_map_alone(header: bytes, data: bytes) -> tuple[bytes, bytes]:
    """The same media: what tfhd says of all samples, their duration and flags, stands in the map's trex."""
    new_header, new_data = bytearray(header), bytearray(data)
    for at, end in inside(data, (b"moof", b"traf", b"tfhd"), 0, len(data)):
        flags, track = struct.unpack_from(">II", data, at)
        assert flags & 0x38 == 0x38
        duration, size, default = struct.unpack_from(">III", data, end - 12)
        struct.pack_into(">I", new_data, at - 8, end - at)  # two fields less, for which a free box stands
        struct.pack_into(">I", new_data, at, flags & ~0x28)
        struct.pack_into(">II4s", new_data, end - 12, size, 8, b"free")
        for trex, _ in inside(header, (b"moov", b"mvex", b"trex"), 0, len(header)):
            if header[trex + 4 : trex + 8] == struct.pack(">I", track):
                struct.pack_into(">I", new_header, trex + 12, duration)
                struct.pack_into(">I", new_header, trex + 20, default)
    return bytes(new_header), bytes(new_data)


def test_only_the_map_says_which_samples_are_key_frames(tmp_path: Path) -> None:
    """Where fragments leave it to the map's trex, it is read there; a map that is cut says nothing."""
    options = (*PICTURES, "-g", "5", *SOUND)
    header, data = with_flags_in_the_map_alone(*fragments(tmp_path / "both", *options))
    found = find_iframe(data, default_flags(header))
    assert found
    assert data[found.offset + 4 : found.offset + 8] == b"moof"
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(header + data[found.offset : found.offset + found.length])
    decoded = run("-i", picture, "-map", "0:v", "-f", "framemd5", "-")
    assert sum(line.startswith("0,") for line in decoded.splitlines()) == 1
    assert default_flags(header[: header.index(b"trex") + 20]) == {}


@pytest.mark.parametrize("options", [SOUND, (*PICTURES, "-g", "1")], ids=["sound", "key frames alone"])
def test_no_key_frame_where_all_samples_stand_alone(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Where all samples stand alone, nothing shows which are pictures; nor in a fragment without any."""
    assert find_iframe(fragments(tmp_path / "media", *options)[1]) is None
    assert find_iframe(mp4_fragment(0.0)) is None


def test_an_iframe_playlist_names_the_map() -> None:
    """A range of a fragment is read behind its map, which needs version 6; a gap has neither."""
    first = MediaSegment("a.m4s", timedelta(seconds=2), map_uri="init.mp4", iframe=ByteRange(900, 76))
    second = MediaSegment("b.m4s", timedelta(seconds=2), map_uri="init.mp4", iframe=ByteRange(800, 76))
    text = MediaPlaylist(2, segments=(first, second)).render_iframes()
    assert "#EXT-X-VERSION:6\n" in text
    assert text.count('#EXT-X-MAP:URI="init.mp4"\n') == 2
    assert byte_ranges(text) == {"a.m4s": ByteRange(900, 76), "b.m4s": ByteRange(800, 76)}
    lost = MediaPlaylist(2, segments=(MediaSegment("a.m4s", timedelta(seconds=2), map_uri="init.mp4"),))
    assert "#EXT-X-MAP" not in lost.render_iframes()
    assert "#EXT-X-VERSION:8\n" in lost.render_iframes()
