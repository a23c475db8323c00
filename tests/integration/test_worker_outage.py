"""The edge's Worker while the service is dead: viewers have what there is, and never less than before."""

import asyncio
import contextlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.edge import encode
from broadcaster.hls import MediaPlaylist, parse
from tests.conformance.test_conformance import Encoder
from tests.integration.test_worker import text_at
from tests.support import length
from tests.support.fakes.edge_pushes import PLAYLIST, push_of, text_of
from tests.support.servers.odd_edge import KINDS, OddEdge
from tests.support.servers.service import running_service
from tests.support.servers.worker import Worker, running_worker
from tests.support.waiting import PATIENCE, eventually

DEAD = length.seconds(60, 4)  # seconds
EVICTIONS, RESTARTS = length.seconds(6, 1), length.seconds(3, 1)  # meanwhile
BACK_WITHIN = 1.0 if length.SOAK else PATIENCE  # seconds from an eviction to the first answer
PAUSE = 0.1  # seconds between two requests of who polls
PATHS = ("live/0/playlist.m3u8", "live/1/playlist.m3u8")
LARGE = 1000  # times 10,000 characters: more than what is on its way between two programs
SILENT = 30  # seconds without a push after which pages get an event


class Watchers:
    """Players and pages at an edge, and what they were answered."""

    def __init__(self, worker: Worker, session: aiohttp.ClientSession) -> None:
        self.answers: Counter[int] = Counter()  # by status
        self.polled: Counter[int] = Counter()  # of those who do not wait
        self.older: list[str] = []
        self.failed: list[str] = []
        self.events: list[list[object]] = []  # events, but the time
        self.newest = 0
        self._worker = worker
        self._session = session
        self._is_down = False

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Inside, there is nobody to be asked."""
        self._is_down = True
        yield
        self._is_down = False

    async def play(self, path: str, *, blocks: bool) -> None:
        """Follow a playlist until cancelled: a number that falls is noted."""
        last = 0
        while True:
            status, text = await self._get(f"{path}?_HLS_msn={last + 1}" if blocks and last else path)
            if status == 200:
                playlist = parse(text)
                assert isinstance(playlist, MediaPlaylist)
                if playlist.last < last:
                    self.older.append(f"{path}: {playlist.last} after {last}")
                last = playlist.last
                self.newest = max(self.newest, last)
            if not blocks and status:
                self.polled[status] += 1
            if status != 200 or not blocks:
                await asyncio.sleep(PAUSE)

    async def listen(self) -> None:
        """Follow events until cancelled: a serial that falls is noted."""
        serial: object = "now"
        while True:
            status, text = await self._get(f"live/events/{serial}")
            if status == 200:
                found = json.loads(text)
                if isinstance(serial, int) and found["serial"] <= serial:
                    self.older.append(f"events: {found['serial']} after {serial}")
                serial = found["serial"]
                self.events += [event for event in found["events"] if event[0] != "time"]
            else:
                await asyncio.sleep(PAUSE)

    async def _get(self, path: str) -> tuple[int, str]:
        try:
            async with self._session.get(f"{self._worker.address}/{path}") as response:
                text = await response.text()
                self.answers[response.status] += 1
                return response.status, text
        except (aiohttp.ClientError, ConnectionError) as error:
            if not self._is_down:
                self.failed.append(f"{path}: {error!r}")
            return 0, ""


async def first_answer(session: aiohttp.ClientSession, worker: Worker) -> float:
    """How many seconds from now it takes until a playlist is had."""
    begun = asyncio.get_running_loop().time()
    async with session.get(f"{worker.address}/{PATHS[0]}") as response:
        assert response.status == 200
        await response.read()
    return asyncio.get_running_loop().time() - begun


async def disturb(watchers: Watchers, worker: Worker, session: aiohttp.ClientSession) -> list[float]:
    """Throw the object out, and restart workerd, so often in the first half of the time.

    Returns how long it took each time until the state was back.
    """
    pause, times = DEAD / 2 / (EVICTIONS + RESTARTS), []
    for number in range(EVICTIONS + RESTARTS):
        await asyncio.sleep(pause)
        if number % 3 == 2 or number >= EVICTIONS:
            async with watchers.down():
                await worker.kill()
                await worker.start()
        else:
            await worker.evict()
        times.append(await first_answer(session, worker))
    await asyncio.sleep(DEAD / 2)  # requests are held for long enough to end by themselves
    return times


@pytest.mark.takes(20)
async def test_the_service_is_dead(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Ten watchers are always answered, and never with less, whatever becomes of the object meanwhile."""
    encoder = Encoder(tmp_path / "hls", variants=2)
    settings = {"BROADCASTER_TARGET_DURATION": "2"}
    async with (
        running_worker(tmp_path) as worker,
        running_service(tmp_path, tmp_path / "hls", bucket, **settings, **worker.settings) as service,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2)) as session,
        asyncio.TaskGroup() as group,
    ):
        encoder.start("first")
        encoder.write(5)
        await service.until_health(stream="live", chunks=10)
        watchers = Watchers(worker, session)
        await eventually(lambda: has(session, worker, 5))
        tasks = [
            group.create_task(watchers.play(path, blocks=blocks))
            for path in PATHS
            for blocks in (True, True, False, False)
        ]
        tasks += [group.create_task(watchers.listen()) for _ in range(2)]
        async with encoder.live():
            await eventually(lambda: watchers.newest >= 7)
            await service.kill()
            before, polled = watchers.newest, watchers.polled.total()
            times = await disturb(watchers, worker, session)
            assert watchers.polled.total() > polled
            if DEAD > 2 * SILENT - 1:
                assert watchers.events[-1][0] == "trouble"
            await service.start()
            await eventually(lambda: watchers.newest > before + 3)
            await eventually(lambda: state(session, worker), lambda found: found["trouble"] is None)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
    print(
        f"\n{DEAD} s: {watchers.answers.total()} answers {dict(watchers.answers)}, of those who poll "
        f"{dict(watchers.polled)}; back after {', '.join(f'{1000 * time:.0f}' for time in times)} ms"
    )
    assert watchers.older == []
    assert watchers.failed == []
    assert watchers.polled.keys() == {200}
    assert watchers.answers.keys() <= {200, 503}
    assert max(times) <= BACK_WITHIN


