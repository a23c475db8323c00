"""The dashboard on the night of the event: one screen, in each trouble, on a desk and on a phone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Page, expect

from tests.support.fakes.event_night import OFFLINE, TROUBLES, WELL, event_night
from tests.support.judges.dashboard import DASH, fits, tiles_of
from tests.support.judges.page import barriers, no_complaints
from tests.support.length import SOAK

TABS = ("Now", "Checklist ✓", "Recordings", "Clips", "Uploads", "Guests", "Figures", "Money")
WITH_TOKEN = TABS[2:6]
WAITING_PLOT = "#main-plots .plot:has-text('Segments waiting')"
IN_TIME = 15.0  # seconds
ONE_LINE = range(24, 34)  # pixels: a finger needs 24


class Shown(NamedTuple):
    """What is shown of a trouble: part of the sentence, lines below, lamps that are not well, figures."""

    sentence: str
    lines: list[str | re.Pattern[str]]
    lamps: str
    tiles: dict[str, str]


FROZEN = {"Behind live": "\N{GREATER-THAN OR EQUAL TO} 67 s", "No picture": "412 frozen for 67 s"}
WAITING = FROZEN | {
    "Last segment": "67 s ago encoder: 1 s ago",
    "Recording": "behind",
    "Waiting": "62 57.0 MB",
    "Disk lasts": "10 h in an outage",
}
NIGHT = {
    "bucket": Shown(
        "(AccessDenied: the key may not use this bucket); 62 segments",
        ["Check the key's rights, and the bucket (R2_BUCKET)"],
        "✕ Bucket ✕ Viewers",
        WAITING | {"Uplink left": f"{DASH} needs 4.8 Mbit/s"},
    ),
    "encoder": Shown(
        "the encoder has brought nothing new for 34 s",
        ["Look at the encoder, its connection, and Owncast"],
        "✕ Encoder ✕ Viewers",
        {
            "Last segment": "34 s ago",
            "Behind live": "\N{GREATER-THAN OR EQUAL TO} 34 s",
            "No picture": "412 frozen for 34 s",
            "Recording": "on",
        },
    ),
    "uplink": Shown(
        "the stream needs 4.8)",
        ["Lower the bit rate or the number of variants of the encoder, or use a faster uplink"],
        "✕ Bucket ✕ Viewers",
        WAITING | {"Uplink left": "0 % needs 4.8 Mbit/s"},
    ),
    "address": Shown(
        "is not found there (404)",
        ["Name the bucket's custom domain as the public address, without prefix or path (R2_PUBLIC_URL)"],
        "✕ Viewers",
        {"No picture": "412 with errors", "Behind live": f"{DASH} no page plays"},
    ),
    "disk": Shown(
        "1.4 GB are left on the disk",
        [
            "Make room before the next outage",
            re.compile("^Playlists cannot be written into the bucket: PUT of.*Check the provider's status"),
        ],
        "! Service ! Bucket",
        {"Disk lasts": "39 min in an outage", "Recording": "failing"},
    ),
    "three faults": Shown(
        "(AccessDenied: the key may not use this bucket); 62 segments",
        [
            "Check the key's rights, and the bucket (R2_BUCKET)",
            re.compile("^Variant 2 has brought nothing new for 95 s.*Look at the encoder, and at the log$"),
            re.compile("^1.4 GB are left.*Make room before the next outage$"),
        ],
        "✕ Encoder ! Service ✕ Bucket ✕ Viewers",
        WAITING | {"Disk lasts": "39 min in an outage"},
    ),
    "four warnings": Shown(
        "1.4 GB are left on the disk",
        ["Make room before the next outage", *map(re.compile, ("^Playlists", "^The edge", "^Nobody"))],
        "! Service ! Bucket ! Viewers",
        {"Disk lasts": "39 min in an outage", "Recording": "failing"},
    ),
}


@pytest.mark.takes(15)
async def test_the_night_of_the_event(page: Page, tmp_path: Path) -> None:
    """In each trouble all that an operator needs is on one screen, and no two figures disagree."""
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with no_complaints(page):
        async with event_night() as (night, address):
            await page.goto(address)
            for name, shown in NIGHT.items() if SOAK else list(NIGHT.items())[-2:]:
                night.inputs, began = TROUBLES[name], time.monotonic()
                await expect(page.locator("#sentence")).to_contain_text(shown.sentence)
                await expect(page.locator("#lines li")).to_have_text(shown.lines)
                assert time.monotonic() - began < IN_TIME, name
                await fits(page, pictures / f"night-{name}")
                if "✕ Bucket" in shown.lamps:
                    await expect(page.locator(WAITING_PLOT)).to_be_in_viewport(ratio=0.99)
                assert (await tiles_of(page, stands=True)).items() >= shown.tiles.items()
                lamps = await page.locator("#lamps li").all_inner_texts()
                assert " ".join(lamp for lamp in lamps if lamp[0] in "!✕") == shown.lamps
            await remedy_on_demand(page)
            night.inputs = OFFLINE
            await expect(page.locator("#sentence")).to_have_text(
                "No stream is on; not yet: Encoder connected"
            )
            await expect(page.locator("#verdict")).to_have_text(f"{DASH} Off")
            await expect(page.locator("#lines")).to_be_hidden()
            await expect(page.locator("#now-checks .check")).to_have_count(8)
            await tiles_of(page, stands=True)
            await fits(page, pictures / "night-before", "#now-checks .check")
            lamps = await page.locator("#lamps li").all_inner_texts()
            assert lamps == [f"{DASH} Encoder", "✓ Service", f"{DASH} Bucket", f"{DASH} Viewers"]
            assert await barriers(page) == []
            night.inputs = WELL
            await expect(page.locator("#sentence")).to_contain_text("LIVE: 412 viewers")
            await fits(page, pictures / "night-well")
            assert (await tiles_of(page, stands=True))["Viewers"] == "412 ± 18"
            night.over = TROUBLES["bucket"]
            await page.reload()
            await expect(page.locator("#verdict")).to_have_text("✓ OK")
            assert (await tiles_of(page, stands=True))["Behind live"] == f"{DASH} no report since"
            night.over = None
            await by_keyboard(page)


async def remedy_on_demand(page: Page) -> None:
    """On a phone a further fault is one line; its remedy stays open, with the focus, while figures change."""
    fault = page.locator("#lines li").last
    cause, remedy, age = fault.locator("summary"), fault.locator(".remedy"), page.locator("#age")
    await expect(remedy).to_be_hidden()
    heights = await page.locator("#lines summary").evaluate_all("all => all.map((line) => line.offsetHeight)")
    assert all(height in ONE_LINE for height in heights), heights
    await cause.focus()
    await page.keyboard.press("Enter")
    before = await age.text_content()
    await expect(age).not_to_have_text(before or "")
    await expect(remedy).to_be_visible()
    await expect(cause).to_be_focused()


async def test_the_chosen_tab_is_in_view(page: Page) -> None:
    """A window that gets narrower, and one that is opened on a tab, show the chosen tab in the bar."""
    tab = page.get_by_role("tab", name="Money")
    with no_complaints(page):
        async with event_night() as (_, address):
            for width in (1440, 390):
                await page.set_viewport_size({"width": width, "height": 844})
                await page.goto("about:blank")
                await page.goto(f"{address}#money")
                await expect(page.locator("#checked")).to_have_text("✓")
                for narrower in (width, 390, 320):
                    await page.set_viewport_size({"width": narrower, "height": 844})
                    await expect(tab).to_be_in_viewport(ratio=1)


# Whether the tab that has the focus after a key is the one that is shown, before anything else happens.
MOVED = """(tab) => {
  tab.dispatchEvent(new KeyboardEvent("keydown", { key: "End", bubbles: true }));
  return document.activeElement !== tab && document.activeElement.ariaSelected === "true";
}"""


async def by_keyboard(page: Page) -> None:
    """Each tab is reached by the keyboard, and its name is in the address."""
    assert await page.get_by_role("tab", selected=True).evaluate(MOVED)
    await page.keyboard.press("Home")
    await page.locator("#sound").focus()
    await page.keyboard.press("Tab")
    for name in TABS:
        tab = page.get_by_role("tab", name=name)
        await expect(tab).to_be_focused()
        await expect(tab).to_have_attribute("aria-selected", "true")
        await expect(page.get_by_role("tabpanel")).to_have_count(0 if name in WITH_TOKEN else 1)
        if name not in WITH_TOKEN[1:]:  # they ask for the token as the first does
            assert await barriers(page) == []
        await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="Now")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("tabpanel")).to_be_focused()
    await page.goto(f"{page.url.partition('#')[0]}#recordings")
    await expect(page.get_by_role("tab", name="Recordings")).to_have_attribute("aria-selected", "true")
    await expect(page.get_by_label("Token", exact=True)).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("tabpanel")).to_have_accessible_name("Now")
