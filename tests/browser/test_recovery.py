"""What goes away comes back, and the page with it: nobody has to reload."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import Traffic, no_complaints, until
from tests.support.judges.watcher import Availability
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end
from tests.support.servers.viewer_process import audience_of, replaced

OUTAGE = 10  # seconds


@pytest_asyncio.fixture(loop_scope="session")
async def bucket(tmp_path: Path) -> AsyncIterator[SeaweedBucket]:
    """A bucket that may be killed."""
    async with SeaweedBucket(tmp_path / "bucket") as running:
        yield running


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_words has outages of both")
@pytest.mark.takes(40)
@pytest.mark.parametrize("mode", ["low-delay", "sharing"])
async def test_page_outlives_the_broadcaster_and_the_bucket(
    tmp_path: Path, bucket: SeaweedBucket, page: Page, mode: str
) -> None:
    """The broadcaster is killed and started again, then the bucket: the page is live again by itself."""
    traffic = Traffic(page)
    availability = Availability()
    with no_complaints(page):
        async with end_to_end(
            tmp_path,
            bucket,
            segment_seconds=2,
            patient=True,
            availability=availability,
            BROADCASTER_VIEWER_MODE=mode,
        ) as on:
            await on.live_with(6)
            await page.goto(f"{on.service.address}/")
            before = await until(page, lambda s: s["status"] == "live" and s["time"] > 4)

            await on.service.kill()
            await asyncio.sleep(OUTAGE)
            await on.service.start()
            before = await live_again(page, before)

            with availability.disturbed():
                await bucket.kill()
                await asyncio.sleep(OUTAGE)
                await bucket.start()
            last = await live_again(page, before)
            assert last["mode"] == mode
    assert traffic.loads == 1


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_audience_process has it without a browser")
@pytest.mark.takes(20)
async def test_the_process_that_serves_it_is_replaced(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """Killed or hung, another one takes its place: the page plays on, and never says that nothing is on."""
    said = "window.said = []; setInterval(() => window.said.push(window.broadcasterViewer.status), 20)"
    with no_complaints(page):
        async with end_to_end(tmp_path, bucket, segment_seconds=2, patient=True) as on:
            await on.live_with(6)
            await page.goto(f"{on.service.address}/")
            before = await until(page, lambda s: s["status"] == "live" and s["time"] > 4)
            await page.evaluate(said)
            for harm in (signal.SIGKILL, signal.SIGSTOP):
                process = audience_of(on.service)
                process.send_signal(harm)
                await replaced(on.service, process)
                before = await live_again(page, before)
            statuses = set(await page.evaluate("window.said"))
            assert "live" in statuses
            # How long the picture lasts meanwhile depends on the machine; that it was there is always true.
            assert not statuses & {"offline", "ended", "connecting"}


async def live_again(page: Page, before: dict[str, Any]) -> dict[str, Any]:
    """Wait until it plays a segment that is newer than ``before``, and that an event announced in time."""
    known = max(row["sequence"] for row in before["stages"])

    def plays_news(state: dict[str, Any]) -> bool:
        rows = [row for row in state["stages"] if row["sequence"] > known + 1]
        return state["status"] == "live" and any(row["told"] and row["played"] for row in rows)

    return await until(page, plays_news)
