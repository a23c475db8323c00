"""Low-delay mode with short segments: how far the picture is behind the camera's clock."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import Traffic, check_played, no_complaints, play_on, until
from tests.support.length import SOAK, seconds
from tests.support.servers.end_to_end import end_to_end

SETTLING, WATCHED = seconds(10, 4), seconds(40, 8)
MOST = 4.5  # seconds


@pytest.mark.skipif(not SOAK, reason="make soak runs it: others have low delay, with longer segments")
@pytest.mark.takes(25)
async def test_one_second_segments_with_low_delay(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """With blocking reloads, in low-delay mode; at full length the median by PROGRAM-DATE-TIME is 4.5 s."""
    traffic = Traffic(page)
    with no_complaints(page):
        async with end_to_end(tmp_path, bucket, segment_seconds=1) as on:
            await on.live_with(6)
            await page.goto(f"{on.service.address}/")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
            first = last = await play_on(page, SETTLING)
            delays = []
            while last["time"] < first["time"] + WATCHED:
                last = await play_on(page, 0.5)
                delays.append(last["delay"])
            blocking = [url for url in traffic.requested if "_HLS_msn=" in url]
            assert (last["mode"], last["p2p"]["enabled"]) == ("low-delay", False)
            check_played(first, last)
            assert (last["rebuilds"], last["sessions"]) == (0, 1)
            assert len(blocking) >= WATCHED
            median = statistics.median(delays)
            print(f"glass to glass: median {median:.1f} s, most {max(delays):.1f} s")
            if SOAK:  # it takes a machine that decodes video in time
                assert median <= MOST
