"""How long normal clients wait while thousands do not finish their requests or hardly read the answers."""

import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp

from broadcaster.http import raise_file_limit
from tests.bench.report import Figure, percentile, progress
from tests.support.faults.slow_clients import REQUEST, CrowdedServer, crowded_server, slow_clients

CLIENTS = 2000  # of each kind
NORMAL_CLIENTS = 10
SECONDS = 10.0


def measure() -> list[Figure]:
    """The same server, first in quiet."""
    if raise_file_limit(2 * CLIENTS + 100) < 2 * CLIENTS:
        progress(f"slow clients: {2 * CLIENTS} connections are more than this system allows, left out")
        return []
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Figure]:
    async with crowded_server(folder, 2 * CLIENTS + 100) as server:
        await _waits(server, 1)  # whatever is made only once
        progress("slow clients: in quiet")
        quiet = await _waits(server, SECONDS)
        async with slow_clients(server.port) as clients, asyncio.TaskGroup() as group:
            await clients.open(CLIENTS, REQUEST, reading=False)
            await clients.open(CLIENTS, REQUEST + b"\r\n", reading=True)
            reading = group.create_task(clients.read_slowly())
            progress("slow clients: in the crowd")
            crowded = await _waits(server, SECONDS)
            reading.cancel()
    return [
        Figure("a playlist in quiet, p99", 1000 * percentile(quiet, 0.99), "ms"),
        Figure(f"a playlist among {2 * CLIENTS} slow clients, p99", 1000 * percentile(crowded, 0.99), "ms"),
        Figure(
            "slow clients: ratio of the medians", percentile(crowded, 0.5) / percentile(quiet, 0.5), at_most=3
        ),
    ]


async def _waits(server: CrowdedServer, seconds: float) -> list[float]:
    """Seconds that normal clients wait, each time."""
    waits: list[float] = []

    async def client(session: aiohttp.ClientSession) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            waits.append(await server.ask(session))
            await asyncio.sleep(0.05)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(NORMAL_CLIENTS):
            group.create_task(client(session))
    return waits
