"""One path of a private event, through nginx's gate, in every player: no cookies, no headers."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import pytest
from playwright.async_api import Browser, Page, async_playwright

from broadcaster.demo.bucket import SeaweedBucket
from tests.integration.test_private_event import WORDS, enter, set_passphrase
from tests.players.browser_players import BARE, PLAYERS, BrowserPlayer
from tests.players.programs import PROGRAMS, Program
from tests.players.reconnect import FPS, SEGMENT_SECONDS, SMALL, Player, all_show_more, shown
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import SOAK, seconds
from tests.support.servers.chromium import FLAGS, find_chromium
from tests.support.servers.edge import running_edge
from tests.support.servers.service import running_service

IN_PAGES = [*PLAYERS] if SOAK else []
ROUNDS = seconds(60, 2 * SEGMENT_SECONDS) // (2 * SEGMENT_SECONDS)  # in each, all show two segments more
BY_ITSELF = """(url) => {
    const video = Object.assign(document.querySelector("video"), { crossOrigin: "anonymous", src: url });
    video.addEventListener("error", () => failures.push(video.error.message));
    return video.canPlayType("application/vnd.apple.mpegurl") !== "";
}"""


class InBrowser(BrowserPlayer):
    """Our page, or a bare video element, in a window of its own."""

    referrers: set[str]

    @classmethod
    async def open(cls, browser: Browser, name: str) -> tuple[Self, Page]:
        """The window, which shows nothing yet."""
        page = await (await browser.new_context(viewport={"width": 320, "height": 180})).new_page()
        player = cls(name, page)
        player.referrers = set()
        page.on("request", lambda request: player.referrers.add(request.headers.get("referer", "")))
        return player, page


@pytest.mark.takes(30)
async def test_one_path_plays_everywhere(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Programs, stock players and our page play it; the address bar and referrers have no token."""
    hls, gate_file = tmp_path / "hls", tmp_path / "gate.json"
    settings = {"BROADCASTER_ACCESS": "passphrase", "BROADCASTER_GATE_FILE": str(gate_file)}
    async with (
        SimulatedOwncast(
            hls, tmp_path / "owncast", segment_seconds=SEGMENT_SECONDS, variants=SMALL, fps=FPS
        ) as owncast,
        running_service(tmp_path, hls, bucket, **settings) as service,
        running_edge(tmp_path, service.address, gate_file=gate_file) as edge,
        async_playwright() as playwright,
        AsyncExitStack() as running,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(2)
        await set_passphrase(service, WORDS)
        path = await enter(service)
        assert path
        url = f"{edge.address}{path}live/playlist.m3u8"
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), headless=True, chromium_sandbox=False, args=list(FLAGS)
        )
        running.push_async_callback(browser.close)
        players: list[Player] = []
        for name in PROGRAMS:
            players.append(program := await Program.start(tmp_path, name, url))
            running.push_async_callback(program.stop)
        players += [await BrowserPlayer.start(browser, name, url) for name in IN_PAGES]
        ours, page = await InBrowser.open(browser, "our page")
        await page.add_init_script("window.failures = []")
        await page.goto(f"{edge.address}{path}")
        assert page.url == f"{edge.address}/"
        await page.wait_for_selector("video")
        players.append(ours)
        if SOAK:
            bare, page = await InBrowser.open(browser, "a bare video")
            await page.set_content(BARE)
            await page.evaluate("window.failures = []")
            if await page.evaluate(BY_ITSELF, url):
                players.append(bare)
        for _ in range(ROUNDS):
            await all_show_more(players, await shown(players))
        print(await shown(players))
        assert not [one for one in ours.referrers if re.search("/t/", one)]
        assert len(ours.referrers) >= 1
    token = path.split("/")[2]
    for log in (service.log, edge.folder / "access.log", edge.error_log):
        assert token not in log.read_text()
