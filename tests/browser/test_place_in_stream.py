"""Where a viewer is in the stream is their choice: pauses and places stay, and live is one key away."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from tests.support.judges.page import no_complaints, seen, until
from tests.support.judges.page_layout import check_boxes
from tests.support.length import SOAK, seconds
from tests.support.servers.fake_origin import Place, on_air
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import Page, Route

PAUSE = seconds(60, 6)
BACK = seconds(240, 12)  # so far back somebody goes, in a window that is a minute longer
STAYS = seconds(60, 3)
NEAR = 3000  # ms from where it was
TOO_LATE = 18  # seconds, more than eight target durations: the picture jumps
SPOKEN = re.compile(r"\d?\d:\d\d:\d\d\s[AP]M, (\d+ minutes?)?(, )?(\d+ seconds?)? behind live")
DOUBLE_TAP = """() => {
    const video = document.querySelector("video");
    const tap = { pointerType: "touch", clientX: 20, clientY: 60, bubbles: true };
    for (let times = 0; times < 2; times += 1) video.dispatchEvent(new PointerEvent("pointerup", tap));
}"""


@pytest.mark.takes(60)
@pytest.mark.skipif(not SOAK, reason="make soak runs it: places have tests in Node")
async def test_viewers_place_is_the_viewers_choice(page: Page, tmp_path: Path) -> None:
    """Paused, far back, at live, thrown off by an outage and left behind by the window, with one stream."""
    async with on_air(tmp_path) as place:
        place.fake_origin.window = BACK + 60
        place.fake_origin.config = {"trackerUrl": "/live/tracker"}
        place.fake_origin.word.tell("live")
        await place.fake_origin.start_stream(multivariant=True)
        with no_complaints(page):
            await page.goto(place.url)
            await until(page, lambda s: s["status"] == "live" and s["time"] > 0 and not s["behind"])
            await check_pause(page, Path(os.environ.get("SCREENSHOTS", tmp_path)))
            await check_seeking(page)
            await check_outage(page)
            await check_window_that_leaves(page, place)


async def check_pause(page: Page, folder: Path) -> None:
    """A pause stays where it is, is not called live, and goes on from there. All controls are there."""
    await until(page, lambda s: length(s) > 6 and not s["behind"])  # so long that there is a bar
    badge, go_live = page.locator("#badge"), page.locator("#go-live")
    await expect(badge).to_have_text("Live")
    await expect(go_live).to_be_hidden()  # one sign is enough
    await page.keyboard.press("k")
    paused = await until(page, lambda s: s["paused"] and not s["following"])
    await expect(badge).to_have_text("Behind live")
    await expect(go_live).to_have_text("Go live")
    await check_boxes(page, folder)
    later = await until(page, lambda s: s["clock"] > paused["clock"] + PAUSE)
    assert later["time"] == paused["time"]
    assert later["latency"] > paused["latency"] + PAUSE - 2
    await page.keyboard.press("k")
    resumed = await until(page, lambda s: s["time"] > later["time"] + 1)
    assert resumed["time"] < later["time"] + 3
    assert (resumed["behind"], resumed["following"]) == (True, False)


async def check_seeking(page: Page) -> None:
    """The bar, its keys and a double tap move within the window; what was chosen stays."""
    bar = page.get_by_role("slider", name="Place in the stream")
    for share in (0.5, 0.75, 1):  # longer than anything else is waited for
        await until(page, is_longer(share * (BACK + 4)))
    await page.keyboard.press("Home")
    far = await until(page, lambda s: s["status"] == "live" and s["position"] < s["timeline"]["first"] + 2)
    stayed = await until(page, lambda s: s["time"] > far["time"] + STAYS)
    assert (stayed["following"], stayed["behind"]) == (False, True)
    assert back(stayed) > BACK - 2
    said = await bar.get_attribute("aria-valuetext") or ""
    assert SPOKEN.fullmatch(said), said

    box = await bar.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    await page.mouse.up()
    await until(page, lambda s: abs(back(s) - length(s) / 2) < 3)
    await page.evaluate(DOUBLE_TAP)
    await until(page, lambda s: back(s) > length(s) / 2 + 3)

    await page.keyboard.press("k")
    still = await until(page, lambda s: s["paused"])
    await page.keyboard.press(",")
    stepped = await until(page, lambda s: s["time"] < still["time"])
    assert still["time"] - stepped["time"] < 0.2

    await page.keyboard.press("l")
    await until(page, lambda s: not s["behind"] and not s["paused"] and s["following"])
    await expect(page.locator("#badge")).to_have_text("Live")


async def check_outage(page: Page) -> None:
    """Who follows is back at live after segments stayed away, and can watch what was missed."""
    over = asyncio.Event()

    async def hold(route: Route) -> None:
        await over.wait()
        await route.continue_()

    await page.route("**/*.ts", hold)
    await until(page, lambda s: s["latency"] is not None and s["latency"] > TOO_LATE)
    over.set()
    await page.unroute_all(behavior="wait")
    jumped = await until(page, lambda s: s["missed"] is not None and not s["behind"])
    offer = page.get_by_text(f"You missed {jumped['missed']['seconds']:.0f} second")
    await expect(offer).to_be_visible()
    await page.get_by_role("button", name="Watch it").click()
    date = jumped["missed"]["date"]
    watching = await until(
        page, lambda s: s["behind"] and s["status"] == "live" and abs((s["date"] or 0) - date) < NEAR
    )
    assert watching["missed"] is None
    await page.get_by_role("button", name="Go live").click()
    await until(page, lambda s: not s["behind"])


async def check_window_that_leaves(page: Page, place: Place) -> None:
    """When the window has left what is paused, the page says so, and goes on from where it begins."""
    await page.keyboard.press("k")
    paused = await until(page, lambda s: s["paused"])
    place.fake_origin.window = 8
    async with asyncio.timeout(PATIENCE):
        while not (await seen(page))["gone"]:
            place.fake_origin.lose_next()  # nothing that could be loaded meanwhile
            await asyncio.sleep(0.2)
    await expect(page.get_by_text("Your place is no longer kept", exact=True)).to_be_visible()
    assert (await seen(page))["time"] == paused["time"]
    place.fake_origin.window = 30
    await page.locator("#play").click()
    await until(page, lambda s: s["status"] == "live" and s["time"] > paused["time"] + 1)
    await expect(page.get_by_text("Your place is no longer kept", exact=True)).to_be_hidden()


def back(state: dict[str, Any]) -> float:
    """Seconds behind live."""
    return float(state["timeline"]["live"] - state["position"]) if state["timeline"] else 0


def is_longer(seconds: float) -> Callable[[dict[str, Any]], bool]:
    return lambda state: length(state) > seconds


def length(state: dict[str, Any]) -> float:
    """Seconds that can be gone back."""
    return float(state["timeline"]["live"] - state["timeline"]["first"]) if state["timeline"] else 0
