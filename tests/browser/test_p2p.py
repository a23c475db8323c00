"""Viewers who pass video on to each other: pages in a network of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from tests.browser.bad_peers import GREEDY, SILENT_FORGER, WITNESS, WRONG_BYTES
from tests.browser.conftest import running_chromium
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import Traffic, check_played, no_complaints, play_on, seen, until
from tests.support.length import SOAK, seconds
from tests.support.servers.end_to_end import EndToEnd, end_to_end
from tests.support.servers.network import own_network, relay_to
from tests.support.servers.service import running_service
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("network")  # before bucket and browser are started

WARM_UP, WATCHED = seconds(40, 4), seconds(40, 8)  # of video
SEGMENT = 2  # seconds
VIEWERS = seconds(4, 2)
AHEAD = 8  # seconds in which what has been loaded is decoded
ON_ITS_WAY = 200_000  # bytes, a segment and a bit
TRIES = 10  # segments that a peer has begun and the bucket is to complete
SHARE = 0.55  # of all bytes, by peers, at full length: a busy browser asks the bucket instead

LIBRARY_IS_LOADED = """
() => performance.getEntriesByType("resource").some(({ name }) => name.includes("p2p-media-loader"))
"""


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium_path: str) -> AsyncIterator[Browser]:
    """A Chromium in the test's network."""
    async with running_chromium(chromium_path) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def bucket(tmp_path: Path) -> AsyncIterator[SeaweedBucket]:
    """A bucket in the test's network."""
    async with SeaweedBucket(tmp_path / "bucket") as running:
        yield running


