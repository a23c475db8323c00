"""The viewer's page in a real Chromium, against a live stream made on the spot.

The server of these tests stands in for the broadcaster: it numbers segments from 1 across encoder runs,
marks the seams with DISCONTINUITY, and points at a "bucket" on another port.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import imageio_ffmpeg
import pytest
from aiohttp import web

from tests.support.page import is_, no_complaints, seen, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page

VIEWER = Path(__file__).resolve().parents[2] / "viewer" / "public"
WINDOW = 8
HEIGHTS = (360, 180)  # of the two variants
M3U8 = "application/vnd.apple.mpegurl"


@dataclass(frozen=True)
class Listed:
    """One segment as the playlist lists it; run -1 is a gap."""

    run: int
    name: str
    seconds: float


@dataclass
class Station:
    """A small broadcaster: encoder runs in, playlists out."""

    root: Path
    bucket: str = ""
    multivariant: bool = True
    on: bool = False
    ended: bool = False
    runs: list[asyncio.subprocess.Process] = field(default_factory=list)
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
        inputs = (
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x360:rate=15",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "sine=220",
        )
        process = await asyncio.create_subprocess_exec(
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *inputs, *outputs),
            stdin=asyncio.subprocess.DEVNULL,
        )
        self.runs.append(process)

    async def stop(self) -> None:
        """Kill the encoder, as a lost connection would."""
        if self.runs and self.runs[-1].returncode is None:
            self.runs[-1].kill()
            await self.runs[-1].wait()

    async def start_stream(self, *, multivariant: bool) -> None:
        """Begin a new stream at the old address; numbers go on."""
        self.multivariant = multivariant
        await self.encode()
        while not self.fresh():  # noqa: ASYNC110 - the encoder is another process: it sets no event
            await asyncio.sleep(0.05)
        self.on, self.ended = True, False

    def fresh(self) -> list[Listed]:
        """List what the newest run has finished, in every variant, and the playlist does not have yet."""
        run = len(self.runs) - 1
        per_variant = [self.parse(self.root / str(run) / str(v) / "s.m3u8") for v in range(len(HEIGHTS))]
        done = min(per_variant, key=len)
        taken = sum(segment.run == run for segment in self.segments)
        return [Listed(run, name, seconds) for seconds, name in done[taken:]]

    @staticmethod
    def parse(path: Path) -> list[tuple[float, str]]:
        if not path.exists():
            return []
        found = re.findall(r"#EXTINF:([\d.]+),.*\n(\S+)", path.read_text())
        return [(float(seconds), name) for seconds, name in found]

    def lose_next(self) -> None:
        """Let the next listed place be a gap, as if the bucket had refused the segment."""
        self.segments.append(Listed(-1, "lost.ts", 1.0))

    def media(self, variant: int) -> str:
        if not self.ended:
            self.segments += self.fresh()
        window = self.segments[-WINDOW:]
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
            lines += [f"#EXTINF:{segment.seconds:.3f},"]
            lines += [f"{self.bucket}/{segment.run}/{variant}/{segment.name}"]
        return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if self.ended else []), ""])

    def top(self) -> str:
        if not self.multivariant:
            return self.media(0)
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


def origin_of(station: Station) -> web.Application:
    """Page and playlists, never a byte of video."""
    plain = {"Cache-Control": "no-store"}

    async def top(_: web.Request) -> web.Response:
        if not station.on:
            return web.Response(status=404, headers=plain)
        return web.Response(text=station.top(), content_type=M3U8, headers=plain)

    async def media(request: web.Request) -> web.Response:
        variant = int(request.match_info["variant"])
        if not station.on or not station.multivariant:
            return web.Response(status=404, headers=plain)
        return web.Response(text=station.media(variant), content_type=M3U8, headers=plain)

    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(VIEWER / "index.html")

    app = web.Application()
    app.router.add_get("/live/playlist.m3u8", top)
    app.router.add_get(r"/live/{variant:\d}/playlist.m3u8", media)
    app.router.add_get("/", index)
    app.router.add_static("/", VIEWER)
    return app


def bucket_of(station: Station) -> web.Application:
    """Segments, open to every origin."""

    async def cors(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Access-Control-Allow-Origin"] = "*"

    app = web.Application()
    app.on_response_prepare.append(cors)
    app.router.add_static("/", station.root)
    return app


@dataclass(frozen=True)
class Place:
    """What a test plays with."""

    station: Station
    url: str


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Serve the page, the playlists and the bucket on ports of their own."""
    if not (VIEWER / "vendor" / "hls.min.mjs").exists():
        pytest.fail("viewer/public/vendor is missing: run `npm ci && npm run vendor` in viewer/")
    station = Station(tmp_path / "bucket")
    station.root.mkdir()
    bucket, station.bucket = await serve(bucket_of(station))
    origin, url = await serve(origin_of(station))
    yield Place(station, url)
    await station.stop()
    await origin.cleanup()
    await bucket.cleanup()


