"""How long a segment lasts that no playlist has listed."""

import subprocess
from datetime import timedelta
from pathlib import Path

import imageio_ffmpeg
import pytest

from broadcaster.source.media_clock import media_duration


@pytest.mark.parametrize("options", [[], ["-bf", "2"], ["-output_ts_offset", "95442.5"]])
def test_duration_of_real_segments(tmp_path: Path, options: list[str]) -> None:
    """Whatever the order of its pictures, and also where the time stamps wrap around, it is as encoded."""
    path = tmp_path / "segment.ts"
    inputs = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25", "-f", "lavfi", "-i", "sine"]
    encoding = ["-t", "1.2", "-c:v", "libx264", *options, "-c:a", "aac", "-mpegts_copyts", "1", str(path)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *inputs, *encoding]
    subprocess.run(command, check=True)
    assert media_duration(path) == timedelta(seconds=1.2)


@pytest.mark.parametrize("content", [b"", b"\x47" * 188, b"\x47\x40\x00\x3f" + b"\xff" * 184, bytes(1000)])
def test_what_is_no_video_has_no_duration(tmp_path: Path, content: bytes) -> None:
    """An empty file, torn packets and sound alone say nothing, and raise nothing."""
    path = tmp_path / "segment.ts"
    path.write_bytes(content)
    assert media_duration(path) is None
