"""A small broadcaster made on the spot: encoder runs in, playlists out, segments on another port.

It numbers segments from 1 across encoder runs, marks the seams with DISCONTINUITY, and can fail on demand.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import imageio_ffmpeg
import pytest
from aiohttp import web

from broadcaster.viewer_server.pages import with_settings
from tests.support.fakes.event_source import EventSource
from tests.support.waiting import eventually

VIEWER = Path(__file__).resolve().parents[3] / "viewer" / "public"
HEIGHTS = (360, 180)  # of the two variants
M3U8 = "application/vnd.apple.mpegurl"
NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Listed:
    """One segment as the playlist lists it; run -1 is a gap."""

    run: int
    name: str
    seconds: float
    time: float  # of its first picture, seconds since the epoch


@dataclass
class FakeOrigin:
    """A small broadcaster: encoder runs in, playlists out."""

    root: Path
    bucket: str = ""
    multivariant: bool = True
    on: bool = False
    ended: bool = False
    away: bool = False  # the broadcaster answers nothing but errors; the streamer's own server still does
    config: dict[str, object] = field(default_factory=dict)  # the page's config.json
    window: int = 20  # segments: more than a busy browser is late
    word: EventSource = field(default_factory=EventSource)  # what it tells as events
    runs: list[asyncio.subprocess.Process] = field(default_factory=list)
    started: list[float] = field(default_factory=list)  # when each run began, seconds since the epoch
    segments: list[Listed] = field(default_factory=list)

    async def encode(self) -> None:
        """Start an encoder: test picture, tone, two variants, 1-second segments."""
        run = self.root / str(len(self.runs))
        for variant in range(len(HEIGHTS)):
            (run / str(variant)).mkdir(parents=True)
        sizes = [f"scale=-2:{height}" for height in HEIGHTS]
        outputs = itertools.chain.from_iterable(
            [
                *("-map", "0:v", "-map", "1:a", "-vf", size, "-c:v", "libx264", "-preset", "ultrafast"),
                *("-pix_fmt", "yuv420p", "-g", "15", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "64k"),
                *("-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-hls_flags", "temp_file"),
                *(
                    "-hls_segment_filename",
                    str(run / str(variant) / "s-%d.ts"),
                    str(run / str(variant) / "s.m3u8"),
                ),
            ]
            for variant, size in enumerate(sizes)
        )
        sources = ("testsrc2=size=640x360:rate=15", "sine=220")
        inputs = itertools.chain.from_iterable(("-re", "-f", "lavfi", "-i", source) for source in sources)
        process = await asyncio.create_subprocess_exec(
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *inputs, *outputs),
            stdin=asyncio.subprocess.DEVNULL,
        )
        self.runs.append(process)
        self.started.append(time.time())

    async def stop(self) -> None:
        """Kill the encoder, as a lost connection would."""
        if self.runs and self.runs[-1].returncode is None:
            self.runs[-1].kill()
            await self.runs[-1].wait()

    async def start_stream(self, *, multivariant: bool) -> None:
        """Begin a new stream at the old address; numbers go on."""
        self.multivariant = multivariant
        await self.encode()
        await eventually(lambda: bool(self.fresh()))
        self.on, self.ended = True, False

    def fresh(self) -> list[Listed]:
        """List what the newest run has finished, in every variant, and the playlist does not have yet."""
        run = len(self.runs) - 1
        per_variant = [self.parse(self.root / str(run) / str(v) / "s.m3u8") for v in range(len(HEIGHTS))]
        done = min(per_variant, key=len)
        taken = sum(segment.run == run for segment in self.segments)
        starts = itertools.accumulate((seconds for seconds, _ in done), initial=self.started[run])
        listed = [
            Listed(run, name, seconds, start) for (seconds, name), start in zip(done, starts, strict=False)
        ]
        return listed[taken:]

    @staticmethod
    def parse(path: Path) -> list[tuple[float, str]]:
        if not path.exists():
            return []
        found = re.findall(r"#EXTINF:([\d.]+),.*\n(\S+)", path.read_text())
        return [(float(seconds), name) for seconds, name in found]

    def lose_next(self) -> None:
        """Let the next listed place be a gap, as if the bucket had refused the segment."""
        last = self.segments[-1]
        self.segments.append(Listed(-1, "lost.ts", 1.0, last.time + last.seconds))

    def media(self, variant: int, base: str) -> str:
        """Return a variant's playlist, its segments under ``base``."""
        if not self.ended:
            self.segments += self.fresh()
        window = self.segments[-self.window :]
        before = self.segments[: len(self.segments) - len(window)]
        lines = ["#EXTM3U", "#EXT-X-VERSION:8", "#EXT-X-TARGETDURATION:2"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{len(before) + 1}"]
        lines += [f"#EXT-X-DISCONTINUITY-SEQUENCE:{len(seams(before))}"]
        lines += ["#EXT-X-INDEPENDENT-SEGMENTS"]
        all_seams = seams(self.segments)
        for number, segment in enumerate(window, start=len(before)):
            if number in all_seams:
                lines.append("#EXT-X-DISCONTINUITY")
            if segment.run < 0:
                lines.append("#EXT-X-GAP")
            moment = datetime.fromtimestamp(segment.time, UTC).isoformat(timespec="milliseconds")
            lines += [f"#EXT-X-PROGRAM-DATE-TIME:{moment}", f"#EXTINF:{segment.seconds:.3f},"]
            lines += [f"{base}/{segment.run}/{variant}/{segment.name}"]
        return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if self.ended else []), ""])

    def top(self, base: str) -> str:
        """Return the playlist that a player begins with."""
        if not self.multivariant:
            return self.media(0, base)
        streams = [
            f"#EXT-X-STREAM-INF:BANDWIDTH={height * 2500},RESOLUTION={height * 16 // 9}x{height},"
            f'CODECS="avc1.42c01e,mp4a.40.2"\n{variant}/playlist.m3u8'
            for variant, height in enumerate(HEIGHTS)
        ]
        return "\n".join(["#EXTM3U", *streams, ""])


