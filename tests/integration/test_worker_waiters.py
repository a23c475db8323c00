"""Requests that the edge's Worker holds: all are woken, with what they wait for, soon."""

import asyncio
import contextlib
import http.client
import json
import selectors
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from broadcaster.edge import encode
from broadcaster.http import raise_file_limit
from tests.support import length
from tests.support.fakes.edge_pushes import PLAYLIST, playlist, push_of
from tests.support.servers.edge import running_edge
from tests.support.servers.worker import BEHIND_NGINX, Worker, running_worker
from tests.support.waiting import PATIENCE, eventually

COUNTS = (200, 1000) if length.SOAK else (200,)
ROUNDS = length.seconds(9, 2)
RATIO = 2.0  # of the 99th percentile, to bare workerd
VIEWERS, VERSIONS = 200, length.seconds(40, 5)
EACH = 1.0  # seconds of a version
PER_VERSION = 1.1 if length.SOAK else 3.0  # requests at the Stage: who waits in vain asks once more


class Waiter:
    """A connection that stays open, with a request that waits; ``answer`` is its body once all has come."""

    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self.socket = socket.create_connection((url.hostname, url.port), timeout=PATIENCE)
        self.answer: bytes | None = None
        self._received = b""

    def ask(self, path: str) -> None:
        """Ask as a browser does that takes no compression."""
        self.answer, self._received = None, b""
        self.socket.setblocking(True)
        self.socket.sendall(f"GET /{path} HTTP/1.1\r\nHost: live.example.com\r\nAccept: */*\r\n\r\n".encode())
        self.socket.setblocking(False)

    def read(self) -> bool:
        """Read what has come; whether that was the last byte."""
        data = self.socket.recv(65_536)
        assert data, self._received
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and b"\r\ncontent-length:" in head.lower():
            size = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            self.answer = body if len(body) == size else None
        elif end and body.endswith(b"0\r\n\r\n"):
            self.answer = b"".join(_chunks(body))
        return self.answer is not None


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        yield body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


