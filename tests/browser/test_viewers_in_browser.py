"""Who watches, and how they fare: pages in a real Chromium beside many that are only reports."""

from __future__ import annotations

import json
import time
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import BrowserContext, Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.playback_reports import name_of
from tests.support.judges.page import is_, no_complaints, until
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end
from tests.support.servers.service import Service
from tests.support.servers.viewer_process import metrics
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

CROWD, TABS = 50, 3
RIGHT_WITHIN = 60  # seconds


async def report(service: Service, numbers: range) -> None:
    """Say once that these watch, from as many addresses."""
    async with aiohttp.ClientSession() as session:
        for number in numbers:
            body = json.dumps({"seconds": 0, "viewer": name_of(number), "variant": "0", "latency": 3.0})
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            async with session.post(f"{service.address}/live/beacon", data=body, headers=headers) as answer:
                assert answer.status == 204


async def total(service: Service, name: str) -> float:
    """A metric, of all variants."""
    figures = await metrics(service)
    return sum(value for key, value in figures.items() if key.partition("{")[0] == f"broadcaster_{name}")


async def counted(service: Service, count: int) -> None:
    """Wait until the service says that so many watch."""
    began = time.monotonic()
    await eventually(lambda: total(service, "viewers"), lambda found: found == count, within=RIGHT_WITHIN)
    print(f"{count} viewers, right after {time.monotonic() - began:.1f} s")


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_worker_pages counts viewers")
@pytest.mark.takes(30)
async def test_viewers_now(
    tmp_path: Path, bucket: SeaweedBucket, context: BrowserContext, page: Page
) -> None:
    """Fifty simulated and three real ones are counted, who leaves is not; a stall that is caused shows."""
    with no_complaints(page):
        async with end_to_end(tmp_path, bucket, patient=True) as on:
            await on.live_with(4)
            tabs = [page, *[await context.new_page() for _ in range(TABS - 1)]]
            for tab in tabs:
                await tab.goto(f"{on.service.address}/")
            for tab in tabs:
                await until(tab, is_("live"))
            await report(on.service, range(CROWD))
            await counted(on.service, CROWD + TABS)
            await expect(page.locator("#viewers")).to_have_text(f"{CROWD + TABS} watching")
            starts = "viewer_startup_seconds_count"
            await eventually(lambda: total(on.service, starts), lambda found: found == TABS)
            before = await total(on.service, "viewer_stalls_total")
            suspend(bucket.child)
            for tab in tabs[1:]:
                await until(tab, lambda s: s["stalls"] > 0)
                await tab.goto("about:blank")  # what is left tells the last at once
            resume(bucket.child)
            await report(on.service, range(CROWD))  # who has said nothing for a minute is not counted
            await counted(on.service, CROWD + 1)
            await eventually(lambda: total(on.service, "viewer_stalls_total"), before.__lt__)
            await eventually(lambda: total(on.service, "viewer_stalled_seconds_total"))
            await counted(on.service, 1)  # the crowd has been silent for a minute
