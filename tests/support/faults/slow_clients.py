"""Clients that do not finish their requests or do not read their answers, thousands at a time."""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil

from broadcaster.demo.processes import Child, free_ports, poll

SEGMENTS = 1800  # an hour
PATH = "/live/playlist.m3u8"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n".encode()  # without its end
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

    async def until_answered(self) -> None:
        """Wait until the first byte of each answer is there; no more is read."""
        loop = asyncio.get_running_loop()
        for client in self._readers:
            assert await loop.sock_recv(client, 1)

    def leave(self, count: int) -> None:
        """Close so many of those that wait for answers."""
        for _ in range(count):
            self._readers.pop().close()

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


class CrowdedServer:
    """The site with an hour's window: a full answer is far larger than the kernel's buffers."""

    def __init__(self, child: Child, port: int, admin_port: int) -> None:
        self.port = port
        self.process = psutil.Process(child.pid)
        self._admin_port = admin_port

    async def ask(self, session: aiohttp.ClientSession) -> float:
        """Be a client like all others; returns how long it took, in seconds."""
        began = time.perf_counter()
        async with session.get(f"http://127.0.0.1:{self.port}{PATH}?_HLS_skip=YES") as response:
            assert response.status == 200
            await response.read()
        return time.perf_counter() - began

    def memory(self) -> float:
        """Resident, MiB."""
        return float(self.process.memory_info().rss / MEBIBYTE)

    async def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels."""
        url = f"http://127.0.0.1:{self._admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            lines = (await response.text()).splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


@contextlib.asynccontextmanager
async def crowded_server(folder: Path, places: int) -> AsyncIterator[CrowdedServer]:
    """A process of its own that answers, with places for so many connections."""
    port, admin_port = free_ports(2)
    numbers = map(str, (port, admin_port, SEGMENTS, places))
    command = [sys.executable, "-m", "tests.support.servers.viewer_app_server", *numbers]
    child = await Child.start("the server", command, folder / "server.log")
    found = CrowdedServer(child, port, admin_port)

    async def answers() -> bool:
        try:
            return bool(await found.metrics())
        except aiohttp.ClientConnectionError:
            return False

    try:
        await child.until(poll(answers), within=120)
        yield found
    finally:
        await child.stop(grace=60)


@contextlib.asynccontextmanager
async def slow_clients(port: int) -> AsyncIterator[SlowClients]:
    clients = SlowClients(port)
    try:
        yield clients
    finally:
        clients.close()
