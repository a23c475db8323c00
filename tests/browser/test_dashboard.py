"""The operator's dashboard in a real Chromium, while a stream is on and after the bucket has gone."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import BrowserContext, Locator, Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import barriers, is_played, no_complaints, until
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end
from tests.support.waiting import eventually

Scheme = Literal["dark", "light"]
FAR = 60  # stops of the keyboard
# ``make soak`` takes them all.
LOOKS: tuple[tuple[int, Scheme], ...] = ((1280, "light"), (360, "dark"), (1280, "dark"), (360, "light"))


async def until_number(shown: Locator, least: int) -> None:
    """Wait until it is so much; a row more comes every five seconds."""
    await eventually(shown.inner_text, lambda text: int(text.replace(",", "")) >= least)


async def reach(page: Page, target: Locator) -> None:
    """Go to an element by the keyboard alone."""
    await expect(target).to_be_visible()
    for _ in range(FAR):
        if await target.evaluate("(element) => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{target} is not reached by the keyboard")


async def write(page: Page, target: Locator, text: str) -> None:
    """Write into a field by the keyboard alone, over what is there."""
    await reach(page, target)
    await page.keyboard.press("Control+A")
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")


async def press(page: Page, target: Locator) -> None:
    """Press a button by the keyboard alone."""
    await reach(page, target)
    await page.keyboard.press("Enter")


async def choose_tab(page: Page, name: str) -> None:
    """Go to a tab by the keyboard alone."""
    await reach(page, page.get_by_role("tab", selected=True))
    await page.keyboard.press("Home")
    chosen = page.get_by_role("tab", name=name, selected=True)
    while not await chosen.count():
        await page.keyboard.press("ArrowRight")


async def operate(page: Page, state: Path) -> str:
    """Name the recording, make a clip, after a wrong token and a wrong time; returns the clip's address.

    All of it is done by the keyboard.
    """
    said, token = page.locator("#said"), page.get_by_label("Token", exact=True)
    await choose_tab(page, "Recordings")
    await expect(page.locator("#token-file")).to_have_text(str(state / "operator-token"))
    await write(page, token, "wrong")
    await expect(said).to_contain_text("This is not the service's token")
    await write(page, token, (state / "operator-token").read_text().strip())
    await write(page, page.get_by_label("Title: "), "Opening night")
    await expect(said).to_contain_text("is called “Opening night” now.")
    await reach(page, page.get_by_label("Who finds it: Opening night"))
    await page.keyboard.press("ArrowDown")
    await expect(said).to_contain_text("is unlisted now")
    await press(page, page.get_by_role("button", name="Undo"))
    await expect(said).to_have_text("Undone.")
    await expect(page.get_by_label("Who finds it: Opening night")).to_have_value("listed")
    await expect(page.locator("#recording-list")).to_contain_text("on now")
    await expect(page.locator("#address-note")).to_contain_text("No public address of the page is known")
    await choose_tab(page, "Clips")
    await press(page, page.locator("#clip-exact summary"))
    await press(page, page.get_by_role("button", name="Make the clip"))
    await expect(said).to_have_text("Some of that time is not there any more, or not yet.")
    until = datetime.fromisoformat(await page.get_by_label("To", exact=True).input_value())
    begin = until - timedelta(seconds=6)
    await page.get_by_label("From", exact=True).fill(begin.isoformat(timespec="seconds"))
    await reach(page, page.get_by_label("Title of the clip"))
    await page.keyboard.type("A goal")
    await press(page, page.get_by_role("button", name="Make the clip"))
    await expect(page.get_by_label("Title: A goal")).to_be_visible()
    return await page.locator("#made-link").inner_text()


async def look(page: Page, width: int, scheme: Scheme, picture: Path) -> None:
    """Nothing is cut off at the side, and axe-core has no serious complaint."""
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme=scheme)
    # Plots follow a moment later.
    await page.wait_for_function("() => document.scrollingElement.scrollWidth <= innerWidth")
    assert await barriers(page) == []
    await page.screenshot(path=picture, full_page=True)


async def delete(page: Page, title: str) -> None:
    """Take it back at first."""
    clip = page.get_by_label(f"Title: {title}")
    for is_meant in (False, True):
        await expect(clip).to_be_visible()
        await press(page, page.get_by_label(f"Delete: {title}"))
        await expect(clip).to_have_count(0)
        await expect(page.get_by_role("button", name="Undo")).to_be_focused()
        if not is_meant:
            await page.keyboard.press("Enter")


async def watch(page: Page, address: str, clip: str, pictures: Path) -> None:
    """A viewer watches the clip, and makes one more by a key."""
    await page.goto(address)
    await until(page, lambda s: is_played(s) and s["position"] - s["timeline"]["start"] > 5.5)
    await page.keyboard.press("x")
    state = await until(page, lambda s: (s["clip"] or {}).get("url") is not None)
    for width, scheme in LOOKS[-2:] if SOAK else LOOKS[-1:]:
        await look(page, width, scheme, pictures / f"clip-{width}-{scheme}.png")
    for url in (state["clip"]["url"], clip):
        await page.goto(url)
        # Six seconds are over soon, on a busy machine before anybody has looked.
        await until(
            page,
            lambda s: s["rebuilds"] == 0 and (s["status"] == "over" or (is_played(s) and s["time"] > 0)),
        )
    assert await page.title() == "A goal"


@pytest.mark.takes(35)
async def test_dashboard(tmp_path: Path, bucket: SeaweedBucket, page: Page, context: BrowserContext) -> None:
    """It shows figures and curves, makes clips that play, and says so when the service no longer answers."""
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with no_complaints(page):
        async with end_to_end(
            tmp_path,
            bucket,
            segment_seconds=1,
            patient=True,
            BROADCASTER_RECORDINGS="keep",
            BROADCASTER_VIEWER_CLIPS="true",
        ) as on:
            await on.live_with(10)  # a clip of six seconds is made of them
            await page.goto(f"{on.service.admin_address}/dashboard")
            await expect(page.locator("#sentence")).to_contain_text("LIVE: 0 viewers, last segment")
            await page.wait_for_function("() => document.querySelectorAll('.uplot canvas').length === 3")
            await page.get_by_role("tab", name="Figures").click()
            published = page.locator("#service div", has=page.get_by_text("Segments listed")).locator("dd")
            await page.wait_for_function("() => document.querySelectorAll('#plots canvas').length === 9")
            await on.owncast.wait_for_segments(8)
            await until_number(published, 12)
            delay = page.locator("#service div", has=page.get_by_text("Publish delay")).locator("dd")
            assert re.search(r"\d m?s$", await delay.inner_text())
            await page.get_by_role("tab", name="Checklist").click()
            well = page.locator("#checks [data-state=ok] strong")
            for title in ("Encoder connected", "First segment public", "Recording on", "Clock right"):
                await expect(well.filter(has_text=title)).to_be_visible()
            await page.get_by_role("tab", name="Money").click()
            operations = page.locator("#money-tiles div", has=page.get_by_text("Class A operations")).locator(
                "dd"
            )
            await until_number(operations, 12)
            await expect(page.locator("#sound")).not_to_be_checked()
            await page.locator("#sound").check()
            clip = await operate(page, tmp_path / "state")
            viewer = await context.new_page()
            with no_complaints(viewer):
                await watch(viewer, f"{on.service.address}/", clip, pictures)
            for width, scheme in LOOKS if SOAK else LOOKS[-2:]:
                await look(page, width, scheme, pictures / f"dashboard-{width}-{scheme}.png")
            await delete(page, "A goal")
            await on.service.stop()
            await expect(page.locator("#sentence")).to_contain_text("No word from the service for")
            assert (await page.title()).startswith("✕ No answer")
