"""Held events through the shipped nginx configuration: one request of all reaches the service."""

import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broadcaster.demo.processes import free_ports
from broadcaster.viewer_server import events
from tests.support.fakes.pipeline_parts import variants_listed
from tests.support.fakes.viewer_app import MEDIA, ViewerApp
from tests.support.length import SOAK, seconds
from tests.support.servers.edge import running_edge
from tests.support.servers.edge_fixture import Front, serving
from tests.support.waiting import PATIENCE, eventually

WAITERS = seconds(1000, 300)


@asynccontextmanager
async def many(tmp_path: Path, site: ViewerApp) -> AsyncIterator[Front]:
    """An edge before a service, and any number of clients."""
    (port,) = free_ports(1)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        serving(site, port),
        running_edge(tmp_path, f"http://127.0.0.1:{port}") as edge,
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
    ):
        yield Front(site, edge, session, f"http://127.0.0.1:{port}")


async def read(front: Front, path: str) -> dict[str, Any]:
    """An answer of the edge."""
    status, body, _ = await front.get(path)
    assert status == 200
    answer = json.loads(body)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.takes(20)
@pytest.mark.parametrize("what", ["event", "segment"])
async def test_hundreds_wait_and_one_request_reaches_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """All that wait for one serial, or for one segment, are answered; the service has seen one of them."""
    monkeypatch.setattr(events, "HOLD", 35.0)  # a busy machine takes its time to connect so many
    site = ViewerApp(tmp_path)
    site.channel.list_variants(variants_listed("0"))
    site.publish(seconds=12)
    async with many(tmp_path, site) as front:
        serial = (await read(front, "/live/events/now"))["serial"]
        path = f"/live/events/{serial}" if what == "event" else f"{MEDIA}?_HLS_msn=2"
        waiting = [asyncio.create_task(front.get(path)) for _ in range(WAITERS)]
        await eventually(lambda: connected(front), lambda found: found >= WAITERS)
        await eventually(front.somebody_waits)
        site.server.event_stream.send_starting(site.now)
        site.publish(seconds=12)
        answers = await asyncio.gather(*waiting)
        await front.edge.stop()
    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, body, _ in answers}) == 1
    assert [request.uri for request in front.edge.log() if request.from_origin].count(path) == 1


def connected(front: Front) -> int:
    """Connections to the edge that are open, by the kernel's table."""
    port = int(front.edge.address.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


async def test_events_come_through_the_edge_soon(tmp_path: Path) -> None:
    """Directly within a tenth of a second, through nginx within that in which it looks again (medians)."""
    site, times = ViewerApp(tmp_path), dict[str, list[float]]()
    async with many(tmp_path, site) as front:
        loop, log = asyncio.get_running_loop(), site.server.event_stream.held
        direct = str(front.origin)
        for address in (direct, front.edge.address):
            times[address] = []
            for number in range(8):
                path = f"{address}/live/events/{log.serial}"

                async def ask(path: str = path) -> float:
                    async with front.session.get(path) as response:
                        assert response.status == 200
                        return loop.time()

                waiting = [asyncio.create_task(ask()) for _ in range(20)]
                await eventually(lambda: log.waiting)
                await asyncio.sleep(0.1 + 0.07 * number)  # nginx looks every half second
                sent = loop.time()
                site.server.event_stream.send_starting(site.now)
                times[address] += [at - sent for at in await asyncio.gather(*waiting)]
    medians = {address: statistics.median(found) for address, found in times.items()}
    print(medians)
    assert medians[direct] <= 0.1 or not SOAK
    assert medians[front.edge.address] <= (0.8 if SOAK else 0.8 + 10 * medians[direct])


async def test_a_service_that_dies_answers_all_that_wait(tmp_path: Path) -> None:
    """They hear of it together; what comes after a serial is there as soon as the service is back."""
    site, (port,) = ViewerApp(tmp_path), free_ports(1)
    async with (
        running_edge(tmp_path, f"http://127.0.0.1:{port}") as edge,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        front = Front(site, edge, session)
        async with serving(site, port):
            serial = (await read(front, "/live/events/now"))["serial"]
            waiting = [asyncio.create_task(front.get(f"/live/events/{serial}")) for _ in range(100)]
            await eventually(lambda: site.server.event_stream.held.waiting == 1)
        async with asyncio.timeout(seconds(10, 60)):
            answers = await asyncio.gather(*waiting)
        assert {status for status, _, _ in answers} <= {502, 503}
        async with asyncio.timeout(seconds(10, 60)):
            again = await asyncio.gather(*(front.get(f"/live/events/{serial}") for _ in range(100)))
        assert {status for status, _, _ in again} <= {502, 503}
        await edge.stop()
    assert sum(request.from_origin for request in edge.log() if request.uri.endswith(str(serial))) <= 10


async def test_no_answer_that_is_kept_can_be_asked_for_in_a_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time and from the cache: a later serial, or a refusal, also of a service that is away."""
    monkeypatch.setattr(events, "HOLD", 0.2)
    site, (port,) = ViewerApp(tmp_path), free_ports(1)
    logs = {"events": site.server.event_stream.held, "segments": site.server.event_stream.held_segments}
    async with (
        running_edge(tmp_path, f"http://127.0.0.1:{port}") as edge,
        aiohttp.ClientSession() as session,
    ):
        front = Front(site, edge, session)
        async with serving(site, port):
            for _ in range(5):
                site.server.event_stream.send_starting(site.now)
            latest = {name: log.serial for name, log in logs.items()}
            keys = [0, 1, 10**15, *range(-7, 3)]
            found = {await answered(front, name, key, latest[name]) for key in keys for name in logs}
            assert found == {200, 404}
            for name, log in logs.items():
                await answered(front, name, 0, log.serial)
        for name, serial in latest.items():
            assert await answered(front, name, 5, serial) in (502, 503)
            await eventually(partial(front.get, f"/live/{name}/now"), lambda found: found[0] == 502)


async def answered(front: Front, name: str, key: int, latest: int) -> int:
    """The status for this key, or for one beside the latest, twice: what is no refusal leads on."""
    serial = latest + key if -100 < key < 100 else key
    for _ in range(2):
        status, body, headers = await front.get(f"/live/{name}/{serial}")
        if status == 200:
            assert json.loads(body)["serial"] > serial
        else:
            assert headers.get("Cache-Control", "public, max-age=1") == "public, max-age=1"
    return status
