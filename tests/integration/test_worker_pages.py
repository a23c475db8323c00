"""Pages at the edge's Worker: what they cost the service, what they report, and how they fare.

nginx stands before the Worker and makes one request of all that ask for the same, as Workers Cache does.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page

from broadcaster.demo.bucket import SeaweedBucket
from tests.browser.conftest import running_chromium
from tests.integration.test_worker import text_at
from tests.support import length
from tests.support.fakes.encoded_recording import encoded_recording
from tests.support.fakes.playout import Playout, playing_out
from tests.support.judges.page import seen, until
from tests.support.judges.simulated_pages import BEACON, SimulatedPages
from tests.support.servers.chromium import find_chromium
from tests.support.servers.edge import running_edge
from tests.support.servers.service import Service, running_service
from tests.support.servers.worker import BEHIND_NGINX, Worker, running_worker
from tests.support.waiting import PATIENCE, eventually

SIMULATED, REAL = length.seconds(300, 60), length.seconds(5, 0)  # pages
JOIN = length.seconds(30, 3)  # seconds in which they come
WATCH = length.seconds(180, 6)  # seconds
COUNTED_WITHIN = 60.0 if length.SOAK else PATIENCE  # seconds from when the last page has come
DEAD = 60  # seconds of the service
SECONDS, VARIANTS = 2, ("0", "1", "2")  # of a segment; all are the same film
KBPS = 1000  # of a variant
FILM = 60  # seconds, which are repeated
PUSHED = 1500  # bytes of a segment and variant, at most
OF_MEDIA = 0.01  # what is pushed, of the media
SAMPLE = re.compile(r"^(broadcaster_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)

REPORT = {"viewer": "1" * 16, "seconds": 25, "httpBytes": 250_000, "stalls": 1, "stalled": 2.5, "errors": 0}
OTHER = {**REPORT, "viewer": "2" * 16}
UPLOADED = ("broadcaster_viewer_bytes_total", 'source="uploaded"')
LAST = {"seconds": 1, "uploadedBytes": 777}
CASES: dict[str, Sequence[object]] = {
    "a page": [REPORT],
    "two pages": [REPORT, OTHER],
    "a page that reports too soon": [REPORT, REPORT],
    "a page that leaves": [REPORT, {**REPORT, "over": True}],
    "a page of no name": [{"seconds": 20, "p2pBytes": 10_000}],
    "more than can be": [{**REPORT, "httpBytes": 1e14}, OTHER],
    "bytes that are no number": [{**REPORT, "httpBytes": "many"}, OTHER],
    "fewer than none": [{**REPORT, "seconds": -1}, OTHER],
    "a name that is none": [{**REPORT, "viewer": "x"}, OTHER],
    "too large": [json.dumps({**REPORT, "x": "x" * 1100}), OTHER],
    "no report": ["null", "[]", "{", "\ud83d", OTHER],
    "far behind": [{**REPORT, "behind": 600.0}],
}
REPORTED = (
    *("viewer_bytes", "viewer_seconds", "viewer_reports_refused", "viewers"),
    *("viewer_stalls", "viewer_stalled_seconds", "viewer_errors"),
)


async def metrics(service: Service, *names: str) -> dict[tuple[str, str], float]:
    """Samples of the service's metrics by name and labels; of all names, or of these."""
    async with aiohttp.ClientSession() as session, session.get(f"{service.admin_address}/metrics") as answer:
        text = await answer.text()
    wanted = {f"broadcaster_{name}{end}" for name in names for end in ("", "_total")}
    return {
        (name, labels): float(value)
        for name, labels, value in SAMPLE.findall(text)
        if not wanted or name in wanted
    }


async def total(service: Service, name: str) -> float:
    """The sum of a metric's samples."""
    return sum((await metrics(service, name)).values())