@pytest.fixture
def network() -> Iterator[None]:
    """Everything of a test runs in a network of its own; without the right to make one, in the machine's."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(PermissionError):
            stack.enter_context(own_network())
        yield


@pytest.mark.takes(45)
async def test_viewers_share_and_go_on_without_the_tracker(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """Once warm, all get video from peers; without the tracker all play on."""
    async with (
        end_to_end(tmp_path, bucket, segment_seconds=SEGMENT, BROADCASTER_VIEWER_MODE="sharing") as on,
        relay_to(port_of(on)) as (relay, port),
        contextlib.AsyncExitStack() as stack,
    ):
        await on.live_with(8)
        pages = [
            await stack.enter_async_context(viewer(browser, on.service.address, port)) for _ in range(VIEWERS)
        ]
        for page in pages:
            await until(page, lambda s: s["p2p"]["enabled"] and s["p2p"]["peers"] == VIEWERS - 1)
        before = await asyncio.gather(*(play_on(page, WARM_UP) for page in pages))
        after = await asyncio.gather(*(play_on(page, WATCHED) for page in pages))
        share = share_of_peers(before, after)
        print(f"{share:.0%} of {total(before, after) / 1e6:.1f} MB came from peers")
        assert share > (SHARE if SOAK else 0)

        await relay.close()
        later = await asyncio.gather(*(play_on(page, WATCHED) for page in pages))
        print(f"{share_of_peers(after, later):.0%} without the tracker")
        assert [state["p2p"]["peers"] for state in later] == [
            VIEWERS - 1
        ] * VIEWERS  # who knows each other needs no tracker


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rule itself has tests in Node")
@pytest.mark.takes(45)
async def test_wrong_bytes_of_a_peer_cost_nobody_a_picture(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """What a bad peer sends is refused; others share beside it, and play on when the tracker goes away."""
    async with (
        end_to_end(tmp_path, bucket, segment_seconds=SEGMENT, BROADCASTER_VIEWER_MODE="sharing") as on,
        relay_to(port_of(on)) as (relay, port),
        contextlib.AsyncExitStack() as stack,
    ):
        await on.live_with(8)
        bad = await stack.enter_async_context(viewer(browser, on.service.address, script=WRONG_BYTES))
        await until(bad, lambda s: s["status"] == "live" and s["time"] > 0)
        good = await stack.enter_async_context(viewer(browser, on.service.address, port))
        traffic = Traffic(good)
        await until(good, lambda s: s["rejected"] > 0)
        alone = await play_on(good, WATCHED)
        assert alone["bytes"]["peers"] == 0  # there is only the bad one
        assert traffic.segments, "the bucket has what the peer's bytes were refused for"

        other = await stack.enter_async_context(viewer(browser, on.service.address, port))
        joined = await until(other, lambda s: s["bytes"]["peers"] > 0)

        async def from_peers() -> int:
            return sum([(await seen(page))["bytes"]["peers"] for page in (good, other)])

        await eventually(from_peers, joined["bytes"]["peers"].__lt__)  # a busy browser asks the bucket more
        after = await asyncio.gather(*(play_on(page, WATCHED) for page in (good, other)))
        print(f"{alone['rejected']} and {sum(state['rejected'] for state in after)} segments refused")
        assert share_of_peers([alone, joined], after) > 0

        await relay.close()
        later = await asyncio.gather(*(play_on(page, WATCHED) for page in (good, other)))
        assert all(state["p2p"]["peers"] > 0 for state in later)  # who knows each other needs no tracker


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rule itself has tests in Node")
@pytest.mark.takes(60)
async def test_forged_beginnings_never_reach_the_decoder(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """What a peer has begun and left is taken only if the whole is genuine, whatever length it announced."""
    async with (
        end_to_end(tmp_path, bucket, segment_seconds=SEGMENT, BROADCASTER_VIEWER_MODE="sharing") as on,
        contextlib.AsyncExitStack() as stack,
    ):
        await on.live_with(8)
        bad = await stack.enter_async_context(viewer(browser, on.service.address, script=SILENT_FORGER))
        await until(bad, lambda s: s["status"] == "live" and s["time"] > 0)
        good = await stack.enter_async_context(viewer(browser, on.service.address, script=WITNESS))
        resumed: asyncio.Queue[str] = asyncio.Queue()
        good.on(
            "request", lambda request: resumed.put_nowait(request.url) if "range" in request.headers else None
        )
        before = await until(good, lambda s: s["status"] == "live" and s["time"] > 0)
        for _ in range(TRIES):
            await asyncio.wait_for(resumed.get(), PATIENCE)
            last = await play_on(good, AHEAD)
            decoded = await good.evaluate("decoded")
            assert decoded
            assert set(decoded) <= set(on.owncast.finished.values())
        last = await until(good, lambda s: s["rejected"] >= TRIES)  # the last is complete a moment later
        sent = await bad.evaluate("forged")
        print(f"{sent}: {last['rejected']} refused, {last['stalls']} stalls, {len(decoded)} genuine")
        check_played(before, last)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the rule itself has unit tests")
@pytest.mark.takes(45)
async def test_a_greedy_peer_gets_no_more_than_three_times_the_stream(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """However often a peer asks, the page sends no more than a few times what it has itself loaded."""
    async with (
        end_to_end(tmp_path, bucket, segment_seconds=SEGMENT, BROADCASTER_VIEWER_MODE="sharing") as on,
        contextlib.AsyncExitStack() as stack,
    ):
        await on.live_with(8)
        good = await stack.enter_async_context(viewer(browser, on.service.address))
        before = await until(good, lambda s: s["status"] == "live" and s["time"] > 0)
        greedy = await stack.enter_async_context(viewer(browser, on.service.address, script=GREEDY))
        await greedy.wait_for_event("console", lambda line: line.text == "asked", timeout=1000 * PATIENCE)
        last = await play_on(good, AHEAD)
        sent = last["bytes"]["uploaded"]
        print(f"{sent / sum(received(last)):.1f} times what was loaded")
        assert 0 < sent < 3 * sum(received(last)) + ON_ITS_WAY
        check_played(before, last)


@pytest.mark.takes(50)
@pytest.mark.skipif(not SOAK, reason="make soak runs it: swarms and switches have tests in Node")
async def test_sharing_is_switched_and_outlives_a_reconnect_of_the_encoder(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """The viewer's switch works while the video plays; after a reconnect all meet again in the new swarm."""
    async with (
        end_to_end(tmp_path, bucket, segment_seconds=SEGMENT) as on,
        contextlib.AsyncExitStack() as stack,
    ):
        await on.live_with(8)
        pages = [await stack.enter_async_context(viewer(browser, on.service.address)) for _ in range(2)]
        page, other = pages
        for tab in pages:
            await until(tab, lambda s: s["status"] == "live" and s["time"] > 1)
            assert await tab.evaluate(LIBRARY_IS_LOADED) is False  # in low-delay mode nobody needs it
            await tab.get_by_role("switch", name="Help carry the stream").check()
        for tab in pages:
            first = await until(tab, lambda s: s["p2p"]["peers"] == 1 and s["bytes"]["peers"] > 0)
            assert await tab.evaluate(LIBRARY_IS_LOADED) is True

        await page.get_by_role("switch", name="Help carry the stream").uncheck()
        near = await until(page, lambda s: s["latency"] < first["latency"] - 3 and s["buffer"])
        assert (near["p2p"]["enabled"], near["p2p"]["peers"], near["sessions"]) == (False, 0, 2)
        await until(other, lambda s: s["p2p"]["peers"] == 0)
        await page.get_by_role("switch", name="Help carry the stream").check()
        again = await until(page, lambda s: s["latency"] > near["latency"] + 3 and s["p2p"]["peers"] == 1)

        await on.owncast.stop_streaming()
        reconnected = await on.owncast.go_live()
        await Traffic(page).until_asked_for(f"/stream-{reconnected}-")
        for tab in pages:
            await until(
                tab, lambda s: s["p2p"]["peers"] == 1 and s["bytes"]["peers"] > again["bytes"]["peers"]
            )
        last = [await seen(page) for page in pages]
        assert [(state["sessions"], state["rebuilds"]) for state in last] == [(2, 0)] * 2
        assert [state["rejected"] for state in last] == [0, 0]


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the table of the gates has the tracker")
@pytest.mark.takes(40)
async def test_guests_share_and_strangers_do_not(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser
) -> None:
    """In a private event guests get video from each other; whoever knows the tracker alone meets nobody."""
    settings = {"BROADCASTER_VIEWER_MODE": "sharing", "BROADCASTER_ACCESS": "invitation"}
    async with (
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=SEGMENT) as owncast,
        running_service(tmp_path, owncast.hls_dir, bucket, **settings) as service,
        contextlib.AsyncExitStack() as stack,
        aiohttp.ClientSession() as stranger,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(8)
        invited = [await service.manage("invite", "--name", name, "--json") for name in ("Rose", "Ben")]
        paths = [json.loads(text)["path"] for text in invited]
        pages = [
            await stack.enter_async_context(viewer(browser, service.address, path=path)) for path in paths
        ]
        for page in pages:
            await until(page, lambda s: s["p2p"]["enabled"] and s["p2p"]["peers"] == 1)
        before = await asyncio.gather(*(play_on(page, WARM_UP) for page in pages))
        after = await asyncio.gather(*(play_on(page, WATCHED) for page in pages))
        share = share_of_peers(before, after)
        print(f"{share:.0%} of {total(before, after) / 1e6:.1f} MB came from other guests")
        assert share > 0
        forged = paths[0][:-2] + ("0/" if paths[0][-2] != "0" else "1/")
        for path in ("/", forged):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await stranger.ws_connect(URL(f"{service.address}{path}live/tracker", encoded=True))
            assert refused.value.status == 401
        async with stranger.ws_connect(URL(f"{service.address}{paths[0]}live/tracker", encoded=True)):
            """A guest's is taken."""


