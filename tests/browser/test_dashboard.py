"""The operator's dashboard in a real Chromium, while a stream is on and after the bucket has gone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Locator, Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.children import poll
from tests.support.page import barriers, no_complaints
from tests.support.stage import stage

SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")


async def until_number(shown: Locator, least: int) -> None:
    """Wait until it is so much; a row more comes every five seconds."""

    async def reached() -> bool:
        return int((await shown.inner_text()).replace(",", "")) >= least

    async with asyncio.timeout(60):
        await poll(reached)


@pytest.mark.takes(25)
async def test_dashboard(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """It shows the stream's figures and curves, and says so when the service no longer answers."""
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with no_complaints(page):
        async with stage(tmp_path, bucket, segment_seconds=1, patient=True) as on:
            await on.live_with(4)
            await page.goto(f"{on.service.admin_address}/dashboard")
            await expect(page.locator("#sentence")).to_contain_text("LIVE: 0 viewers, last segment")
            published = page.locator("#now div", has=page.get_by_text("Segments listed")).locator("dd")
            await page.wait_for_function("() => document.querySelectorAll('.uplot canvas').length === 9")
            await on.owncast.wait_for_segments(8)
            await until_number(published, 12)
            delay = page.locator("#now div", has=page.get_by_text("Publish delay")).locator("dd")
            assert (await delay.inner_text()).endswith(" ms")
            operations = page.locator("#money div", has=page.get_by_text("Class A operations")).locator("dd")
            await until_number(operations, 12)
            await expect(page.locator("#sound")).not_to_be_checked()
            await page.locator("#sound").check()
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                assert await barriers(page) == []
                await page.screenshot(path=pictures / f"dashboard-{scheme}.png", full_page=True)
            await on.service.stop()
            await expect(page.locator("#sentence")).to_contain_text("No word from the service for")
            assert (await page.title()).startswith("✕ No answer")
