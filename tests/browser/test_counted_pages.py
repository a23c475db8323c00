"""Simulated pages ask for what real ones ask for, both behind nginx; what reaches the origin is counted."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.playout import Playout, made, playing_out
from tests.support.judges.page import is_, no_complaints, seen, until
from tests.support.judges.simulated_pages import BEACON, SimulatedPages, kind_of
from tests.support.length import SOAK
from tests.support.servers.counted_origin import EVENTS, PLAYLISTS, counted_origin
from tests.support.servers.edge import running_edge
from tests.support.servers.service import running_service

SEGMENT = 2  # seconds
REAL, SIMULATED = 5, 300
WATCHED = 180  # seconds


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_edge counts simulated pages")
@pytest.mark.takes(25)
async def test_real_pages_among_simulated_ones(
    tmp_path: Path, bucket: SeaweedBucket, context: BrowserContext, page: Page
) -> None:
    """A simulated page asks for the same as a real one, as often; the origin sees one request of all."""
    film = made(tmp_path / "film", segment_seconds=SEGMENT)
    playout = Playout(film, tmp_path / "hls", segment_seconds=SEGMENT, variants=("0",))
    settings = {"BROADCASTER_TRUSTED_HEADER": "x-forwarded-for"}
    async with (
        running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service,
        counted_origin(service.address) as origin,
        running_edge(tmp_path, origin.address) as edge,
        playing_out(playout),
    ):
        await service.until_health(stream="live")
        tabs = [page, *[await context.new_page() for _ in range(REAL - 1)]]
        traffics = [Requests(tab) for tab in tabs]
        pages = SimulatedPages(edge.address, playout.published)
        with no_complaints(page):
            async with pages.open(SIMULATED, join_within=1):
                for tab in tabs:
                    await tab.goto(f"{edge.address}/")
                for tab in tabs:
                    await until(tab, is_("live"))
                await pages.until(lambda: all(page.last >= 0 for page in pages.pages))
                stalls = [(await seen(tab))["stalls"] for tab in tabs]
                real, simulated = (
                    [traffic.asked(edge.address) for traffic in traffics],
                    Counter(pages.figures.asked),
                )
                origin.take()
                first = playout.number
                await asyncio.sleep(WATCHED)
                counted, versions = origin.take(), playout.number - first
                simulated = pages.figures.asked - simulated
                real = [
                    traffic.asked(edge.address) - before
                    for traffic, before in zip(traffics, real, strict=True)
                ]
                assert [(await seen(tab))["stalls"] for tab in tabs] == stalls
    late = sum(count for (_, status), count in pages.figures.answers.items() if status == 503)
    for page_traffic in traffics:
        assert set(page_traffic.asked(edge.address)) - {BEACON} == set(pages.figures.asked) - {BEACON}
    for asked in real:
        for kind in asked.keys() | simulated.keys():
            assert asked[kind] == pytest.approx(simulated[kind] / SIMULATED, abs=2, rel=0.1), kind
    assert counted.requests(PLAYLISTS) <= 1.1 * (versions + 1) + late
    assert counted.requests(EVENTS) <= 1.5 * (versions + 1) + late
    assert counted.most_open <= 20


class Requests:
    """What a page asks for, by kind of path."""

    def __init__(self, page: Page) -> None:
        self._urls: list[str] = []
        page.on("request", lambda request: self._urls.append(request.url))

    def asked(self, address: str) -> Counter[str]:
        """How often what was asked for there."""
        return Counter(kind_of(url.removeprefix(address)) for url in self._urls if url.startswith(address))
