"""A stand-in for Owncast: its folder in all its states.

``encoder`` has the test picture and Owncast's own ffmpeg flags, ``receiver`` its careless way with files.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from broadcaster.demo.children import Child, run
from broadcaster.demo.encoder import CLOCK, RENDITIONS, Encoder, Rendition, clip_options, ffmpeg
from broadcaster.demo.receiver import Receiver, SegmentKey
from broadcaster.errors import DemoError

__all__ = ["RENDITIONS", "Rendition", "SegmentKey", "SimulatedOwncast"]

KEEP_BEYOND_PLAYLIST = 10  # segments that Owncast's cleanup leaves besides those listed
CLIP = "offline.ts"
CLIP_SECONDS = 8
STEP_WITHIN = 60.0  # seconds for what ffmpeg does in one or two
EMPTY_PLAYLIST = f"#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:{CLIP_SECONDS}\n"
ENDING = f"#EXT-X-DISCONTINUITY\n#EXTINF:{CLIP_SECONDS}.000000,\n{CLIP}\n#EXT-X-ENDLIST\n"


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
            "ffmpeg",
            [*ffmpeg(), *self._options.live(self.run_id)],
            self._work_dir / f"ffmpeg-{self.run_id}.log",
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
        await self._run_ffmpeg("-i", self._clip, *self._options.idle())
        await self._receiver.drain()

    @property
    def _options(self) -> Encoder:
        return Encoder(
            self._receiver.url,
            self.variants,
            self._segment_seconds,
            self._playlist_size,
            self._fps,
            self._clock,
        )

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
        await run("ffmpeg", [*ffmpeg(), *options], self._work_dir / "ffmpeg.log", within=STEP_WITHIN)

    async def _find_clock(self) -> None:
        picture = f"color=size=64x64{CLOCK}"
        try:
            await self._run_ffmpeg("-f", "lavfi", "-i", picture, "-frames:v", "1", "-f", "null", "-")
        except DemoError:
            self._clock = ""

    async def _make_clip(self) -> None:
        # Under another name first: a clip that is there is taken for whole.
        unfinished = self._work_dir / f"unfinished-{CLIP}"
        await self._run_ffmpeg(*clip_options(CLIP_SECONDS), unfinished)
        unfinished.replace(self._clip)
