"""How long the media of a segment lasts, whatever a playlist says."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import imageio_ffmpeg
import pytest

from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.source.media_clock import media_duration
from broadcaster.source.scanner import Scanner


@pytest.mark.parametrize("options", [[], ["-bf", "2"], ["-output_ts_offset", "95442.5"]])
def test_duration_of_real_segments(tmp_path: Path, options: list[str]) -> None:
    """Whatever the order of its pictures, and also where the time stamps wrap around, it is as encoded."""
    path = tmp_path / "segment.ts"
    inputs = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25", "-f", "lavfi", "-i", "sine"]
    encoding = ["-t", "1.2", "-c:v", "libx264", *options, "-c:a", "aac", "-mpegts_copyts", "1", str(path)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *inputs, *encoding]
    subprocess.run(command, check=True)
    assert media_duration(path.read_bytes()) == timedelta(seconds=1.2)


def encode_fragments(folder: Path, *options: str) -> None:
    """Three segments of fragmented MP4 with a playlist: two of 1.2 s, and the rest."""
    inputs = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25", "-f", "lavfi", "-i", "sine"]
    encoding = [
        "-t",
        "3",
        "-c:v",
        "libx264",
        "-g",
        "30",
        *options,
        "-c:a",
        "aac",
        "-f",
        "hls",
        "-hls_time",
        "1",
    ]
    fragments = ["-hls_segment_type", "fmp4", "-hls_list_size", "0", str(folder / "stream.m3u8")]
    folder.mkdir(parents=True)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *inputs, *encoding, *fragments]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("options", [[], ["-bf", "2"]])
def test_duration_of_real_fragments(tmp_path: Path, options: list[str]) -> None:
    """Fragments of MP4 last as long as the samples of their first track."""
    folder = tmp_path / "hls"
    encode_fragments(folder, *options)
    header = (folder / "init.mp4").read_bytes()
    found = [media_duration((folder / f"stream{number}.m4s").read_bytes(), header) for number in range(3)]
    assert found == [timedelta(seconds=1.2), timedelta(seconds=1.2), timedelta(seconds=0.6)]
    assert media_duration((folder / "stream0.m4s").read_bytes()) is None
    assert media_duration(header, header) is None


def test_fragments_with_a_wrong_duration_are_measured(tmp_path: Path) -> None:
    """A segment of fragmented MP4 whose EXTINF makes no sense is listed with the duration of its media."""
    folder = tmp_path / "hls" / "0"
    encode_fragments(folder)
    playlist = folder / "stream.m3u8"
    lines = (
        "#EXTINF:nan," if line.startswith("#EXTINF") else line for line in playlist.read_text().splitlines()
    )
    playlist.write_text("\n".join(line for line in lines if line != "#EXT-X-ENDLIST") + "\n")
    scanner = Scanner(tmp_path / "hls", lambda: datetime.now(UTC), SourceSnapshot())
    found = [event for time in (1.0, 1.5, 9.0) for event in scanner.scan(time) if isinstance(event, Segment)]
    assert [(item.fault, item.duration.total_seconds()) for item in found] == [
        (None, 1.2),
        (None, 1.2),
        (None, 0.6),
    ]


@pytest.mark.parametrize("content", [b"", b"\x47" * 188, b"\x47\x40\x00\x3f" + b"\xff" * 184, bytes(1000)])
def test_what_is_no_video_has_no_duration(content: bytes) -> None:
    """An empty file, torn packets and sound alone say nothing, and raise nothing."""
    assert media_duration(content) is None