async def test_an_answer_that_has_begun_is_whole(tmp_path: Path) -> None:
    """A client that reads slowly gets all of a playlist, though the object is thrown out meanwhile."""
    text = "#EXTM3U\n" + LARGE * secrets.token_hex(5000)
    async with (
        running_worker(tmp_path) as worker,
        worker.client() as client,
        aiohttp.ClientSession(headers={"Accept-Encoding": "identity"}) as session,
    ):
        push = push_of(1, 1, texts={PLAYLIST: text_of(1, text)})
        assert (await client.push(encode(push))).is_taken
        async with session.get(f"{worker.address}/{PLAYLIST}") as response:
            await worker.evict()
            found = await response.text()
    assert len(found) == len(text)
    assert found == text


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_an_edge_that_does_not_work_delays_nothing(
    tmp_path: Path, bucket: SeaweedBucket, kind: str
) -> None:
    """While an edge hangs or refuses, segments are listed, and a push is never made beside another."""
    encoder = Encoder(tmp_path / "hls", variants=2)
    async with (
        OddEdge(kind).running() as edge,
        running_service(tmp_path, tmp_path / "hls", bucket, **edge.settings) as service,
    ):
        await eventually(lambda: edge.waiting + edge.answered)
        answered = edge.answered
        encoder.start("first")
        encoder.write(5)
        await service.until_health(stream="live", chunks=10, manifestChunks=10)
        assert kind != "hangs" or (edge.waiting, edge.answered) == (1, answered)
        status, text = await text_at(service.address, "live/1/playlist.m3u8")
        assert (status, text.count("#EXTINF")) == (200, 5)


async def has(session: aiohttp.ClientSession, worker: Worker, number: int) -> bool:
    """Whether all playlists at the edge have this number."""
    for path in PATHS:
        async with session.get(f"{worker.address}/{path}") as response:
            playlist = parse(await response.text()) if response.status == 200 else None
        if not isinstance(playlist, MediaPlaylist) or playlist.last < number:
            return False
    return True


async def state(session: aiohttp.ClientSession, worker: Worker) -> dict[str, object]:
    """The state that a new page gets."""
    async with session.get(f"{worker.address}/live/events/now") as response:
        found: dict[str, object] = (await response.json())["state"]
        return found
