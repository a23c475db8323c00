"""ffmpeg with Owncast's options: a film, or a test picture and a tone, as two variants of a live stream."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broadcaster.demo.processes import HOST, Child, find_program, free_ports, is_free, poll, run
from broadcaster.errors import DemoError

SEGMENT_SECONDS, PLAYLIST_SIZE, FPS = 2, 10, 24  # of the demo's stream
# Owncast removes files itself.
REMOVE_OLD = ("-hls_flags", "+delete_segments", "-hls_delete_threshold", "10")
# Seconds of a stream that Owncast's ffmpeg has read when it starts the clock of its playlists: playlists of
# real servers were ahead of the clock by this, the median of 31.
READ_AHEAD = 1.6
CLOCK_WITHIN = 60.0  # seconds; 1 or 2 are usual
LISTENS_WITHIN = 60.0  # seconds
# Needs a font, which not every machine has; testsrc2 shows the elapsed time itself.
CLOCK = ",drawtext=text='%{localtime}':fontsize=h/10:fontcolor=white:box=1:x=(w-tw)/2:y=h-2*th:boxcolor=black"
TEST_FILM = (
    "testsrc2=size={width}x{height}:rate={fps}{clock}[out0];"
    "sine=frequency=440:beep_factor=4:sample_rate=48000[out1]"
)


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
    once, the rest in real time; the dates in the playlists are ahead of the clock by as much. ``film`` is the
    filter graph of picture and sound. Segments are transport streams, or with ``fragments`` of MP4.
    """

    output: str
    variants: tuple[DemoRendition, ...]
    segment_seconds: int
    playlist_size: int  # segments
    fps: int
    clock: str
    extra: tuple[str, ...] = ()
    burst: float = READ_AHEAD
    film: str = TEST_FILM
    fragments: bool = False

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

    def publish(self) -> list[str]:
        """The options of an encoder that publishes its only variant by RTMP, to the URL ``output``."""
        return [*self._input(), *self.renditions(), "-f", "flv", self.output]

    def _input(self) -> list[str]:
        largest = max(self.variants, key=lambda variant: variant.height)
        film = self.film.format(width=largest.width, height=largest.height, fps=self.fps, clock=self.clock)
        pace = ["-readrate", "1", "-readrate_initial_burst", f"{self.burst:g}"]
        return [*pace, "-f", "lavfi", "-i", film]

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
        return [*options, *common, "-aac_coder", "fast"]  # sound takes more than a small picture otherwise

    def hls(self, run_id: str, segment_seconds: int) -> list[str]:
        """The options of the HLS muxer."""
        streams = " ".join(f"v:{index},a:{index}" for index in range(len(self.variants)))
        names = f"{self.output}/%v/stream-{run_id}-%d.{'m4s' if self.fragments else 'ts'}"
        options = ["-var_stream_map", streams, "-f", "hls", "-hls_time", str(segment_seconds)]
        options += ["-hls_segment_type", "fmp4"] if self.fragments else []
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


@dataclass(frozen=True, slots=True)
class DemoStream:
    """A live stream of the demo's film into ``folder``."""

    encoder: Child
    folder: Path
    mediamtx: Child | None = None  # between encoder and folder
    mediamtx_url: str = ""


@asynccontextmanager
async def owncast_stream(folder: Path) -> AsyncIterator[DemoStream]:
    """Owncast's ffmpeg while inside: two variants. Raises DemoError."""
    hls, log = folder / "hls", folder / "ffmpeg.log"
    options = (await _film(str(hls), RENDITIONS, log)).live(secrets.token_urlsafe(7))
    encoder = await Child.start("ffmpeg", [*ffmpeg(), *options], log)
    try:
        yield DemoStream(encoder, hls)
    finally:
        await encoder.kill()