def seams(segments: list[Listed]) -> set[int]:
    """Where another encoder run begins (a gap breaks nothing by itself)."""
    real = [(number, segment.run) for number, segment in enumerate(segments) if segment.run >= 0]
    return {number for (_, before), (number, run) in itertools.pairwise(real) if before != run}


async def serve(app: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, site_url(runner)


def site_url(runner: web.AppRunner) -> str:
    host, port = cast("tuple[str, int]", runner.addresses[0])
    return f"http://{host}:{port}"


def origin_of(fake_origin: FakeOrigin) -> web.Application:
    """Serve page and playlists, never a byte of video; under ``/hls`` be the streamer's own server."""

    def answer(request: web.Request, base: str) -> web.Response:
        variant = request.match_info.get("variant")
        if not fake_origin.on or (variant and not fake_origin.multivariant):
            return web.Response(status=404, headers=NO_STORE)
        text = fake_origin.media(int(variant), base) if variant else fake_origin.top(base)
        return web.Response(text=text, content_type=M3U8, headers=NO_STORE)

    async def live(request: web.Request) -> web.Response:
        if fake_origin.away:
            return web.Response(status=502, headers=NO_STORE)
        return answer(request, fake_origin.bucket)

    async def own(request: web.Request) -> web.Response:
        return answer(request, "/hls/segments")

    async def config(_: web.Request) -> web.Response:
        return web.json_response(fake_origin.config)

    async def index(_: web.Request) -> web.Response:
        html = (VIEWER / "index.html").read_text()
        written = with_settings(fake_origin.config, html) if fake_origin.config else html
        return web.Response(text=written, content_type="text/html")

    app = web.Application()
    app.router.add_get("/live/playlist.m3u8", live)
    app.router.add_get(r"/live/{variant:\d}/playlist.m3u8", live)
    app.router.add_get("/hls/stream.m3u8", own)
    app.router.add_get(r"/hls/{variant:\d}/playlist.m3u8", own)
    app.router.add_static("/hls/segments", fake_origin.root)
    app.router.add_get("/live/events", fake_origin.word.answer)
    app.router.add_get("/config.json", config)
    app.router.add_get("/", index)
    app.router.add_static("/", VIEWER)
    return app


def bucket_of(fake_origin: FakeOrigin) -> web.Application:
    """Segments, open to every origin."""

    async def cors(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Access-Control-Allow-Origin"] = "*"

    app = web.Application()
    app.on_response_prepare.append(cors)
    app.router.add_static("/", fake_origin.root)
    return app


@dataclass(frozen=True)
class Place:
    """What a test plays with."""

    fake_origin: FakeOrigin
    url: str


@asynccontextmanager
async def on_air(tmp_path: Path) -> AsyncIterator[Place]:
    """Serve the page, the playlists and the bucket on ports of their own."""
    if not (VIEWER / "vendor" / "hls.min.mjs").exists():
        pytest.fail("viewer/public/vendor is missing: run `npm ci && npm run vendor` in viewer/")
    fake_origin = FakeOrigin(tmp_path / "bucket")
    fake_origin.root.mkdir()
    bucket, fake_origin.bucket = await serve(bucket_of(fake_origin))
    origin, url = await serve(origin_of(fake_origin))
    try:
        yield Place(fake_origin, url)
    finally:
        fake_origin.word.tell(None)
        await fake_origin.stop()
        await origin.cleanup()
        await bucket.cleanup()
