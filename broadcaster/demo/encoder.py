"""Owncast's ffmpeg: its command line with a test picture and tone, its folder, and its offline clip."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from broadcaster.demo.processes import Child, run
from broadcaster.errors import DemoError

IDLE = "offline"  # what stands in the place of a run's id in the idle clip's names
IDLE_SEGMENT_SECONDS = 5  # Owncast transcodes the idle clip at its highest latency level
# Seconds of a stream that Owncast's ffmpeg has when it starts the clock of its playlists, having looked at
# them: playlists of real ones were ahead of the clock by this, the median of 31.
LOOKED_AT = 1.6
KEY_FRAMES_FOR = 4 * 3600  # seconds that a run with uneven key frames may last
NEVER = 1_000_000  # frames between two key frames that nobody asked for
# Needs a font, which not every machine has; testsrc2 draws a running time of its own.
CLOCK = ",drawtext=text='%{localtime}':fontsize=h/10:fontcolor=white:box=1:x=(w-tw)/2:y=h-2*th:boxcolor=black"


@dataclass(frozen=True, slots=True)
class DemoRendition:
    """One variant of the stream: pixels, and kbit/s of its video."""

    width: int
    height: int
    bitrate: int


RENDITIONS = (DemoRendition(640, 360, 800), DemoRendition(320, 180, 300))


class LatencyLevel(NamedTuple):
    """How long Owncast's segments are, and how many of them a playlist lists."""

    segment_seconds: int
    playlist_size: int

    def changed(self, segment_seconds: int | None, playlist_size: int | None) -> LatencyLevel:
        """Return it with what is given; Owncast's own size belongs to a new length unless one is given."""
        level = self
        if segment_seconds is not None:
            level = next((one for one in LATENCY_LEVELS if one.segment_seconds == segment_seconds), self)
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


@dataclass(frozen=True, slots=True)
class FfmpegEncoder:
    """ffmpeg's options for a receiver at ``url``; ``clock`` is a filter after the picture, or empty.

    ``key_frames`` are the seconds of a source's key frames, from 0 to the end of a period that is repeated; a
    segment then ends with the first key frame that is late enough, as with Owncast's passthrough. Without
    them there is one at the start of each segment. ``burst`` seconds are read at once, the rest at the pace
    of a stream; playlists are dated from that moment, so they are ahead of the clock by so much.
    """

    url: str
    variants: tuple[DemoRendition, ...]
    segment_seconds: int
    playlist_size: int  # segments
    fps: int
    clock: str
    key_frames: tuple[float, ...] = ()
    burst: float = LOOKED_AT

    def live(self, run_id: str) -> list[str]:
        """Options of a run that goes on until it is stopped."""
        return [
            *("-fflags", "+genpts", "-flags", "+cgop"),
            *self._input(),
            *self._renditions(),
            *self._output(run_id, self.segment_seconds),
            *("-hls_list_size", str(self.playlist_size)),
            *("-hls_flags", "program_date_time+independent_segments+omit_endlist"),
            *("-segment_format_options", "mpegts_flags=mpegts_copyts=1"),
            *("-max_muxing_queue_size", "400"),
            self.url + "/%v/stream.m3u8",
        ]

    def idle(self) -> list[str]:
        """Options, after an input, that make it the finished playlist of an idle Owncast, in each variant."""
        return [
            *self._renditions(),
            *self._output(IDLE, IDLE_SEGMENT_SECONDS),
            *("-hls_flags", "program_date_time+independent_segments", "-hls_playlist_type", "event"),
            self.url + "/%v/stream.m3u8",
        ]

    def _input(self) -> list[str]:
        largest = max(self.variants, key=lambda one: one.height)
        picture = f"testsrc2=size={largest.width}x{largest.height}:rate={self.fps}{self.clock}[out0]"
        tone = "sine=frequency=440:beep_factor=4:sample_rate=48000[out1]"
        pace = ["-readrate", "1", "-readrate_initial_burst", f"{self.burst:g}"]
        return [*pace, "-f", "lavfi", "-i", f"{picture};{tone}"]

    def _renditions(self) -> list[str]:
        each = (self._rendition(index, one) for index, one in enumerate(self.variants))
        common = ["-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-sc_threshold", "0"]
        return [*itertools.chain.from_iterable(each), *common]

    def _rendition(self, index: int, one: DemoRendition) -> list[str]:
        frames = str(NEVER if self.key_frames else self.fps * self.segment_seconds)
        values = {
            "c:v": "libx264",
            "b:v": f"{one.bitrate}k",
            "maxrate:v": f"{one.bitrate * 106 // 100}k",
            "bufsize:v": f"{one.bitrate * 12 // 10}k",
            "g:v": frames,
            "keyint_min:v": frames,
            "profile:v": "high",
            "r:v": str(self.fps),
            "filter:v": f"scale={one.width}:{one.height}",
            "c:a": "aac",
            "b:a": "96k",
        }
        if self.key_frames:
            values["force_key_frames:v"] = ",".join(f"{at:g}" for at in _repeated(self.key_frames))
        options = [part for key, value in values.items() for part in (f"-{key}:{index}", value)]
        return ["-map", "v:0", "-map", "a:0?", *options]

    def _output(self, run_id: str, segment_seconds: int) -> list[str]:
        streams = " ".join(f"v:{index},a:{index}" for index in range(len(self.variants)))
        names = f"{self.url}/%v/stream-{run_id}-%d.ts"
        options = ["-var_stream_map", streams, "-f", "hls", "-hls_time", str(segment_seconds)]
        return [*options, "-master_pl_name", "stream.m3u8", "-hls_segment_filename", names, "-method", "PUT"]


