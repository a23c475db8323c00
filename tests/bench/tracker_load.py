"""2,000 viewers at the tracker, each of whom announces every 20 s and answers what it is offered."""

import asyncio
import json
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import aiohttp
import psutil

from broadcaster.http import raise_file_limit
from broadcaster.tracker.protocol import info_hash, stream_index
from tests.bench.cores import CLIENT, free_port, run, this_process_on
from tests.bench.playlist_server import full_channel
from tests.bench.report import Figure, percentile, progress
from tests.support.fakes.webtorrent_clients import announce, answer, identifier

CLIENTS = 2000
INTERVAL = 20.0  # seconds, as the tracker says
MEASURED = INTERVAL
OFFERS = 5  # of an announce, as the client makes
SDP = (
    "v=0\r\n" + "a=candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host\r\n" * 25
)  # 1.5 KB, like a browser's
PATIENCE = 120.0  # seconds
SWARM = info_hash(full_channel().view.runs[-1], stream_index(None))  # the tracker serves no other


class Viewer:
    """One page, as far as the tracker knows it. ``replies`` are how long each took (seconds)."""

    def __init__(self, number: int, url: str, session: aiohttp.ClientSession) -> None:
        self.replies: list[float] = []
        self.answered = 0
        self._name = f"peer{number}"
        self._url = url
        self._session = session
        self._asked = 0.0
        self._chance = random.Random(number)
        self.joined = asyncio.Event()

    async def run(self) -> None:
        """Join at some time within the first interval; until cancelled."""
        await asyncio.sleep(self._chance.uniform(0, INTERVAL))
        async with self._session.ws_connect(self._url) as socket, asyncio.TaskGroup() as group:
            group.create_task(self._announce(socket))
            async for message in socket:
                await self._hear(socket, json.loads(message.data))
            raise RuntimeError(f"{self._name} was hung up on: {socket.close_code}")

    async def _announce(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            names = [f"{self._name}-{number}" for number in range(OFFERS)]
            offers = [
                {"offer": {"type": "offer", "sdp": SDP}, "offer_id": identifier(name)} for name in names
            ]
            text = announce(self._name, swarm=SWARM, offers=offers)
            self._asked = time.monotonic()
            await socket.send_str(text)
            await asyncio.sleep(INTERVAL)

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, message: dict[str, str]) -> None:
        if "interval" in message:
            self.replies.append(time.monotonic() - self._asked)
            self.joined.set()
        elif "offer" in message:
            offering, offer = message["peer_id"].rstrip("-"), message["offer_id"].rstrip("-")
            sdp = {"type": "answer", "sdp": SDP}
            await socket.send_str(answer(self._name, offering, offer, swarm=SWARM, answer=sdp))
        elif "answer" in message:
            self.answered += 1
        else:
            raise RuntimeError(f"the tracker refuses: {message}")


@dataclass(frozen=True)
class _Load:
    """What a server was asked, and what that took."""

    replies: list[float]  # seconds each
    answered: int  # offers
    memory: int  # bytes, of all viewers
    busy: float  # seconds of a core

    @property
    def cost(self) -> float:
        """Seconds of a core for one announce, with all that follows from it."""
        return self.busy / len(self.replies)


def measure() -> list[Figure]:
    """The tracker has one core, all viewers together the other; then a bare server in its place."""
    if raise_file_limit(CLIENTS) < CLIENTS:
        progress(f"tracker: {CLIENTS} connections are more than this system allows, left out")
        return []
    ours = _load("tests.bench.tracker_server")
    bare = _load("tests.bench.bare_server", "sockets")
    return [
        Figure(f"tracker with {CLIENTS} viewers: announces per second", len(ours.replies) / MEASURED, "/s"),
        Figure("tracker: offers answered per second", ours.answered / MEASURED, "/s"),
        Figure("tracker: announce to reply, median", 1000 * percentile(ours.replies, 0.5), "ms"),
        Figure("tracker: announce to reply, p99", 1000 * percentile(ours.replies, 0.99), "ms"),
        Figure("bare sockets: announce to reply, p99", 1000 * percentile(bare.replies, 0.99), "ms"),
        Figure("tracker: memory of a viewer", ours.memory / CLIENTS / 1024, "KiB", at_most=64),
        Figure("tracker: share of a core", 100 * ours.busy / MEASURED, "%"),
        Figure("tracker: CPU of an announce, ratio to bare sockets", ours.cost / bare.cost, at_most=2),
    ]


def _load(module: str, *arguments: str) -> _Load:
    with ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", module, *arguments, str(port), str(CLIENTS)]
        server = run(stack, command, port)
        stack.enter_context(this_process_on(CLIENT))
        return asyncio.run(_watch(f"ws://127.0.0.1:{port}/live/tracker", psutil.Process(server.pid)))


async def _watch(url: str, server: psutil.Process) -> _Load:
    memory = server.memory_info().rss
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        viewers = [Viewer(number, url, session) for number in range(CLIENTS)]
        tasks = [group.create_task(viewer.run()) for viewer in viewers]
        progress(f"tracker: {CLIENTS} viewers join within {INTERVAL:.0f} s")
        async with asyncio.timeout(INTERVAL + PATIENCE):
            await asyncio.gather(*(viewer.joined.wait() for viewer in viewers))
        for viewer in viewers:
            viewer.replies.clear()
            viewer.answered = 0
        busy = sum(server.cpu_times()[:2])
        progress(f"tracker: {MEASURED:.0f} s of announces")
        await asyncio.sleep(MEASURED)
        load = _Load(
            replies=[reply for viewer in viewers for reply in viewer.replies],
            answered=sum(viewer.answered for viewer in viewers),
            memory=server.memory_info().rss - memory,
            busy=sum(server.cpu_times()[:2]) - busy,
        )
        for task in tasks:
            task.cancel()
    if not load.replies or not load.answered:
        raise RuntimeError("no offer was answered: nothing is measured")
    return load
