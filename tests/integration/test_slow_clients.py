"""Clients that do not finish their requests or do not read their answers, thousands at a time."""

import asyncio
import contextlib
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from broadcaster.demo.children import Child, free_ports, poll
from broadcaster.web import raise_file_limit
from tests.support import length

SECONDS = float(length.seconds(60, 20))
CLIENTS = 2000  # of each kind
SEGMENTS = 1800  # an hour: a full answer is far larger than the kernel's buffers
PATH = "/live/playlist.m3u8"
NORMAL_CLIENTS = 10
QUIET_SECONDS = 5.0
FLOOR = 0.003  # seconds; below that a p99 is the scheduler's
MEBIBYTE = 2**20


class SlowClients:
    """Sockets of this process; none of them has a task of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._readers: list[socket.socket] = []
        self._others: list[socket.socket] = []

    async def open(self, count: int, request: bytes, *, reading: bool) -> None:
        """Connect and send this much of a request."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            client = socket.socket()
            client.setblocking(False)
            if reading:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            await loop.sock_connect(client, ("127.0.0.1", self._port))
            with contextlib.suppress(OSError):
                client.send(request)
            (self._readers if reading else self._others).append(client)

    async def read_slowly(self) -> None:
        """One byte a second from each, until cancelled."""
        while True:
            for number, client in enumerate(self._readers):
                with contextlib.suppress(OSError):
                    client.recv(1)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(1)

    def close(self) -> None:
        """All of them leave."""
        for client in self._readers + self._others:
            client.close()


class Server:
    """What the test asks of the server."""

    def __init__(self, child: Child, port: int, admin_port: int) -> None:
        self.port = port
        self.process = psutil.Process(child.pid)
        self._admin_port = admin_port

    def memory(self) -> float:
        """Resident, MiB."""
        return float(self.process.memory_info().rss / MEBIBYTE)

    async def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels."""
        url = f"http://127.0.0.1:{self._admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            lines = (await response.text()).splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    async def p99(self, seconds: float) -> float:
        """Seconds that normal clients wait for a playlist."""
        waits: list[float] = []

        async def client(session: aiohttp.ClientSession) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.perf_counter()
                async with session.get(f"http://127.0.0.1:{self.port}{PATH}?_HLS_skip=YES") as response:
                    assert response.status == 200
                    await response.read()
                waits.append(time.perf_counter() - began)
                await asyncio.sleep(0.05)

        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for _ in range(NORMAL_CLIENTS):
                group.create_task(client(session))
        return statistics.quantiles(waits, n=100)[98]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    port, admin_port = free_ports(2)
    command = [sys.executable, "-m", "tests.support.site_server", str(port), str(admin_port), str(SEGMENTS)]
    child = await Child.start("the server", command, tmp_path / "server.log")
    found = Server(child, port, admin_port)

    async def answers() -> bool:
        try:
            return bool(await found.metrics())
        except aiohttp.ClientConnectionError:
            return False

    try:
        await child.until(poll(answers), within=30)
        yield found
    finally:
        await child.stop(grace=5)


@contextlib.asynccontextmanager
async def slow_clients(port: int) -> AsyncIterator[SlowClients]:
    clients = SlowClients(port)
    try:
        yield clients
    finally:
        clients.close()


async def test_slow_clients_take_nothing_from_the_others(server: Server) -> None:
    """Thousands never finish and thousands hardly read: the others wait no longer, memory is bounded."""
    assert raise_file_limit(2 * CLIENTS + 100) >= 2 * CLIENTS
    request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n".encode()
    await server.p99(1)  # whatever is made only once
    quiet, memory = await server.p99(QUIET_SECONDS), server.memory()
    async with slow_clients(server.port) as clients, asyncio.TaskGroup() as group:
        await clients.open(CLIENTS, request, reading=False)
        await clients.open(CLIENTS, request + b"\r\n", reading=True)
        reading = group.create_task(clients.read_slowly())
        crowded = await server.p99(SECONDS)
        metrics, growth = await server.metrics(), server.memory() - memory
        reading.cancel()
    cut = {
        name: metrics[f'broadcaster_connections_cut_total{{reason="{name}"}}']
        for name in ("unfinished", "stalled")
    }
    print(
        f"p99 {1000 * quiet:.1f} ms in quiet, {1000 * crowded:.1f} ms in the crowd; "
        f"{growth:.0f} MiB more; cut {cut}"
    )
    assert crowded <= 3 * max(quiet, FLOOR)
    assert growth < 250
    assert cut["unfinished"] == CLIENTS
    if length.SOAK:
        assert cut["stalled"] == CLIENTS
    assert await server.p99(1) > 0


async def test_a_full_house(server: Server) -> None:
    """More connections than there are places: the surplus is told so, those inside are served."""
    assert raise_file_limit(10_200) >= 10_100
    async with slow_clients(server.port) as clients:
        await clients.open(10_000 - 100, b"", reading=False)
        async with aiohttp.ClientSession() as inside:
            url = f"http://127.0.0.1:{server.port}{PATH}"
            async with inside.get(url) as response:
                assert response.status == 200
                await response.read()
            await clients.open(110, b"", reading=False)
            async with aiohttp.ClientSession() as outside, outside.get(url) as response:
                assert response.status == 503
                assert response.headers["Cache-Control"] == "no-store"
                assert response.headers["Retry-After"]
            async with inside.get(url) as response:
                assert response.status == 200
    assert (await server.metrics())['broadcaster_connections_cut_total{reason="full"}'] >= 1
