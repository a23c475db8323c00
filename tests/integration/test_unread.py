"""Answers that nobody reads: they take no memory, and nothing from those who read."""

import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import aiohttp
import psutil
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.integration.unread_answers import get, large_fields, unread, upgraded
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.length import SOAK
from tests.support.servers.built_page import largest
from tests.support.servers.relay import relay_process
from tests.support.servers.relay_origin import SmallOrigin
from tests.support.servers.service import running_service
from tests.support.servers.viewer_process import audience_of
from tests.support.waiting import eventually

SIZE = 10**9 if SOAK else 10**8  # bytes of requests
SECONDS = 60.0 if SOAK else 2.0
MOST = 64  # MiB
PLAYLIST = "/live/0/playlist.m3u8"


async def viewed(address: str, seconds: float) -> list[float]:
    """How many seconds a viewer waits for each playlist, all the time; in order."""
    waited, until = [], time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < until:
            began = time.monotonic()
            async with session.get(address + PLAYLIST) as answer:
                await answer.read()
                assert answer.status == 200
            waited.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
    return sorted(waited)


def view(address: str, seconds: float) -> list[float]:
    """``viewed`` in a process of its own, which those that attack do not delay."""
    return asyncio.run(viewed(address, seconds))


async def attacked(process: psutil.Process, address: str, requests: list[tuple[bytes, bytes]]) -> None:
    """Assert that the process bears unread answers to these."""
    port, loop = int(address.rpartition(":")[2]), asyncio.get_running_loop()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as viewer:
        if SOAK:
            idle = await loop.run_in_executor(viewer, view, address, SECONDS / 4)
            print(f"a playlist takes {1000 * idle[len(idle) * 99 // 100]:.1f} ms (99th percentile) before")
        async with unread(process, port, requests, size=SIZE, seconds=SECONDS) as attack:
            waited = await loop.run_in_executor(viewer, view, address, SECONDS)
    print(
        f"{attack.sent / 1e6:.0f} MB of requests: {attack.growth:+.0f} MiB; a playlist took"
        f" {1000 * waited[len(waited) * 99 // 100]:.1f} ms (99th percentile of {len(waited)})"
    )
    assert attack.growth < MOST


@pytest.mark.takes(12)
async def test_unread_answers_of_the_service(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Whatever is asked for without a pause and never read, on each listener, takes less than 64 MiB."""
    hls = tmp_path / "hls"
    HlsWriter(hls / "0").write(range(6))
    async with running_service(tmp_path, hls, bucket) as service:

        async def listed() -> bool:
            async with aiohttp.ClientSession() as session, session.get(service.address + PLAYLIST) as answer:
                return answer.status == 200

        await eventually(listed)
        bound, _ = audience_of(service).rlimit(psutil.RLIMIT_AS)
        assert 2**29 < bound < 2**30
        paths = ("/", PLAYLIST, largest(), "/none", "/config.json", "/live/events", "/health")
        requests = [2 * (get(path),) for path in paths]
        requests += [2 * (get(largest(), fields="Range: bytes=0-\r\n"),), 2 * (large_fields("/"),)]
        requests += [2 * (get(PLAYLIST, "HEAD"),), 2 * (get(PLAYLIST, "OPTIONS"),)]
        requests += [2 * (get(PLAYLIST + "?_HLS_msn=6"),), upgraded("/live/tracker")]
        await attacked(audience_of(service), service.address, requests[:1])
        await attacked(audience_of(service), service.address, requests)
        assert service.child
        ingest = psutil.Process(service.child.pid)
        port = int(service.admin_address.rpartition(":")[2])
        operators = [2 * (get(path),) for path in ("/metrics", "/dashboard", "/health", "/none")]
        async with unread(ingest, port, operators, size=SIZE, seconds=SECONDS / 2) as attack:
            pass
        assert attack.growth < MOST


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the test above has the same server")
async def test_unread_answers_of_a_relay(tmp_path: Path, origin: SmallOrigin) -> None:
    """Segments and ranges of them that nobody reads take less than 64 MiB of a relay."""
    origin.publish(4)
    async with relay_process(tmp_path, origin.public) as relayed:
        path = (await relayed.until_last(4)).segments[-1].uri
        await relayed.get(path)
        connections = psutil.net_connections("tcp")
        port = relayed.host[1]
        (pid,) = {
            connection.pid
            for connection in connections
            if connection.status == "LISTEN" and connection.laddr[1:] == (port,)
        }
        assert pid
        requests = [2 * (get(segment),) for segment in ("/", path, PLAYLIST, "/segments/none/none")]
        requests += [2 * (get(path, fields="Range: bytes=0-50000\r\n"),), 2 * (get(path, "HEAD"),)]
        await attacked(psutil.Process(pid), relayed.address, requests)
