"""The page's words are true in each state that guests can see; each state is caused for real."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import no_complaints, seen, until
from tests.support.length import SOAK
from tests.support.servers.end_to_end import EndToEnd, end_to_end
from tests.support.suspending import resume, suspend

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page, Route

    from broadcaster.demo.bucket import SeaweedBucket

WINDOW = 30  # seconds
OUTAGE = 15  # seconds for which each lasts after the page has shown it
SAID = """() => {
    const badge = document.getElementById("badge");
    window.said = [badge.textContent];
    new MutationObserver(() => window.said.push(badge.textContent)).observe(badge, { childList: true });
}"""


@pytest.mark.skipif(
    not SOAK,
    reason="make soak runs it: test_stream_in_browser has a stream's life",
)
@pytest.mark.takes(50)
async def test_each_state_has_its_words(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """From a stream's start to its end, by way of a frozen encoder, and a bucket and a service away."""
    owncast = SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", idle_overlap=0)
    paused = await page.context.new_page()
    with no_complaints(page), no_complaints(paused):
        async with end_to_end(
            tmp_path,
            bucket,
            owncast=owncast,
            patient=True,
            BROADCASTER_WINDOW_SECONDS=str(WINDOW),
            BROADCASTER_OWNCAST_URL=owncast.url,
            BROADCASTER_DISCONNECT_GRACE_SECONDS="0",
            BROADCASTER_RETENTION_MAX_MINUTES="0",  # the window leaves who has paused
        ) as on:
            await check_start(page, on)
            await pause(paused, on)
            await check_frozen_encoder(page, on)
            await check_bucket_away(page, bucket)
            await check_window_that_left(paused)
            await check_service_away(page, on)
            await on.owncast.stop_streaming()
            await says(page, "Ended", "The stream has ended")
            await expect(page.get_by_text("it starts by itself")).to_have_count(0)


async def check_start(page: Page, on: EndToEnd) -> None:
    """Offline, starting, live; and behind for who pauses."""
    await page.goto(f"{on.service.address}/")
    await says(page, "Offline", "The stream is offline")
    await page.evaluate(SAID)
    await on.owncast.go_live()
    await says(page, "Live")
    said = [badge for badge, _ in itertools.groupby(await page.evaluate("window.said"))]
    assert said[:2] == ["Offline", "Starting"]
    assert said[-1] == "Live"
    assert (await page.title()).startswith("●")
    await page.keyboard.press("k")
    await says(page, "Behind live")
    assert not (await page.title()).startswith("●")
    await page.keyboard.press("l")
    await says(page, "Live")


async def check_frozen_encoder(page: Page, on: EndToEnd) -> None:
    """The encoder stands still, and is still connected."""
    assert on.owncast.encoder
    suspend(on.owncast.encoder)
    await goes_on_saying(page, "Paused", "The encoder has paused")
    resume(on.owncast.encoder)
    await plays_on(page)


async def check_bucket_away(page: Page, bucket: SeaweedBucket) -> None:
    """The bucket takes connections and answers nothing."""
    suspend(bucket.child)
    await goes_on_saying(page, "Interrupted", "The video cannot be delivered at the moment")
    resume(bucket.child)
    await plays_on(page)


async def check_service_away(page: Page, on: EndToEnd) -> None:
    """The service is stopped, and started again."""
    await on.service.stop()
    await goes_on_saying(page, "Reconnecting", "Reconnecting…")
    await on.service.start()
    await plays_on(page)


async def pause(page: Page, on: EndToEnd) -> None:
    """Somebody pauses and gets no more segments: else the picture ahead would outlast the window."""

    async def hold(_: Route) -> None:
        """Neither let it go on nor refuse it."""

    await page.goto(f"{on.service.address}/")
    await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
    await page.route("**/*.ts", hold)
    await page.keyboard.press("k")
    await says(page, "Behind live")


async def check_window_that_left(page: Page) -> None:
    """Who paused stays there; the page says that the place is gone, and goes on at the window's beginning."""
    before = await until(page, lambda s: s["gone"])
    await says(page, "Paused", "Your place is no longer kept")
    await page.unroute_all(behavior="ignoreErrors")
    assert (await seen(page))["time"] == before["time"]
    await page.locator("#play").click()
    await until(page, lambda s: s["status"] == "live" and s["time"] > before["time"] + 1 and not s["gone"])
    await page.close()


async def plays_on(page: Page) -> None:
    """Wait until the picture moves again, and nothing is said over it."""
    before = await seen(page)
    await until(page, lambda s: s["status"] == "live" and s["time"] > before["time"] + 1 and not s["trouble"])
    await expect(page.locator("#card")).to_be_hidden()


async def says(page: Page, badge: str, title: str | None = None) -> None:
    """Wait for the badge, and for the words over the picture; without any the picture is free."""
    await expect(page.locator("#badge")).to_have_text(badge)
    if title is None:
        await expect(page.locator("#card")).to_be_hidden()
    else:
        await expect(page.locator("#card-title")).to_have_text(title)
        await expect(page.locator("#card-title")).to_be_visible()


async def goes_on_saying(page: Page, badge: str, title: str) -> None:
    """Wait for these words; then they stay, and there are no others in between."""
    await says(page, badge, title)
    await page.evaluate(SAID)
    await asyncio.sleep(OUTAGE)
    await says(page, badge, title)
    assert set(await page.evaluate("window.said")) == {badge}