@asynccontextmanager
async def viewer(
    browser: Browser, address: str, tracker_port: int | None = None, script: str = "", path: str = "/"
) -> AsyncIterator[Page]:
    """A page with connections of its own, which a profile shared with others would not give it."""
    context = await browser.new_context(viewport={"width": 640, "height": 480})
    context.set_default_timeout(1000 * PATIENCE)
    page = await context.new_page()
    if script:
        await page.add_init_script(script)

    if tracker_port is not None:
        await page.add_init_script(
            "window.WebSocket = class extends WebSocket { constructor(url, ...more) "
            f"{{ super(url.replace(/:[0-9]+/, ':{tracker_port}'), ...more); }} }};"
        )
    with no_complaints(page):
        await page.goto(f"{address}{path}")
        yield page
    await context.close()


def port_of(on: EndToEnd) -> int:
    return int(on.service.address.rpartition(":")[2])


def received(state: dict[str, Any]) -> tuple[int, int]:
    return state["bytes"]["peers"], state["bytes"]["bucket"]


def total(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> int:
    return sum(sum(received(state)) for state in after) - sum(sum(received(state)) for state in before)


def share_of_peers(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> float:
    peers = sum(received(state)[0] for state in after) - sum(received(state)[0] for state in before)
    return peers / total(before, after)
