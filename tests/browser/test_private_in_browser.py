"""A private event in Chromium: from the dashboard's link to a page that plays, until the access is over."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, FloatRect, Locator, Page, expect

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import find_program
from tests.integration.test_private_event import set_passphrase
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.gate_cases import FAULTS
from tests.support.judges.page import barriers, is_played, no_complaints, until
from tests.support.length import SOAK
from tests.support.servers.service import Service, running_service
from tests.support.servers.worker import running_worker
from tests.support.waiting import PATIENCE, eventually

TARGET_DURATION = 2
PASSPHRASE = "a passphrase of some words"
SIZES = (1280, 360)


async def look(page: Page, picture: Path) -> None:
    """Nothing is cut off at the side, and axe-core has no serious complaint."""
    for width in SIZES:
        await page.set_viewport_size({"width": width, "height": 800})
        await page.wait_for_function("() => document.scrollingElement.scrollWidth <= innerWidth")
        assert await barriers(page) == []
        await page.screenshot(path=picture.with_name(f"{picture.name}-{width}.png"), full_page=True)


async def boxes_of(*locators: Locator) -> list[FloatRect | None]:
    return [await locator.bounding_box() for locator in locators]


def is_above(one: FloatRect | None, other: FloatRect | None) -> bool:
    """Whether the one ends where the other begins, or before."""
    return one is not None and other is not None and one["y"] + one["height"] <= other["y"]


async def invite(page: Page, token: str) -> str:
    """Make an invitation on the dashboard; returns its link."""
    await page.get_by_label("Token", exact=True).fill(token)
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_label("Name").fill("Aunt Rose")
    await page.get_by_role("button", name="Make a link").click()
    await expect(page.locator("#guest-list")).to_contain_text("not opened yet · 0 watching")
    await page.get_by_label("QR code: Aunt Rose").click()
    code = page.get_by_role("img", name="QR code")
    await expect(code).to_be_visible()
    await expect(page.locator("#said")).to_have_text("Link copied.")
    await eventually(lambda: boxes_of(code, page.locator("#toast")), lambda found: is_above(*found))
    return str(await page.evaluate("() => navigator.clipboard.readText()"))


async def watch_until_the_end(guest: Page, service: Service, valid: timedelta) -> None:
    """A guest whose invitation ends sees no more, and is told why."""
    state = Path(service.environment["BROADCASTER_STATE_DIR"])
    token = await asyncio.to_thread((state / "operator-token").read_text)
    ends = datetime.now(UTC) + valid
    made = await guest.request.post(
        f"{service.admin_address}/api/access/invitations",
        headers={"Authorization": f"Bearer {token}"},
        data={"name": "A guest", "until": ends.isoformat()},
    )
    await guest.goto((await made.json())["link"])
    await until(guest, is_played)
    await expect(guest.get_by_role("alert")).to_have_text(FAULTS["over"])
    took = time.time() - int(ends.timestamp())
    print(f"a guest was told {took:.1f} s after the end, at a target duration of {TARGET_DURATION} s")
    assert 0 <= took <= 2 * TARGET_DURATION
    await expect(guest.locator("video")).to_have_count(0)
    await expect(guest.get_by_label("Passphrase")).to_be_focused()


async def look_at_copy(guest: Page, picture: Path) -> None:
    """Look at a page that loads itself again all the time, in a tab that has only its text."""
    response = await guest.context.request.get(guest.url, headers={"Accept": "text/html"})
    copy = await guest.context.new_page()
    await copy.set_content(await response.text())
    await expect(copy.get_by_role("alert")).to_contain_text("The doors are still closed.")
    await look(copy, picture)
    await copy.close()


async def use_doors(page: Page, guest: Page, pictures: Path) -> None:
    """Close the doors, which the guest is told, and open them."""
    for button in ("Close the doors", "Open the doors"):
        await page.locator("#doors", has_text=button).click()
        await page.get_by_role("dialog").get_by_role("button", name=button).click()
        if button == "Close the doors":
            await expect(guest.get_by_role("alert")).to_contain_text("The doors are still closed.")
            await look_at_copy(guest, pictures / "closed")
            await look(page, pictures / "doors")


async def watch_opened(page: Page, browser: Browser, addresses: Sequence[str], picture: Path) -> None:
    """A stranger watches the recording that the operator opens, and asks for nothing else of the event."""
    await page.get_by_role("tab", name="Recordings").click()
    await page.get_by_label("Open to everybody").check()
    recording = str(await page.get_by_role("link", name="Watch").get_attribute("href"))
    for address in addresses:
        await watch_as_stranger(browser, f"{address}{urlsplit(recording).path}", picture)
    await page.get_by_role("tab", name="Guests").click()


async def watch_as_stranger(browser: Browser, url: str, picture: Path) -> None:
    """The page plays, once it is open, and has no way to the rest of the event."""
    context = await browser.new_context()
    context.set_default_timeout(1000 * PATIENCE)
    page, asked = await context.new_page(), list[str]()

    async def opens() -> bool:
        answer = await page.goto(url)
        return answer is not None and answer.ok

    await eventually(opens)
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    with no_complaints(page):
        await page.reload()
        await until(page, lambda state: is_played(state) and state["time"] > 1)
        await expect(page.get_by_role("link", name="Recordings")).to_have_count(0)
        await look(page, picture)
    assert [
        path for path in asked if path.startswith(("/live/events", "/live/playlist", "/recordings"))
    ] == []
    await context.close()


async def type_passphrase(browser: Browser, address: str, picture: Path) -> None:
    """At the edge the page asks as well: a wrong passphrase is told so, the right one opens the page."""
    guest = await browser.new_page()
    await guest.goto(f"{address}/recordings")
    for text in ("a wrong passphrase", PASSPHRASE):
        await guest.get_by_label("Passphrase").fill(text)
        await guest.keyboard.press("Enter")
        if text != PASSPHRASE:
            await expect(guest.get_by_role("alert")).to_contain_text("This is not the passphrase.")
            await look(guest, picture)
    await guest.wait_for_url(f"{address}/recordings")
    await expect(guest.get_by_role("listitem")).to_have_count(1)
    await guest.close()


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_private_event has it without a browser")
@pytest.mark.takes(45)
async def test_from_the_link_to_the_end(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser, page: Page, context: BrowserContext
) -> None:
    """A guest watches with a clean address and gets one for other players; a revoked guest is told so."""
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    settings = {"BROADCASTER_ACCESS": "passphrase", "BROADCASTER_RECORDINGS": "keep"}
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(running_worker(tmp_path))
        settings |= worker.settings
        owncast = await stack.enter_async_context(
            SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=TARGET_DURATION)
        )
        service = await stack.enter_async_context(
            running_service(tmp_path, owncast.hls_dir, bucket, **settings)
        )
        await owncast.go_live()
        await service.until_health(stream="live")
        with no_complaints(page):
            await page.goto(f"{service.admin_address}/dashboard#guests")
            link = await invite(page, (tmp_path / "state/operator-token").read_text())
            await look(page, pictures / "guests")
        guest, began = await context.new_page(), time.monotonic()
        await guest.goto(link)
        await until(guest, is_played)
        start = time.monotonic() - began
        assert guest.url == f"{service.address}/"
        await guest.get_by_role("button", name="Watch elsewhere").click()
        elsewhere = await guest.locator("#elsewhere-url").input_value()
        assert urlsplit(elsewhere).path == urlsplit(link).path + "live/playlist.m3u8"
        await look(guest, pictures / "elsewhere")
        words = [find_program("broadcaster"), "export", elsewhere, str(tmp_path / "exported.mp4")]
        exported = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False)
        assert exported.returncode == 0, exported.stderr
        assert (tmp_path / "exported.mp4").stat().st_size > 10_000
        await expect(page.locator("#guest-list")).to_contain_text("opened once · 1 watching")
        addresses = [service.address, worker.address]
        await watch_opened(page, browser, addresses, pictures / "opened")
        await set_passphrase(service, PASSPHRASE)
        await type_passphrase(browser, worker.address, pictures / "passphrase-at-the-edge")
        await use_doors(page, guest, pictures)
        await expect(guest.get_by_role("button", name="Watch elsewhere")).to_be_visible()  # by itself
        await until(guest, is_played)
        await page.get_by_label("Revoke: Aunt Rose").click()
        await page.get_by_role("button", name="Revoke it").click()
        began = time.monotonic()
        await expect(guest.get_by_role("alert")).to_have_text(FAULTS["over"])
        took = time.monotonic() - began
        print(f"a revoked guest was told after {took:.1f} s, at a target duration of {TARGET_DURATION} s")
        await expect(guest.get_by_label("Passphrase")).to_be_focused()
        await look(guest, pictures / "over")
        await expect(page.locator("#no-guests")).to_be_visible()
        await watch_until_the_end(guest, service, timedelta(seconds=max(15, 5 * start)))  # enough for a start
        for tab in (page, guest):
            assert await tab.evaluate("() => document.referrer") == ""
