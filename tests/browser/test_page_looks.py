"""The page's looks in all its states: screenshots to look at, and axe-core's judgement of each.

Set ``SCREENSHOTS`` to a folder to keep the pictures.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.judges import pseudo_language
from tests.support.judges.page import barriers, is_, no_complaints, settled, until
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page, ViewportSize

    from broadcaster.demo.bucket import SeaweedBucket

WIDE = (1280, 860)
PHONE = (375, 740)
IFRAME = (640, 360)


@dataclass(frozen=True)
class Look:
    """One way to look at a page that is open."""

    name: str
    size: tuple[int, int] = WIDE
    scheme: str = "dark"


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Return the folder for the pictures."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """Open a tab in which nothing pulses, so that two pictures of one state are alike."""
    context = await browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(1000 * PATIENCE)
    yield await context.new_page()
    await context.close()


async def resize(page: Page, size: tuple[int, int]) -> None:
    """Give the page another size: a page that has the whole screen does not take even the same size."""
    wanted: ViewportSize = {"width": size[0], "height": size[1]}
    if page.viewport_size != wanted:
        await page.set_viewport_size(wanted)


async def check(page: Page, folder: Path, *looks: Look) -> None:
    """Take pictures; nothing is cut off at the side, and axe-core has no serious complaint.

    ``make soak`` takes them all; the last one of each state is taken always.
    """
    for look in looks if SOAK else looks[-1:]:
        await resize(page, look.size)
        await page.emulate_media(color_scheme=cast("Any", look.scheme), reduced_motion="reduce")
        await page.mouse.move(100, 100)  # the controls are there
        await settled(page)
        await page.screenshot(path=folder / f"{look.name}.png")
        assert await page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), look.name
        assert await barriers(page) == [], look.name


@pytest.mark.takes(10)
async def test_offline_page_looks_good(
    tmp_path: Path, bucket: SeaweedBucket, page: Page, shots: Path
) -> None:
    """Before a stream the page says so in a friendly way, on a wide screen and on a phone, dark and light."""
    async with end_to_end(tmp_path, bucket, segment_seconds=2) as on:
        with no_complaints(page):
            await page.goto(f"{on.service.address}/")
            await until(page, is_("offline"))
            light, phone = Look("offline-light", scheme="light"), Look("offline-phone", PHONE)
            await check(page, shots, Look("offline"), light, phone)


@pytest.mark.takes(25)
async def test_live_page_looks_good(tmp_path: Path, bucket: SeaweedBucket, page: Page, shots: Path) -> None:
    """A playing page, its statistics, its list of keys and its iframe, wide and narrow, dark and light."""
    async with end_to_end(tmp_path, bucket, segment_seconds=1) as on:
        await on.live_with(6)
        with no_complaints(page):
            await page.goto(f"{on.service.address}/")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 1)
            light, phone = Look("live-light", scheme="light"), Look("live-phone", PHONE)
            await check(page, shots, Look("live"), light, phone)

            await page.get_by_role("switch", name="Help carry the stream").check()
            await check(page, shots, Look("sharing"), Look("sharing-phone", PHONE, "light"))
            await page.get_by_role("switch", name="Help carry the stream").uncheck()

            await page.keyboard.press("?")
            await check(page, shots, Look("help"), Look("help-phone", PHONE, "light"))
            await page.keyboard.press("Escape")

            await resize(page, WIDE)
            await page.keyboard.press("f")
            await until(page, lambda s: s["fullscreen"])
            if SOAK:
                await check(page, shots, Look("fullscreen"))
            await page.keyboard.press("f")
            await until(page, lambda s: not s["fullscreen"])

            await page.keyboard.press("i")
            await statistics_filled(page)
            light, phone = Look("stats-light", scheme="light"), Look("stats-phone", PHONE)
            whole = Look("stats-whole", (1280, 1240), "light")
            await check(page, shots, Look("stats"), light, phone, whole)
        assert page.context.browser
        await check_words(page.context.browser, on.service.address, shots)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the whole page has the same rules")
@pytest.mark.takes(20)
async def test_iframe_shows_the_picture_alone(
    tmp_path: Path, bucket: SeaweedBucket, page: Page, shots: Path
) -> None:
    """With ?embed=1 the picture fills the page; the title shows with the controls alone."""
    async with end_to_end(tmp_path, bucket, segment_seconds=1) as on:
        await on.live_with(6)
        with no_complaints(page):
            await page.goto(f"{on.service.address}/?embed=1")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 1)
            await check(page, shots, Look("embed", IFRAME), Look("embed-light", IFRAME, "light"))
            assert await page.locator("h1").is_visible()
            assert await page.get_by_role("switch").count() == 0
            assert await page.evaluate("document.querySelector('video').clientHeight") == IFRAME[1]
            await page.mouse.move(101, 100)
            await page.locator("main[data-idle]").wait_for()
            await expect(page.locator(".about")).to_have_css("opacity", "0")
            await page.screenshot(path=shots / "embed-idle.png")


async def check_words(browser: Browser, address: str, shots: Path) -> None:
    """The picture does not wait for a language; then each word is of it, and the page runs its way."""
    plays = asyncio.Event()
    context = await browser.new_context(locale=pseudo_language.LOCALE, reduced_motion="reduce")
    context.set_default_timeout(1000 * PATIENCE)
    try:
        await pseudo_language.speak(context, plays.wait)
        page = await context.new_page()
        with no_complaints(page):
            await page.goto(f"{address}/")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 1)
            await expect(page.get_by_role("button", name="Share", exact=True)).to_be_visible()
            plays.set()
            await page.locator(f"html[dir=rtl][lang={pseudo_language.LOCALE}]").wait_for()
            await page.keyboard.press("i")
            await statistics_filled(page)
            assert await pseudo_language.outside(page) == []
            await check(page, shots, Look("rtl-stats"))
            await page.keyboard.press("i")
            await check(page, shots, Look("rtl"), Look("rtl-phone", PHONE, "light"))
            await page.goto(f"{address}/recordings.html")
            await expect(page.locator("#said")).to_have_text("⟦There are no recordings yet.⟧")
            assert await pseudo_language.outside(page) == []
    finally:
        await context.close()


async def statistics_filled(page: Page) -> None:
    """Wait until the statistics have something to show in all their parts."""
    await page.locator("#stats").wait_for()
    await page.locator("#stages tbody tr").nth(7).wait_for()
    await page.locator("#flow-plot canvas").wait_for()
    await expect(page.locator("#money dd").first).not_to_have_text("$0.00")