async def test_page_follows_streams_from_offline_to_the_next_stream(
    page: Page, place: Place, tmp_path: Path
) -> None:
    """The page waits, plays without a stall, sits out a pause and a gap, and starts again after the end."""
    station = place.station
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    with no_complaints(page):
        await page.goto(place.url)
        await until(page, is_("offline"), 5)
        assert await page.get_by_text("The stream is offline", exact=True).is_visible()
        await page.screenshot(path=tmp_path / "1-offline.png")

        await station.start_stream(multivariant=True)
        first = await until(page, lambda s: s["status"] == "live" and s["time"] > 0, 12)
        await asyncio.sleep(5)
        state = await seen(page)
        assert state["time"] - first["time"] > 4
        assert (state["stalls"], state["rebuilds"], state["engine"]) == (0, 0, "hls.js")
        assert [level["height"] for level in state["levels"]] == sorted(HEIGHTS)
        assert 0 < state["latency"] < 12
        assert list(state["bytesByHost"]) == [station.bucket.removeprefix("http://")]
        assert await page.get_by_role("button", name="Turn sound on").is_visible()
        await page.screenshot(path=tmp_path / "2-live.png")

        await station.stop()  # the encoder loses its connection
        await until(page, is_("waiting"), 15)
        await page.screenshot(path=tmp_path / "3-paused.png")
        station.lose_next()
        await station.encode()
        paused = await seen(page)
        resumed = await until(page, lambda s: s["status"] == "live" and s["time"] > paused["time"] + 1, 10)
        assert resumed["sessions"] == 1  # across the discontinuity with the same player

        station.ended = True
        await station.stop()
        await until(page, is_("offline"), 15)
        await asyncio.sleep(1)
        assert (await seen(page))["sessions"] == 1  # the finished playlist is not played again

        await station.start_stream(multivariant=False)
        again = await until(page, lambda s: s["status"] == "live" and s["time"] > 0, 12)
        await asyncio.sleep(2)
        state = await seen(page)
        assert state["time"] > again["time"] + 1
        assert (state["sessions"], state["rebuilds"]) == (2, 0)
    segments = [url for url in requested if url.endswith(".ts")]
    assert segments
    assert all(url.startswith(station.bucket) for url in segments)


async def test_sound_quality_and_going_back_to_live(page: Page, place: Place) -> None:
    """The page's own controls can be reached and do what they say."""
    await place.station.start_stream(multivariant=True)
    with no_complaints(page):
        await page.goto(place.url)
        await until(page, lambda s: s["status"] == "live" and s["time"] > 0, 12)
        await page.get_by_role("button", name="Turn sound on").press("Enter")
        await until(page, lambda s: s["muted"] is False, 3)
        await page.get_by_label("Quality", exact=True).select_option("180p")
        await until(page, lambda s: s["level"] is not None and s["level"]["height"] == 180, 10)
        await page.evaluate("() => document.querySelector('video').pause()")
        await asyncio.sleep(7)
        behind = await until(page, lambda s: s["behind"], 5)
        await page.get_by_role("button", name="Go live").click()
        state = await until(page, lambda s: not s["behind"] and not s["paused"], 5)
        assert state["latency"] < behind["latency"] - 2
        assert (await page.evaluate("() => Object.isFrozen(window.broadcasterViewer)")) is True
