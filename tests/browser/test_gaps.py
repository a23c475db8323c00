"""Segments missing from the stream: the page stands no longer than stock hls.js, and says nothing false."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.browser.gap_viewers import Viewer, false_words, stock
from tests.support.fakes.playout import VARIANTS, Playout, made, playing_out
from tests.support.judges.page import no_complaints
from tests.support.length import SOAK
from tests.support.servers.service import running_service
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from broadcaster.demo.bucket import SeaweedBucket
    from tests.support.servers.service import Service

LONGER = 0.5  # seconds
SEGMENT = 2  # seconds
TIMES = 3
KINDS = {"one": 1, "three": 3, "one variant": 1, "paused": 1, "start": 1}
LEAST = 1.0  # seconds for which anything is shown


@pytest.mark.skipif(not SOAK, reason="make soak runs it: conformance has the gaps' tags")
@pytest.mark.takes(30)
async def test_a_gap_stops_the_page_no_longer_than_stock_hls(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """Gaps of one and three segments, in one variant, at the start and while paused: both play on."""
    film = await asyncio.to_thread(made, tmp_path / "film", segment_seconds=SEGMENT)
    playout = Playout(film, tmp_path / "hls", segment_seconds=SEGMENT)
    async with running_service(tmp_path, tmp_path / "hls", bucket) as service, playing_out(playout):
        await playout.until(5)
        for kind, count in KINDS.items():
            for _ in range(TIMES):
                assert await check(kind, count, playout, service, browser) <= LONGER


async def check(kind: str, count: int, playout: Playout, service: Service, browser: Browser) -> float:
    """One gap, seen by two viewers; returns how much longer ours stood, in seconds."""
    url = f"{service.address}/live/playlist.m3u8"
    variants = VARIANTS[:1] if kind == "one variant" else VARIANTS
    if kind == "start":
        lose(playout, variants, playout.number + 1, count)
        await playout.until(playout.number + 3)
    async with AsyncExitStack() as stack:
        context = await browser.new_context(viewport={"width": 640, "height": 400})
        stack.push_async_callback(context.close)
        page = await context.new_page()
        stack.enter_context(no_complaints(page))
        await page.goto(f"{service.address}/")
        ours, theirs = viewers = Viewer(page), await stock(browser, url)
        stack.push_async_callback(theirs.page.context.close)
        for viewer in viewers:
            await eventually(viewer.plays)
            await viewer.watch()
        if kind != "start":
            await asyncio.sleep(3 * SEGMENT)  # as far behind as it is to be
            await gap(kind, count, variants, playout, viewers)
        await playout.until(playout.number + count + 4)
        seen, stands = await ours.seen(), await theirs.seen()
        state = await page.evaluate("window.broadcasterViewer")
    print(f"{kind}: {seen['still']:.0f} ms, stock hls.js {stands['still']:.0f} ms")
    chosen = {"Behind live"} if kind == "paused" else set()  # by the viewer, who has paused
    assert set(false_words(seen["said"])) <= chosen
    assert state["rebuilds"] == 0
    for before, after in pairwise(seen["said"][1:]):
        assert after["at"] - before["at"] > 1000 * LEAST - 50 - seen["late"], seen["said"]
    return float(seen["still"] - stands["still"]) / 1000


async def gap(
    kind: str, count: int, variants: tuple[str, ...], playout: Playout, viewers: tuple[Viewer, Viewer]
) -> None:
    """The next segments but one never come."""
    first = playout.number + 2
    lose(playout, variants, first, count)
    if kind == "paused":
        await press(viewers, "pause")
        await playout.until(first + count + 2)
        await press(viewers, "play")
    await playout.until(first + count + 1)


async def press(viewers: tuple[Viewer, Viewer], what: str) -> None:
    """Pause both, or play on."""
    ours, theirs = viewers
    await ours.page.keyboard.press("k")
    await theirs.page.evaluate(f"document.querySelector('video').{what}()")
    for viewer in viewers:
        await eventually(viewer.is_paused, lambda paused: paused == (what == "pause"))


def lose(playout: Playout, variants: tuple[str, ...], first: int, count: int) -> None:
    """So many segments from the first one on."""
    lost = {(variant, number) for variant in variants for number in range(first, first + count)}
    playout.lost = {*playout.lost, *lost}
