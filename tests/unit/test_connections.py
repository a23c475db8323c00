"""Which connections are ended, and which are left alone."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from broadcaster.demo.children import poll
from broadcaster.web import listening
from broadcaster.web.connections import CONNECTIONS, SWEEP_EVERY, Connections

SIZE = 4_000_000  # bytes: far more than the kernel takes at once
TIMEOUT = 2.0  # seconds


class House:
    """A listener with one large answer in a file and one in memory; a client that may read slowly."""

    def __init__(self, folder: Path) -> None:
        self.registry = CollectorRegistry()
        self.address = ("", 0)
        (folder / "file").write_bytes(bytes(SIZE))
        (folder / "small").write_bytes(b"small")
        self.app = web.Application()
        connections = Connections(10, self.registry, stall_timeout=TIMEOUT, file_timeout=TIMEOUT)
        self.app[CONNECTIONS] = connections
        self.app.on_response_prepare.append(self._on_answer)
        self.app.router.add_get("/body", self._body)
        self.app.router.add_static("/", folder)

    async def ask(self, path: str) -> socket.socket:
        """Connect and send a request."""
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, self.address)
        await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client

    async def has_cut_one(self) -> bool:
        return self.stalled == 1 and self.open == 0

    @property
    def stalled(self) -> float:
        """How many were cut because they do not read."""
        name = "broadcaster_connections_cut_total"
        return self.registry.get_sample_value(name, {"reason": "stalled"}) or 0

    @property
    def open(self) -> float:
        """How many are there."""
        return self.registry.get_sample_value("broadcaster_connections") or 0

    async def _on_answer(self, request: web.Request, _: web.StreamResponse) -> None:
        self.app[CONNECTIONS].complete(request)

    async def _body(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(SIZE))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    async with listening(house.app, "127.0.0.1", 0, "TEST") as address:
        host, _, port = address.removeprefix("http://").rpartition(":")
        house.address = (host, int(port))
        yield house


@pytest.mark.parametrize("path", ["/file", "/body"])
async def test_who_does_not_read_loses_the_place(
    house: House, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the kernel sends a file; whoever connects next is served, and nothing is logged."""
    with caplog.at_level(logging.INFO), contextlib.closing(await house.ask(path)):
        async with asyncio.timeout(30):
            await poll(house.has_cut_one)
        await asyncio.sleep(2 * SWEEP_EVERY)  # its descriptor is given back, and to the next
        loop = asyncio.get_running_loop()
        for _ in range(3):
            with contextlib.closing(await house.ask("/small")) as next_one:
                answer = await asyncio.wait_for(loop.sock_recv(next_one, 100), 10)
                assert answer.startswith(b"HTTP/1.1 200")
    assert not caplog.records


async def test_who_reads_slowly_is_left_alone(house: House) -> None:
    """A large answer takes longer than a client may stall, while the buffer is full all the time."""
    loop, began = asyncio.get_running_loop(), time.monotonic()
    with contextlib.closing(await house.ask("/body")) as client:
        while time.monotonic() - began < 3 * TIMEOUT:
            assert await asyncio.wait_for(loop.sock_recv(client, 8192), 10)
            await asyncio.sleep(0.02)
        assert house.stalled == 0
        assert house.open == 1
