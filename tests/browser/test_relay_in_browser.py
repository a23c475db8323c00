"""A real Chromium, and a crowd, at a relay of the real service: simulated Owncast, SeaweedFS, an uplink."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from playwright.async_api import Browser, Page
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.faults.fault_proxy import Fault, FaultProxy
from tests.support.judges.page import Traffic, is_, no_complaints, seen, until
from tests.support.length import SOAK, seconds
from tests.support.servers.counting_proxy import CountingFront, counting_front
from tests.support.servers.relay import Client, Relayed, RelayWatcher, relay_process
from tests.support.servers.service import running_service

WATCHED = seconds(60, 4)
AWAY = 30.0  # seconds that the uplink is
CLIENTS, PAGES = seconds(100, 3), seconds(3, 1)


@dataclass
class Venue:
    """A service, its bucket, and a relay of it, with an uplink between."""

    owncast: SimulatedOwncast
    bucket: CountingFront
    uplinks: tuple[FaultProxy, FaultProxy]
    service: Relayed  # as it is without a relay
    relayed: Relayed

    async def cut(self, fault: Fault) -> None:
        """Do this to the uplink."""
        for uplink in self.uplinks:
            await uplink.switch(fault)


@asynccontextmanager
async def venue(folder: Path, bucket: SeaweedBucket) -> AsyncIterator[Venue]:
    """One with a stream of two variants that is live; what is missed in a minute is still listed."""
    owncast = SimulatedOwncast(folder / "hls", folder / "owncast", segment_seconds=2, idle_overlap=0)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        front = await enter(counting_front(bucket.public_url))
        to_bucket = await enter(FaultProxy(URL(front.address).port or 0))
        await enter(owncast)
        settings = {"R2_PUBLIC_URL": to_bucket.url, "BROADCASTER_WINDOW_SEGMENTS": "40"}
        service = await enter(running_service(folder, owncast.hls_dir, bucket, **settings))
        to_service = await enter(FaultProxy(URL(service.address).port or 0))
        relayed = await enter(relay_process(folder, to_service.url))
        await owncast.go_live()
        await relayed.until_last(3)
        direct = Relayed(service.address, service.admin_address, relayed.session)
        yield Venue(owncast, front, (to_service, to_bucket), direct, relayed)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_relay has the relay without browsers")
@pytest.mark.takes(30)
async def test_a_room_full_of_people(
    tmp_path: Path, bucket: SeaweedBucket, browser: Browser, page: Page
) -> None:
    """Pages and players play from the relay, each object comes once; an uplink that is away is bridged."""
    async with venue(tmp_path, bucket) as on, asyncio.TaskGroup() as group:
        relayed = on.relayed
        pages = [page, *[await browser.new_page() for _ in range(PAGES - 1)]]
        traffic = [Traffic(page) for page in pages]
        watcher = RelayWatcher(relayed)
        clients = [Client(relayed, str(number % 2)) for number in range(CLIENTS)]
        # Past the uplink and what counts there.
        without = Client(on.service, "0", lambda url: url.replace(on.uplinks[1].url, bucket.public_url))
        running = [group.create_task(client.play()) for client in (*clients, without)]
        running.append(group.create_task(watcher.run()))
        with no_complaints(page):
            for viewer in pages:
                await viewer.goto(f"{relayed.address}/")
            for viewer in pages:
                await until(viewer, lambda s: s["status"] == "live" and s["time"] > 0)
            await asyncio.gather(*(played(page, WATCHED) for page in pages))
            # What was listed before either came is no announcement.
            both = clients[0].had.keys() & without.had.keys()
            late = [clients[0].had[number] - without.had[number] for number in sorted(both)][4:]
            settings = json.loads((await relayed.get("/config.json"))[1])
            if SOAK:
                await bridged(on, pages)
        figures = await relayed.metrics()
        for task in running:
            task.cancel()
    for viewer in pages[1:]:
        await viewer.close()
    gets = sum(on.bucket.asked.values()) / len(on.bucket.asked)
    hits = figures["broadcaster_relay_hit_ratio"]
    print(f"later than at the origin: median {median(late):.3f} s, at most {max(late):.3f} s")
    print(f"{len(on.bucket.asked)} objects, GETs for each {gets:.3f}, hit rate {hits:.4f}")
    assert gets <= 1.02
    assert (settings["trackerUrl"], settings["recordings"]) == ("/live/tracker", None)
    assert settings["prices"]
    assert watcher.violations == []
    assert watcher.missing == []
    assert [client.refused for client in clients if client.refused] == []
    asked = [url for page_traffic in traffic for url in page_traffic.requested]
    assert [url for url in asked if not url.startswith((f"{relayed.address}/", "blob:"))] == []
    assert all(page_traffic.segments for page_traffic in traffic)
    if SOAK:
        assert hits >= 0.98
        assert median(late) <= 0.5


async def bridged(on: Venue, pages: list[Page]) -> None:
    """Cut the uplink for a while; afterwards everything goes on by itself, to the newest."""
    await on.cut(Fault.REFUSE)
    await asyncio.sleep(AWAY)
    health = await on.relayed.health()
    assert "reconnecting" in health["reason"]
    await on.cut(Fault.NONE)
    newest = (await on.service.until_last(1)).last
    await on.relayed.until_last(newest)
    for page in pages:
        await until(page, is_("live"))
        await played(page, 10)


async def played(page: Page, seconds: float) -> None:
    """Wait until so much more is played; a machine with three browsers need not do so without a pause."""
    first = await seen(page)
    await until(page, lambda s: s["status"] == "live" and s["time"] >= first["time"] + seconds)
