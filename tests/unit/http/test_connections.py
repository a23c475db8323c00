"""Which connections are closed and which stay open, with a clock that the tests set."""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from broadcaster.http import listening
from broadcaster.http.connections import (
    CONNECTIONS,
    FILE_TIMEOUT,
    REQUEST_TIMEOUT,
    STALL_TIMEOUT,
    BodyGatherer,
    Connections,
)
from broadcaster.http.server import KEEPALIVE_TIMEOUT
from broadcaster.metrics import MetricsCollector
from broadcaster.tracker.tracker import Tracker
from tests.support.fakes.viewer_app import ViewerApp
from tests.support.fakes.webtorrent_clients import announce
from tests.support.servers.edge import CONFIGURATION
from tests.support.waiting import changes, eventually

SIZE = 4_000_000  # bytes: far more than the kernel takes at once
PORTION = 200_000  # bytes: more than the kernel holds, so that some of the rest comes after
SWEEP = 0.01  # seconds between two looks at the connections; it is they who see what the clock says


class Clock:
    """In the place of the module ``time``, for the connections alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = asyncio.Semaphore(0)

    def monotonic(self) -> float:
        self.asked.release()
        return self.now

    async def looks(self, count: int = 3) -> None:
        """Wait until somebody has looked at the time so often, from now on."""
        self.asked = asyncio.Semaphore(0)
        async with asyncio.timeout(60):
            for _ in range(count):
                await self.asked.acquire()


class House:
    """A listener with a large answer in a file and one in memory."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        self.registry = CollectorRegistry()
        self.address = ("", 0)
        self.answers = asyncio.Event()
        (folder / "file").write_bytes(bytes(SIZE))
        (folder / "small").write_bytes(b"small")
        self.app = web.Application()
        self.app[CONNECTIONS] = Connections(10)
        self.registry.register(MetricsCollector(self.app[CONNECTIONS].metrics))
        self.app.on_response_prepare.append(self._on_answer)
        self.app.router.add_get("/body", self._body)
        self.answered: list[str] = []  # what follows /asked/ in the requests
        self.app.router.add_get("/asked/{name}", self._asked)
        self.app.router.add_static("/", folder)

    async def ask(self, path: str, end: str = "\r\n") -> socket.socket:
        """Connect and send a request, which ``end`` completes."""
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, self.address)
        await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n{end}".encode())
        return client

    async def until_cut(self, reason: str) -> float:
        """Let time pass until the open connection is ended; returns for how long it was left alone."""
        began = self.clock.now
        while self.open:
            self.clock.now += 5.0
            await self.clock.looks(1)
        assert self.cut(reason) == 1
        return self.clock.now - began

    def cut(self, reason: str) -> float:
        """How many were ended for that reason."""
        return self.registry.get_sample_value("broadcaster_connections_cut_total", {"reason": reason}) or 0

    @property
    def open(self) -> float:
        """How many are there."""
        return self.registry.get_sample_value("broadcaster_connections") or 0

    async def is_entered(self) -> bool:
        return self.open == 1

    async def _on_answer(self, request: web.Request, _: web.StreamResponse) -> None:
        self.app[CONNECTIONS].complete(request)
        self.answers.set()

    async def _asked(self, request: web.Request) -> web.Response:
        self.answered.append(request.match_info["name"])
        return web.Response()

    async def _body(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(SIZE))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("broadcaster.http.connections.time", clock)
    monkeypatch.setattr("broadcaster.http.connections.SWEEP_EVERY", SWEEP)
    return clock


