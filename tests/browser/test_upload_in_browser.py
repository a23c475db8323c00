"""The operator uploads a file from the dashboard, straight into a bucket with R2's rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import barriers, no_complaints
from tests.support.length import SOAK
from tests.support.servers.r2_rules import SMALLEST, Fault
from tests.support.servers.upload_fixture import make_file, upload_desk
from tests.support.waiting import eventually

SIZE = 200_000_000  # bytes
PARTS = -(-SIZE // SMALLEST)
AT_ONCE = 3


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_upload has it without a browser")
@pytest.mark.takes(10)
async def test_an_upload_goes_on_after_a_reload(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """What was sent before is not sent again, and the recording has the file, byte for byte."""
    path = tmp_path / "obs.mkv"
    digest = make_file(path, SIZE)
    async with upload_desk(tmp_path, bucket) as desk:
        # The last parts do not get through until the page was reloaded.
        held = range(PARTS // 2 + 1, PARTS + 1)
        desk.front.faults = {number: [Fault.HANG] for number in held}
        with no_complaints(page):
            await page.goto(f"{desk.address}/dashboard#uploads")
            await expect(page.locator("#age")).to_contain_text("old")  # what is drawn later moves the buttons
            await page.fill("#token", desk.token)
            await page.click("#token-form button")
            await page.set_input_files("#upload-file", path)
            await page.click("#upload-form button:text-is('Upload')")
            await desk.front.until(PARTS // 2)
            await expect(page.locator("#upload-text")).to_contain_text("% of")
            assert await barriers(page) == []
            await page.reload()
            there = PARTS // 2
            await expect(page.locator("#upload-text")).to_contain_text(f"{there} parts of it are there")
            desk.front.faults = {}
            await page.set_input_files("#upload-file", path)
            await page.click("#upload-form button:text-is('Upload')")
            await expect(page.locator("#upload-text")).to_contain_text("It is there")
        assert desk.front.arrived == dict.fromkeys(range(1, PARTS + 1), 1)
        assert await desk.digest() == digest
        # The same file again is known; another one can be cancelled.
        await page.click("#upload-form button:text-is('Upload')")
        await expect(page.locator("#upload-text")).to_contain_text("This is the file that it has")
        make_file(path, 2 * SMALLEST, seed=1)
        desk.front.faults = {1: [Fault.HANG]}
        await page.set_input_files("#upload-file", path)
        await page.click("#upload-form button:text-is('Upload')")
        await page.click("#upload-cancel")
        await expect(page.locator("#upload-text")).to_contain_text("It was cancelled")
        await eventually(desk.stream.catalog.files.uploading, lambda files: not files)
