"""The page as a screen reader has it: Chromium's accessibility tree, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser.test_event_page import prepare
from tests.support.judges.page import is_played, settled, until
from tests.support.servers.fake_origin import on_air

# Roles of what a reader stops at.
READ = {"heading", "region", "complementary", "group", "button", "link", "slider", "combobox", "switch"}
READ |= {"Iframe", "Video", "timer"}
TITLE = "An evening in the harbour"
BEFORE = ["region Player", "timer"]
CONTROLS = ["button Pause", "button Sound off", "slider Volume", "combobox Quality", "button Statistics"]
CONTROLS += ["button Keyboard shortcuts", "button Picture in picture", "button Full screen"]
LIVE = ["region Player", "Video Live picture", "group Player controls", *CONTROLS]
ABOUT = ["region About the stream", f"heading {TITLE}", "button Remind me", "button Share"]
ABOUT += ["link All recordings", "button Theatre mode"]
CHAT = ["region Chat", "Iframe Chat"]
MORE = [f"region {TITLE}", "link Programme"]
SHELF = ["region More recordings", "heading More recordings", "link 2 hours The night before"]
WIDE, PHONE = [*ABOUT, *CHAT, *MORE, *SHELF], [*ABOUT, *CHAT, *SHELF, *MORE]
# What a phone has no room or no use for.
ROOMY = {"slider Volume", "button Statistics", "button Keyboard shortcuts", "button Picture in picture"}
ROOMY |= {"button Theatre mode"}


async def read_aloud(page: Page) -> list[str]:
    """Role and name of each of them, in order; what is inside a frame is its own page's."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    await session.detach()
    nodes: dict[str, dict[str, Any]] = {node["nodeId"]: node for node in tree["nodes"]}
    found: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        role, name = (node.get(key, {}).get("value", "") for key in ("role", "name"))
        if role in READ and not node["ignored"] and (name or role == "timer"):
            found.append(f"{role} {name}".strip())
        for child in node.get("childIds", []):
            if child in nodes:
                walk(nodes[child])

    walk(tree["nodes"][0])
    return found


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
