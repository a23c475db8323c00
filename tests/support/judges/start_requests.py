"""What a visit asks the network for before its first picture, as the browser itself counts it."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from math import inf
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, CDPSession

from tests.support.waiting import PATIENCE

VIDEO = (".ts", ".m4s", ".mp4")
# When the first picture is shown: the page's clock has the epoch of the browser's network log.
FIRST_FRAME = """window.firstFrame = new Promise((resolve) => addEventListener("DOMContentLoaded", () => {
    document.querySelector("video").requestVideoFrameCallback(() => {
        resolve((performance.timeOrigin + performance.now()) / 1000);
    });
}));"""


@dataclass
class Asked:
    """One request, by the page's own network log; a worker's download of itself is in another."""

    url: str
    at: float  # when it went out, seconds since the epoch
    offset: float  # from the log's clock to the epoch
    bytes: int = 0  # head and body, as they came: compressed
    ended: float = inf  # when the answer was complete, seconds since the epoch
    cached: bool = False  # it never left the browser

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def is_video(self) -> bool:
        return self.path.endswith(VIDEO)

    @property
    def is_held(self) -> bool:
        """The service answers later, with what is not there yet: no start waits for that."""
        return bool(re.fullmatch(r"/live/(events(/\d+)?|segments/\d+)", self.path)) or "_HLS_msn=" in self.url

    @property
    def is_report(self) -> bool:
        """The page has begun to play, and says so: on a slow machine before its picture is drawn."""
        return self.path == "/live/beacon"


@dataclass
class Start:
    """A visit up to its first picture, which is ``shown`` at a time, ``seconds`` after it was asked for."""

    shown: float
    seconds: float
    requests: list[Asked] = field(default_factory=list)

    @property
    def page(self) -> list[Asked]:
        """What came over the network before the picture, but for video, reports, and for what is held."""
        return [
            request
            for request in self.requests
            if request.ended <= self.shown
            and not (request.is_video or request.is_report or request.is_held or request.cached)
        ]

    @property
    def bytes(self) -> int:
        return sum(request.bytes for request in self.page)


class _Log:
    """The browser's network log of a page."""

    def __init__(self, session: CDPSession) -> None:
        self.requests: dict[str, Asked] = {}
        session.on("Network.requestWillBeSent", self._asked)
        session.on("Network.requestServedFromCache", self._cached)
        session.on("Network.responseReceived", self._answered)
        session.on("Network.loadingFinished", self._finished)

    def _asked(self, event: dict[str, Any]) -> None:
        if urlsplit(event["request"]["url"]).scheme in ("http", "https"):
            at = event["wallTime"]
            request = Asked(event["request"]["url"], at, at - event["timestamp"])
            self.requests[event["requestId"]] = request

    def _cached(self, event: dict[str, Any]) -> None:
        if request := self.requests.get(event["requestId"]):
            request.cached = True

    def _answered(self, event: dict[str, Any]) -> None:
        if request := self.requests.get(event["requestId"]):
            request.cached |= event["response"].get("fromDiskCache", False)
            request.bytes = int(event["response"]["encodedDataLength"])

    def _finished(self, event: dict[str, Any]) -> None:
        if request := self.requests.get(event["requestId"]):
            request.bytes = int(event["encodedDataLength"])
            request.ended = event["timestamp"] + request.offset


async def start_of(context: BrowserContext, url: str, conditions: dict[str, float] | None = None) -> Start:
    """Visit ``url`` in a tab of its own until its first picture; ``conditions`` of the network are CDP's."""
    page = await context.new_page()
    try:
        session = await context.new_cdp_session(page)
        await session.send("Network.enable")
        if conditions:
            await session.send("Network.emulateNetworkConditions", {"offline": False, **conditions})
        log = _Log(session)
        await page.add_init_script(FIRST_FRAME)
        began = time.time()
        await page.goto(url, wait_until="commit")
        async with asyncio.timeout(PATIENCE):
            shown = float(await page.evaluate("() => window.firstFrame"))
        requests = [request for request in log.requests.values() if request.at <= shown]
        return Start(shown, shown - began, requests)
    finally:
        await page.close()
