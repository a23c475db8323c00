"""Page and dashboard as a screen reader has them: Chromium's accessibility tree, in its order."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.test_event_page import prepare
from tests.support.fakes.event_night import OFFLINE, TROUBLES, event_night
from tests.support.judges.page import is_played, no_complaints, settled, until
from tests.support.length import SOAK
from tests.support.servers.fake_origin import on_air

# Roles of what a reader stops at.
READ = {"heading", "region", "complementary", "group", "button", "link", "slider", "combobox", "switch"}
READ |= {"Iframe", "Video", "timer"}
TITLE = "An evening in the harbour"
BEFORE = ["region Player", "timer"]
CONTROLS = ["button Pause", "button Sound off", "slider Volume", "button Settings", "button Statistics"]
CONTROLS += ["button Keyboard shortcuts", "button Picture in picture", "button Full screen"]
LIVE = ["region Player", "Video Live picture", "group Player controls", *CONTROLS]
ABOUT = ["region About the stream", f"heading {TITLE}", "button Remind me", "button Share"]
ABOUT += ["link Recordings", "button Theatre mode"]
CHAT = ["region Chat", "Iframe Chat"]
MORE = [f"region {TITLE}", "link Programme"]
SHELF = ["region More recordings", "heading More recordings", "link 2 hours The night before"]
WIDE, PHONE = [*ABOUT, *CHAT, *MORE, *SHELF], [*ABOUT, *CHAT, *SHELF, *MORE]
# What a phone has no room or no use for.
ROOMY = {"slider Volume", "button Statistics", "button Keyboard shortcuts", "button Picture in picture"}
ROOMY |= {"button Theatre mode"}


TABS = ("Now", "Checklist 1 to do", "Recordings", "Clips", "Uploads", "Guests", "Figures", "Money")
HEAD = ["heading Broadcaster", "checkbox Alarm sound", "StaticText ✕ Failing", "list What to do"]
HEAD += ["list The way to viewers", "tablist Parts of the dashboard", *(f"tab {name}" for name in TABS)]
FIGURES = ["Viewers", "Behind live", "No picture", "Last segment", "Uplink left", "Waiting", "Disk lasts"]
NOW = ["tabpanel Now", "image What the encoder sends", *(f"term {name}" for name in (*FIGURES, "Recording"))]
PLOTS = ["heading Viewers", "heading How late viewers are, s", "heading Segments waiting for the bucket"]
PANELS = {
    "checklist": ["tabpanel Checklist 1 to do", "heading Checklist what has to be so before the event"],
    "recordings": ["textbox Token", "button Go on"],
    "figures": ["tabpanel Figures", "heading How viewers fare", "heading The service", "heading Last hour"],
    "money": ["tabpanel Money", "heading Bucket and money"],
}
DESK = READ | {"checkbox", "image", "list", "tab", "tablist", "tabpanel", "term", "textbox", "StaticText"}


async def read_aloud(page: Page, roles: AbstractSet[str] = frozenset(READ)) -> list[str]:
    """Each element of these roles, with its name, in order; what is inside a frame is its own page's."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    await session.detach()
    nodes: dict[str, dict[str, Any]] = {node["nodeId"]: node for node in tree["nodes"]}
    found: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        role, name = (node.get(key, {}).get("value", "") for key in ("role", "name"))
        if role in roles and not node["ignored"] and (name or role == "timer"):
            found.append(f"{role} {name}".strip())
        for child in node.get("childIds", []):
            if child in nodes:
                walk(nodes[child])

    walk(tree["nodes"][0])
    return found


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_event_page has the order of the parts")
@pytest.mark.takes(20)
async def test_the_order_in_which_a_screen_reader_has_the_page(page: Page, tmp_path: Path) -> None:
    """Player, title, what can be done, chat; then wide the description, on a phone the recordings."""

    async def check(player: list[str], *, without: str = "") -> None:
        for size, order in (((1440, 900), WIDE), ((390, 844), PHONE)):
            await page.set_viewport_size({"width": size[0], "height": size[1]})
            await settled(page)
            left_out = ROOMY | {without} if order is PHONE else {without}
            found = [text.partition(" Jul")[0] for text in await read_aloud(page)]
            assert found == [text for text in (*player, *order) if text not in left_out]

    async with on_air(tmp_path) as place:
        prepare(place)
        await page.goto(place.url)
        await page.locator("#shelf").wait_for()
        await check(BEFORE)
        await place.fake_origin.start_stream(multivariant=True)
        await until(page, is_played)
        await check(LIVE, without="button Remind me")


async def test_the_order_in_which_a_screen_reader_has_the_dashboard(page: Page) -> None:
    """What is wrong, what to do, which part, the tabs, then the tab's own parts; the alarm is read last."""

    async def found() -> list[str]:
        texts = await read_aloud(page, DESK)
        return [text for text in texts if not text.startswith("StaticText") or text in HEAD]

    with no_complaints(page):
        async with event_night() as (night, address):
            night.inputs = TROUBLES["bucket"]
            await page.goto(address)
            for width, plots in ((1440, PLOTS), (390, [PLOTS[0], PLOTS[2]])):
                await page.set_viewport_size({"width": width, "height": 900})
                await expect(page.locator("#main-plots canvas")).to_have_count(3)
                await expect(page.locator("#picture")).to_be_visible()
                assert await found() == HEAD + NOW + plots
            for name, parts in PANELS.items():
                await page.goto(f"{address}#{name}")
                await expect(page.get_by_role("tab", selected=True)).to_have_attribute("id", f"tab-{name}")
                texts = iter(await found())
                assert all(any(text.startswith(part) for text in texts) for part in HEAD + parts)
            alarm = (await read_aloud(page, DESK))[-1]
            assert alarm.startswith("StaticText ✕ Failing VIEWERS FROZEN for 67 s")
            night.inputs = OFFLINE
            await page.goto(f"{address}#now")
            await expect(page.locator("#before")).to_be_visible()
            assert (await found())[-1] == "list Before the event"
