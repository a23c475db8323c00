"""What guests are told is what is true, in each state that they can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.support.page import no_complaints, until
from tests.support.station import on_air

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page


@pytest.mark.takes(45)
async def test_each_state_has_its_words(page: Page, tmp_path: Path) -> None:
    """Offline, starting, live, behind, the encoder's pause, no delivery, no answer, ended: said in words."""
    async with on_air(tmp_path) as place:
        station = place.station
        station.window = 30
        station.word.tell("offline")
        with no_complaints(page):
            await page.goto(place.url)
            await says(page, "Offline", "The stream is offline")
            station.word.tell("starting")
            await page.reload()
            await says(page, "Starting", "The stream is starting")
            await station.start_stream(multivariant=True)
            station.word.tell("live")
            await says(page, "Live")
            assert (await page.title()).startswith("●")
            await page.keyboard.press("k")
            await says(page, "Behind live")
            assert not (await page.title()).startswith("●")
            await page.keyboard.press("l")
            await says(page, "Live")

            await station.stop()
            station.word.tell("live", "encoder")
            await says(page, "Paused", "The encoder has paused")
            station.word.tell("live", "delivery")
            await says(page, "Interrupted", "The video cannot be delivered at the moment")
            station.word.tell("live")
            await says(page, "Waiting", "One moment…")

            station.away = True  # and nothing is told any more
            station.word.tell(None)
            await says(page, "Reconnecting", "Reconnecting…")
            station.away = False
            await station.encode()
            station.word.tell("live")
            await until(page, lambda s: s["status"] == "live" and s["channel"] == "live")

            station.ended = True
            await station.stop()
            station.word.tell("ended")
            await says(page, "Ended", "The stream has ended")
            await expect(page.get_by_text("it starts by itself")).to_have_count(0)


async def says(page: Page, badge: str, title: str | None = None) -> None:
    """Wait for the badge, and for the words over the picture; without any the picture is free."""
    await expect(page.locator("#badge")).to_have_text(badge)
    if title is None:
        await expect(page.locator("#card")).to_be_hidden()
    else:
        await expect(page.locator("#card-title")).to_have_text(title)
        await expect(page.locator("#card-title")).to_be_visible()