def sent(address: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
    """The body of the answer to a PUT, or a GET without a body."""
    connection = http.client.HTTPConnection(str(urlsplit(address).netloc), timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "PUT", path, body, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()


class Crowd:
    """``count`` requests that wait at a Worker; the first half for a playlist, the others for an event."""

    def __init__(self, worker: Worker, count: int, *, bare: bool) -> None:
        self.wrong = 0
        self._worker = worker
        self._bare = bare
        self._waiters = [Waiter(worker.address) for _ in range(count)]
        self._number = 0
        self._key = {"Authorization": f"Bearer {worker.key}", "Content-Encoding": "gzip"}
        if not bare:
            self._push()

    def close(self) -> None:
        """Close all connections."""
        for waiter in self._waiters:
            waiter.socket.close()

    def round(self) -> list[float]:
        """How many seconds after one more version each had its answer."""
        number = self._number + 1
        events = "" if self._bare else f"live/events/{self._serial()}"
        half = len(self._waiters) // 2
        for waiter in self._waiters[:half]:
            waiter.ask(f"{PLAYLIST}?_HLS_msn={number}")
        for waiter in self._waiters[half:]:
            waiter.ask(events)
        self._until_held()
        begun = time.monotonic()
        self._push()
        times = [end - begun for end in _ends(self._waiters)]
        for place, waiter in enumerate(self._waiters):
            self.wrong += not self._is_right(waiter.answer or b"", number, event=place >= half)
        return times

    def _is_right(self, answer: bytes, number: int, *, event: bool) -> bool:
        if self._bare or not event:
            return answer == playlist(number).encode()
        return bool(json.loads(answer)["events"] == [["title", {"title": f"number {number}"}]])

    def _push(self) -> None:
        self._number += 1
        if self._bare:
            sent(self._worker.address, "/", playlist(self._number).encode(), {})
        else:
            body = encode(push_of(self._number, self._number))
            sent(self._worker.address, "/origin/v1/view", body, self._key)

    def _serial(self) -> int:
        events = json.loads(sent(self._worker.address, "/live/events/now", None, {}))
        return int(events["serial"])

    def _until_held(self) -> None:
        path = "/held" if self._bare else "/origin/v1/view"
        deadline = time.monotonic() + PATIENCE
        while True:
            found = json.loads(sent(self._worker.address, path, None, {} if self._bare else self._key))
            held = found if self._bare else found["held"]
            if held == len(self._waiters):
                return
            assert time.monotonic() < deadline, held
            time.sleep(0.05)


def _ends(waiters: list[Waiter]) -> Iterator[float]:
    """When each had the last byte (monotonic)."""
    deadline, left = time.monotonic() + PATIENCE, len(waiters)
    with selectors.DefaultSelector() as selector:
        for waiter in waiters:
            selector.register(waiter.socket, selectors.EVENT_READ, waiter)
        while left:
            ready = selector.select(deadline - time.monotonic())
            assert ready, f"{left} have no answer"
            for key, _ in ready:
                if key.data.read():
                    selector.unregister(key.data.socket)
                    left -= 1
                    yield time.monotonic()


def p99(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100]


@pytest.mark.takes(10)
@pytest.mark.parametrize("count", COUNTS)
async def test_all_that_wait_are_woken(tmp_path: Path, count: int) -> None:
    """Each of hundreds of requests, without a cache before them, has the version that it waits for."""
    raise_file_limit(4 * count)
    async with running_worker(tmp_path) as worker, running_worker(tmp_path, bare=True) as bare:
        crowds = [Crowd(worker, count, bare=False), Crowd(bare, count, bare=True)]
        try:
            rounds = [[await asyncio.to_thread(crowd.round) for crowd in crowds] for _ in range(ROUNDS)]
        finally:
            for crowd in crowds:
                crowd.close()
        assert [crowd.wrong for crowd in crowds] == [0, 0]
    ours, theirs = ([p99(both[place]) for both in rounds] for place in (0, 1))
    ratio = statistics.median(delay / other for delay, other in zip(ours, theirs, strict=True))
    print(
        f"\n{count} waiters, p99 (median of {ROUNDS} rounds): {1000 * statistics.median(ours):.0f} ms, "
        f"bare workerd {1000 * statistics.median(theirs):.0f} ms, ratio {ratio:.2f}"
    )
    assert ratio <= RATIO or not length.SOAK


class Follower:
    """A player that waits for each version of the playlist, and a page that waits for each event."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self.last = self.newest = 0
        self._session = session
        self._address = address

    async def play(self) -> None:
        """Follow the playlist."""
        while self.last < VERSIONS:
            if text := await self._get(f"{PLAYLIST}?_HLS_msn={self.last + 1}"):
                self.last = int(text.split("MEDIA-SEQUENCE:")[1].split()[0]) + 2

    async def listen(self) -> None:
        """Follow the events."""
        serial: object = "now"
        while self.newest < VERSIONS:
            if text := await self._get(f"live/events/{serial}"):
                serial = json.loads(text)["serial"]
                titles = [data["title"] for name, data in json.loads(text)["events"] if name == "title"]
                self.newest = max([self.newest, *(int(title.split()[1]) for title in titles)])

    async def _get(self, path: str) -> str:
        async with self._session.get(f"{self._address}/{path}") as response:
            assert response.status in {200, 503}
            return await response.text() if response.status == 200 else ""


@pytest.mark.takes(15)
async def test_behind_a_cache_one_waits_for_all(tmp_path: Path) -> None:
    """Behind nginx, which collapses as Workers Cache does, the Stage sees one request of each version."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        running_worker(tmp_path) as worker,
        running_edge(tmp_path, worker.address, BEHIND_NGINX) as edge,
        worker.client() as client,
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(PATIENCE)) as session,
        asyncio.TaskGroup() as group,
    ):
        assert (await client.push(encode(push_of(1, 1)))).is_taken
        followers = [Follower(session, edge.address) for _ in range(VIEWERS)]
        for follower in followers:
            group.create_task(follower.play())
            group.create_task(follower.listen())
        for number in range(2, VERSIONS + 1):
            await until_reached(followers, number - 1)
            await eventually(client.status, lambda found: found.status.held == 2)
            await asyncio.sleep(EACH)
            assert (await client.push(encode(push_of(number, number)))).is_taken
        await until_reached(followers, VERSIONS)
        asked = await worker.asked()
    kinds = Counter[str]()
    for path, count in asked.items():
        kinds["playlists" if "_HLS_msn" in path else "events" if "/events/" in path else "others"] += count
    print(f"\n{VERSIONS} versions, {VIEWERS} viewers: requests at the Stage {dict(kinds)}")
    assert kinds["playlists"] <= PER_VERSION * VERSIONS
    assert kinds["events"] <= PER_VERSION * VERSIONS + 1  # the first of all asks for the state


async def until_reached(followers: list[Follower], number: int) -> None:
    """Wait until all have this version from an event; no event announces the first version."""
    await eventually(
        lambda: all(
            follower.last >= number and (follower.newest >= number or number == 1) for follower in followers
        )
    )
