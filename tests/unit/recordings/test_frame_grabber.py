"""Pictures by the real ffmpeg, and what is in its place: it may hang, flood, crash, and harms nothing."""

import asyncio
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from broadcaster.demo.encoder import ffmpeg
from broadcaster.errors import PictureError
from broadcaster.recordings import frame_grabber as frames
from broadcaster.recordings.frame_grabber import Ffmpeg

RED, GREEN, BLUE = (254, 0, 0), (0, 128, 0), (0, 0, 254)
PROGRAM = ffmpeg()[0]


def made(*arguments: str, given: bytes = b"") -> bytes:
    """What ffmpeg makes of it."""
    command = [PROGRAM, "-v", "error", *arguments, "pipe:1"]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def segment() -> bytes:
    """Two seconds of red, then of blue, with one key frame."""
    red, blue = (f"color={colour}:s=320x180:r=10:d=2,format=yuv420p" for colour in ("red", "blue"))
    colours = ("-f", "lavfi", "-i", f"{red}[a];{blue}[b];[a][b]concat")
    return made(*colours, "-c:v", "libx264", "-preset", "ultrafast", "-g", "100", "-f", "mpegts")


def pixel(picture: bytes, x: int, y: int) -> tuple[int, int, int]:
    """Its colour at a place."""
    place = ("-vf", f"crop=2:2:{x}:{y}", "-pix_fmt", "rgb24", "-f", "rawvideo")
    raw = made("-f", "image2pipe", "-c:v", "mjpeg", "-i", "pipe:0", *place, given=picture)
    return raw[0], raw[1], raw[2]


def is_like(found: tuple[int, int, int], colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(found, colour, strict=True))


async def test_frames_of_a_segment(segment: bytes) -> None:
    """The first picture, or that of a moment; a poster's size."""
    program = Ffmpeg(PROGRAM)
    first, later = await program.frame(segment), await program.frame(segment, timedelta(seconds=3))
    assert is_like(pixel(first, 600, 300), RED)
    assert is_like(pixel(later, 600, 300), BLUE)
    with pytest.raises(PictureError):
        await program.frame(segment, timedelta(seconds=9))
    assert (program.made, program.failed) == (2, 1)
    assert program.cpu > 0


async def test_the_beginning_is_enough(segment: bytes) -> None:
    """Of a large segment only the beginning is read."""
    assert is_like(pixel(await Ffmpeg(PROGRAM).frame(segment[: len(segment) // 2]), 20, 20), RED)


@pytest.mark.parametrize(
    ("codec", "size", "found"), [("mjpeg", "640x360", (24, 14)), ("png", "90x160", (14, 24))]
)
async def test_a_blur(codec: str, size: str, found: tuple[int, int]) -> None:
    """Of a picture a PNG that is too small to tell more; of anything else nothing."""
    secret = ("-metadata", "comment=swordfish", "-frames:v", "1", "-f", "image2pipe", "-c:v", codec)
    picture = made("-f", "lavfi", "-i", f"color=red:s={size}", *secret)
    blurred = await Ffmpeg(PROGRAM).blurred(picture)
    assert blurred.startswith(b"\x89PNG")
    assert struct.unpack(">II", blurred[16:24]) == found
    assert len(blurred) < 2000
    assert b"swordfish" not in blurred
    with pytest.raises(PictureError):
        await Ffmpeg(PROGRAM).blurred(b"#EXTM3U\n")


@pytest.fixture
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "WITHIN", 0.4)
        yield


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def program_in(folder: Path, script: str) -> Ffmpeg:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Ffmpeg(str(path))


@pytest.mark.parametrize(
    "script",
    [
        "sleep 600",
        "trap '' TERM; cat > /dev/null; sleep 600 & wait",
        "exec cat /dev/zero",
        "exit 1",
        "kill -SEGV $$",
        "exec cat",
        "printf '\\377\\330 half a picture'",
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_program_that_is_broken(tmp_path: Path, script: str, segment: bytes) -> None:
    """Nobody waits for it for long, and nothing is left of it."""
    program = program_in(tmp_path, script)
    with pytest.raises(PictureError):
        await program.frame(segment)
    assert children() == []
    assert program.failed == 1


async def test_no_program() -> None:
    """It was removed since the start."""
    with pytest.raises(PictureError, match="cannot be started"):
        await Ffmpeg("/nowhere/ffmpeg").frame(b"")


async def test_the_program_has_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the program has no secrets of the service."""
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", "swordfish")
    program = program_in(tmp_path, "printf '\\377\\330'; env; printf '\\377\\331'")
    environment = await program.frame(b"")
    assert b"PATH=" in environment
    assert b"swordfish" not in environment


async def test_it_writes_no_files(tmp_path: Path, segment: bytes) -> None:
    """Whatever it is made to do by what it reads, it fills no disk."""
    program = program_in(tmp_path, f"echo much > {tmp_path}/file")
    with pytest.raises(PictureError):
        await program.frame(segment)
    assert not (tmp_path / "file").read_bytes()


async def test_bounds_hold_from_the_first_instruction(tmp_path: Path) -> None:
    """A program that looks at once finds all its limits, hard ones too, and the last place in the queue."""
    shown = "cat /proc/self/limits; cut -d' ' -f19 /proc/self/stat"
    program = program_in(tmp_path, f"printf '\\377\\330'; {shown}; printf '\\377\\331'")
    lines = (await program.frame(b""))[2:-2].decode().splitlines()
    limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert limits["Max cpu time"] == ["10", "10"]
    assert limits["Max address space"] == [str(2**30)] * 2
    assert limits["Max file size"] == limits["Max core file size"] == ["0", "0"]
    assert lines[-1] == str(min(19, os.nice(0) + 19))


@pytest.mark.parametrize("kind", ["concat", "hls", "sdp", "subtitles"])
async def test_what_names_files_is_no_picture(tmp_path: Path, kind: str, segment: bytes) -> None:
    """Of formats that are no segments nothing is made, whatever they name."""
    private = tmp_path / "private.ts"
    private.write_bytes(segment)
    text = {
        "concat": f"ffconcat version 1.0\nfile '{private}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{private}\n#EXT-X-ENDLIST\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 33\n",
        "subtitles": f"WEBVTT\n\n00:00.000 --> 00:01.000\n{private}\n",
    }
    with pytest.raises(PictureError):
        await Ffmpeg(PROGRAM).frame(text[kind].encode())


@pytest.mark.parametrize("turns", range(12))
async def test_it_goes_with_us(tmp_path: Path, segment: bytes, turns: int) -> None:
    """A service that ends waits for no picture, not even one whose program is just being started."""
    program = program_in(tmp_path, "sleep 600")
    task = asyncio.create_task(program.frame(segment))
    for _ in range(turns):
        await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - what is started has processes of its own, and we have not seen it start
    task.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert children() == []
