"""A link that carries less than the lowest quality: the picture seldom stops; the page says why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from playwright.async_api import CDPSession, expect

from broadcaster.demo.encoder import RENDITIONS, DemoRendition
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import no_complaints, until
from tests.support.length import SOAK
from tests.support.servers.end_to_end import EndToEnd, end_to_end
from tests.support.servers.fake_origin import serve

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from playwright.async_api import Page

    from broadcaster.demo.bucket import SeaweedBucket

LINK = 360_000  # bits per second; with sound, the demo's lowest quality takes 430 kbit/s
SLOWER = 150_000
WATCHED = 90  # seconds
WORDS = "Your connection is slower than the lowest quality"
HLS = Path(__file__).resolve().parents[2] / "viewer" / "node_modules" / "hls.js" / "dist" / "hls.min.js"
# As the page's first version had set up hls.js, which was all that it did about a slow link.
FIRST_VERSION = """<!doctype html><video muted autoplay playsinline></video><script src="hls.js"></script>
<script>
    const hls = new Hls({
        lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.05, backBufferLength: 30, initialLiveManifestSize: 3,
    });
    hls.config.liveMaxLatencyDurationCount = 8;
    hls.on(Hls.Events.LEVEL_UPDATED, () => {
        if (hls.targetLatency !== 4.5) hls.targetLatency = 4.5;
    });
    hls.loadSource("PLAYLIST");
    hls.attachMedia(document.querySelector("video"));
</script>"""
WATCH = """() => {
    const video = document.querySelector("video");
    const seen = { stalls: 0, still: 0, fastest: 0 };
    let [place, moved] = [video.currentTime, performance.now()];
    window.stopWatching = () => { clearInterval(timer); return seen; };
    const timer = setInterval(() => {
        const now = performance.now();
        const { buffered, currentTime, playbackRate } = video;
        const ahead = buffered.length ? buffered.end(buffered.length - 1) - currentTime : 0;
        if (ahead < 2) seen.fastest = Math.max(seen.fastest, playbackRate);
        if (currentTime === place) {
            if (now - moved < 500) return;
            if (moved) seen.stalls += 1;
            moved = 0; // this one is counted
            seen.still += 0.05;
        } else [place, moved] = [currentTime, now];
    }, 50);
}"""


@pytest.mark.skipif(not SOAK, reason="make soak runs it: viewer/tests has the rule")
@pytest.mark.takes(20)
async def test_the_page_says_that_the_link_is_too_slow(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """In plain words, over the picture that stands still, and no longer than it does."""
    async with on_air(tmp_path, bucket, 1, RENDITIONS[-1:]) as on:
        with no_complaints(page):
            await play(page, on)
            link = await page.context.new_cdp_session(page)
            await throttle(link, SLOWER)
            await expect(page.get_by_text(WORDS, exact=True)).to_be_visible()
            await throttle(link, None)
            await until(page, lambda s: s["status"] == "live")
            await expect(page.get_by_text(WORDS, exact=True)).to_be_hidden()


@pytest.mark.skipif(not SOAK, reason="minutes, at full length alone")
@pytest.mark.takes(120)
async def test_half_the_stalls_of_the_first_version(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """Beside each other, on a link each of 360 kbit/s; what is short of video never plays it faster."""
    first = await page.context.new_page()
    async with on_air(tmp_path, bucket, 2, RENDITIONS) as on:
        await on.live_with(4)
        runner, url = await serve(first_version(f"{on.service.address}/live/playlist.m3u8"))
        for throttled in (first, page):
            await throttle(await throttled.context.new_cdp_session(throttled), LINK)
        await first.goto(url)
        await first.wait_for_function("document.querySelector('video').currentTime > 0")
        with no_complaints(page):
            await play(page, on)
            ours, theirs = await asyncio.gather(watch(page), watch(first))
        await runner.cleanup()
    print(f"in {WATCHED} s, the page: {ours}, its first version: {theirs}")
    assert theirs["stalls"] > 0
    assert ours["stalls"] <= theirs["stalls"] / 2
    assert ours["fastest"] <= 1


def first_version(playlist: str) -> web.Application:
    """A site with that page alone."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=FIRST_VERSION.replace("PLAYLIST", playlist), content_type="text/html")

    async def library(_: web.Request) -> web.FileResponse:
        return web.FileResponse(HLS)

    app = web.Application()
    app.router.add_get("/", answer)
    app.router.add_get("/hls.js", library)
    return app


def on_air(
    tmp_path: Path, bucket: SeaweedBucket, segment_seconds: int, variants: tuple[DemoRendition, ...]
) -> AbstractAsyncContextManager[EndToEnd]:
    """The demo's picture, whose bit rates are those of a real stream."""
    folders = tmp_path / "hls", tmp_path / "owncast"
    owncast = SimulatedOwncast(*folders, segment_seconds=segment_seconds, variants=variants, idle_overlap=0)
    return end_to_end(tmp_path, bucket, owncast=owncast, patient=True)


async def play(page: Page, on: EndToEnd) -> None:
    if not on.owncast.encoder:
        await on.live_with(3)
    await page.goto(f"{on.service.address}/")
    await until(page, lambda s: s["status"] == "live" and s["time"] > 0)


async def watch(page: Page) -> dict[str, float]:
    """Watch on the slow link; returns what there was of stalls, seconds of them, and the fastest play."""
    await page.evaluate(WATCH)
    await asyncio.sleep(WATCHED)
    found: dict[str, float] = await page.evaluate("window.stopWatching()")
    return found


async def throttle(session: CDPSession, rate: int | None) -> None:
    """Give a page's network so many bits per second; None lifts the limit, in the session that has set it."""
    speed = -1 if rate is None else rate / 8
    await session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 50, "downloadThroughput": speed, "uploadThroughput": speed},
    )