def _repeated(key_frames: tuple[float, ...]) -> Iterator[float]:
    start, *others = key_frames
    yield start
    for period in itertools.count():
        for at in others:
            yield period * key_frames[-1] + at
        if (period + 1) * key_frames[-1] > KEY_FRAMES_FOR:
            return


def clip_options(seconds: int) -> list[str]:
    """Return the options, before a file's name, that make the offline clip."""
    source = "smptebars=size=320x180:rate=24[out0];anullsrc=sample_rate=48000[out1]"
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "24", "-c:a", "aac"]
    return ["-f", "lavfi", "-i", source, "-t", str(seconds), *codecs, "-f", "mpegts", "-y"]


def ffmpeg() -> list[str]:
    """Return the program with what it is always told. Raises DemoError when it is missing."""
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - an extra: without it only the demo cannot run, and says so

        return [str(imageio_ffmpeg.get_ffmpeg_exe()), "-hide_banner", "-loglevel", "warning", "-nostdin"]
    except (ImportError, RuntimeError) as error:
        raise DemoError("ffmpeg is missing: the package imageio-ffmpeg brings it") from error


PLAYLIST = "stream.m3u8"
CLIP = "offline.ts"
CLIP_SECONDS = 8
KEEP_BEYOND_PLAYLIST = 10  # segments that Owncast's cleanup leaves besides those listed
FOLDER_MODE = 0o750
FILE_MODE = 0o644
PRIVATE_MODE = 0o600
ENDING = f"#EXT-X-DISCONTINUITY\n#EXTINF:{CLIP_SECONDS}.000000,\n{CLIP}\n#EXT-X-ENDLIST\n"
NOTHING_BUT_THE_CLIP = (
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:0\n"
    f"#EXT-X-TARGETDURATION:{CLIP_SECONDS}\n#EXTINF:{CLIP_SECONDS}.000,\n{CLIP}\n#EXT-X-ENDLIST\n"
)


