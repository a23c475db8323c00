"""A real Chromium plays the page of the real service: simulated Owncast, SeaweedFS, nothing in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.simulated_owncast import SMALL, SimulatedOwncast
from tests.support.judges.page import Traffic, is_, no_complaints, play_on, seen, until
from tests.support.length import SOAK, seconds
from tests.support.servers.end_to_end import EndToEnd, end_to_end

WATCHED = seconds(30, 8)


def check(on: EndToEnd, traffic: Traffic) -> None:
    """Segments come from the bucket, all else from the service, and no playlist broke a rule."""
    segments, elsewhere = traffic.segments, traffic.elsewhere
    assert segments
    assert [url for url in segments if not url.startswith(f"{on.bucket.public_url}/live/")] == []
    assert [url for url in elsewhere if not url.startswith(f"{on.service.address}/")] == []
    assert on.watcher.violations == []


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the next test begins so")
@pytest.mark.takes(25)
async def test_page_plays_from_the_bucket(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """Chromium plays; every segment comes from the bucket's address, and once."""
    traffic = Traffic(page)
    with no_complaints(page):
        # Without the idle clip's transcoder, whose multivariant playlist describes all variants alike.
        owncast = SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=2, idle_overlap=0)
        async with end_to_end(tmp_path, bucket, owncast=owncast) as on:
            await on.live_with(4)
            await page.goto(f"{on.service.address}/")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
            last = await play_on(page, WATCHED)
            assert (last["rebuilds"], last["sessions"], last["engine"]) == (0, 1, "hls.js")
            assert last["latency"] > 0
            assert [level["height"] for level in last["levels"]] == sorted(
                variant.height for variant in SMALL
            )
            assert list(last["bytesByHost"]) == [bucket.endpoint_url.removeprefix("http://")]
            await page.screenshot(path=tmp_path / "live.png")
            assert traffic.refused == []
            assert len(traffic.segments) >= WATCHED // 2
            assert len(set(traffic.segments)) == len(traffic.segments)
            check(on, traffic)


@pytest.mark.takes(60)
async def test_page_follows_the_stream_through_its_life(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """Offline, live, over a reconnect, offline, live again: the page follows by itself, never reloaded."""
    traffic = Traffic(page)
    with no_complaints(page):
        async with end_to_end(tmp_path, bucket, BROADCASTER_END_GRACE_SECONDS="30") as on:
            await page.goto(f"{on.service.address}/")
            await until(page, is_("offline"))
            await page.screenshot(path=tmp_path / "1-offline.png")

            await on.owncast.go_live()
            await until(page, lambda s: s["status"] == "live" and s["time"] > 2)
            await on.owncast.stop_streaming()
            reconnected = await on.owncast.go_live()
            await on.owncast.wait_for_segments(1)
            before = await seen(page)
            await traffic.until_asked_for(f"/stream-{reconnected}-")
            after = await until(page, lambda s: s["status"] == "live" and s["time"] > before["time"] + 4)
            assert (after["sessions"], after["rebuilds"]) == (1, 0)
            await page.screenshot(path=tmp_path / "2-reconnected.png")

            await on.owncast.stop_streaming()
            over = await until(page, is_("offline"))
            await on.owncast.wipe()
            assert (over["sessions"], over["rebuilds"]) == (1, 0)
            await page.get_by_text("The stream has ended", exact=True).wait_for()
            await page.screenshot(path=tmp_path / "3-ended.png")

            next_day = await on.owncast.go_live()
            await traffic.until_asked_for(f"/stream-{next_day}-")
            again = await until(page, lambda s: s["status"] == "live" and s["time"] > 2)
            assert (again["sessions"], again["rebuilds"]) == (2, 0)
            await page.screenshot(path=tmp_path / "4-live-again.png")
            assert traffic.loads == 1
            # Before a stream there is no playlist; while the encoder is away no request waits for ever.
            refused = {(status, url) for status, url in traffic.refused if "_HLS_msn" not in url}
            assert refused == {(404, f"{on.service.address}/live/playlist.m3u8")}
            assert {status for status, url in traffic.refused if "_HLS_msn" in url} <= {503}
            check(on, traffic)  # hls.js may ask its cache twice for the short last segment of a stream
