"""The server's events make the page quick: it fetches each segment of an event at once, and only once."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, Request, Route

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import Traffic, no_complaints, play_on, until
from tests.support.length import SOAK, seconds
from tests.support.servers.end_to_end import end_to_end

WATCHED = seconds(60, 14)
SEGMENT = 2  # seconds
CLOCK = 300  # ms by which the page's idea of the server's clock may be late at first, on a busy machine
MEDIAN, PERCENTILE_95 = 150, 200  # ms from the end of the upload to the bytes in the browser, at full length


@pytest.mark.skipif(not SOAK, reason="make soak runs it: other pages play by events, too")
@pytest.mark.takes(30)
async def test_segments_are_in_the_browser_soon_after_their_upload(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """Noticed, uploaded, announced, fetched, played, by the server's times; no segment is fetched twice."""
    traffic = Traffic(page)
    with no_complaints(page):
        async with end_to_end(tmp_path, bucket, segment_seconds=SEGMENT) as on:
            await on.live_with(4)
            async with told_by(on.service.address) as told:
                news = await watch(page, on.service.address, WATCHED)
            for row in news:  # the page shows the server's own times
                event = told[(row["variant"], row["sequence"])]
                assert (row["noticed"], row["uploaded"]) == (event["noticed"], event["uploaded"])
            check_delays(news)
            check_once_from_the_bucket(traffic, bucket)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: fetching ahead has tests in Node")
@pytest.mark.takes(30)
async def test_events_are_enough_where_playlists_are_polled(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """Where playlists cannot block, as on a static host, segments are fetched before hls.js knows them."""
    ahead = FetchedAhead(page)
    traffic = Traffic(page)

    async def without_blocking(route: Route) -> None:
        answer = await route.fetch()
        text = await answer.text()
        await route.fulfill(response=answer, body=text.replace("CAN-BLOCK-RELOAD=YES,", ""))

    await page.route("**/live/*/playlist.m3u8*", without_blocking)
    with no_complaints(page):
        async with end_to_end(tmp_path, bucket, segment_seconds=SEGMENT) as on:
            await on.live_with(4)
            news = await watch(page, on.service.address, seconds(30, 12))
            assert [url for url in traffic.requested if "_HLS_msn" in url] == []
            check_delays(news)
            check_once_from_the_bucket(traffic, bucket)
            assert ahead.count >= len(news) / 2
            await page.unroute_all(behavior="ignoreErrors")
            await page.close()


class FetchedAhead:
    """Counts the segments that the page fetched itself; hls.js uses XMLHttpRequest."""

    def __init__(self, page: Page) -> None:
        self.count = 0
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        self.count += request.resource_type == "fetch" and request.url.endswith(".ts")


async def watch(page: Page, address: str, duration: float) -> list[dict[str, Any]]:
    """Play so many seconds; returns the stages of the segments that events announced in time."""
    await page.goto(f"{address}/")
    await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
    await page.keyboard.press("i")  # with its statistics open, the page asks for events of segments
    rows = await collect_stages(page, duration)
    news = [row for row in rows if row["told"] is not None and row["fetched"] is not None]
    assert len(news) >= duration / SEGMENT - 4
    played = [row for row in news if row["played"] is not None]
    assert len(played) >= duration / SEGMENT - 4
    for row in news:
        assert row["noticed"] < row["uploaded"] <= row["told"] + CLOCK
        assert row["uploaded"] <= row["fetched"] + CLOCK
    assert all(row["fetched"] < row["played"] for row in played)
    return news


def check_delays(news: list[dict[str, Any]]) -> None:
    delays = sorted(row["fetched"] - row["uploaded"] for row in news)
    median, percentile_95 = statistics.median(delays), delays[int(0.95 * (len(delays) - 1))]
    print(
        f"{len(delays)} segments: p50 {median:.0f} ms, p95 {percentile_95:.0f} ms, most {delays[-1]:.0f} ms"
    )
    if SOAK:
        assert median <= MEDIAN
        assert percentile_95 <= PERCENTILE_95


def check_once_from_the_bucket(traffic: Traffic, bucket: SeaweedBucket) -> None:
    segments = traffic.segments
    assert len(set(segments)) == len(segments)
    assert [url for url in segments if not url.startswith(f"{bucket.public_url}/live/")] == []


async def collect_stages(page: Page, duration: float) -> list[dict[str, Any]]:
    """The stages of every segment that was shown while so much was played, each as it was seen last."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for _ in range(round(duration)):
        for row in (await play_on(page, 1))["stages"]:
            rows[(row["variant"], row["sequence"])] = row
    return list(rows.values())


@asynccontextmanager
async def told_by(address: str) -> AsyncIterator[dict[tuple[str, int], dict[str, Any]]]:
    """Every segment the server tells of from here on."""
    told: dict[tuple[str, int], dict[str, Any]] = {}

    async def listen() -> None:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.get(f"{address}/live/events") as answer,
        ):
            name = ""
            async for line in answer.content:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data" and name == "segment":
                    segment = json.loads(value)
                    told[(segment["variant"], segment["sequence"])] = segment

    async with asyncio.TaskGroup() as group:
        task = group.create_task(listen())
        yield told
        task.cancel()