class HlsFolder:
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
        """Make the folders of a transcoder that starts: in the place of all that was there, unless older."""
        if not self._older:
            self.empty()
        for folder in self._folders(variants):
            _make(folder)

    def clean_up(self, variants: int, playlist_size: int) -> None:
        """Remove all but the newest segments, as each minute while a stream is on."""
        for folder in self._folders(variants):
            newest_first = sorted(folder.glob("*.ts"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in newest_first[playlist_size + KEEP_BEYOND_PLAYLIST :]:
                path.unlink()

    def close_playlists(self, variants: int, clip: Path) -> None:
        """Append ``clip`` and ENDLIST to each variant's playlist.

        The new playlist is made beside ``clip`` and moved over the old one: both files are for their owner's
        eyes alone. Older versions wrote in place.
        """
        for folder in self._folders(variants):
            playlist = folder / PLAYLIST
            shutil.copyfile(clip, folder / CLIP)
            (folder / CLIP).chmod(FILE_MODE if self._older else PRIVATE_MODE)
            if not playlist.exists():
                playlist.write_text(NOTHING_BUT_THE_CLIP)
            elif self._older:
                with playlist.open("a") as file:
                    file.write(ENDING)
            else:
                self._replace(playlist, playlist.read_text() + ENDING, clip.parent)

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


STEP_WITHIN = 60.0  # seconds for what ffmpeg does in one or two


class IdleClip:
    """The clip, kept in ``work_dir``, and its transcoder.

    Owncast takes ``takes`` seconds to transcode it, and is not stopped by a stream that begins. Here it is in
    the folder at once where nobody is live, so that nobody has to wait for it; a stream that begins earlier
    than that has the transcoder beside it for the rest of the time. Methods raise DemoError when ffmpeg
    cannot do its work.
    """

    def __init__(self, work_dir: Path, takes: float) -> None:
        self.clip = work_dir / CLIP
        self.takes = takes
        self._work_dir = work_dir
        self._ends = 0.0  # when the transcoder has done its work, by the loop's clock
        self._transcoder: Child | None = None

    async def make(self) -> None:
        """Make the clip, unless it is there."""
        if not self.clip.exists():
            # Under another name first: a clip that is there is taken for whole.
            unfinished = self._work_dir / f"unfinished-{CLIP}"
            await self.run_ffmpeg(*clip_options(CLIP_SECONDS), unfinished)
            unfinished.replace(self.clip)

    async def find_clock(self) -> str:
        """Return the filter that draws the time, or an empty one where this machine has no font for it."""
        picture = f"color=size=64x64{CLOCK}"
        try:
            await self.run_ffmpeg("-f", "lavfi", "-i", picture, "-frames:v", "1", "-f", "null", "-")
        except DemoError:
            return ""
        return CLOCK

    async def show(self, options: FfmpegEncoder) -> None:
        """Put the clip into the folder at once."""
        await self.run_ffmpeg("-i", self.clip, *options.idle())

    def begin(self) -> None:
        """Note that a transcoder has started, which ``go_on`` lets do its work."""
        self._ends = asyncio.get_running_loop().time() + self.takes

    async def go_on(self, options: FfmpegEncoder) -> None:
        """Let a transcoder that has not done its work yet go on in the background."""
        left = self._ends - asyncio.get_running_loop().time()
        if left > 0 and self._transcoder is None:
            pace = f"{CLIP_SECONDS / left:.3f}"
            command = [*ffmpeg(), "-readrate", pace, "-i", str(self.clip), *options.idle()]
            self._transcoder = await Child.start("ffmpeg", command, self._work_dir / "ffmpeg-idle.log")

    async def end(self) -> None:
        """End a transcoder that is at work: Owncast itself has ended."""
        if self._transcoder is not None:
            await self._transcoder.kill()
            self._transcoder = None

    async def run_ffmpeg(self, *options: str | Path) -> None:
        """Run ffmpeg to its end."""
        await run("ffmpeg", [*ffmpeg(), *options], self._work_dir / "ffmpeg.log", within=STEP_WITHIN)