@asynccontextmanager
async def mediamtx_stream(folder: Path) -> AsyncIterator[DemoStream]:
    """MediaMTX while inside, and ffmpeg that publishes to it: one variant. Raises DemoError."""
    (rtmp, api, other), log = free_ports(3), folder / "ffmpeg.log"
    config = folder / "mediamtx.yml"
    config.write_text(json.dumps(mediamtx_settings(folder / "hls", rtmp, api, other)))  # YAML, as all JSON is
    server = await Child.start("MediaMTX", [find_mediamtx(), config], folder / "mediamtx.log")

    async def listens() -> bool:
        return not is_free(rtmp)

    try:
        await server.until(poll(listens), within=LISTENS_WITHIN)
        options = (await _film(f"rtmp://{HOST}:{rtmp}/live", RENDITIONS[:1], log)).publish()
        encoder = await Child.start("ffmpeg", [*ffmpeg(), *options], log)
        try:
            yield DemoStream(encoder, folder / "hls" / "live", server, f"http://{HOST}:{api}/live")
        finally:
            await encoder.kill()
    finally:
        await server.kill()


async def _film(output: str, variants: tuple[DemoRendition, ...], log: Path) -> FfmpegEncoder:
    texts = TEXTS if await find_clock(log) else ""
    sizes = (variants, SEGMENT_SECONDS, PLAYLIST_SIZE, FPS)
    return FfmpegEncoder(output, *sizes, texts, REMOVE_OLD, film=f"{scene()};{music()}")


def find_mediamtx() -> str:
    """The path of MediaMTX. Raises DemoError if it is missing."""
    try:
        return find_program("mediamtx")
    except DemoError as error:
        act = "put the binary of a release into a folder of PATH: https://github.com/bluenviron/mediamtx/releases"
        raise DemoError(f"--encoder mediamtx: {error}; {act}") from None


def mediamtx_settings(hls: Path, rtmp: int, api: int, other: int) -> dict[str, object]:
    """The settings of a MediaMTX that takes RTMP, and writes the path ``live`` below ``hls``; with its ports.

    They are those of ``deploy/mediamtx``, on this machine alone.
    """
    return {
        "api": True,
        "apiAddress": f"{HOST}:{api}",
        "hls": True,
        "hlsAddress": f"{HOST}:{other}",
        "hlsAlwaysRemux": True,
        "hlsVariant": "mpegts",
        "hlsSegmentCount": PLAYLIST_SIZE,
        "hlsSegmentDuration": f"{SEGMENT_SECONDS}s",
        "hlsDirectory": str(hls),
        "rtmpAddress": f"{HOST}:{rtmp}",
        "readTimeout": "24h",  # a frozen encoder stays connected
        **dict.fromkeys(("rtsp", "srt", "webrtc", "moq"), False),
        "paths": {"live": {}},
    }


TEXTS = "".join(
    f",drawtext=text='{text}':fontsize=h/20:fontcolor=white:shadowx=1:shadowy=1:y=h/20:x={x}"
    for text, x in (("broadcaster demo", "h/20"), ("%{localtime\\:%X}", "w-tw-h/20"))
)


