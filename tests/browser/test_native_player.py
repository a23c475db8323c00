"""A browser that plays HLS by itself: no hls.js, and segments from another origin than the page."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.own_files import VIEWER_DIR
from tests.browser import other_engines
from tests.support.judges.ffmpeg_player import FFMPEG
from tests.support.judges.page import LOOK, Traffic, no_complaints, seen, until
from tests.support.length import SOAK
from tests.support.servers.built_page import largest
from tests.support.servers.end_to_end import end_to_end
from tests.support.servers.service import running_service

NO_MEDIA_SOURCE = "delete window.MediaSource; delete window.ManagedMediaSource;"
# WebKitGTK plays HLS by itself, and takes none of what decodes HEVC in GStreamer.
OWN_HLS = {
    "WEBKIT_GST_ENABLE_HLS_SUPPORT": "1",
    "GST_PLUGIN_FEATURE_RANK": "libde265dec:NONE,avdec_h265:NONE",
}
PLAYS_HLS = "document.createElement('video').canPlayType('application/vnd.apple.mpegurl')"


@pytest.mark.skipif(not SOAK, reason="make soak runs it: hls.js plays from the bucket in other tests")
@pytest.mark.takes(20)
@pytest.mark.parametrize("query", ["", "?embed=1"])
async def test_the_browsers_own_hls_plays_from_the_bucket(
    tmp_path: Path, bucket: SeaweedBucket, page: Page, query: str
) -> None:
    """Chromium's own player asks for segments with CORS, and takes them."""
    traffic = Traffic(page)
    if not await page.evaluate(PLAYS_HLS):
        pytest.skip("this browser plays no HLS by itself")
    await page.add_init_script(NO_MEDIA_SOURCE)
    with no_complaints(page):
        async with end_to_end(tmp_path, bucket, segment_seconds=2) as on:
            await on.live_with(6)
            await page.goto(f"{on.service.address}/{query}")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 2)
            state = await seen(page)
            assert state["engine"] == "native"
            assert (state["rebuilds"], state["sessions"]) == (0, 1)
    assert traffic.loads == 1


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rule itself has tests in Node")
async def test_webkits_own_hls_says_what_it_cannot_play(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Without a decoder for the stream's codec WebKit's own player gives up; the page names the codec."""
    hls, pages = tmp_path / "hls", tmp_path / "pages"
    hls.mkdir()
    page_without_media_source(pages)
    settings = {"BROADCASTER_VIEWER_DIR": str(pages)}
    async with (
        running_service(tmp_path, hls, bucket, **settings) as service,
        other_engines.webkit(environment=OWN_HLS) as engine,
    ):
        command = [FFMPEG, "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25"]
        command += ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0:keyint=25"]
        command += ["-f", "hls", "-hls_time", "1", "-hls_segment_type", "fmp4", str(hls / "stream.m3u8")]
        encoder = await asyncio.create_subprocess_exec(*command, cwd=tmp_path)
        try:
            await service.until_health(stream="live")
            await engine.go(f"{service.address}/")
            found = await other_engines.until(engine, LOOK, lambda s: s["status"] == "undecodable")
        finally:
            encoder.terminate()
            await encoder.wait()
    assert (found["engine"], found["undecodable"]) == ("native", "HEVC")
    assert (found["rebuilds"], found["sessions"]) == (0, 1)


def page_without_media_source(folder: Path) -> None:
    """A copy of the page whose script finds no Media Source."""
    shutil.copytree(VIEWER_DIR, folder, ignore=shutil.ignore_patterns("*.gz", "*.br"))
    script = folder / largest().lstrip("/")
    script.write_text(NO_MEDIA_SOURCE + script.read_text())
