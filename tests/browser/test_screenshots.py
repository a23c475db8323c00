"""The pictures in README: the page with a stream, and the dashboard. ``make screenshots`` makes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import DemoRendition, ffmpeg, music, scene
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import is_played, until
from tests.support.servers.end_to_end import end_to_end
from tests.support.waiting import eventually

WIDTH, HEIGHT = 1120, 740
LONGEST = 150_000  # bytes
VARIANTS = (DemoRendition(640, 360, 1200), DemoRendition(320, 180, 300))
PLOTTED = 180  # segments, until the dashboard has something to show


async def take(page: Page, path: Path) -> None:
    """A picture that is small enough to be carried in the repository."""
    picture = await page.screenshot(path=path, type="jpeg", quality=70)
    assert len(picture) < LONGEST


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="make screenshots makes them")
async def test_screenshots(
    tmp_path: Path,
    bucket: SeaweedBucket,
    page: Page,
    context: BrowserContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page plays and the dashboard has figures; each picture has less than 150 kB."""
    pictures = Path(os.environ["SCREENSHOTS"])
    owncast = SimulatedOwncast(
        tmp_path / "hls", tmp_path / "owncast", segment_seconds=1, variants=VARIANTS, fps=10, idle_overlap=0
    )
    owncast.film = f"{scene()};{music()}"
    monkeypatch.setattr(SimulatedOwncast, "clock", "")
    on_air = end_to_end(
        tmp_path,
        bucket,
        owncast=owncast,
        BROADCASTER_WINDOW_SECONDS="120",
        BROADCASTER_RECORDINGS="keep",
        BROADCASTER_PICTURES=ffmpeg()[0],
    )
    async with on_air as on:
        await on.live_with(4)
        await page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        await page.goto(f"{on.service.address}/")
        await until(page, lambda s: is_played(s) and s["position"] > 1)
        dashboard = await context.new_page()
        await dashboard.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        await dashboard.goto(f"{on.service.admin_address}/dashboard")
        await expect(dashboard.locator("#sentence")).to_contain_text("LIVE: 1 viewer")
        listed = dashboard.locator("#service div", has=dashboard.get_by_text("Segments listed")).locator("dd")
        await expect(dashboard.locator("#picture")).to_be_visible()
        await eventually(
            listed.text_content, lambda text: int(str(text).replace(",", "")) >= PLOTTED, within=240
        )
        await page.mouse.move(WIDTH // 2, HEIGHT // 2)  # shows the controls
        await take(page, pictures / "page.jpg")
        await take(dashboard, pictures / "dashboard.jpg")
