"""Pages that hold requests for events, beside pages with server-sent events, behind the shipped nginx."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.async_api import Browser, Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.judges.page import Traffic, seen, until
from tests.support.judges.simulated_pages import SimulatedPages
from tests.support.length import SOAK, seconds
from tests.support.servers.edge import running_edge
from tests.support.servers.end_to_end import EndToEnd, end_to_end
from tests.support.suspending import resume, suspend

WATCHED, AWAY, HEARD = seconds(180, 10), seconds(60, 10), seconds(60, 10)  # seconds
PAGES = ["held", "held", "held", "server-sent", "server-sent"]
SIMULATED = 50
GRACE = {"no stream": "5"}  # seconds without an encoder after which a stream is over
LATER = 0.6  # seconds
BEHIND_NGINX, DIRECTLY = 0.8, 0.1  # seconds from an event to a page
REQUESTS = 4  # for events, by a page in a minute
EVENTS = "/live/events/"
# Another setting of the page, which reads them as JSON from its own HTML.
SET = """const parse = JSON.parse;
JSON.parse = (...text) => {
    const found = parse(...text);
    return found?.eventsUrl ? { ...found, events: "WAY" } : found;
};"""
# How late each answer to a held request is, in ms: the server's clock is the page's.
LISTEN = """const ask = window.fetch;
window.late = [];
window.fetch = async (...asked) => {
    const answer = await ask(...asked);
    if (!answer.ok || !/\\/live\\/(events|segments)\\/\\d+$/.test(asked[0])) return answer;
    const text = await answer.text();
    window.late.push(Date.now() - JSON.parse(text).now);
    return new Response(text, answer);
};"""


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rules themselves have tests in Node")
async def test_held_events_are_as_good(tmp_path: Path, bucket: SeaweedBucket, browser: Browser) -> None:
    """No stalls, hardly more delay than by server-sent events; an event is there soon."""
    async with (
        end_to_end(tmp_path, bucket, segment_seconds=2, patient=True) as on,
        running_edge(tmp_path, on.service.address) as edge,
        AsyncExitStack() as stack,
    ):
        await on.live_with(6)
        pages = [await opened(stack, browser, edge.address, way) for way in PAGES]
        traffic = [Traffic(page) for page in pages]
        before = [await seen(page) for page in pages]
        delays = await delays_of(pages)
        after = [await seen(page) for page in pages]
        asked = [held_requests(page_traffic) for page_traffic in traffic]
        late = [await lateness(pages[: PAGES.count("held")])]
        late.append(await lateness([await opened(stack, browser, on.service.address, "held")]))
    stalls = [last["stalls"] - first["stalls"] for first, last in zip(before, after, strict=True)]
    medians = {way: statistics.median(found) for way, found in delays.items()}
    print(f"\nstalls {stalls}, median delay {medians}, requests for events in {WATCHED} s {asked}")
    behind_nginx, directly = (statistics.median(times) for times in late)
    print(f"from an event to a page, medians of {[len(times) for times in late]}: ", end="")
    print(f"{behind_nginx:.3f} s behind nginx, {directly:.3f} s directly")
    assert stalls == [0] * len(PAGES)
    assert medians["held"] <= medians["server-sent"] + LATER
    assert all(count <= (WATCHED / 60 + 1) * REQUESTS for count in asked)
    assert behind_nginx <= BEHIND_NGINX
    assert directly <= DIRECTLY


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rules themselves have tests in Node")
@pytest.mark.parametrize("what", ["dead service", "paused encoder", "no stream"])
async def test_a_minute_without_news_asks_for_little(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser, what: str
) -> None:
    """Whatever is away for a minute, a page asks for events four times at most; then it goes on."""
    async with (
        end_to_end(
            *(tmp_path, bucket),
            segment_seconds=2,
            patient=True,
            BROADCASTER_END_GRACE_SECONDS=GRACE.get(what, "300"),
        ) as on,
        running_edge(tmp_path, on.service.address) as edge,
        AsyncExitStack() as stack,
    ):
        await on.live_with(6)
        pages = [await opened(stack, browser, edge.address, way) for way in PAGES[:4]]
        simulated = await stack.enter_async_context(CountedPages(edge.address).open(SIMULATED, join_within=3))
        await simulated.until(lambda: all(page.last >= 0 for page in simulated.pages))
        traffic = [Traffic(page) for page in pages]
        newest = max(row["sequence"] for row in (await seen(pages[0]))["stages"])
        async with without(on, what):
            for page in pages if what == "no stream" else []:
                await until(page, lambda s: s["channel"] == "ended")
            counted = [held_requests(page_traffic) for page_traffic in traffic]
            simulated.held.clear()
            await asyncio.sleep(AWAY)
            asked = [
                held_requests(page_traffic) - first
                for page_traffic, first in zip(traffic, counted, strict=True)
            ]
            most = max(simulated.held.values())
            mean = simulated.held.total() / SIMULATED
        print(f"\n{AWAY} s of {what}: requests for events {asked}; simulated pages {mean:.2f}, most {most}")
        for page in pages:
            await until(page, lambda s: s["channel"] == "live" and plays_after(s, newest))
    assert max(*asked, most) <= REQUESTS


class CountedPages(SimulatedPages):
    """Simulated pages; ``held`` are the requests for events of each."""

    held: Counter[str]

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.held = Counter()

    async def request(
        self, method: str, path: str, headers: dict[str, str], data: str | None = None
    ) -> tuple[int, bytes, str]:
        """As the pages ask."""
        self.held[headers["CF-Connecting-IP"]] += path.startswith(EVENTS)
        return await super().request(method, path, headers, data)


@asynccontextmanager
async def without(on: EndToEnd, what: str) -> AsyncIterator[None]:
    """Something is away inside, and back afterwards."""
    ends: dict[str, tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]] = {
        "dead service": (on.service.kill, on.service.start),
        "paused encoder": (
            lambda: asyncio.to_thread(suspend, on.owncast.encoder),
            lambda: asyncio.to_thread(resume, on.owncast.encoder),
        ),
        "no stream": (on.owncast.stop_streaming, on.owncast.go_live),
    }
    away, back = ends[what]
    await away()
    yield
    await back()


async def opened(stack: AsyncExitStack, browser: Browser, address: str, way: str) -> Page:
    """A page that plays, and hears of events in this way."""
    page = await (await stack.enter_async_context(await browser.new_context())).new_page()
    await page.add_init_script(SET.replace("WAY", way) + LISTEN)
    await page.goto(f"{address}/")
    await until(page, lambda s: s["status"] == "live" and s["time"] > 4)
    return page


async def delays_of(pages: list[Page]) -> dict[str, list[float]]:
    """How late each page is, once a second, by its way to hear of events."""
    delays: dict[str, list[float]] = {way: [] for way in PAGES}
    for _ in range(WATCHED):
        await asyncio.sleep(1)
        for way, page in zip(PAGES, pages, strict=True):
            if (delay := (await seen(page))["delay"]) is not None:
                delays[way].append(delay)
    return delays


async def lateness(pages: list[Page]) -> list[float]:
    """How many seconds after it was made each answer is in a page; the pages ask for segments as well."""
    for page in pages:
        await page.keyboard.press("i")
        await page.evaluate("late.splice(0)")
    await asyncio.sleep(HEARD)
    found = [cast("list[float]", await page.evaluate("late")) for page in pages]
    return [ms / 1000 for late in found for ms in late]


def held_requests(traffic: Traffic) -> int:
    return sum(EVENTS in url for url in traffic.requested)


def plays_after(state: dict[str, Any], newest: int) -> bool:
    played = [row["sequence"] for row in state["stages"] if row["played"]]
    return state["status"] == "live" and max(played, default=0) > newest
