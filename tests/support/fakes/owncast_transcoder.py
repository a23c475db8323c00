"""Owncast's folder, its latency levels, its key frames with passthrough, and its offline clip."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from broadcaster.demo.encoder import FfmpegEncoder, ffmpeg
from broadcaster.demo.processes import Child, run
from tests.support.waiting import PATIENCE

IDLE = "offline"  # in the place of the run's id in the names of the idle clip's segments
IDLE_SEGMENT_SECONDS = 5  # Owncast transcodes the idle clip at its highest latency level
PUT = ("-method", "PUT")  # Owncast's ffmpeg sends its files by HTTP
KEY_FRAMES_FOR = 4 * 3600  # seconds that a run with uneven key frames may last
NEVER = "1000000"  # frames between two regular key frames
PLAYLIST = "stream.m3u8"
CLIP = "offline.ts"
# The same in fragments of MP4.
CLIP_PATTERN, CLIP_FRAGMENTS, CLIP_MAP = "offline-v2-%d.m4s", "offline-v2-0.m4s", "offline-init-0.mp4"
CLIP_SECONDS = 8
KEEP_BEYOND_PLAYLIST = 10  # segments that Owncast's cleanup leaves besides the listed ones
FOLDER_MODE = 0o750
FILE_MODE = 0o644
PRIVATE_MODE = 0o600
NOTHING = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-TARGETDURATION:{CLIP_SECONDS}\n"
DISCONTINUITY = "#EXT-X-DISCONTINUITY\n"


class LatencyLevel(NamedTuple):
    """How long Owncast's segments are, and how many of them a playlist lists."""

    segment_seconds: int
    playlist_size: int

    def changed(self, segment_seconds: int | None, playlist_size: int | None) -> LatencyLevel:
        """The level with the given values; a new length has the playlist size of Owncast's own level."""
        level = self
        if segment_seconds is not None:
            level = next(
                (known for known in LATENCY_LEVELS if known.segment_seconds == segment_seconds), self
            )
            level = level._replace(segment_seconds=segment_seconds)
        return level if playlist_size is None else level._replace(playlist_size=playlist_size)


# By Owncast's own number; 2 is its default (its models/latencyLevels.go).
LATENCY_LEVELS = (
    LatencyLevel(1, 25),
    LatencyLevel(2, 15),
    LatencyLevel(3, 10),
    LatencyLevel(4, 8),
    LatencyLevel(5, 5),
)


def key_frame_options(key_frames: tuple[float, ...], variants: int) -> tuple[str, ...]:
    """Options for key frames at these seconds only, from 0 to the end of a period that is repeated.

    A segment then ends with the first key frame that is late enough, as with Owncast's passthrough.
    """
    times = ",".join(f"{at:g}" for at in _repeated(key_frames))
    values = {"g:v": NEVER, "keyint_min:v": NEVER, "force_key_frames:v": times}
    pairs = itertools.product(range(variants), values.items())
    return tuple(part for index, (key, value) in pairs for part in (f"-{key}:{index}", value))


def _repeated(key_frames: tuple[float, ...]) -> Iterator[float]:
    start, *others = key_frames
    yield start
    for period in itertools.count():
        for at in others:
            yield period * key_frames[-1] + at
        if (period + 1) * key_frames[-1] > KEY_FRAMES_FOR:
            return


def closing(*clip: str) -> str:
    """The lines of an end: ENDLIST after the clip, which is one file, or a map and its fragments."""
    clip_map = "".join(f'#EXT-X-MAP:URI="{name}"\n' for name in clip[:-1])
    return f"{clip_map}#EXTINF:{CLIP_SECONDS}.000000,\n{clip[-1]}\n#EXT-X-ENDLIST\n"


class OwncastFolder:
    """The folder ``path``, written to as Owncast does; with ``older``, as its older versions did."""

    def __init__(self, path: Path, *, older: bool) -> None:
        self._path = path
        self._older = older

    def empty(self) -> None:
        """Remove the folder itself and make it anew, as at Owncast's start and 5 minutes after an end."""
        if self._path.exists():
            shutil.rmtree(self._path)
        _make(self._path)

    def prepare(self, variants: int) -> None:
        """Make the folders of a transcoder that starts; newer versions remove all earlier files."""
        if not self._older:
            self.empty()
        for folder in self._folders(variants):
            _make(folder)

    def clean_up(self, variants: int, playlist_size: int) -> None:
        """Remove all but the newest segments, as each minute while a stream is on."""
        for folder in self._folders(variants):
            segments = [*folder.glob("*.ts"), *folder.glob("*.m4s")]
            newest_first = sorted(segments, key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in newest_first[playlist_size + KEEP_BEYOND_PLAYLIST :]:
                path.unlink()

    def close_playlists(self, variants: int, clip: tuple[Path, ...]) -> None:
        """Append ``clip`` and ENDLIST to each variant's playlist.

        The clip is one file, or a map and its fragments. The new playlist is made beside it and moved over
        the old one: only their owner may read these files. Older versions wrote in place.
        """
        ending = closing(*(file.name for file in clip))
        for folder in self._folders(variants):
            playlist = folder / PLAYLIST
            for file in clip:
                shutil.copyfile(file, folder / file.name)
                (folder / file.name).chmod(FILE_MODE if self._older else PRIVATE_MODE)
            if not playlist.exists():
                playlist.write_text(NOTHING + ending)
            elif self._older:
                with playlist.open("a") as text:
                    text.write(DISCONTINUITY + ending)
            else:
                self._replace(playlist, playlist.read_text() + DISCONTINUITY + ending, clip[-1].parent)

    @staticmethod
    def _replace(playlist: Path, text: str, beside: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=f"tmp-stream-{playlist.parent.name}.m3u8", dir=beside)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).replace(playlist)

    def _folders(self, variants: int) -> list[Path]:
        return [self._path / str(index) for index in range(variants)]


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)  # whatever the umask