@pytest.fixture
async def house(tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    house = House(tmp_path, clock)
    async with listening(house.app, "127.0.0.1", 0, "TEST") as address:
        host, _, port = address.removeprefix("http://").rpartition(":")
        house.address = (host, int(port))
        yield house


@pytest.mark.parametrize(("path", "patience"), [("/file", FILE_TIMEOUT), ("/body", STALL_TIMEOUT)])
async def test_a_client_that_does_not_read_is_closed(
    house: House, path: str, patience: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while the kernel sends a file; the next connection is served, and nothing is logged."""
    with caplog.at_level(logging.INFO), contextlib.closing(await house.ask(path)):
        await house.answers.wait()  # until then it may be cut for a request that takes too long
        assert await house.until_cut("stalled") > patience
        await house.clock.looks()  # its descriptor is given back, and to the next
        loop = asyncio.get_running_loop()
        for _ in range(3):
            with contextlib.closing(await house.ask("/small")) as next_one:
                answer = await asyncio.wait_for(loop.sock_recv(next_one, 100), 60)
                assert answer.startswith(b"HTTP/1.1 200")
    assert not caplog.records


async def test_a_slow_reader_stays_connected(house: House) -> None:
    """A large answer takes longer than a client may stall, while the buffer is full all the time."""
    loop = asyncio.get_running_loop()
    with contextlib.closing(await house.ask("/body")) as client:
        for _ in range(10):
            left = PORTION
            while left > 0:
                received = await asyncio.wait_for(loop.sock_recv(client, left), 60)
                assert received
                left -= len(received)
            await house.clock.looks()
            house.clock.now += 0.6 * STALL_TIMEOUT
            await house.clock.looks()
        assert house.cut("stalled") == 0
        assert house.open == 1


async def test_an_unfinished_request_is_closed(house: House) -> None:
    """Half a request keeps its connection for a limited time."""
    with contextlib.closing(await house.ask("/small", end="")):
        await eventually(house.is_entered)
        assert await house.until_cut("unfinished") > REQUEST_TIMEOUT


async def test_a_body_after_the_answer_is_no_other_request(house: House) -> None:
    """A proxy may keep a connection whose request was answered before its body had come."""
    loop = asyncio.get_running_loop()
    with contextlib.closing(await house.ask("/small", end="Content-Length: 5\r\n\r\n")) as client:
        assert b"200 OK" in await asyncio.wait_for(loop.sock_recv(client, 1000), 60)
        await loop.sock_sendall(client, b"12345")
        await house.clock.looks()
        house.clock.now += 2 * REQUEST_TIMEOUT
        await house.clock.looks()
        assert house.cut("unfinished") == 0
        assert house.open == 1
        await loop.sock_sendall(client, b"GET")
        assert await house.until_cut("unfinished") > REQUEST_TIMEOUT


def test_proxies_close_connections_first() -> None:
    """Else a proxy may send a report on a connection that is closed just now, and a viewer gets 502."""
    (found,) = re.findall(r"keepalive_timeout (\d+)s;", CONFIGURATION.read_text())
    assert 2 * int(found) <= KEEPALIVE_TIMEOUT


async def test_a_silent_websocket_stays_connected(tmp_path: Path, clock: Clock) -> None:
    """A viewer that sends the tracker nothing for hours keeps the connection."""
    site = ViewerApp(tmp_path, tracker=Tracker())
    site.go_live("0")
    async with (
        listening(site.app, "127.0.0.1", 0, "TEST") as address,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address}/live/tracker") as viewer,
    ):
        await viewer.send_str(announce("a"))
        await viewer.receive_str(timeout=60)
        for _ in range(3):
            clock.now += 3600
            await clock.looks()
        assert 'broadcaster_connections_cut_total{reason="unfinished"} 0.0' in site.metrics()
        assert "broadcaster_connections 1.0" in site.metrics()


async def test_requests_at_once(house: House) -> None:
    """A client that sends many requests before it reads an answer gets all answers once it reads."""
    count, loop = 200, asyncio.get_running_loop()
    client = await house.ask("/body")
    with contextlib.closing(client):
        await loop.sock_sendall(client, count * b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
        read, small = 0, b""
        while small.count(b"\r\n\r\nsmall") < count:
            piece = await asyncio.wait_for(loop.sock_recv(client, 65_536), 60)
            assert piece
            read += len(piece)
            small = (small + piece)[-count * 1000 :]
        assert read > SIZE


async def test_requests_at_once_of_many_clients(house: House) -> None:
    """A client with one request does not wait for those that many other clients have sent at once."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        newcomer = stack.enter_context(contextlib.closing(await house.ask("/asked/first")))
        others = [stack.enter_context(contextlib.closing(await house.ask("/asked/old"))) for _ in range(8)]
        await eventually(lambda: len(house.answered) == 9)
        for other in others:
            await loop.sock_sendall(other, 50 * b"GET /asked/old HTTP/1.1\r\nHost: x\r\n\r\n")
        await changes(house.answers, lambda: len(house.answered) >= 60)
        before = len(house.answered)
        await loop.sock_sendall(newcomer, b"GET /asked/new HTTP/1.1\r\nHost: x\r\n\r\n")
        await changes(house.answers, lambda: "new" in house.answered)
    assert house.answered.index("new") - before <= 3


async def test_large_header_fields(house: House) -> None:
    """Header fields that are large together are refused, and later data is not read."""
    fields = "".join(f"X-{number}: {'x' * 4000}\r\n" for number in range(10))
    client = await house.ask("/small", fields + "\r\nGET /small HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.closing(client):
        answer = b""
        while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 65_536), 60):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_the_end_of_a_segment_is_expected() -> None:
    """Near its expected end it is looked at often, far from it seldom; without an expectation, in between."""
    bodies = BodyGatherer()
    assert [round(bodies.pause(elapsed), 4) for elapsed in (0, 0.02, 0.05, 9)] == [0.001, 0.002, 0.005, 0.01]
    bodies.note(2.0)
    assert bodies.pause(1) == 0.01  # it may have been an exception
    for took in (2.1, 0.01):  # what is sent at once, such as a playlist, is as before
        bodies.note(took)
        expected = [0.01, 0.08, 0.1, 0.075, 0.001, 0.1]
        assert [round(bodies.pause(elapsed), 4) for elapsed in (0, 0.04, 1, 2, 2.1, 3)] == expected
    bodies.note(4.0)
    assert bodies.pause(1) == 0.01
