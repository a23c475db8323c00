"""A viewer and a recording: from the start while the stream is on, and after its end.

Set ``SCREENSHOTS`` to a folder to keep the pictures.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from broadcaster.demo.encoder import ffmpeg
from broadcaster.own_files import VIEWER_DIR
from tests.browser.seek_pictures import check_looks_of_pictures, check_pictures, see_picture
from tests.support.judges.page import Traffic, barriers, is_, is_played, no_complaints, until
from tests.support.length import SOAK
from tests.support.servers.clips import clip_of
from tests.support.servers.end_to_end import end_to_end
from tests.support.servers.static_site import static_site
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from playwright.async_api import Page

    from broadcaster.demo.bucket import SeaweedBucket
    from tests.support.servers.service import Service

Look = tuple[tuple[int, int], str]  # width and height, and scheme
WIDE, PHONE = (1280, 860), (375, 740)
LOOKS: Sequence[Look] = ((WIDE, "dark"), (PHONE, "light")) if SOAK else ((PHONE, "light"),)
END_LOOKS: Sequence[Look] = LOOKS[-1:] if SOAK else ()
BEFORE = 2  # segments of a second, before the encoder comes back
AWAY = 4  # seconds without the encoder: more than its dates are ahead of the clock


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Return the folder for the pictures."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def check_looks(page: Page, folder: Path, name: str, looks: Sequence[Look] = LOOKS) -> None:
    """Nothing is cut off at the side, and axe-core has no serious complaint."""
    for (width, height), scheme in looks:
        await page.set_viewport_size({"width": width, "height": height})
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await page.mouse.move(100, 100)  # the controls are there
        await page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")
        assert await page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), name
        assert await barriers(page) == [], name
    await page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})


async def check_static_host(folder: Path, page: Page, bucket: SeaweedBucket, name: str) -> None:
    """The same pages on any static host: list and recording come from the bucket."""
    shutil.copytree(VIEWER_DIR, folder)
    settings = {"playlistUrl": f"{bucket.public_url}/live/playlist.m3u8", "eventsUrl": None}
    (folder / "config.json").write_text(json.dumps(settings))
    async with static_site(folder) as address:
        await page.goto(f"{address}/recordings.html")
        await page.get_by_role("listitem").get_by_role("link").click()
        await page.wait_for_url(f"{address}/?watch={name}")
        await until(page, lambda s: is_played(s) and s["time"] > 0)


async def has_poster(page: Page) -> None:
    """The one recording on the list has one, once it is made, and it is shown."""
    image = page.get_by_role("listitem").locator("img")

    async def reloaded() -> int:
        await page.reload()
        await page.get_by_role("listitem").wait_for()
        return await image.count()

    await eventually(reloaded)
    await image.evaluate("image => image.decode()")


async def check_recording(page: Page, shots: Path) -> None:
    """A recording has pictures on its bar, and a speed."""
    for key, speed in ((">", "1.25"), ("<", "1")):
        await page.keyboard.press(key)
        await expect(page.get_by_label("Speed")).to_have_value(speed)
        await expect(page.locator("video")).to_have_js_property("playbackRate", float(speed))
    await check_pictures(page)
    await check_looks_of_pictures(page, shots)
    await check_looks(page, shots, "watch")


async def check_end(page: Page, middle: float) -> None:
    """After its end its bar has pictures, and it can be watched from its middle, and from its start."""
    await expect(page.locator("#play-pause")).to_be_visible()  # once the page is as wide as it was
    await see_picture(page, 0.3)
    await page.keyboard.press("5")
    await until(page, lambda s: is_played(s) and s["time"] > middle)
    await page.keyboard.press("9")
    await until(page, is_("over"))
    await page.get_by_role("button", name="Watch again").click()
    await until(page, lambda s: is_played(s) and s["time"] < 3)


async def check_clip(page: Page, service: Service, state: dict[str, Any], shots: Path) -> None:
    """A clip of the recording that was on the page has a page of its own."""
    begin = datetime.fromtimestamp(state["timeline"]["anchors"][-1]["date"] / 1000, UTC)
    await page.goto(f"{service.address}/c/{await clip_of(service, begin)}")
    await until(page, is_played)
    await check_looks(page, shots, "clip", LOOKS if SOAK else ())


@pytest.mark.takes(60)
async def test_a_stream_from_its_start_and_after_its_end(
    tmp_path: Path, bucket: SeaweedBucket, page: Page, shots: Path
) -> None:
    """Who comes late sees the start and goes back to live; after the end the recording plays to its end."""
    async with end_to_end(
        tmp_path,
        bucket,
        BROADCASTER_RECORDINGS="keep",
        BROADCASTER_PICTURES=ffmpeg()[0],
        BROADCASTER_WINDOW_SEGMENTS="24",
        BROADCASTER_END_GRACE_SECONDS="20",
    ) as on:
        await on.live_with(BEFORE)
        await on.owncast.stop_streaming()
        await on.taken_in()
        await asyncio.sleep(AWAY)
        await on.live_with(5)
        with no_complaints(page):
            await page.goto(f"{on.service.address}/")
            live = await until(page, is_played)
            assert live["recording"] is None
            await page.get_by_role("button", name="Watch from the start").click()
            state = await until(page, lambda s: s["replay"] is not None and is_played(s) and s["time"] > 0.5)
            assert state["timeline"]["start"] == 0
            assert state["behind"]
            assert (state["timeline"]["anchors"][0]["date"] + 1000 * state["time"]) < live["date"]
            await page.get_by_role("button", name="Go live").click()
            await until(page, lambda s: s["replay"] is None and is_played(s) and s["following"])
            await page.locator("#seek").wait_for()
            await check_pictures(page)

            await on.owncast.stop_streaming()
            await page.get_by_role("link", name="Watch the recording").wait_for()
            await page.get_by_text("The stream has ended", exact=True).wait_for()
            await check_looks(page, shots, "ended", END_LOOKS)
            await page.get_by_role("link", name="Watch the recording").click()
            await page.wait_for_url("**/watch/*")
            traffic = Traffic(page)
            await page.goto(f"{page.url}?t=1")
            state = await until(page, lambda s: is_played(s) and s["time"] > 1)
            assert state["timeline"]["live"] == pytest.approx(state["recording"]["duration"], abs=1)
            await expect(page.locator("#marks i")).to_have_count(1)  # where the encoder came back
            await expect(page.locator("#marks i")).to_be_visible()
            await check_recording(page, shots)
            # Over the discontinuity, on a busy machine to its end.
            last = await until(page, lambda s: s["time"] > BEFORE + 1 or s["status"] == "over")
            assert (last["sessions"], last["rebuilds"]) == (1, 0)
            await page.keyboard.press("9")
            await until(page, is_("over"))
            assert traffic.refused == []
            await check_looks(page, shots, "over", END_LOOKS)
            await check_end(page, state["timeline"]["live"] / 2)

            await page.get_by_role("link", name="Recordings").click()
            await page.wait_for_url("**/recordings")
            found = page.get_by_role("listitem")
            await found.wait_for()
            await has_poster(page)
            await check_looks(page, shots, "list")
            await found.get_by_role("link").click()
            await page.wait_for_url(f"**/watch/{state['recording']['id']}")
            await check_clip(page, on.service, state, shots)
            await check_static_host(tmp_path / "site", page, bucket, state["recording"]["id"])
