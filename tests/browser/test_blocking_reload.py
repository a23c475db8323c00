"""The page on a stream with a long window: blocking reload and delta updates, as hls.js uses them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from playwright.async_api import Page, Response

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from tests.browser.long_stream import long_stream
from tests.support.judges.page import no_complaints, play_on, until
from tests.support.length import SOAK, seconds
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

WINDOW = seconds(600, 150)  # of two minutes at least: shorter ones have no delta updates
SEGMENT = 2  # seconds
WATCHED = seconds(60, 12)
FAR_BACK = seconds(60, 4)
MEDIA = re.compile(r"/live/(\d)/playlist\.m3u8")


@pytest.mark.skipif(not SOAK, reason="make soak runs it: conformance has the rules, and all pages reload so")
@pytest.mark.takes(35)
async def test_blocking_reload_and_delta_updates_over_a_long_window(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """hls.js asks for each version once and before it is there, merges the deltas, and plays on."""
    settings = {"BROADCASTER_WINDOW_SECONDS": str(WINDOW)}
    async with (
        long_stream(tmp_path / "hls", tmp_path, head_start=WINDOW, segment_seconds=SEGMENT),
        running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service,
    ):
        await eventually(lambda: is_full(service), within=300)
        log = PlaylistLog(page)
        with no_complaints(page):
            await page.goto(f"{service.address}/")
            await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
            last = await play_on(page, WATCHED)
            assert (last["rebuilds"], last["sessions"]) == (0, 1)
            assert await log.check() >= WATCHED // SEGMENT - 2
            assert log.refused == []
            await far_back_and_live_again(page)
    print(log.summary)


async def far_back_and_live_again(page: Page) -> None:
    """Who goes back to where the window begins stays there, and is live again when they ask for it."""
    await page.keyboard.press("Home")
    first = await until(page, lambda s: s["behind"] and s["status"] == "live" and s["latency"] > WINDOW - 20)
    stayed = await until(page, lambda s: s["time"] > first["time"] + FAR_BACK)
    assert stayed["latency"] > WINDOW - 20
    assert (stayed["following"], stayed["sessions"]) == (False, 1)
    await page.get_by_role("button", name="Go live").click()
    await until(page, lambda s: not s["behind"] and s["following"] and s["latency"] < 20)


class PlaylistLog:
    """What the page asked of media playlists from here on, per variant in order."""

    def __init__(self, page: Page) -> None:
        self.asked: dict[str, list[str]] = {}
        self.answers: dict[str, Response] = {}
        self.refused: list[tuple[int, str]] = []
        self.summary = ""
        page.on("request", lambda request: self._note(request.url))
        page.on("response", self._keep)

    async def check(self) -> int:
        """Each variant: plain when hls.js turns to it, then number after number; returns how many."""
        blocking, sizes = 0, [0, 0]
        for urls in self.asked.values():
            numbers = [msn(url) for url in urls]
            runs = [list(run) for plain, run in itertools.groupby(numbers, lambda n: n is None) if not plain]
            for run in runs:
                assert run == list(range(run[0] or 0, (run[0] or 0) + len(run)))
            blocking += sum(map(len, runs))
            deltas = [url for url in urls if msn(url) is not None]
            assert [url for url in deltas if "_HLS_skip=YES" not in url] == []
            for url in urls:
                if url not in self.answers:
                    continue  # still blocked
                text = await self.answers[url].text()
                sizes["_HLS_skip" in url] = len(text)
                assert ("#EXT-X-SKIP:" in text) == ("_HLS_skip" in url), text
        self.summary = f"{blocking} blocking reloads; full playlist {sizes[0]} bytes, delta {sizes[1]} bytes"
        return blocking

    def _note(self, url: str) -> None:
        if found := MEDIA.search(url):
            self.asked.setdefault(found[1], []).append(url)

    def _keep(self, response: Response) -> None:
        if MEDIA.search(response.url):
            self.answers[response.url] = response
            if response.status >= 400:
                self.refused.append((response.status, response.url))


def msn(url: str) -> int | None:
    """The media sequence number that a URL waits for."""
    values = parse_qs(urlsplit(url).query).get("_HLS_msn")
    return int(values[0]) if values else None


async def is_full(service: Service) -> bool:
    """Whether the playlists list the whole window."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.address}/live/0/playlist.m3u8") as answer,
    ):
        if answer.status != 200:
            return False
        playlist = parse(await answer.text())
    assert isinstance(playlist, MediaPlaylist)
    return sum(segment.duration.total_seconds() for segment in playlist.segments) >= WINDOW - SEGMENT
