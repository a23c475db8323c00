"""What the operator reads at three in the morning: each fault caused for real, its sentence asserted."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.faults.small_disk import SmallDisk, small_disk
from tests.support.judges.dashboard import fits, tiles_of
from tests.support.judges.page import barriers, no_complaints
from tests.support.length import SOAK
from tests.support.servers.end_to_end import VARIANTS, end_to_end
from tests.support.servers.service import Service
from tests.support.suspending import resume, suspend
from tests.support.waiting import PATIENCE, eventually

RIGHT_WITHIN = 15  # seconds
ROOMY, TIGHT = 4096, 64  # MiB; nothing is written there but what the service keeps


class Desk:
    """The dashboard and ``/health`` of a service, which have to agree."""

    def __init__(self, page: Page, service: Service, pictures: Path) -> None:
        self._page = page
        self._pictures = pictures
        self._service = service

    async def open(self) -> None:
        await self._page.goto(f"{self._service.admin_address}/dashboard")

    async def shows(self, severity: str, sentence: str, *parts: str) -> None:
        """The headline is so, and these parts of the way are not well."""
        began = time.monotonic()
        await expect(self._page.locator("#sentence")).to_contain_text(sentence, timeout=1000 * RIGHT_WITHIN)
        print(f"{sentence!r} after {time.monotonic() - began:.1f} s")
        await expect(self._page.locator("#status")).to_have_attribute("data-state", severity)
        signs = {"warning": "!", "failing": "✕", "old": "✕"}
        expected = [f"{signs[severity]} {part}" for part in parts]

        async def ill() -> list[str]:
            lamps = await self._page.locator("#lamps li").all_inner_texts()
            return [lamp for lamp in lamps if lamp[0] in "!✕"]

        await eventually(ill, lambda found: found == expected)
        await tiles_of(self._page)
        if parts:
            assert await barriers(self._page) == []
            await fits(self._page, self._pictures / f"verdict-{severity}-{parts[0].lower()}")

    async def says(self, severity: str, sentence: str, *parts: str) -> None:
        """The headline is so, and ``/health`` has the same words."""
        await self.shows(severity, sentence, *parts)
        health = await self._service.until_health(http=503 if severity == "failing" else 200)
        told = {"ok": None, "warning": health["warning"], "failing": health["reason"]}[severity]
        assert told is None or sentence.lower() in str(told).lower()

    async def is_well(self) -> None:
        await self.says("ok", "LIVE: 0 viewers, last segment")


async def trouble_of(service: Service, wanted: str) -> None:
    """Wait until viewers' pages get this verdict."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.address}/live/events") as stream,
        asyncio.timeout(PATIENCE),
    ):
        async for line in stream.content:
            if re.search(rf'"trouble":\s*"{wanted}"', line.decode()):
                return


def break_off(hls: Path) -> None:
    """Go on as an encoder whose disk is full: segments of five bytes."""
    for variant in VARIANTS:
        writer = HlsWriter(hls / variant, encoder="broken")
        for number in range(6):
            writer.segment(number).write_bytes(b"\x47" * 5)
        writer.playlist(range(6))


async def is_well_for_all(service: Service) -> bool:
    """What ``/health`` says to the world."""
    async with aiohttp.ClientSession() as session, session.get(f"{service.address}/health") as answer:
        return answer.status == 200


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit and viewer/tests have each verdict")
@pytest.mark.takes(40)
async def test_the_verdict(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """Encoder frozen, disk filling, bucket away, service frozen, nothing but gaps: the page names each."""
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with small_disk(tmp_path / "small", ROOMY) as disk, no_complaints(page):
        state = tmp_path / "small" / "state"
        async with end_to_end(tmp_path, bucket, patient=True, BROADCASTER_STATE_DIR=str(state)) as on:
            desk, service, encoder = Desk(page, on.service, pictures), on.service, on.owncast
            await on.live_with(3)
            assert encoder.encoder
            assert service.child
            await desk.open()
            await desk.is_well()

            suspend(encoder.encoder)
            await desk.says("failing", "s: the encoder has brought nothing new for", "Encoder", "Viewers")
            await trouble_of(service, "encoder")
            resume(encoder.encoder)
            await desk.is_well()

            suspend(bucket.child)
            await desk.says("failing", "s: the bucket does not get the segments (", "Bucket", "Viewers")
            assert (await page.title()).startswith("✕ Failing")
            await trouble_of(service, "delivery")
            resume(bucket.child)
            await desk.is_well()

            os.kill(service.child.pid, signal.SIGSTOP)  # and not the process that serves viewers
            await desk.shows("old", "No word from the service for", "Service")
            assert "these figures are old" in await page.locator("#sentence").inner_text()
            await trouble_of(service, "delivery")
            assert not await is_well_for_all(service)
            if isinstance(disk, SmallDisk):
                disk.resize(TIGHT)
            os.kill(service.child.pid, signal.SIGCONT)
            if isinstance(disk, SmallDisk):
                await desk.says("warning", "are left on the disk of the spool", "Service")
                disk.resize(ROOMY)
            await desk.is_well()

            await encoder.stop_streaming()
            break_off(encoder.hls_dir)
            await desk.says("failing", "nothing but gaps can be listed (the last", "Encoder", "Viewers")
        if isinstance(disk, str):
            pytest.skip(disk)
