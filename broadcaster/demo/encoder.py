"""ffmpeg with Owncast's options: a test picture and a tone as two variants of a live stream."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from broadcaster.demo.processes import Child, run
from broadcaster.errors import DemoError

SEGMENT_SECONDS, PLAYLIST_SIZE, FPS = 2, 10, 24  # of the demo's stream
# Owncast removes files itself.
REMOVE_OLD = ("-hls_flags", "+delete_segments", "-hls_delete_threshold", "10")
# Seconds of a stream that Owncast's ffmpeg has read when it starts the clock of its playlists: playlists of
# real servers were ahead of the clock by this, the median of 31.
READ_AHEAD = 1.6
CLOCK_WITHIN = 60.0  # seconds; 1 or 2 are usual
# Needs a font, which not every machine has; testsrc2 shows the elapsed time itself.
CLOCK = ",drawtext=text='%{localtime}':fontsize=h/10:fontcolor=white:box=1:x=(w-tw)/2:y=h-2*th:boxcolor=black"


@dataclass(frozen=True, slots=True)
class DemoRendition:
    """A variant of the stream: its size in pixels, and its video in kbit/s."""

    width: int
    height: int
    bitrate: int


RENDITIONS = (DemoRendition(640, 360, 800), DemoRendition(320, 180, 300))


@dataclass(frozen=True, slots=True)
class FfmpegEncoder:
    """Owncast's ffmpeg options for a stream into ``output``, a folder or a URL.

    ``clock`` is a video filter, or empty; ``extra`` are further output options. ``burst`` seconds are read at
    once, the rest in real time; the dates in the playlists are ahead of the clock by as much.
    """

    output: str
    variants: tuple[DemoRendition, ...]
    segment_seconds: int
    playlist_size: int  # segments
    fps: int
    clock: str
    extra: tuple[str, ...] = ()
    burst: float = READ_AHEAD

    def live(self, run_id: str) -> list[str]:
        """The options of an encoder run, which goes on until it is stopped."""
        return [
            *("-fflags", "+genpts", "-flags", "+cgop"),
            *self._input(),
            *self.renditions(),
            *self.hls(run_id, self.segment_seconds),
            *("-hls_list_size", str(self.playlist_size)),
            *("-hls_flags", "program_date_time+independent_segments+omit_endlist"),
            *("-segment_format_options", "mpegts_flags=mpegts_copyts=1"),
            *("-max_muxing_queue_size", "400"),
            *self.extra,
            self.output + "/%v/stream.m3u8",
        ]

    def _input(self) -> list[str]:
        largest = max(self.variants, key=lambda variant: variant.height)
        picture = f"testsrc2=size={largest.width}x{largest.height}:rate={self.fps}{self.clock}[out0]"
        tone = "sine=frequency=440:beep_factor=4:sample_rate=48000[out1]"
        pace = ["-readrate", "1", "-readrate_initial_burst", f"{self.burst:g}"]
        return [*pace, "-f", "lavfi", "-i", f"{picture};{tone}"]

    def renditions(self) -> list[str]:
        """The encoder's options for all variants."""
        options = []
        for index, variant in enumerate(self.variants):
            frames = str(self.fps * self.segment_seconds)
            values = {
                "c:v": "libx264",
                "b:v": f"{variant.bitrate}k",
                "maxrate:v": f"{variant.bitrate * 106 // 100}k",
                "bufsize:v": f"{variant.bitrate * 12 // 10}k",
                "g:v": frames,
                "keyint_min:v": frames,
                "profile:v": "high",
                "r:v": str(self.fps),
                "filter:v": f"scale={variant.width}:{variant.height}",
                "c:a": "aac",
                "b:a": "96k",
            }
            options += ["-map", "v:0", "-map", "a:0?"]
            options += [part for key, value in values.items() for part in (f"-{key}:{index}", value)]
        common = ["-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-sc_threshold", "0"]
        return options + common

    def hls(self, run_id: str, segment_seconds: int) -> list[str]:
        """The options of the HLS muxer."""
        streams = " ".join(f"v:{index},a:{index}" for index in range(len(self.variants)))
        names = f"{self.output}/%v/stream-{run_id}-%d.ts"
        options = ["-var_stream_map", streams, "-f", "hls", "-hls_time", str(segment_seconds)]
        return [*options, "-master_pl_name", "stream.m3u8", "-hls_segment_filename", names]


def ffmpeg() -> list[str]:
    """The program with the options of all its uses. Raises DemoError if it is missing."""
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - an optional package

        return [str(imageio_ffmpeg.get_ffmpeg_exe()), "-hide_banner", "-loglevel", "warning", "-nostdin"]
    except (ImportError, RuntimeError) as error:
        raise DemoError("ffmpeg is missing: the package imageio-ffmpeg brings it") from error


async def find_clock(log: Path) -> str:
    """The filter that shows the time; empty if this machine has no font for it."""
    options = ["-f", "lavfi", "-i", f"color=size=64x64{CLOCK}", "-frames:v", "1", "-f", "null", "-"]
    command = [*ffmpeg(), *options]
    try:
        await run("ffmpeg", command, log, within=CLOCK_WITHIN)
    except DemoError:
        return ""
    return CLOCK


async def start_encoder(folder: Path, log: Path) -> Child:
    """Start a live stream into ``folder``. Raises DemoError."""
    clock = await find_clock(log)
    encoder = FfmpegEncoder(str(folder), RENDITIONS, SEGMENT_SECONDS, PLAYLIST_SIZE, FPS, clock, REMOVE_OLD)
    return await Child.start("ffmpeg", [*ffmpeg(), *encoder.live(secrets.token_urlsafe(7))], log)
