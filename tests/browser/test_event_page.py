"""The event around the picture: its name and its start, passing it on, and how it begins to play."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.support.judges.page import (
    NO_SOUND,
    SHIFTS,
    barriers,
    check_shifts,
    is_played,
    no_complaints,
    settled,
    until,
)
from tests.support.judges.page_layout import check_boxes, check_fingers
from tests.support.length import SOAK, seconds
from tests.support.servers.fake_origin import VIEWER, Place, on_air
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

POSTER = """<svg xmlns="http://www.w3.org/2000/svg" width="64" height="36">
<rect width="64" height="36" fill="#202024"/><rect x="8" width="24" height="36" fill="#c03020"/></svg>
"""


EVENING: dict[str, object] = {
    "title": "An evening in the harbour",
    "performer": "The Trio",
    "pageUrl": "https://live.example/evening",
    "poster": "/hls/segments/poster.svg",
    "chatUrl": "/hls/segments/chat.html",
    "description": "Four musicians, two hours, one boat.",
    "links": [{"name": "Programme", "url": "https://example.com/"}, {"name": "none"}],
    "logo": "/hls/segments/poster.svg",
    "recordings": {"newest": "/hls/segments/index.json", "list": "/recordings.html"},
}
EDGE = 16  # pixels between the screen's edge and what is written
# Buttons that can be under the picture at the same time, at most: of the live page, and of a recording's.
TOGETHER = (
    ("share", "clip", "start-over", "all-recordings", "elsewhere"),
    ("share", "share-moment", "clip", "all-recordings", "download-button"),
    ("remind", "share", "all-recordings", "elsewhere"),
)
# Shows these with the words of a language, and returns in how many rows they are.
ROWS = """([words, ids]) => {
    const actions = document.querySelector(".actions");
    if (!document.getElementById("download-button")) {
        actions.insertAdjacentHTML("beforeend", "<button id=download-button class=quiet data-text=download>");
        document.getElementById("download-button").setAttribute("aria-haspopup", "menu");
    }
    for (const button of actions.children) {
        button.hidden = !ids.includes(button.id);
        button.textContent = words[button.dataset.text];
    }
    const shown = [...actions.children].filter(({ hidden }) => !hidden);
    return new Set(shown.map(({ offsetTop }) => offsetTop)).size;
}"""
FOLD = ((390, 844), (360, 740))  # first screens of phones
SECTIONS = """() => [...document.querySelectorAll("main > section")]
    .filter((section) => section.checkVisibility())
    .map((section) => [section.id, section.getBoundingClientRect().top])"""


def prepare(place: Place) -> None:
    """Announce an evening with a poster, a chat, and a recording of the night before."""
    starts = datetime.now(UTC) + timedelta(hours=2, minutes=5)
    place.fake_origin.config = {**EVENING, "startsAt": starts.isoformat()}
    (place.fake_origin.root / "poster.svg").write_text(POSTER)
    recording = {"id": "2026-07-09-1900-abcd", "title": "The night before", "parts": ["x.m3u8"]}
    recording |= {"started": "2026-07-09T19:00:00Z", "ended": "2026-07-09T21:00:00Z"}
    (place.fake_origin.root / "index.json").write_text(json.dumps({"recordings": [recording]}))
    (place.fake_origin.root / "chat.html").write_text("<!doctype html><html lang=en><title>Chat</title>Hello")


@pytest.mark.takes(15)
async def test_an_evening(page: Page, tmp_path: Path) -> None:
    """Who comes early sees when it starts; it starts without sound where the browser wants that."""
    async with on_air(tmp_path) as place:
        prepare(place)
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.add_init_script(f"({NO_SOUND})()")
        await page.add_init_script(SHIFTS)
        with no_complaints(page):
            await page.goto(place.url)
            await expect(page.get_by_role("heading", name="An evening in the harbour")).to_be_visible()
            await expect(page.get_by_text("The Trio", exact=True)).to_be_visible()
            await expect(page.get_by_role("timer")).to_contain_text("Starts in 2:04:")
            await expect(page.locator("#viewers")).to_be_hidden()  # nobody tells
            await expect(page.get_by_text("two hours, one boat")).to_be_visible()
            await expect(page.locator("#links").get_by_role("link")).to_have_text(["Programme"])
            await expect(page.locator("#shelf").get_by_role("link")).to_have_count(1)
            await expect(page.frame_locator("iframe[title=Chat]").get_by_text("Hello")).to_be_visible()
            await page.locator("#logo").evaluate("image => image.decode()")
            await expect(page.locator("html")).to_have_css("--tint", "#c03020")
            assert await barriers(page) == []
            await check_shifts(page)
            await check_boxes(page, Path(os.environ.get("SCREENSHOTS", tmp_path)))
            async with page.expect_download() as download:
                await page.get_by_role("button", name="Remind me").press("Enter")
            calendar = (await (await download.value).path()).read_bytes()
            assert b"SUMMARY:An evening in the harbour\r\n" in calendar
            await expect(page.get_by_text("The date is saved for your calendar.")).to_be_visible()

            await place.fake_origin.start_stream(multivariant=True)
            state = await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
            assert state["muted"] is True
            await expect(page.get_by_role("timer")).to_be_hidden()
            await page.get_by_role("button", name="Turn sound on").click()
            await until(page, lambda s: not s["muted"] and not s["paused"])
            shown = "[navigator.mediaSession.metadata.title, navigator.mediaSession.metadata.artist]"
            assert await page.evaluate(shown) == ["An evening in the harbour", "The Trio"]

            await page.get_by_role("button", name="Share").click()
            await expect(page.get_by_role("button", name="Link copied")).to_be_visible()
            assert await page.evaluate("navigator.clipboard.readText()") == "https://live.example/evening"
            await expect(page.get_by_role("button", name="Remind me")).to_be_hidden()
        assert page.context.browser
        await check_phone(page.context.browser, place.url)


async def check_phone(browser: Browser, url: str) -> None:
    """On a phone nothing jumps, before the picture and after, and each control has room for a finger."""
    context = await browser.new_context(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
    )
    context.set_default_timeout(1000 * PATIENCE)
    try:
        page = await context.new_page()
        await page.add_init_script(SHIFTS)
        await page.goto(url)
        await until(page, lambda s: is_played(s) and s["shelf"] and s["clock"] > seconds(30, 1))
        await check_shifts(page)
        if SOAK:
            await check_fingers(page)
    finally:
        await context.close()


@pytest.mark.takes(5)
async def test_first_screen_of_a_phone(page: Page, tmp_path: Path) -> None:
    """Chat, or recordings without one, begin in the first screen; wide, the description comes first."""
    async with on_air(tmp_path) as place:
        prepare(place)
        for without, order in (
            ((), ["stage", "about", "chat", "shelf", "more"]),
            (("chatUrl", "logo"), ["stage", "about", "shelf", "more"]),
        ):
            for name in without:
                del place.fake_origin.config[name]
            await page.set_viewport_size({"width": 1440, "height": 900})
            await page.goto(place.url)
            await page.locator("#shelf").wait_for()
            await page.get_by_role("button", name="Remind me").wait_for()
            wide = dict(await page.evaluate(SECTIONS))
            assert list(wide)[-2:] == ["more", "shelf"]
            assert wide["about"] < wide["more"] < wide["shelf"]
            for width, height in FOLD:
                await page.set_viewport_size({"width": width, "height": height})
                await settled(page)
                found = await page.evaluate(SECTIONS)
                assert [name for name, _ in found] == order
                tops = [top for _, top in found]
                assert tops == sorted(tops)
                assert tops[2] < height * 2 / 3, found  # with room to see what it is
                left = await page.locator("h1").evaluate("title => title.getBoundingClientRect().left")
                assert (left == EDGE) is ("logo" in without)
                await page.evaluate("scrollTo(0, document.body.scrollHeight)")
                assert (await page.evaluate(SECTIONS))[0] == ["stage", 0]  # it stays in sight
                await page.evaluate("scrollTo(0, 0)")


@pytest.mark.takes(5)
async def test_buttons_of_a_phone_take_two_rows(page: Page, tmp_path: Path) -> None:
    """In each language, with as many buttons as there can be."""
    async with on_air(tmp_path) as place:
        prepare(place)
        await page.set_viewport_size({"width": 360, "height": 740})
        await page.goto(place.url)
        await page.get_by_role("button", name="Remind me").wait_for()
        found = {}
        for file in sorted((VIEWER / "languages").glob("*.json")):
            words = json.loads(file.read_text())
            for ids in TOGETHER:
                if (rows := await page.evaluate(ROWS, [words, list(ids)])) > 2:
                    found[f"{file.stem} {ids}"] = rows
        assert found == {}


@pytest.mark.takes(5)
async def test_beside_a_missing_recording(page: Page, tmp_path: Path) -> None:
    """The page says once that it is missing, and offers others and the live page, nothing that needs it."""
    async with on_air(tmp_path) as place:
        prepare(place)
        place.fake_origin.config["clipsUrl"] = "/clips"
        await page.goto(f"{place.url}/?watch=gone")
        await page.locator("body[data-status=missing]").wait_for()
        await expect(page).to_have_title("There is no such recording")
        await expect(page.get_by_text("There is no such recording", exact=True)).to_have_count(1)
        about = page.get_by_role("region", name="About the stream")
        await expect(about.get_by_role("heading")).to_have_text("An evening in the harbour")
        await expect(about.get_by_role("link", name="Recordings")).to_be_visible()
        await expect(about.get_by_role("link", name="To the live page")).to_be_visible()
        await expect(about.get_by_role("button")).to_have_count(0)
        others = page.get_by_role("region", name="More recordings").get_by_role("link")
        await expect(others).to_have_text(re.compile("The night before"))