@pytest.mark.takes(20)
async def test_reports_count_as_at_the_service(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Viewers, bytes and stalls are the same numbers, whether the service or the Worker takes the reports."""
    (tmp_path / "hls").mkdir()
    found = []
    async with running_worker(tmp_path) as worker:
        for through in ("service", "edge"):
            folder = tmp_path / through
            folder.mkdir()
            settings = worker.settings if through == "edge" else {}
            async with running_service(folder, tmp_path / "hls", bucket, **settings) as service:
                await report_all((worker if through == "edge" else service).address)
                await eventually(
                    lambda: metrics(service), lambda seen: seen.get(UPLOADED) == LAST["uploadedBytes"]
                )
                found.append(await metrics(service, *REPORTED))
    assert found[0] == found[1]
    print(found[0])
    assert found[0]["broadcaster_viewer_stalls_total", 'variant="unknown"'] > len(CASES)
    assert found[0]["broadcaster_viewer_reports_refused_total", ""] == 1


async def report_all(address: str) -> None:
    """Send all reports of the table; each case has pages and an address of its own."""
    async with aiohttp.ClientSession() as session:
        for number, reports in enumerate((*CASES.values(), [LAST])):
            for report in reports:
                text = report if isinstance(report, str) else json.dumps(report)
                text = re.sub(r'("viewer": "\d)\d{3}', rf"\g<1>{number:03}", text)
                headers = {"CF-Connecting-IP": f"192.0.2.{number + 1}"}
                url, data = f"{address}{BEACON}", text.encode(errors="replace")
                async with session.post(url, data=data, headers=headers) as response:
                    assert response.status < 500


class ReportingPages(SimulatedPages):
    """Simulated pages; ``sums`` are the sums of their reports."""

    sums: Counter[str]

    async def request(
        self, method: str, path: str, headers: dict[str, str], data: str | None = None
    ) -> tuple[int, bytes, str]:
        """As the pages ask; a report that is taken counts."""
        answer = await super().request(method, path, headers, data)
        if data and answer[0] == 204:
            self.sums.update({name: json.loads(data)[name] for name in ("httpBytes", "stalls", "seconds")})
        return answer


@asynccontextmanager
async def streaming(
    tmp_path: Path, bucket: SeaweedBucket
) -> AsyncIterator[tuple[Worker, Service, str, Playout]]:
    """A film of three variants that goes live, the service that pushes it, and the address behind nginx."""
    film = encoded_recording(
        tmp_path / "film", runs=1, segments=300, segment_seconds=SECONDS, fps=10, repeated=10, kbps=KBPS
    )
    playout = Playout(film, tmp_path / "hls", segment_seconds=SECONDS, variants=VARIANTS)
    async with (
        running_worker(tmp_path) as worker,
        running_service(tmp_path, tmp_path / "hls", bucket, **worker.settings) as service,
        running_edge(tmp_path, worker.address, BEHIND_NGINX) as edge,
        playing_out(playout),
    ):
        await eventually(
            lambda: text_at(worker.address, "live/0/playlist.m3u8"), lambda found: found[0] == 200
        )
        yield worker, service, edge.address, playout


async def real_pages(stack: AsyncExitStack, address: str, count: int) -> list[Page]:
    """So many pages in a Chromium, each with a profile of its own, that play."""
    if not count:
        return []
    browser = await stack.enter_async_context(running_chromium(find_chromium()))
    pages = []
    for _ in range(count):
        context = await browser.new_context(viewport={"width": 640, "height": 480})
        context.set_default_timeout(1000 * PATIENCE)
        pages.append(await context.new_page())
        await pages[-1].goto(f"{address}/")
        await until(pages[-1], lambda s: s["status"] == "live" and s["time"] > 0)
    return pages


@pytest.mark.takes(30)
async def test_pages_cost_the_service_nothing(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """No request of hundreds of pages reaches the service; they are counted, and so is what they report."""
    async with (
        streaming(tmp_path, bucket) as (_, service, address, playout),
        AsyncExitStack() as stack,
    ):
        loop, pages = asyncio.get_running_loop(), ReportingPages(address, playout.published)
        pages.sums = Counter()
        async with pages.open(SIMULATED, join_within=JOIN):
            real = await real_pages(stack, address, REAL)
            await eventually(lambda: all(page.last >= 0 for page in pages.pages))
            joined = loop.time()
            everybody, near = SIMULATED + REAL, 0.02 * (SIMULATED + REAL)
            await eventually(
                lambda: total(service, "viewers"),
                lambda found: abs(found - everybody) <= near,
                within=COUNTED_WITHIN,
            )
            counted, first = loop.time() - joined, playout.number
            before = await total(service, "edge_pushed_bytes")
            await asyncio.sleep(max(WATCH - counted, SECONDS))
            await playout.until(first + 1)
            pushed, segments = await total(service, "edge_pushed_bytes") - before, playout.number - first
            states = [await seen(page) for page in real]
        for page in real:
            await page.goto("about:blank")  # its last report
        sums = pages.sums + Counter(
            httpBytes=sum(state["bytes"]["bucket"] for state in states),
            stalls=sum(s["stalls"] for s in states),
        )
        media = sum(file.stat().st_size for file in (tmp_path / "hls/0").glob("*.ts")) / (playout.number + 1)
        each = pushed / (segments * len(VARIANTS))
        reported = await eventually(
            lambda: metrics(service, "viewer_bytes", "viewer_stalls", "requests"),
            lambda found: (
                abs(of(found, "viewer_bytes") / sums["httpBytes"] - 1) <= 0.02
                and of(found, "viewer_stalls") == sums["stalls"]
            ),
        )
    figures = pages.figures
    print(
        f"\n{SIMULATED} simulated and {REAL} real pages: {figures.requests()} requests, "
        f"{of(reported, 'requests'):.0f} at the service; {everybody} viewers counted after {counted:.0f} s; "
        f"{segments} segments, {each:.0f} bytes pushed for each and variant, {100 * each / media:.2f} % of "
        f"the media; stalls: {figures.stalls} simulated, {[state['stalls'] for state in states]} real, "
        f"{of(reported, 'viewer_stalls'):.0f} counted; refused {figures.refused()}"
    )
    assert of(reported, "requests") == 0
    assert figures.fell == []
    assert {status for _, status in figures.answers} <= {200, 204, 503}
    if length.SOAK:  # a second or two of it are a push more or less
        assert each <= PUSHED
        assert each / media <= OF_MEDIA


def of(found: dict[tuple[str, str], float], name: str) -> float:
    """The sum of a metric's samples."""
    return sum(
        value for (key, _), value in found.items() if key.removeprefix("broadcaster_").startswith(name)
    )


@pytest.mark.skipif(
    not length.SOAK, reason="make soak runs it: the watchers of test_worker_outage.py do as well"
)
async def test_pages_go_on_while_the_service_is_dead(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A minute without the service, with its object thrown out and workerd killed, is at most one stall."""
    async with (
        streaming(tmp_path, bucket) as (worker, service, address, _),
        AsyncExitStack() as stack,
    ):
        pages = SimulatedPages(address)
        async with pages.open(20, join_within=3):
            real = await real_pages(stack, address, 2)
            before = [await seen(page) for page in real]
            await asyncio.sleep(10)
            await service.kill()
            await asyncio.sleep(DEAD / 3)
            await worker.evict()
            await asyncio.sleep(DEAD / 3)
            await worker.kill()
            await worker.start()
            await asyncio.sleep(DEAD / 3)
            await service.start()
            after = [
                await until(page, lambda s: s["status"] == "live" and s["time"] > before[0]["time"] + 40)
                for page in real
            ]
    stalls = [new["stalls"] - old["stalls"] for new, old in zip(after, before, strict=True)]
    print(f"\nstalls of real pages {stalls}; {pages.figures.refused()}")
    assert max(stalls) <= 1
    assert pages.figures.fell == []
