"""The page as viewers get it: behind nginx, with TLS and HTTP/2 for the page's name and the bucket's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Response

from broadcaster.demo.bucket import SeaweedBucket
from tests.browser.conftest import running_chromium
from tests.browser.secure_edge import BUCKET, PAGE, SecureEdge
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import play_on, until
from tests.support.length import SOAK
from tests.support.servers.network import own_network
from tests.support.servers.service import running_service
from tests.support.waiting import PATIENCE

WATCHED = 4  # seconds of video


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Everything runs in a network of its own; without the right to make one, in the machine's."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(PermissionError):
            stack.enter_context(own_network())
        yield


class Seen:
    """What a page says on its console, and over what it talks."""

    def __init__(self, page: Page) -> None:
        self.said: list[str] = []
        self.sockets: list[str] = []
        self._responses: list[Response] = []
        page.on("console", lambda line: self.said.append(f"{line.type}: {line.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("websocket", lambda socket: self.sockets.append(socket.url))
        page.on("response", self._note)

    def _note(self, response: Response) -> None:
        self._responses.append(response)

    async def versions(self) -> set[tuple[str | None, str]]:
        """The hosts, each with the version of HTTP it was reached by."""
        return {
            (urlsplit(response.url).hostname, await response.http_version()) for response in self._responses
        }


@asynccontextmanager
async def viewer(browser: Browser, address: str) -> AsyncIterator[tuple[Page, Seen]]:
    """A page with connections of its own."""
    context = await browser.new_context(viewport={"width": 640, "height": 480})
    context.set_default_timeout(1000 * PATIENCE)
    page = await context.new_page()
    seen = Seen(page)
    await page.goto(f"{address}/")
    yield page, seen
    await context.close()


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_edge has the edge without browsers")
@pytest.mark.takes(25)
async def test_two_viewers_behind_tls(tmp_path: Path, chromium_path: str) -> None:
    """The page plays, shares by a tracker at wss, all over HTTP/2, and its console stays empty."""
    async with (
        SeaweedBucket(tmp_path / "bucket") as bucket,
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast") as owncast,
        contextlib.AsyncExitStack() as stack,
    ):
        edge = SecureEdge(tmp_path / "edge", bucket.public_url)
        settings = {"R2_PUBLIC_URL": edge.bucket, "BROADCASTER_VIEWER_MODE": "sharing"}
        service = await stack.enter_async_context(
            running_service(tmp_path, owncast.hls_dir, bucket, **settings)
        )
        await stack.enter_async_context(edge.before(service.address))
        browser = await stack.enter_async_context(running_chromium(chromium_path, *edge.flags))
        await owncast.go_live()
        await owncast.wait_for_segments(8)

        viewers = [await stack.enter_async_context(viewer(browser, edge.page)) for _ in range(2)]
        for page, _ in viewers:
            await until(page, lambda s: s["status"] == "live" and s["p2p"]["peers"] == 1)
        await asyncio.gather(*(play_on(page, WATCHED) for page, _ in viewers))
        for page, seen in viewers:
            state = await until(page, lambda s: s["bytes"]["peers"] > 0)
            assert state["bytes"]["bucket"] > 0
            assert seen.said == []
            assert seen.sockets == [f"wss://{urlsplit(edge.page).netloc}/live/tracker"]
            assert await seen.versions() == {(PAGE, "HTTP/2.0"), (BUCKET, "HTTP/2.0")}
