"""Pages that hold requests for events, beside pages with server-sent events, behind the shipped nginx."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import Traffic, seen, until
from tests.support.length import SOAK, seconds
from tests.support.servers.edge import running_edge
from tests.support.servers.end_to_end import end_to_end

WATCHED, AWAY = seconds(180, 10), seconds(60, 10)  # seconds
PAGES = ["held", "held", "held", "server-sent", "server-sent"]
LATER = 0.6  # seconds
REQUESTS = 4  # for events, by a page in a minute
# Another setting of the page, which reads them as JSON from its own HTML.
SET = """const parse = JSON.parse;
JSON.parse = (...text) => {
    const found = parse(...text);
    return found?.eventsUrl ? { ...found, events: "WAY" } : found;
};"""


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rules themselves have tests in Node")
@pytest.mark.takes(60)
async def test_held_events_are_as_good_and_ask_for_little(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """No stalls, hardly more delay than by server-sent events, few requests to a dead service."""
    async with (
        end_to_end(tmp_path, bucket, segment_seconds=2, patient=True) as on,
        running_edge(tmp_path, on.service.address) as edge,
        AsyncExitStack() as stack,
    ):
        await on.live_with(6)
        pages = []
        for way in PAGES:
            context = await stack.enter_async_context(await browser.new_context())
            pages.append(await opened(await context.new_page(), f"{edge.address}/", way))
        for page in pages:
            await until(page, lambda s: s["status"] == "live" and s["time"] > 4)
        traffic = [Traffic(page) for page in pages]
        before = [await seen(page) for page in pages]
        delays = await delays_of(pages)
        after = [await seen(page) for page in pages]
        stalls = [last["stalls"] - first["stalls"] for first, last in zip(before, after, strict=True)]
        medians = {way: statistics.median(found) for way, found in delays.items()}
        asked = [held_requests(page_traffic) for page_traffic in traffic]
        print(f"stalls {stalls}, median delay {medians}, requests for events in {WATCHED} s {asked}")
        assert all(count <= (WATCHED / 60 + 1) * REQUESTS for count in asked)

        await on.service.kill()
        counted = [held_requests(page_traffic) for page_traffic in traffic]
        await asyncio.sleep(AWAY)
        dead = [
            held_requests(page_traffic) - first for page_traffic, first in zip(traffic, counted, strict=True)
        ]
        print(f"requests for events in {AWAY} s of a dead service: {dead}")
        await on.service.start()
        newest = max(row["sequence"] for row in after[0]["stages"])
        for page in pages:
            await until(page, lambda s: s["channel"] == "live" and plays_after(s, newest))
    assert max(dead) <= REQUESTS
    assert stalls == [0] * len(PAGES)
    assert medians["held"] <= medians["server-sent"] + LATER


async def opened(page: Page, address: str, way: str) -> Page:
    """The page, which is to hear of events in this way."""
    await page.add_init_script(SET.replace("WAY", way))
    await page.goto(address)
    return page


async def delays_of(pages: list[Page]) -> dict[str, list[float]]:
    """How late each page is, once a second, by its way to hear of events."""
    delays: dict[str, list[float]] = {way: [] for way in PAGES}
    for _ in range(WATCHED):
        await asyncio.sleep(1)
        for way, page in zip(PAGES, pages, strict=True):
            if (delay := (await seen(page))["delay"]) is not None:
                delays[way].append(delay)
    return delays


def held_requests(traffic: Traffic) -> int:
    return sum("/live/events/" in url for url in traffic.requested)


def plays_after(state: dict[str, Any], newest: int) -> bool:
    played = [row["sequence"] for row in state["stages"] if row["played"]]
    return state["status"] == "live" and max(played, default=0) > newest
