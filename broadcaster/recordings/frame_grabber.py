"""Decodes frames with ffmpeg: one process for each frame, with limits of time, memory and CPU."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

from broadcaster.errors import PictureError
from broadcaster.hls import Variant
from broadcaster.metrics import Metric

WIDTH = 640  # pixels of a poster
WITHIN = 20.0  # seconds for one picture
END_WITHIN = 2.0  # seconds until a killed process has ended
MOST = 2**22  # bytes of a picture
PIECE = 65_536  # bytes
NICENESS = 19
# Starts a program within bounds that hold before its first instruction: seconds of a CPU, KiB of memory, no
# files and no core dumps. Where the priority cannot be changed, nice says so and goes on.
WITHIN_BOUNDS = (
    f'ulimit -t 10 && ulimit -v {2**20} && ulimit -f 0 && ulimit -c 0 && exec nice -n {NICENESS} "$@"'
)
LIMITED = ("/bin/sh", "-c", WITHIN_BOUNDS, "ffmpeg")
BEGINS, ENDS = b"\xff\xd8", b"\xff\xd9"  # a JPEG
# Whatever the bytes say, nothing but them is read: no protocol but the pipe, and no format that names files.
QUIET = ("-hide_banner", "-nostats", "-v", "error", "-threads", "1", "-protocol_whitelist", "pipe")
SEGMENTS = ("-format_whitelist", "mpegts,mov,mp4,m4a,3gp,3g2,mj2,aac,mp3,ac3,eac3")
AS_JPEG = ("-frames:v", "1", "-q:v", "5", "-threads", "1", "-f", "image2pipe", "-c:v", "mjpeg", "pipe:1")
PICTURES = ("-format_whitelist", "jpeg_pipe,png_pipe,webp_pipe,gif,gif_pipe,bmp_pipe,tiff_pipe")
# So small that scaled up again it is a blur, and nothing else of the file.
BLURRED = ("-vf", "scale=24:24:force_original_aspect_ratio=decrease:flags=area", "-map_metadata", "-1")
AS_PNG = ("-frames:v", "1", "-pix_fmt", "rgb24", "-threads", "1", "-f", "image2pipe", "-c:v", "png", "pipe:1")


class Ffmpeg:
    """Runs the ``program`` (an absolute path), one process at a time.

    Input and output are pipes: the process has no files and none of our environment.
    """

    def __init__(self, program: str) -> None:
        self.made = 0
        self.failed = 0
        self.cpu = 0.0  # seconds
        self._program = program
        self._one_at_a_time = asyncio.Lock()

    async def frame(self, media: bytes, at: timedelta | None = None) -> bytes:
        """The first key frame of a segment as a JPEG, or the frame so long after its beginning.

        Raises PictureError.
        """
        exact = () if at is None else ("-ss", f"{at.total_seconds():.3f}")
        only = ("-skip_frame", "nokey") if at is None else ()
        scale = ("-an", "-sn", "-dn", "-vf", f"scale={WIDTH}:-2")
        command = (self._program, *QUIET, *only, *SEGMENTS, "-i", "pipe:0", *exact, *scale, *AS_JPEG)
        async with self._one_at_a_time:
            before = _used()
            try:
                picture = await self._run(command, media)
                if not (picture.startswith(BEGINS) and picture.endswith(ENDS)):
                    raise PictureError("ffmpeg made no picture of it")
            except PictureError:
                self.failed += 1
                raise
            finally:
                self.cpu += _used() - before
            self.made += 1
            return picture

    async def blurred(self, picture: bytes) -> bytes:
        """A picture as a PNG of 24 pixels at most in each direction. Raises PictureError."""
        command = (self._program, *QUIET, *PICTURES, "-i", "pipe:0", *BLURRED, *AS_PNG)
        found = await self._run(command, picture)
        if not found:
            raise PictureError("ffmpeg knows no picture in it")
        return found

    def metrics(self) -> Iterator[Metric]:
        """Frames by outcome, and the CPU time of ffmpeg."""
        text, outcomes = "Pictures by outcome: made or failed", {"made": self.made, "failed": self.failed}
        yield Metric("pictures", text, outcomes, labels=("outcome",), is_counter=True)
        yield Metric("pictures_cpu_seconds", "What pictures took of the CPU", self.cpu, is_counter=True)

    async def _run(self, command: Sequence[str], given: bytes) -> bytes:
        starting = asyncio.create_task(_start(command))
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio would end the first process alone, and wait for those that it has started.
            with suppress(OSError):
                await _end(await starting)
            raise
        except OSError as error:
            raise PictureError(f"ffmpeg cannot be started: {error.strerror}") from None
        feeding = asyncio.create_task(_feed(process, given))
        try:
            async with asyncio.timeout(WITHIN):
                return await _answer(process)
        except TimeoutError:
            raise PictureError(f"ffmpeg made no picture within {WITHIN:.0f} s") from None
        finally:
            feeding.cancel()
            await _end(process)


async def _start(command: Sequence[str]) -> asyncio.subprocess.Process:
    if not os.access(command[0], os.X_OK):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return await asyncio.create_subprocess_exec(
        *LIMITED,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.defpath},  # ours has keys
        cwd="/",
        process_group=0,
    )


async def _feed(process: asyncio.subprocess.Process, given: bytes) -> None:
    """Write the input. ffmpeg may end before it has read all of it."""
    assert process.stdin  # noqa: S101 - a pipe, as was asked for
    with suppress(OSError):
        process.stdin.write(given)
        await process.stdin.drain()
    process.stdin.close()


async def _answer(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout  # noqa: S101 - a pipe, as was asked for
    found = bytearray()
    while piece := await process.stdout.read(PIECE):
        found += piece
        if len(found) > MOST:
            raise PictureError(f"ffmpeg made a picture of more than {MOST // 2**20} MiB")
    return bytes(found)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and what it has started, and drain its output: asyncio reports its end only then."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout  # noqa: S101 - a pipe, as was asked for
    with suppress(TimeoutError):
        async with asyncio.timeout(END_WITHIN):
            while await process.stdout.read(PIECE):
                pass
            await process.wait()


def _used() -> float:
    """CPU seconds of ended children. The only other child is the viewers' process."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def variant_for_posters(variants: Sequence[Variant]) -> str | None:
    """The URI of the smallest variant as wide as a poster, else of the widest; None without any size."""
    sized = sorted((variant.resolution[0], variant.uri) for variant in variants if variant.resolution)
    wide_enough = [uri for width, uri in sized if width >= WIDTH]
    return wide_enough[0] if wide_enough else sized[-1][1] if sized else None
