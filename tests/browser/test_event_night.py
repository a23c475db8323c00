"""The dashboard on the night of the event: one screen, in each trouble, on a desk and on a phone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Page, expect

from tests.support.fakes.event_night import TROUBLES, WELL, event_night
from tests.support.judges.page import barriers, no_complaints

SCREENS = ((1440, 900), (390, 844))  # pixels
NEEDED = (
    "#verdict",
    "#sentence",
    "#lamps li",
    "[aria-selected=true]",
    "#now-tiles dt",
    "#now-tiles dd",
    ".plot canvas",
)
HIDDEN = """([selectors, one]) => {
    const isHidden = (element) => {
        const { left, top, right, bottom, width } = element.getBoundingClientRect();
        const at = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
        const isOurs = (other) => element.contains(other) || element.parentElement.contains(other);
        const isCovered = at === null || !isOurs(at);
        const isCut = element.tagName !== "SPAN" && element.scrollWidth > element.clientWidth + 1;
        const isInside = width > 0 && left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
        return isCovered || isCut || !isInside;
    };
    const count = (selector) => (selector === one ? 1 : Infinity);
    const find = (selector) => [...document.querySelectorAll(selector)].slice(0, count(selector));
    return selectors.filter((selector) => find(selector).some(isHidden));
}"""
FITS = """() => {
    const { scrollHeight, scrollWidth } = document.scrollingElement;
    return scrollHeight <= innerHeight && scrollWidth <= innerWidth;
}"""
TABS = ("Now", "Checklist 5 of 6", "Recordings", "Clips", "Uploads", "Guests", "Figures", "Money")
WITH_TOKEN = TABS[2:6]
# What assistive technology gets, in this order.
ORDER = (
    'heading "Broadcaster',
    "checkbox",
    "✓ OK",
    'list "The way to viewers"',
    "tablist",
    "tabpanel",
    "term: Viewers",
    'heading "Viewers"',
)


class Shown(NamedTuple):
    """What is shown of a trouble: part of the sentence, the lamps that are not well, and some figures."""

    sentence: str
    lamps: str
    tiles: dict[str, str]


WAITING = {"Waiting": "62 57.0 MB", "Disk lasts": "10 h in an outage"}
NIGHT = {
    "bucket": Shown(
        "the access key may not use this bucket",
        "✕ Bucket ✕ Viewers",
        WAITING | {"Uplink left": "\N{EN DASH} needs 4.8 Mbit/s"},
    ),
    "encoder": Shown(
        "the encoder has brought nothing new for 34 s", "✕ Encoder ✕ Viewers", {"Last segment": "34 s ago"}
    ),
    "uplink": Shown(
        "the stream needs 4.8)", "✕ Bucket ✕ Viewers", WAITING | {"Uplink left": "0 % needs 4.8 Mbit/s"}
    ),
    "address": Shown(
        "R2_PUBLIC_URL has to be the custom domain", "✕ Viewers", {"No picture": "412 with errors"}
    ),
    "disk": Shown(
        "1.4 GB are left on the disk",
        "! Service ! Bucket",
        {"Disk lasts": "39 min in an outage", "Recording": "failing"},
    ),
}
# Figures of a sentence, and the tile that is about the same thing.
SAME = (
    (r"(\d+) segments \(", "Waiting"),
    (r"segments \(([^)]+B)\)", "Waiting"),
    (r"the disk lasts ([^;]+);", "Disk lasts"),
    (r"nothing new for (\d+ s)", "Last segment"),
    (r"the stream needs ([\d.]+)", "Uplink left"),
    (r"LIVE: (\d+) viewers", "Viewers"),
    (r"last segment (.*)", "Last segment"),
)


async def tiles_of(page: Page) -> dict[str, str]:
    """The figures of the first tab by their names; none differs from that of the sentence."""
    sentence, texts = await page.evaluate(
        """() => [
            document.querySelector("#sentence").innerText,
            [...document.querySelectorAll("#now-tiles div")].map(({ innerText }) => innerText.split("\\n")),
        ]"""
    )
    tiles = {name: " ".join(" ".join(rest).split()) for name, *rest in texts}
    for pattern, name in SAME:
        if found := re.search(pattern, sentence):
            assert found[1] in tiles[name]
    return tiles


async def fits(page: Page, picture: Path) -> None:
    """Nothing has to be scrolled for, and nothing that is needed is cut off or covered."""
    for width, height in SCREENS:
        await page.set_viewport_size({"width": width, "height": height})
        await page.wait_for_function(FITS)
        assert await page.evaluate(HIDDEN, [NEEDED, ".plot canvas"]) == []
        await page.screenshot(path=picture.with_name(f"{picture.name}-{width}.png"))


@pytest.mark.takes(15)
async def test_the_night_of_the_event(page: Page, tmp_path: Path) -> None:
    """In each trouble all that an operator needs is on one screen, and no two figures disagree."""
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with no_complaints(page):
        async with event_night() as (night, address):
            await page.goto(address)
            for name, shown in NIGHT.items():
                night.inputs, began = TROUBLES[name], time.monotonic()
                await expect(page.locator("#sentence")).to_contain_text(shown.sentence)
                print(f"{name} is shown after {time.monotonic() - began:.1f} s")
                await fits(page, pictures / f"night-{name}")
                assert (await tiles_of(page)).items() >= shown.tiles.items()
                lamps = await page.locator("#lamps li").all_inner_texts()
                assert " ".join(lamp for lamp in lamps if lamp[0] in "!✕") == shown.lamps
            night.inputs = WELL
            await expect(page.locator("#verdict")).to_have_text("✓ OK")
            assert (await tiles_of(page))["Viewers"] == "412 ± 18"
            await by_keyboard(page)


async def by_keyboard(page: Page) -> None:
    """Each tab is reached by the keyboard, and its name is in the address."""
    await page.locator("#sound").focus()
    await page.keyboard.press("Tab")
    for name in TABS:
        tab = page.get_by_role("tab", name=name)
        await expect(tab).to_be_focused()
        await expect(tab).to_have_attribute("aria-selected", "true")
        await expect(page.get_by_role("tabpanel")).to_have_count(0 if name in WITH_TOKEN else 1)
        assert await barriers(page) == []
        await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="Now")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("tabpanel")).to_be_focused()
    tree = await page.locator("body").aria_snapshot()
    places = [tree.find(part) for part in ORDER]
    assert -1 not in places
    assert places == sorted(places)
    await page.goto(f"{page.url.partition('#')[0]}#recordings")
    await expect(page.get_by_role("tab", name="Recordings")).to_have_attribute("aria-selected", "true")
    await expect(page.get_by_label("Token", exact=True)).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("tabpanel")).to_have_accessible_name("Now")
