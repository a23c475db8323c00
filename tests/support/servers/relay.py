"""A relay, in this process or in one of its own, and who plays what it serves."""

import asyncio
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from broadcaster.demo.processes import HOST, find_program, free_ports, poll
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.relay import RelayOptions, relay
from tests.support.judges.watcher import Watcher
from tests.support.servers.prepared import start_broadcaster
from tests.support.waiting import PATIENCE, eventually

VIEWER = Path(__file__).resolve().parents[3] / "viewer" / "dist"


class Relayed:
    """A relay in this process, as a viewer meets it at ``address`` and the operator at ``admin``."""

    def __init__(self, address: str, admin: str, session: aiohttp.ClientSession) -> None:
        self.address = address
        self.admin = admin
        self.session = session

    async def get(self, path: str, **options: Any) -> tuple[aiohttp.ClientResponse, bytes]:  # noqa: ANN401
        """What is there."""
        async with self.session.get(URL(self.address).join(URL(path, encoded=True)), **options) as response:
            return response, await response.read()

    async def media(self, variant: str = "0", query: str = "") -> MediaPlaylist:
        """A variant's playlist."""
        response, body = await self.get(f"/live/{variant}/playlist.m3u8{query}")
        assert response.status == 200, body
        found = parse(body.decode())
        assert isinstance(found, MediaPlaylist)
        return found

    async def until_last(self, number: int, variant: str = "0") -> MediaPlaylist:
        """Wait until a segment of this number is listed."""

        async def listed() -> MediaPlaylist | None:
            response, body = await self.get(f"/live/{variant}/playlist.m3u8")
            found = parse(body.decode()) if response.status == 200 else None
            assert found is None or isinstance(found, MediaPlaylist)
            return found

        found = await eventually(listed, lambda found: found and found.last >= number)
        assert found
        return found

    async def health(self) -> dict[str, Any]:
        """As the operator sees it."""
        async with self.session.get(f"{self.admin}/health") as response:
            return {**await response.json(), "http": response.status}

    async def metrics(self) -> dict[str, float]:
        """By name and labels."""
        async with self.session.get(f"{self.admin}/metrics") as response:
            lines = [line.rpartition(" ") for line in (await response.text()).splitlines() if line[:1] != "#"]
        return {name: float(value) for name, _, value in lines}

    async def until_event(self, *names: str, **what: object) -> None:
        """Wait until pages get an event of one of these names."""
        async with asyncio.timeout(PATIENCE), self.session.get(self.address + "/live/events") as response:
            event = ""
            async for line in response.content:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                event = value if field == "event" else event
                if field == "data" and event in names and what.items() <= json.loads(value).items():
                    return

    @property
    def host(self) -> tuple[str, int]:
        """Where to connect."""
        url = URL(self.address)
        return str(url.host), int(url.port or 80)


class Client:
    """Plays a variant as a player does that blocks; ``had`` is when (monotonic) it had each segment whole.

    ``where`` says where it fetches what is listed under an address.
    """

    def __init__(self, relayed: Relayed, variant: str, where: Callable[[str], str] = str) -> None:
        self.had: dict[int, float] = {}
        self.sizes: dict[int, int] = {}
        self.refused: list[int] = []
        self._relayed = relayed
        self._path = f"/live/{variant}/playlist.m3u8"
        self._where = where

    async def play(self, last: int | None = None) -> None:
        """Fetch everything up to that number, or until cancelled."""
        seen = 0
        while last is None or seen < last:
            response, body = await self._relayed.get(
                f"{self._path}?_HLS_msn={seen + 1}" if seen else self._path
            )
            if response.status != 200:  # nothing new has come in time
                continue
            playlist = parse(body.decode())
            assert isinstance(playlist, MediaPlaylist)
            for number, segment in enumerate(playlist.segments, playlist.media_sequence):
                if number > seen:
                    await self._fetch(number, segment.uri)
            seen = playlist.last

    async def _fetch(self, number: int, uri: str) -> None:
        response, body = await self._relayed.get(self._where(uri))
        if response.status == 200:
            self.had[number], self.sizes[number] = time.monotonic(), len(body)
        else:
            self.refused.append(response.status)


class RelayWatcher(Watcher):
    """A strict viewer of a relay. It reads what is listed, again and again while the origin does not give it.

    ``digests`` are of what it has read, by the name of its file.
    """

    def __init__(self, relayed: Relayed) -> None:
        super().__init__(relayed.address, patient=True)
        self.digests: defaultdict[str, set[str]] = defaultdict(set)
        self._relayed = relayed
        self._read: set[str] = set()

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> None:  # noqa: ARG002 - as its base has it
        while url not in self._read:
            response, body = await self._relayed.get(url)
            if response.status == 200:
                self._read.add(url)
                self.digests[url.rpartition("/")[2]].add(hashlib.sha256(body).hexdigest())
            elif response.status != 503:
                self.missing.append(f"{url}: {response.status}")
                return


@asynccontextmanager
async def watching_relay(folder: Path, origin: str) -> AsyncIterator[RelayWatcher]:
    """A watcher at work at a relay of this origin."""
    async with relay_process(folder, origin) as relayed, asyncio.TaskGroup() as group:
        watcher = RelayWatcher(relayed)
        task = group.create_task(watcher.run())
        yield watcher
        task.cancel()


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout, connector = aiohttp.ClientTimeout(PATIENCE), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield session


@asynccontextmanager
async def relaying(origin: str, **options: Any) -> AsyncIterator[Relayed]:  # noqa: ANN401 - of RelayOptions
    """A relay of this origin."""
    ready: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    chosen = RelayOptions(origin, (HOST, 0), (HOST, 0), viewer=Path("none"), **options)
    async with asyncio.TaskGroup() as group:
        group.create_task(relay(chosen, stop, lambda *addresses: ready.set_result(addresses)))
        async with _session() as session:
            yield Relayed(*await ready, session)
        stop.set()


@asynccontextmanager
async def relayed_at(port: int, admin_port: int) -> AsyncIterator[Relayed]:
    """One that runs already."""
    async with _session() as session:
        yield Relayed(f"http://{HOST}:{port}", f"http://{HOST}:{admin_port}", session)


@asynccontextmanager
async def relay_process(folder: Path, origin: str, *options: str) -> AsyncIterator[Relayed]:
    """``broadcaster relay`` with the page, in a process of its own."""
    port, admin_port = free_ports(2)
    listen, admin = f"{HOST}:{port}", f"{HOST}:{admin_port}"
    command = [find_program("broadcaster"), "relay", origin, "--listen", listen, "--admin", admin]
    command += ["--viewer", str(VIEWER), "--cache", str(folder / "relay-cache"), *options]
    child = await start_broadcaster(command, folder / "relay.log", {"SSL_CERT_FILE": os.devnull}, "relay")
    async with relayed_at(port, admin_port) as relayed:

        async def answers() -> bool:
            try:
                return bool(await relayed.health())
            except aiohttp.ClientConnectionError:
                return False

        try:
            await child.until(poll(answers), within=PATIENCE)
            yield relayed
        finally:
            assert await child.stop(grace=PATIENCE) == 0
