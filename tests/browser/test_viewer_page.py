"""The viewer's page in a real Chromium, against a live stream made on the spot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.judges.page import barriers, is_, no_complaints, play_on, seen, until
from tests.support.length import SOAK
from tests.support.servers.fake_origin import HEIGHTS, Place, on_air
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page


@pytest_asyncio.fixture(loop_scope="session")
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Start an origin whose stream can be started."""
    async with on_air(tmp_path) as place:
        yield place


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_stream_in_browser has it of the real service")
@pytest.mark.takes(55)
async def test_page_follows_streams_from_offline_to_the_next_stream(
    page: Page, place: Place, tmp_path: Path
) -> None:
    """The page waits, plays, sits out a pause and a gap, and starts again after the end."""
    fake_origin = place.fake_origin
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    with no_complaints(page):
        await page.goto(place.url)
        await until(page, is_("offline"))
        await page.get_by_text("The stream is offline", exact=True).wait_for()
        await page.screenshot(path=tmp_path / "1-offline.png")

        await fake_origin.start_stream(multivariant=True)
        await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
        state = await play_on(page, 3)
        assert (state["rebuilds"], state["engine"]) == (0, "hls.js")
        assert [level["height"] for level in state["levels"]] == sorted(HEIGHTS)
        assert state["latency"] > 0
        assert list(state["bytesByHost"]) == [fake_origin.bucket.removeprefix("http://")]
        assert state["muted"] is False  # the tests' browser lets it start with sound
        await page.screenshot(path=tmp_path / "2-live.png")

        await fake_origin.stop()  # the encoder loses its connection
        await until(page, is_("waiting"))
        await page.screenshot(path=tmp_path / "3-paused.png")
        fake_origin.lose_next()
        await fake_origin.encode()
        paused = await seen(page)
        resumed = await until(page, lambda s: s["status"] == "live" and s["time"] > paused["time"] + 1)
        assert resumed["sessions"] == 1  # across the discontinuity with the same player

        fake_origin.ended = True
        await fake_origin.stop()
        await until(page, is_("offline"))  # it has looked for what may follow at once
        await page.get_by_text("The stream has ended", exact=True).wait_for()
        # It looks once more, so that what it found before did not make it play.
        await page.wait_for_event(
            "request", lambda request: request.url.endswith("/live/playlist.m3u8"), timeout=1000 * PATIENCE
        )
        assert (await seen(page))["sessions"] == 1  # the finished playlist is not played again

        await fake_origin.start_stream(multivariant=False)
        await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
        state = await play_on(page, 1)
        assert (state["sessions"], state["rebuilds"]) == (2, 0)
    segments = [url for url in requested if url.endswith(".ts")]
    assert segments
    assert all(url.startswith(fake_origin.bucket) for url in segments)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the next test has the same controls by their keys")
@pytest.mark.takes(10)
async def test_sound_and_quality(page: Page, place: Place) -> None:
    """The page's own controls can be reached and do what they say."""
    await place.fake_origin.start_stream(multivariant=True)
    with no_complaints(page):
        await page.goto(place.url)
        await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
        await page.get_by_role("button", name="Sound off").press("Enter")
        await until(page, lambda s: s["muted"])
        await page.get_by_role("button", name="Turn sound on").press("Enter")
        await until(page, lambda s: not s["muted"])
        settings = page.get_by_role("button", name="Settings")
        quality = page.get_by_label("Quality", exact=True)
        await settings.press("Enter")
        await expect(quality).to_be_focused()
        await expect(quality).to_have_css("appearance", "none")  # else WebKitGTK draws a second frame
        assert await barriers(page) == []
        await quality.select_option("180p")
        await until(page, lambda s: s["level"] is not None and s["level"]["height"] == 180)
        await page.keyboard.press("Escape")
        await expect(settings).to_be_focused()
        await settings.click()
        await expect(quality).to_be_focused()
        await page.mouse.click(300, 200)  # beside the menu: closes it, and does nothing else
        await expect(quality).to_be_hidden()
        await expect(settings).to_have_attribute("aria-expanded", "false")
        assert not (await seen(page))["paused"]
        await page.reload()
        kept = await until(page, lambda s: s["status"] == "live" and s["level"] is not None)
        assert kept["quality"].startswith("180-")
        assert (await page.evaluate("() => Object.isFrozen(window.broadcasterViewer)")) is True


