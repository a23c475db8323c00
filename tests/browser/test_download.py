"""A recording as one file that the page makes: whole, playable, seen on its way, gone when cancelled."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio
from aiohttp import web
from playwright.async_api import expect

from broadcaster.own_files import VIEWER_DIR
from tests.support.fakes.encoded_recording import EncodedRecording, encoded_recording, times
from tests.support.judges.page import barriers, until

if TYPE_CHECKING:
    from playwright.async_api import Page

ID = "2026-11-22-0912-k3f9"
RUNS = 2
# A file of the page's own in the place of one that somebody picks: no test can press the system's buttons.
PICKER = """
window.showSaveFilePicker = async ({ suggestedName }) =>
  (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true });
"""
NAMES = "(async () => Array.fromAsync((await navigator.storage.getDirectory()).keys()))()"
CONTENT = """async (name) => {
  const handle = await (await navigator.storage.getDirectory()).getFileHandle(name);
  const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}"""


class Host:
    """A static host with the page and a recording; ``held`` is the segment that waits for ``free``."""

    def __init__(self, folder: Path, made: EncodedRecording) -> None:
        self.folder = folder
        self.film = made
        self.held = ""
        self.free = asyncio.Event()
        self.address = ""

    async def file(self, request: web.Request) -> web.FileResponse:
        path = request.path.lstrip("/") or "index.html"
        if self.held and path.endswith(self.held):
            await self.free.wait()
        return web.FileResponse(
            self.folder / path, headers={"Cache-Control": "no-cache"}
        )  # each is asked for


@pytest_asyncio.fixture(loop_scope="session")
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    folder = tmp_path / "site"
    shutil.copytree(VIEWER_DIR, folder)
    made = encoded_recording(folder / "recordings" / ID, runs=RUNS, segments=4, segment_seconds=1, fps=10)
    (folder / "config.json").write_text(json.dumps({"playlistUrl": "/playlist.m3u8", "eventsUrl": None}))
    told = {
        "id": ID,
        "title": "Opening night",
        "started": "2026-11-22T09:12:00Z",
        "ended": "2026-11-22T09:12:08Z",
        "duration": 8,
        "playlist": f"{ID}/playlist.m3u8",
    }
    (made.folder / "recording.json").write_text(json.dumps(told))
    found = Host(folder, made)
    app = web.Application()
    app.router.add_get("/{path:.*}", found.file)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.address = "http://{}:{}".format(*runner.addresses[0][:2])
    yield found
    found.free.set()
    await runner.cleanup()


def judge(file: Path, made: EncodedRecording) -> None:
    """Every packet is there, and the runs join within a picture."""
    found = times(file)
    assert found.counts == {kind: sum(run[kind] for run in made.packets) for kind in ("video", "audio")}
    assert abs(found.seconds - sum(made.seconds)) < RUNS * made.frame


async def check_keys(page: Page) -> None:
    """Keys open the menu, go through it and close it, and do nothing else; axe-core finds no barrier."""
    button = page.get_by_role("button", name="Download", exact=True)
    await expect(page.get_by_role("menuitem")).to_have_count(0)
    await button.press("Enter")
    entries = page.get_by_role("menu", name="Download").get_by_role("menuitem")
    await expect(entries).to_have_text(["MP4", "TS"])
    volume = await page.evaluate("document.querySelector('video').volume")
    for key, at in (("ArrowDown", 1), ("ArrowDown", 0), ("ArrowUp", 1), ("Home", 0), ("End", 1)):
        await page.keyboard.press(key)
        await expect(entries.nth(at)).to_be_focused()
    assert await page.evaluate("document.querySelector('video').volume") == volume
    for width, height in ((1280, 860), (360, 740)):
        await page.set_viewport_size({"width": width, "height": height})
        assert await barriers(page) == []
        boxes = [await entry.bounding_box() for entry in await entries.all()]
        assert all(box and 0 <= box["x"] <= box["x"] + box["width"] <= width for box in boxes)
    await page.keyboard.press("Escape")
    await expect(entries).to_have_count(0)
    await expect(button).to_be_focused()


async def test_a_recording_is_downloaded(host: Host, page: Page, tmp_path: Path) -> None:
    """By a menu: TS is what the bucket has, MP4 plays; progress is seen; what is cancelled leaves nothing."""
    await page.add_init_script(PICKER)
    await page.goto(f"{host.address}/?watch={ID}")
    bar = page.get_by_role("progressbar", name="Download")
    saved = page.get_by_role("status").get_by_text("Saved", exact=True)

    async def choose(kind: str) -> None:
        await page.get_by_role("button", name="Download", exact=True).click()
        await page.get_by_role("menuitem", name=kind).click()

    host.held = f"{RUNS - 1}/2.ts"
    await check_keys(page)
    await choose("TS")
    await expect(bar).to_have_js_property("value", 0.75)
    assert await bar.is_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Download", exact=True)).to_be_focused()
    assert await page.evaluate(NAMES) == []

    await choose("TS")
    await expect(bar).to_have_js_property("value", 0.75)
    host.free.set()
    await saved.wait_for()
    content = base64.b64decode(await page.evaluate(CONTENT, "Opening night.ts"))
    assert content == b"".join((host.film.folder / name).read_bytes() for name in host.film.names)

    host.free.clear()
    await choose("MP4")
    await expect(bar).to_have_js_property("value", 0.75)
    host.free.set()
    await saved.wait_for()
    target = tmp_path / "picked.mp4"
    target.write_bytes(base64.b64decode(await page.evaluate(CONTENT, "Opening night.mp4")))
    judge(target, host.film)

    await page.evaluate("delete window.showSaveFilePicker")
    async with page.expect_download() as coming:
        await choose("MP4")
    download = await coming.value
    assert download.suggested_filename == "Opening night.mp4"
    await download.save_as(tmp_path / "blob.mp4")
    judge(tmp_path / "blob.mp4", host.film)
    await until(page, lambda s: s["status"] in {"live", "over"})  # it has played on meanwhile


async def test_a_file_that_is_there(host: Host, page: Page) -> None:
    """Where the recording has a file, the page links to it and makes none."""
    told = json.loads((host.film.folder / "recording.json").read_text())
    (host.film.folder / "recording.json").write_text(
        json.dumps({**told, "file": {"url": f"{ID}/evening.mp4"}})
    )
    await page.goto(f"{host.address}/?watch={ID}")
    link = page.get_by_role("link", name="Download")
    assert await link.get_attribute("href") == f"{host.address}/recordings/{ID}/evening.mp4"
    assert await page.get_by_role("button", name="Download").count() == 0