def scene() -> str:
    """The filter graph of a picture of 640 by 360: a sunset over a sea, with hills that pass by.

    Each layer is computed once and then repeated. Layers move by ``scroll``, and their shapes are periodic
    over their width. After 16 seconds the film costs no more processor time than a test picture.
    """

    def layer(width: int, height: int, colours: Sequence[str], alpha: str = "") -> str:
        made, used = ("rgba", "yuva420p") if alpha else ("gbrp", "yuv420p")
        names = [*colours, alpha] if alpha else colours
        planes = ":".join(f"{name}='{value}'" for name, value in zip("rgba", names, strict=False))
        source = f"color=size={width}x{height}:rate={{fps}},trim=end_frame=1"
        return f"{source},format={made},geq={planes},format={used}"

    def hills(width: int, height: int, skyline: str, *colours: str) -> str:
        return layer(width, height, colours, f"255*clip(Y-H*({skyline.replace('@', '2*PI*X/W')}),0,1)")

    def glow(size: float) -> str:
        return f"exp(-hypot(X-W*0.62,Y-H*0.9)/(W*{size}))"

    sun = "clip((H*0.11-hypot(X-W*0.62,Y-H*0.8))/1.5,0,1)"
    waves = "sin(2*PI*X/W*9+Y*Y/70)*sin(Y*1.1+3*sin(2*PI*X/W*5))*(0.25+Y/H)"
    ripples = "gt(sin(2*PI*Y/H*20+2*sin(X*0.12+2*PI*Y/H*4)),0.1)*(1-0.5*Y/H)"
    evening = (
        f"min(255,40+190*pow(Y/H,1.3)+90*{glow(0.2)}+255*{sun})",
        f"min(255,26+95*pow(Y/H,1.8)+80*{glow(0.16)}+120*{sun})",
        f"min(255,78+45*sin(PI*Y/H)+20*{glow(0.1)}+60*{sun})",
    )
    sky = layer(640, 224, evening)
    far = hills(
        *(640, 110, "0.5-0.22*sin(@*2+3.2)-0.16*sin(@*5+4.5)-0.07*sin(@*11+2)-0.03*sin(@*23)"),
        *("96+60*Y/H", "60+30*Y/H", "104+10*Y/H"),
    )
    near = hills(
        *(1280, 80, "0.55-0.25*sin(@*3+4)-0.12*sin(@*7+1)-0.05*sin(@*17)-0.02*sin(@*41)"),
        *("58+30*Y/H", "38+20*Y/H", "82+10*Y/H"),
    )
    water = (
        f"120-90*Y/H+40*exp(-Y/H*4)+34*{waves}",
        f"66-44*Y/H+20*exp(-Y/H*4)+22*{waves}",
        f"96-40*Y/H+22*{waves}",
    )
    sea = layer(640, 136, water)
    light = layer(160, 136, ("255", "190", "110"), f"150*exp(-pow((X-W/2)/(W*(0.1+0.16*Y/H)),2))*{ripples}")
    trees = "0.09*abs(sin(@*40))*gt(sin(@*3+1),0.2)-0.16*pow(abs(sin(@*13+0.7)),9)-0.03*sin(@*90)"
    shore = hills(1280, 82, f"0.76-0.14*sin(@*2)-0.1*sin(@*5+2)-{trees}", "14-6*Y/H", "10-4*Y/H", "28-8*Y/H")
    held = "loop=-1:1"
    return (
        f"{sky},pad=iw:360[sky];{far}[far];[sky][far]overlay=0:130,{held}[distance];"
        f"{near},{held},scroll=h=0.0004,crop=640:ih:0:0[near];"
        f"{sea},{held},scroll=h=-0.0018[sea];"
        f"{light},{held},scroll=v=-0.01[light];"
        f"{shore},{held},scroll=h=0.0018,crop=640:ih:0:0[shore];"
        "[distance][near]overlay=0:160[land];[land][sea]overlay=0:224[water];"
        "[water][light]overlay=317:224[lit];[lit][shore]overlay=0:278{clock}[out0]"
    )


def music() -> str:
    """The filter graph of 16 seconds of music, repeated: four chords, each with eight plucked notes."""
    fifth, minor, major = 1.49831, 1.18921, 1.25992  # of equal temperament
    chord, third, note, time, swell = "ld(2)", "ld(3)", "ld(5)", "ld(4)", "sin(PI*ld(0)/4)"
    up = f"if(eq(ld(1),0),1,if(eq(ld(1),1)+eq(ld(1),7),{fifth},if(eq(ld(1),2)+eq(ld(1),6),2,"
    registers = (
        "st(0,mod(t,4))",  # seconds of the chord
        "st(2,if(lt(t,4),220,if(lt(t,8),174.614,if(lt(t,12),261.626,195.998))))",  # A, F, C, G
        f"st(3,if(lt(t,4),{minor},{major}))",
        "st(1,floor(ld(0)*2))",  # the number of the note
        "st(4,mod(t,0.5))",  # its seconds
        f"st(5,{chord}*{up}if(eq(ld(1),3)+eq(ld(1),5),2*{third},2*{fifth})))))",
    )

    def tone(frequency: str) -> str:
        return f"sin(2*PI*t*{frequency})"

    pad = f"1.6*{tone(f'{chord}/2')}+{tone(chord)}+{tone(f'{chord}*{third}')}+0.8*{tone(f'{chord}*{fifth}')}"
    harmonics = f"0.35*{tone(f'2*{note}')}*exp(-6*{time})+0.12*{tone(f'3*{note}')}*exp(-12*{time})"
    envelope = f"exp(-5*{time})*(1-2*{time})*min(1,200*{time})"
    sound = f"0.07*{swell}*({pad})+0.22*{envelope}*({tone(note)}+{harmonics})"
    source = f"aevalsrc='{';'.join(registers)};{sound}':sample_rate=16000:duration=16"
    return f"{source},aloop=-1:256000,aecho=0.8:0.7:330|500:0.3|0.2,aresample=48000[out1]"
