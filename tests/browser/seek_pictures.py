"""Whether pointing at the seek bar shows what was there: held against ffmpeg's own decoding."""

from __future__ import annotations

import asyncio
import subprocess
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import aiohttp
import imageio_ffmpeg
import pytest

from tests.conformance.text import Entry, Playlist
from tests.support.judges.page import barriers, seen
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page

WIDTH, HEIGHT = 32, 18  # pixels at which pictures are compared
NEAR = 1  # segments by which a picture may be off
ALIKE = 1.1  # so much further from it than from the most similar one a picture may be
LOOK = f"""async () => {{
    const picture = document.getElementById("seek-picture");
    if (picture.hidden) return null;
    const small = new OffscreenCanvas({WIDTH}, {HEIGHT}).getContext("2d");
    small.imageSmoothingQuality = "high";
    small.drawImage(picture, 0, 0, {WIDTH}, {HEIGHT});
    return [...small.getImageData(0, 0, {WIDTH}, {HEIGHT}).data];
}}"""
# Pointing there again: whether the picture was away, and how many ms it took to be back, in the next
# turn of the event loop. In between the place may have become another segment's, as the stream goes on.
AGAIN = """async ([x, y]) => {
    const [bar, picture] = ["seek", "seek-picture"].map((id) => document.getElementById(id));
    const where = { clientX: x, clientY: y, bubbles: true };
    const tell = (name) => bar.dispatchEvent(new PointerEvent(name, where));
    const turn = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const end = performance.now() + 60000;
    for (let tries = 0; tries < 3; tries += 1) {
        do {
            tell("pointermove");
            await turn(20);
        } while (picture.hidden && performance.now() < end);
        const begin = performance.now();
        tell("pointerleave");
        const away = picture.hidden;
        tell("pointermove");
        await turn(0);
        if (!picture.hidden) return [away, performance.now() - begin];
    }
    return [false, null];
}"""


async def check_pictures(page: Page) -> None:
    """Where the bar is pointed at it shows what was there, ± a segment; and the second time at once."""
    x = y = 0.0
    decoded: dict[str, bytes] = {}
    for share in (0.2, 0.7):
        began = time.monotonic()
        x, y = await see_picture(page, share)
        state, pixels = await seen(page), await page.evaluate(LOOK)
        off = NEAR + int(time.monotonic() - began)  # a live bar has gone on meanwhile
        entries, pictures = await _decoded(state["playlist"], decoded)
        distances = [_distance(pixels, picture) for picture in pictures]
        date = _date(state["timeline"], share)
        expected = max(number for number, entry in enumerate(entries) if _time(entry) <= date)
        near = distances[max(expected - off, 0) : expected + off + 1]
        assert min(near) <= ALIKE * min(distances), (expected, distances)
    away, took = await page.evaluate(AGAIN, [x, y])
    assert away
    print(f"pointing there again: {took:.1f} ms until the picture is there")
    await page.mouse.move(10, 10)
    await page.locator("#seek-picture").wait_for(state="hidden")


async def point_at_bar(page: Page, share: float) -> tuple[float, float]:
    """Point at this part of the bar, which a page that fits itself to its window may move; returns where."""
    seek = page.locator("#seek")
    await seek.wait_for()

    async def point() -> tuple[float, float] | None:
        box = await seek.bounding_box()
        assert box
        x, y = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        await page.mouse.move(x - 2, y)
        await page.mouse.move(x, y)
        is_there = await seek.bounding_box() == box and await seek.evaluate("bar => bar.matches(':hover')")
        return (x, y) if is_there else None

    found = await eventually(point)
    assert found
    return found


async def see_picture(page: Page, share: float) -> tuple[float, float]:
    """Point there until there is a picture: one that does not come in time is asked for again."""
    found = 0.0, 0.0

    async def point() -> bool:
        nonlocal found
        found = await point_at_bar(page, share)
        return await page.locator("#seek-picture").is_visible()

    await eventually(point)
    return found


async def check_looks_of_pictures(page: Page, folder: Path) -> None:
    """On a wide screen and on a small phone the whole picture is on the stage, and axe-core is content."""
    for width, share in ((1280, 0.5), (320, 0.02), (320, 0.98)):
        await page.set_viewport_size({"width": width, "height": 640})
        _, y = await see_picture(page, share)
        picture = page.locator("#seek-picture")
        await page.screenshot(path=folder / f"seek-{width}-{share}.png")
        inner, outer = await picture.bounding_box(), await page.locator(".stage").bounding_box()
        assert inner is not None
        assert outer is not None
        assert outer["x"] <= inner["x"] <= inner["x"] + inner["width"] <= outer["x"] + outer["width"]
        assert outer["y"] <= inner["y"] <= inner["y"] + inner["height"] <= y
        assert inner["width"] / inner["height"] == pytest.approx(16 / 9, rel=0.02)
        assert await page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert await barriers(page) == []


async def _decoded(main: str, decoded: dict[str, bytes]) -> tuple[list[Entry], list[bytes]]:
    """The key frames that the I-frame playlist lists, and the pictures that they are, in RGBA.

    By URI, ``decoded`` has what is decoded already.
    """
    async with aiohttp.ClientSession() as session:

        async def get(url: str) -> bytes:
            async with session.get(url, raise_for_status=True) as response:
                return await response.read()

        text = (await get(main)).decode()
        (name,) = Playlist(text).iframe_playlists or ["iframes.m3u8"]
        address = urljoin(main, name)
        entries = [entry for entry in Playlist((await get(address)).decode()).entries if entry.byte_range]
        new = [entry for entry in entries if entry.uri not in decoded]
        segments = await asyncio.gather(*(get(urljoin(address, entry.uri)) for entry in new))
        maps = {name: await get(urljoin(address, name)) for name in {*map(_map_of, new)} if name}
    for entry, data in zip(new, segments, strict=True):
        length, offset = entry.byte_range or (0, 0)
        whole = maps.get(_map_of(entry), b"") + data[: offset + length]
        decoded[entry.uri] = await asyncio.to_thread(_picture, whole)
    return entries, [decoded[entry.uri] for entry in entries]


def _map_of(entry: Entry) -> str:
    """The URI of its EXT-X-MAP; empty without."""
    return entry.carried.get("EXT-X-MAP", "").partition('URI="')[2].partition('"')[0]


def _picture(data: bytes) -> bytes:
    scaled = ["-map", "0:v", "-frames:v", "1", "-vf", f"scale={WIDTH}:{HEIGHT}:flags=area"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-i", "-", *scaled]
    raw = ["-pix_fmt", "rgba", "-f", "rawvideo", "-"]
    return subprocess.run([*command, *raw], input=data, check=True, capture_output=True).stdout


def _distance(pixels: list[int], picture: bytes) -> float:
    return sum((mine - theirs) ** 2 for mine, theirs in zip(pixels, picture, strict=True)) / len(picture)


def _time(entry: Entry) -> float:
    """When it began, in ms since the epoch."""
    name = "#EXT-X-PROGRAM-DATE-TIME:"
    (told,) = (tag.removeprefix(name) for tag in entry.tags if tag.startswith(name))
    return 1000 * datetime.fromisoformat(told).timestamp()


def _date(timeline: dict[str, Any], share: float) -> float:
    position = timeline["first"] + share * (timeline["live"] - timeline["first"])
    anchor = max(
        (anchor for anchor in timeline["anchors"] if anchor["at"] <= position),
        key=lambda anchor: anchor["at"],
    )
    return float(anchor["date"] + 1000 * (position - anchor["at"]))