class IdleClip:
    """The clip, kept in ``work_dir``, and its transcoder.

    ``files`` are what a closing playlist names: the clip, or with ``fragments`` its map and its fragments.
    Owncast takes ``takes`` seconds to transcode the clip, and a stream that begins does not stop it. Without
    a stream the clip is in the folder at once here, so that tests need not wait; a stream that begins earlier
    has the ``transcoder`` beside it for the rest of the time. Methods raise DemoError when ffmpeg fails.
    """

    clip: ClassVar[bytes] = b""  # the same in all tests of a process

    def __init__(self, work_dir: Path, takes: float, *, fragments: bool = False) -> None:
        self.files = tuple(work_dir / name for name in ((CLIP_MAP, CLIP_FRAGMENTS) if fragments else (CLIP,)))
        self.takes = takes
        self._clip = work_dir / CLIP
        self._work_dir = work_dir
        self._ends = 0.0  # when the transcoder has done its work, by the loop's clock
        self.transcoder: Child | None = None

    async def make(self) -> None:
        """Make the clip, unless it exists."""
        if not self._clip.exists():
            unfinished = self._work_dir / f"unfinished-{CLIP}"
            source = "smptebars=size=320x180:rate=24[out0];anullsrc=sample_rate=48000[out1]"
            video = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "24")
            output = ("-t", str(CLIP_SECONDS), *video, "-c:a", "aac", "-f", "mpegts", "-y", str(unfinished))
            if not IdleClip.clip:
                await self._run_ffmpeg("-f", "lavfi", "-i", source, *output)
                IdleClip.clip = unfinished.read_bytes()
            unfinished.write_bytes(IdleClip.clip)
            unfinished.replace(self._clip)
        if not all(file.exists() for file in self.files):
            copied = ("-c", "copy", "-bsf:a", "aac_adtstoasc", "-f", "hls", "-hls_segment_type", "fmp4")
            names = ("-hls_fmp4_init_filename", CLIP_MAP, "-hls_segment_filename")
            into = (f"{self._work_dir}/{CLIP_PATTERN}", "-hls_time", "60", f"{self._work_dir}/clip.m3u8")
            await self._run_ffmpeg("-i", self._clip, *copied, *names, *into)

    async def show(self, encoder: FfmpegEncoder) -> None:
        """Put the clip into the folder at once."""
        await self._run_ffmpeg("-i", self._clip, *_idle(encoder))

    def begin(self) -> None:
        """Note that a transcoder has started; ``go_on`` lets it do its work."""
        self._ends = asyncio.get_running_loop().time() + self.takes

    async def go_on(self, encoder: FfmpegEncoder) -> None:
        """Let a transcoder that has not done its work yet go on in the background."""
        left = self._ends - asyncio.get_running_loop().time()
        if left > 0 and self.transcoder is None:
            pace = f"{CLIP_SECONDS / left:.3f}"
            command = [*ffmpeg(), "-readrate", pace, "-i", str(self._clip), *_idle(encoder)]
            self.transcoder = await Child.start("ffmpeg", command, self._work_dir / "ffmpeg-idle.log")

    async def end(self) -> None:
        """End a transcoder that is at work: Owncast itself has ended."""
        if self.transcoder is not None:
            await self.transcoder.kill()
            self.transcoder = None

    async def _run_ffmpeg(self, *options: str | Path) -> None:
        await run("ffmpeg", [*ffmpeg(), *options], self._work_dir / "ffmpeg.log", within=PATIENCE)


def _idle(encoder: FfmpegEncoder) -> list[str]:
    """Options that make an input the finished playlist of an idle Owncast, in each variant."""
    return [
        *encoder.renditions(),
        *encoder.hls(IDLE, IDLE_SEGMENT_SECONDS),
        *("-hls_flags", "program_date_time+independent_segments", "-hls_playlist_type", "event"),
        *encoder.extra,
        f"{encoder.output}/%v/{PLAYLIST}",
    ]
