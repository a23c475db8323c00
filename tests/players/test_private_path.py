"""One path of a private event in every player, through the gates of nginx and the Worker."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from shutil import which
from typing import Self, cast

import pytest
from playwright.async_api import Browser, Page, async_playwright

from broadcaster.demo.bucket import SeaweedBucket
from tests.browser.other_engines import Engine, webkit
from tests.integration.test_private_event import WORDS, enter, read, set_passphrase
from tests.players.browser_players import BARE, PLAYERS, BrowserPlayer
from tests.players.programs import PROGRAMS, Program
from tests.players.reconnect import FPS, SEGMENT_SECONDS, SMALL, Player, all_show_more, shown
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import SOAK
from tests.support.servers.chromium import FLAGS, find_chromium
from tests.support.servers.edge import running_edge
from tests.support.servers.service import Service, running_service
from tests.support.servers.worker import running_worker
from tests.support.waiting import eventually

IN_PAGES = [*PLAYERS]
GATES = ["nginx", "Worker"]
ROUNDS = 60 // (2 * SEGMENT_SECONDS)  # in each, all show two segments more
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


class InWebKit:
    """Our page in WebKitGTK."""

    name = "our page in WebKitGTK"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def pictures(self) -> int:
        """How many it has shown."""
        look = "document.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames ?? 0"
        return cast("int", await self._engine.evaluate(look))


@asynccontextmanager
async def gate_in_front(
    kind: str, folder: Path, hls: Path, bucket: SeaweedBucket
) -> AsyncIterator[tuple[Service, str, list[Path]]]:
    """The service, the address of a gate in front of it, and the logs of both."""
    gate_file = folder / "gate.json"
    settings = {"BROADCASTER_ACCESS": "passphrase", "BROADCASTER_GATE_FILE": str(gate_file)}
    async with AsyncExitStack() as running:
        worker = await running.enter_async_context(running_worker(folder)) if kind == "Worker" else None
        settings |= worker.settings if worker else {}
        service = await running.enter_async_context(running_service(folder, hls, bucket, **settings))
        if worker:
            yield service, worker.address, [service.log, worker.log]
            return
        front = running_edge(folder, service.address, gate_file=gate_file)
        edge = await running.enter_async_context(front)
        yield service, edge.address, [service.log, edge.folder / "access.log", edge.error_log]


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_private_event has the path")
@pytest.mark.takes(30)
@pytest.mark.parametrize("kind", GATES)
async def test_one_path_plays_everywhere(tmp_path: Path, bucket: SeaweedBucket, kind: str) -> None:
    """Programs, stock players and our page play it; the address bar and referrers have no token."""
    hls = tmp_path / "hls"
    async with (
        SimulatedOwncast(
            hls, tmp_path / "owncast", segment_seconds=SEGMENT_SECONDS, variants=SMALL, fps=FPS
        ) as owncast,
        gate_in_front(kind, tmp_path, hls, bucket) as (service, address, logs),
        async_playwright() as playwright,
        AsyncExitStack() as running,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(2)
        await set_passphrase(service, WORDS)
        path = await enter(service.address)
        assert path
        url = f"{address}{path}live/playlist.m3u8"
        if kind == "Worker":
            await eventually(lambda: read(url), lambda found: "#EXT" in found[1])
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
        await page.goto(f"{address}{path}")
        assert page.url == f"{address}/"
        await page.wait_for_selector("video")
        players.append(ours)
        bare, page = await InBrowser.open(browser, "a bare video")
        await page.set_content(BARE)
        await page.evaluate("window.failures = []")
        if await page.evaluate(BY_ITSELF, url):
            players.append(bare)
        if which("WebKitWebDriver"):
            engine = await running.enter_async_context(webkit())
            await engine.go(f"{address}{path}")
            players.append(InWebKit(engine))
        for _ in range(ROUNDS):
            await all_show_more(players, await shown(players))
        print(await shown(players))
        assert not [referrer for referrer in ours.referrers if re.search("/t/", referrer)]
        assert len(ours.referrers) >= 1
    token = path.split("/")[2]
    for log in logs:
        assert token not in log.read_text()