@pytest.mark.takes(10)
async def test_keyboard_alone_is_enough(page: Page, place: Place) -> None:
    """Every shortcut does what the list of shortcuts says, and the list can be reached and left by key."""
    await place.fake_origin.start_stream(multivariant=True)
    with no_complaints(page):
        await page.goto(place.url)
        await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
        await page.keyboard.press("k")
        await until(page, lambda s: s["paused"])
        await page.keyboard.press("Space")
        await until(page, lambda s: not s["paused"])
        await page.keyboard.press("m")
        await until(page, lambda s: s["muted"])
        await page.keyboard.press("m")
        await until(page, lambda s: not s["muted"])
        for _ in range(4):
            await page.keyboard.press("ArrowDown")
        await until(page, lambda s: s["volume"] == pytest.approx(0.8))
        await page.keyboard.press("f")
        await until(page, lambda s: s["fullscreen"])
        await page.keyboard.press("f")
        await until(page, lambda s: not s["fullscreen"])
        await page.keyboard.press("p")
        await until(page, lambda s: s["pip"])
        await page.keyboard.press("p")
        await until(page, lambda s: not s["pip"])
        await page.keyboard.press("i")
        await until(page, lambda s: s["statsOpen"])
        statistics = page.get_by_role("complementary", name="Statistics")
        await expect(statistics).to_be_focused()
        await page.keyboard.press("ArrowDown")  # scrolls there
        await page.keyboard.press("Escape")
        await until(page, lambda s: not s["statsOpen"] and s["volume"] == pytest.approx(0.8))
        await expect(page.locator("body")).to_be_focused()
        await page.keyboard.press("?")
        shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
        await shortcuts.wait_for()
        await page.keyboard.press("Escape")
        await page.keyboard.press("k")  # at once: what was in the list has the focus until the next frame
        await until(page, lambda s: s["paused"])
        await page.keyboard.press("k")
        await until(page, lambda s: not s["paused"])
        await page.keyboard.press("?")
        await shortcuts.wait_for()
        await page.get_by_role("switch", name="Use single keys").uncheck()
        await page.keyboard.press("Escape")
        await shortcuts.wait_for(state="hidden")
        await page.keyboard.press("k")
        await until(page, lambda s: not s["shortcuts"] and not s["paused"])

        await page.reload()  # what was chosen is kept
        state = await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
        assert (state["volume"], state["shortcuts"]) == (pytest.approx(0.8), False)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rule itself has tests in Node")
@pytest.mark.takes(20)
async def test_streamers_own_server_helps_out(page: Page, place: Place) -> None:
    """A broadcaster that is away gives way to the streamer's own playlist, said so, until it is back."""
    fake_origin = place.fake_origin
    fake_origin.config = {
        "fallbackUrl": "/hls/stream.m3u8",
        "fallbackAfterSeconds": 2,
        "title": "From the harbour",
    }
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    await fake_origin.start_stream(multivariant=True)
    with no_complaints(page):
        await page.goto(place.url)
        await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
        assert await page.get_by_role("heading", name="The harbour").is_visible()
        assert not any("/hls/" in url for url in requested)

        fake_origin.away = True
        playing = await until(page, lambda s: s["fallback"] and s["status"] == "live" and s["time"] > 0)
        notice = page.get_by_text("The usual way to you is interrupted")
        assert await notice.is_visible()
        assert any("/hls/segments/" in url for url in requested)

        fake_origin.away = False
        back = await until(page, lambda s: not s["fallback"] and s["status"] == "live" and s["time"] > 0)
        assert back["sessions"] == playing["sessions"] + 1
        assert await page.get_by_text("The usual way is back.").is_visible()
        await notice.wait_for(state="hidden")


async def test_operators_title_colours_words_and_poster(page: Page, place: Place) -> None:
    """What config.json says is what the page shows, within the content security policy."""
    place.fake_origin.config = {
        "title": "The harbour",
        "colors": {"accent": "#ffcc00", "live": "not a colour"},
        "texts": {"offlineTitle": "Back on Sunday at ten"},
        "poster": "/favicon.svg",
    }
    with no_complaints(page):
        await page.goto(place.url)
        await until(page, is_("offline"))
        assert await page.title() == "The harbour"
        assert await page.get_by_text("Back on Sunday at ten", exact=True).is_visible()
        await page.locator("#poster").wait_for()
        assert await page.evaluate("document.querySelector('#poster').naturalWidth") > 0
        style = "getComputedStyle(document.documentElement).getPropertyValue"
        assert await page.evaluate(f"{style}('--accent')") == "#ffcc00"
        assert await page.evaluate(f"{style}('--on-accent')") == "#000000"
        assert await page.evaluate(f"{style}('--live')") == "#d3263f"
