"""Who pauses for longer than the window lasts goes on from there: what is needed for it is kept meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import pytest

from broadcaster.hls import MediaPlaylist, parse
from tests.support.judges.page import Traffic, no_complaints, until
from tests.support.length import SOAK, seconds
from tests.support.servers.end_to_end import end_to_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.async_api import Page

    from broadcaster.demo.bucket import SeaweedBucket

State: TypeAlias = dict[str, Any]  # of the page

WINDOW = seconds(60, 6)
# Longer than the window and the 30 s that the page has loaded ahead.
PAUSE = seconds(600, 42)
PAUSE_TO_THE_END = seconds(110, 42)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: its parts have tests of their own")
@pytest.mark.takes(70)
async def test_a_long_pause_loses_nothing(tmp_path: Path, bucket: SeaweedBucket, page: Page) -> None:
    """The picture goes on where it stood, over a reconnect, without a 404, and then back to live."""
    traffic = Traffic(page)
    with no_complaints(page):
        async with end_to_end(
            tmp_path,
            bucket,
            BROADCASTER_RETENTION="window",
            BROADCASTER_WINDOW_SEGMENTS="6",
            BROADCASTER_WINDOW_SECONDS=str(WINDOW),
        ) as on:
            await on.live_with(4)
            await page.goto(f"{on.service.address}/")
            paused = await pause(page)
            await on.owncast.stop_streaming()
            await on.owncast.go_live()
            later = await stay_paused(page, paused, PAUSE)
            assert (later["time"], later["gone"]) == (paused["time"], False)
            assert await listed_at(f"{on.service.address}/live/0/playlist.m3u8") < WINDOW + 6
            last = await go_on(page, paused, later, seconds(60, 6))
            assert last["behind"]
            print(f"went on after {PAUSE} s; stalls: {last['stalls']}, errors: {last['errors']}")
            await page.keyboard.press("l")
            await until(page, lambda s: s["replay"] is None and s["status"] == "live" and not s["behind"])
            assert traffic.refused == []


@pytest.mark.skipif(not SOAK, reason="make soak runs it: its parts have tests of their own")
@pytest.mark.takes(70)
async def test_a_stream_that_ends_meanwhile_loses_nothing(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """The picture goes on where it stood, up to the end."""
    async with end_to_end(
        tmp_path,
        bucket,
        BROADCASTER_RETENTION="window",
        BROADCASTER_WINDOW_SEGMENTS="6",
        BROADCASTER_WINDOW_SECONDS=str(WINDOW),
        BROADCASTER_END_GRACE_SECONDS="10",
    ) as on:
        await on.live_with(4)
        await page.goto(f"{on.service.address}/")
        paused = await pause(page)
        await stay_paused(page, paused, PAUSE_TO_THE_END)
        await on.owncast.stop_streaming()
        over = await until(page, lambda s: s["channel"] == "ended")
        assert (over["time"], over["gone"]) == (paused["time"], False)
        await go_on(page, paused, over, seconds(30, 6))
        end = await until(page, lambda s: s["status"] == "offline" and s["ended"])
        assert end["replay"] is None


async def pause(page: Page) -> State:
    """Once it plays."""
    await until(page, lambda s: s["status"] == "live" and s["time"] > 0 and s["date"])
    await page.keyboard.press("k")
    return await until(page, lambda s: s["paused"] and not s["following"])


async def stay_paused(page: Page, paused: State, length: int) -> State:
    """For so many seconds; looked at meanwhile, because they are more than anything else is waited for."""
    later = paused
    for passed in (*range(60, length, 60), length):
        later = await until(page, is_later(paused["clock"] + passed))
    return later


def is_later(clock: float) -> Callable[[State], bool]:
    return lambda state: state["clock"] > clock


async def go_on(page: Page, paused: State, later: State, length: int) -> State:
    """From where it stood, in one new player, for so many seconds."""
    await page.keyboard.press("k")
    resumed = await until(
        page, lambda s: s["sessions"] > later["sessions"] and s["status"] == "live" and s["date"]
    )
    played = (resumed["date"] - paused["date"]) / 1000
    assert 0 <= played < resumed["clock"] - later["clock"] + 0.5
    last = await until(page, lambda s: s["time"] > resumed["time"] + length)
    assert (last["sessions"], last["rebuilds"]) == (resumed["sessions"], resumed["rebuilds"])
    return last


async def listed_at(url: str) -> float:
    """Seconds of video."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        playlist = parse(await response.text())
    assert isinstance(playlist, MediaPlaylist)
    return playlist.duration.total_seconds()
