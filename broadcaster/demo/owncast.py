"""A stand-in for Owncast: a test picture, Owncast's own ffmpeg flags, and its careless way with files.

ffmpeg PUTs every file into a receiver that creates the final name and copies the body into it: no temporary
file, no rename, no fsync. ffmpeg hangs up without waiting for the answer. aiohttp's server gives up what it
has not read of such a request, so the receiver reads from plain streams, which keep it, as Go's server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from broadcaster.demo.children import HOST, Child, DemoError, run

KEEP_BEYOND_PLAYLIST = 10  # segments that Owncast's cleanup leaves besides those listed
CLIP = "offline.ts"
CLIP_SECONDS = 8
IDLE = "offline"  # what stands in the place of a run's id in the idle clip's names
STEP_WITHIN = 60.0  # seconds for what ffmpeg does in one or two
REQUEST = re.compile(rb"PUT /((?:\d+/)?[\w-]+\.(?:ts|m3u8)) ")
SEGMENT = re.compile(r"stream-(?P<run>.+)-\d+\.ts")
EMPTY_PLAYLIST = f"#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:{CLIP_SECONDS}\n"
ENDING = f"#EXT-X-DISCONTINUITY\n#EXTINF:{CLIP_SECONDS}.000000,\n{CLIP}\n#EXT-X-ENDLIST\n"
# Needs a font, which not every machine has; testsrc2 draws a running time of its own.
CLOCK = ",drawtext=text='%{localtime}':fontsize=h/10:fontcolor=white:box=1:x=(w-tw)/2:y=h-2*th:boxcolor=black"


@dataclass(frozen=True, slots=True)
class Rendition:
    """One variant of the stream: pixels, and kbit/s of its video."""

    width: int
    height: int
    bitrate: int


RENDITIONS = (Rendition(640, 360, 800), Rendition(320, 180, 300))

SegmentKey = tuple[str, str, str]  # run's id, variant, file name


class Receiver:
    """Takes ffmpeg's PUTs, writes them below ``root``, and remembers what came whole.

    With ``pause`` (seconds) every write is held up that long, so that empty and half files can be seen.
    """

    def __init__(self, root: Path, pause: float) -> None:
        self.url = ""
        self.received: dict[SegmentKey, str] = {}
        self.listed: set[SegmentKey] = set()
        self.playlists: dict[tuple[str, str], tuple[str, ...]] = {}
        self._root = root
        self._pause = pause
        self._open = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Finish what has been begun, then listen no more."""
        await self.drain()
        self._server.close()
        await self._server.wait_closed()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, asked after every request, is true."""
        while not condition():
            await self._changed.wait()

    async def drain(self) -> None:
        """Wait until every request that an ffmpeg, by now gone, has ever sent is dealt with."""
        # Connections are accepted in order: when ours is answered, none from before waits in the kernel.
        reader, writer = await asyncio.open_connection(HOST, int(self.url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        await self.until(lambda: self._open == 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            request = REQUEST.match(await reader.readuntil(b"\r\n\r\n"))
            if request:
                await self._put(self._root / request[1].decode(), reader)
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # an ffmpeg that was killed leaves half a request; one that lives has often hung up already
        finally:
            writer.close()
            self._open -= 1
            self._changed.set()
            self._changed = asyncio.Event()

    async def _put(self, path: Path, reader: asyncio.StreamReader) -> None:
        digest = hashlib.sha256()
        with contextlib.closing(_create(path)) as file:
            async for chunk in _body(reader):
                digest.update(chunk)
                for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                    if self._pause:
                        await asyncio.sleep(self._pause)
                    file.write(part)
        self._note(path, digest.hexdigest())

    def _note(self, path: Path, digest: str) -> None:
        names = path.read_text().splitlines() if path.suffix == ".m3u8" else [path.name]
        segments = [(match["run"], name) for name in names if (match := SEGMENT.fullmatch(name))]
        keys = [(run_id, path.parent.name, name) for run_id, name in segments if run_id != IDLE]
        if path.suffix == ".ts":
            self.received.update(dict.fromkeys(keys, digest))
        elif keys:
            self.listed.update(keys)
            self.playlists[keys[-1][:2]] = tuple(name for _, _, name in keys)


class SimulatedOwncast:
    """Owncast's folder ``hls_dir`` in all its states; ``start`` first and ``close`` last, or ``async with``.

    ``work_dir``, on the same file system, holds logs and the offline clip. ``playlist_size`` is in segments,
    ``cleanup_interval`` in seconds. ``slow_writes`` holds up every write by so many seconds: an HTTP chunk,
    32 KiB at most, is two writes. Methods raise DemoError when ffmpeg cannot do its work.
    """

    def __init__(  # noqa: PLR0913 - a stand-in has as many knobs as tests need; all but two have defaults
        self,
        hls_dir: Path,
        work_dir: Path,
        *,
        segment_seconds: int = 2,
        playlist_size: int = 10,
        variants: tuple[Rendition, ...] = RENDITIONS,
        fps: int = 24,
        cleanup_interval: float = 60.0,
        slow_writes: float = 0.0,
    ) -> None:
        self.hls_dir = hls_dir
        self.variants = variants
        self.run_id = ""
        self.encoder: Child | None = None
        self._work_dir = work_dir
        self._segment_seconds = segment_seconds
        self._playlist_size = playlist_size
        self._fps = fps
        self._cleanup_interval = cleanup_interval
        self._cleanup: asyncio.Task[None] | None = None
        self._receiver = Receiver(hls_dir, slow_writes)
        self._clock = CLOCK

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def finished(self) -> dict[SegmentKey, str]:
        """SHA-256 of every segment, of all runs, that came whole and was listed; not the offline clip."""
        return {key: sha for key, sha in self._receiver.received.items() if key in self._receiver.listed}

    @property
    def last_playlists(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Per run's id and variant the names of the segments in the last playlist of that run."""
        return dict(self._receiver.playlists)

    async def start(self) -> None:
        """Come up as Owncast does: the folder is wiped and holds the idle clip."""
        self._work_dir.mkdir(parents=True, exist_ok=True)
        await self._receiver.start()
        try:
            await self._find_clock()
            if not self._clip.exists():
                await self._make_clip()
            await self.wipe()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End ffmpeg and the receiver; the folder stays as it is."""
        await self._end_run(signal.SIGKILL)
        await self._receiver.close()

    async def go_live(self, run_id: str | None = None) -> str:
        """Start a run of the encoder and return its id, at random unless given; nothing is wiped."""
        if self.encoder is not None:
            raise DemoError("the simulated Owncast is live already")
        self.run_id = run_id or secrets.token_urlsafe(7)
        self.encoder = await Child.start(
            "ffmpeg", [*_ffmpeg(), *self._live_options()], self._work_dir / f"ffmpeg-{self.run_id}.log"
        )
        self._cleanup = asyncio.create_task(self._clean_up_for_ever())
        return self.run_id

    async def wait_for_segments(self, count: int, *, within: float = STEP_WITHIN) -> None:
        """Wait until each variant has ``count`` finished segments of this run, for ``within`` seconds."""
        if self.encoder is None:
            raise DemoError("the simulated Owncast is not live")
        enough = self._receiver.until(lambda: self._finished_in_each_variant() >= count)
        await self.encoder.until(enough, within=within)

    async def stop_streaming(self) -> None:
        """End the stream in good order: the last segment comes whole, the offline clip is appended."""
        await self._end_run(signal.SIGINT)
        self._append_clip()

    async def crash_encoder(self) -> None:
        """End ffmpeg by SIGKILL: what it had not sent is lost, and nothing is appended."""
        await self._end_run(signal.SIGKILL)

    async def wipe(self) -> None:
        """Remove the whole folder and transcode the idle clip, as at the start and 5 minutes after an end."""
        self._remove_folder()
        output = self._output_options(IDLE, 1)
        copy = ["-map", "0", "-c", "copy", *output, "-hls_playlist_type", "event"]
        await self._run_ffmpeg("-i", self._clip, *copy, self._receiver.url + "/%v/stream.m3u8")
        await self._receiver.drain()

    @property
    def _clip(self) -> Path:
        return self._work_dir / CLIP

    def _finished_in_each_variant(self) -> int:
        variants = [variant for run_id, variant, _ in self.finished if run_id == self.run_id]
        return min(variants.count(str(index)) for index in range(len(self.variants)))

    async def _end_run(self, with_signal: signal.Signals) -> None:
        if self._cleanup is not None:
            self._cleanup.cancel()
            await asyncio.gather(self._cleanup, return_exceptions=True)
            self._cleanup = None
        if self.encoder is not None:
            # Not a second signal: ffmpeg would then give up its connections, and the last segment with them.
            await self.encoder.stop(with_signal)
            self.encoder = None
            await self._receiver.drain()

    async def _clean_up_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._cleanup_interval)
            self._clean_up()

    def _clean_up(self) -> None:
        for folder in self._folders():
            newest_first = sorted(folder.glob("*.ts"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in newest_first[self._playlist_size + KEEP_BEYOND_PLAYLIST :]:
                path.unlink()

    def _folders(self) -> list[Path]:
        return [self.hls_dir / str(index) for index in range(len(self.variants))]

    def _remove_folder(self) -> None:
        if self.hls_dir.exists():
            shutil.rmtree(self.hls_dir)
        for folder in self._folders():
            folder.mkdir(parents=True)

    def _append_clip(self) -> None:
        for folder in self._folders():
            shutil.copyfile(self._clip, folder / CLIP)
            playlist = folder / "stream.m3u8"
            text = playlist.read_text() + ENDING if playlist.exists() else EMPTY_PLAYLIST + ENDING
            temporary = self._work_dir / f"tmp-stream-{folder.name}.m3u8"
            temporary.write_text(text)
            temporary.replace(playlist)

    async def _run_ffmpeg(self, *options: str | Path) -> None:
        await run("ffmpeg", [*_ffmpeg(), *options], self._work_dir / "ffmpeg.log", within=STEP_WITHIN)

    async def _find_clock(self) -> None:
        picture = f"color=size=64x64{CLOCK}"
        try:
            await self._run_ffmpeg("-f", "lavfi", "-i", picture, "-frames:v", "1", "-f", "null", "-")
        except DemoError:
            self._clock = ""

    async def _make_clip(self) -> None:
        source = "smptebars=size=320x180:rate=24[out0];anullsrc=sample_rate=48000[out1]"
        codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "24", "-c:a", "aac"]
        # Under another name first: a clip that is there is taken for whole.
        unfinished = self._work_dir / f"unfinished-{CLIP}"
        input_options = ["-f", "lavfi", "-i", source, "-t", str(CLIP_SECONDS)]
        await self._run_ffmpeg(*input_options, *codecs, "-f", "mpegts", "-y", unfinished)
        unfinished.replace(self._clip)

    def _live_options(self) -> list[str]:
        largest = max(self.variants, key=lambda one: one.height)
        picture = f"testsrc2=size={largest.width}x{largest.height}:rate={self._fps}{self._clock}[out0]"
        tone = "sine=frequency=440:beep_factor=4:sample_rate=48000[out1]"
        options = ["-fflags", "+genpts", "-flags", "+cgop", "-re", "-f", "lavfi", "-i", f"{picture};{tone}"]
        for index, one in enumerate(self.variants):
            options += self._rendition_options(index, one)
        options += [
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-pix_fmt",
            "yuv420p",
            "-sc_threshold",
            "0",
        ]
        options += self._output_options(self.run_id, len(self.variants))
        options += ["-hls_list_size", str(self._playlist_size)]
        options += ["-hls_flags", "program_date_time+independent_segments+omit_endlist"]
        options += [
            "-segment_format_options",
            "mpegts_flags=mpegts_copyts=1",
            "-max_muxing_queue_size",
            "400",
        ]
        return [*options, self._receiver.url + "/%v/stream.m3u8"]

    def _rendition_options(self, index: int, one: Rendition) -> list[str]:
        frames = str(self._fps * self._segment_seconds)
        values = {
            "c:v": "libx264",
            "b:v": f"{one.bitrate}k",
            "maxrate:v": f"{one.bitrate * 106 // 100}k",
            "bufsize:v": f"{one.bitrate * 12 // 10}k",
            "g:v": frames,
            "keyint_min:v": frames,
            "profile:v": "high",
            "r:v": str(self._fps),
            "filter:v": f"scale={one.width}:{one.height}",
            "c:a": "aac",
            "b:a": "96k",
        }
        options = [part for key, value in values.items() for part in (f"-{key}:{index}", value)]
        return ["-map", "v:0", "-map", "a:0?", *options]

    def _output_options(self, run_id: str, count: int) -> list[str]:
        streams = " ".join(f"v:{index},a:{index}" for index in range(count))
        names = f"{self._receiver.url}/%v/stream-{run_id}-%d.ts"
        options = ["-var_stream_map", streams, "-f", "hls", "-hls_time", str(self._segment_seconds)]
        return [*options, "-master_pl_name", "stream.m3u8", "-hls_segment_filename", names, "-method", "PUT"]


def _ffmpeg() -> list[str]:
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - an extra: without it only the demo cannot run, and says so

        return [str(imageio_ffmpeg.get_ffmpeg_exe()), "-hide_banner", "-loglevel", "warning", "-nostdin"]
    except (ImportError, RuntimeError) as error:
        raise DemoError("ffmpeg is missing: the package imageio-ffmpeg brings it") from error


def _create(path: Path) -> FileIO:
    # Unbuffered: what has come is on disk for all to see, as it is with Owncast.
    return path.open("wb", buffering=0)


async def _body(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the chunks of a chunked request body; raises IncompleteReadError when it stops short."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
