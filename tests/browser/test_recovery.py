"""What goes away comes back, and the page with it: nobody has to reload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.length import SOAK
from tests.support.page import Traffic, no_complaints, seen, until
from tests.support.stage import stage
from tests.support.watcher import Availability

OUTAGE = 10  # seconds
BACK_WITHIN = 60  # seconds


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[SeaweedBucket]:
    """A bucket that may be killed."""
    async with SeaweedBucket(tmp_path / "bucket") as running:
        yield running


@pytest.mark.parametrize("mode", ["low-delay", "sharing"] if SOAK else ["sharing"])
async def test_page_outlives_the_broadcaster_and_the_bucket(
    tmp_path: Path, bucket: SeaweedBucket, page: Page, mode: str
) -> None:
    """The broadcaster is killed and started again, then the bucket: the page is live again by itself."""
    traffic = Traffic(page)
    availability = Availability()
    with no_complaints(page):
        async with stage(
            tmp_path,
            bucket,
            segment_seconds=2,
            patient=True,
            availability=availability,
            BROADCASTER_VIEWER_MODE=mode,
        ) as on:
            await on.owncast.go_live()
            await on.owncast.wait_for_segments(6)
            await page.goto(f"{on.service.address}/")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 4, 30)

            await on.service.kill()
            await asyncio.sleep(OUTAGE)
            await on.service.start()
            told = (await live_again(page))["stages"][-1]["sequence"]
            await until(page, lambda s: any(is_news(row, told) for row in s["stages"]), BACK_WITHIN)

            with availability.disturbed():
                await bucket.kill()
                await asyncio.sleep(OUTAGE)
                await bucket.start()
            last = await live_again(page)
            assert last["mode"] == mode
    assert traffic.loads == 1


def is_news(row: dict[str, Any], after: int) -> bool:
    """Whether the server has told of this segment as it came, later than that one."""
    return row["told"] is not None and row["sequence"] > after


async def live_again(page: Page) -> dict[str, Any]:
    """Wait until it has played for five seconds on end, close to live."""
    async with asyncio.timeout(BACK_WITHIN):
        steady, last = 0, await seen(page)
        while steady < 5:
            await asyncio.sleep(1)
            state = await seen(page)
            plays = state["status"] == "live" and state["time"] - last["time"] > 0.5 and state["latency"] < 20
            steady, last = steady + 1 if plays else 0, state
    return last
