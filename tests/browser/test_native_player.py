"""A browser that plays HLS by itself: no hls.js, and segments from another origin than the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import Traffic, no_complaints, seen, until
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end

NO_MEDIA_SOURCE = "delete window.MediaSource; delete window.ManagedMediaSource;"
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
