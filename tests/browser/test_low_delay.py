"""Low-delay mode with short segments: how far the picture is behind the camera's clock."""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path

from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.length import seconds
from tests.support.page import Traffic, no_complaints, seen, until
from tests.support.stage import stage

SETTLING, WATCHED = 10, seconds(40, 15)
MOST = 4.5  # seconds


async def test_one_second_segments_are_on_screen_within_four_and_a_half_seconds(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """By PROGRAM-DATE-TIME the median is 4.5 s at most, with blocking reloads and without a stall."""
    traffic = Traffic(page)
    with no_complaints(page):
        async with stage(tmp_path, bucket, segment_seconds=1) as on:
            await on.owncast.go_live()
            await on.owncast.wait_for_segments(6)
            await page.goto(f"{on.service.address}/")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 0, 20)
            await asyncio.sleep(SETTLING)
            first = last = await seen(page)
            delays = []
            for _ in range(2 * WATCHED):
                await asyncio.sleep(0.5)
                last = await seen(page)
                delays.append(last["delay"])
            blocking = [url for url in traffic.requested if "_HLS_msn=" in url]
            assert (last["mode"], last["p2p"]["enabled"]) == ("low-delay", False)
            assert last["stalls"] - first["stalls"] == 0
            assert (last["errors"] - first["errors"], last["rebuilds"], last["sessions"]) == (0, 0, 1)
            assert last["time"] - first["time"] >= last["clock"] - first["clock"] - 1
            assert len(blocking) >= WATCHED
            median = statistics.median(delays)
            print(f"glass to glass: median {median:.1f} s, most {max(delays):.1f} s")
            assert median <= MOST
