"""The bucket alone serves a stream, and what it serves keeps every rule, whatever happens to the writes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from enum import StrEnum
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.watcher import Watcher, watching
from tests.support.length import SOAK
from tests.support.servers.end_to_end import VARIANTS, taken_in
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

KEY = "live/0/playlist.m3u8"


async def metrics(service: Service) -> dict[str, float]:
    """Every metric, by its name and the values of its labels."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.admin_address}/metrics") as response,
    ):
        families = text_string_to_metric_families(await response.text())
    samples = [sample for family in families for sample in family.samples]
    return {" ".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


async def read(url: str) -> MediaPlaylist:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        playlist = parse(await response.text())
    assert isinstance(playlist, MediaPlaylist)
    return playlist


@asynccontextmanager
async def on_air(
    tmp_path: Path, bucket: SeaweedBucket, **settings: str
) -> AsyncIterator[tuple[SimulatedOwncast, Service, Watcher]]:
    """A stream of 1-second segments, and a viewer who knows the bucket alone."""
    settings = {
        "BROADCASTER_MIRROR": "true",
        "BROADCASTER_WINDOW_SEGMENTS": "6",
        "BROADCASTER_END_GRACE_SECONDS": "10",
        **settings,
    }
    async with (
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", idle_overlap=0) as owncast,
        running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service,
        watching(bucket.public_url) as watcher,
    ):
        await owncast.go_live()
        await watcher.until_number("0", 3)
        yield owncast, service, watcher
        assert watcher.violations == []
        assert watcher.missing == []


@pytest.mark.takes(30)
async def test_a_stream_without_the_service(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """From the first segment to the end, past retention and over a crash, nobody need ask the service."""
    async with on_air(tmp_path, bucket) as (owncast, service, watcher):
        found = await eventually(
            lambda: metrics(service), lambda found: found["broadcaster_deleted_objects_total"] > 0, within=180
        )
        assert found["broadcaster_mirror_writes_total done"] > 10
        assert found["broadcaster_mirror_writes_total failed"] == 0
        asked = [name for name in found if name.startswith("broadcaster_requests_total ")]
        assert asked == []

        await service.kill()
        await owncast.wait_for_segments(watcher.last("0") + 2)
        await service.start()
        await watcher.until_number("0", watcher.last("0") + 3)

        await owncast.stop_streaming()
        await taken_in(owncast, bucket.public_url)
        await watcher.until_ended("0")
        await watcher.until_ended("1")
        original = await read(f"{service.address}/live/0/playlist.m3u8")
        copy = await read(f"{bucket.public_url}/{KEY}")
        assert copy.segments == original.segments
        assert copy.server_control
        assert not copy.server_control.can_block_reload
        assert await service.stop() == 0
        assert (await read(f"{bucket.public_url}/{KEY}")).ended
        assert "playlists cannot be written" not in service.log.read_text()


async def test_the_end_of_the_service_takes_the_newest_along(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """After SIGTERM the bucket's playlists list the last segment that was published."""
    async with on_air(tmp_path, bucket) as (owncast, service, _):
        assert await service.stop() == 0
        copies = [await read(f"{bucket.public_url}/live/{variant}/playlist.m3u8") for variant in VARIANTS]
        await owncast.stop_streaming()
        with closing(sqlite3.connect(tmp_path / "state" / "journal.db")) as catalog:
            rows = catalog.execute("SELECT next_media_sequence FROM playlists ORDER BY variant").fetchall()
        assert [copy.last + 1 for copy in copies] == [number for (number,) in rows]


class Way(StrEnum):
    """What becomes of a playlist on its way to the bucket."""

    THROUGH = "through"
    REFUSED = "refused"  # as R2 does when one key is written too often
    UNANSWERED = "unanswered"  # the bucket has it, but nobody says so
    HELD = "held"  # it reaches the bucket later, when its sender has given up


class PlaylistProxy:
    """Stands between the service and its bucket at ``url``, and does to playlists what ``way`` says."""

    def __init__(self, bucket: SeaweedBucket) -> None:
        self.way = Way.THROUGH
        self.url = ""
        self._bucket = bucket.endpoint_url
        self._held: list[tuple[web.BaseRequest, bytes]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        runner = web.ServerRunner(web.Server(self._answer), handler_cancellation=True, shutdown_timeout=0.1)
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            try:
                yield self
            finally:
                await runner.cleanup()

    async def let_go(self) -> list[int]:
        """Send on what was held; returns the status of the bucket's answers."""
        answers = [await self._send(request, body) for request, body in self._held]
        self._held.clear()
        return [answer.status for answer in answers]

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        if request.method != "PUT" or not request.path.endswith(".m3u8") or self.way is Way.THROUGH:
            return await self._send(request, body)
        if self.way is Way.REFUSED:
            error = "<Error><Code>TooManyRequests</Code></Error>"
            return web.Response(status=429, text=error, content_type="application/xml")
        if self.way is Way.UNANSWERED:
            await self._send(request, body)
        else:
            self._held.append((request, body))
        await asyncio.Event().wait()  # until the client has gone
        raise AssertionError

    async def _send(self, request: web.BaseRequest, body: bytes) -> web.Response:
        url = URL(self._bucket + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, headers=request.headers, data=body) as answer:
            headers = answer.headers.copy()
            for name in ("Transfer-Encoding", "Content-Length", "Date", "Server"):
                headers.popall(name, None)
            return web.Response(status=answer.status, headers=headers, body=await answer.read())


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit has writes that fail")
@pytest.mark.takes(45)
async def test_writes_that_do_not_get_through(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Segments are published all the while; an older playlist never comes back, and the last one arrives."""
    ways = [Way.REFUSED, Way.UNANSWERED, Way.HELD]
    async with (
        PlaylistProxy(bucket).open() as proxy,
        on_air(tmp_path, bucket, R2_ENDPOINT_URL=proxy.url) as (owncast, service, watcher),
    ):
        for way in ways:
            await disturb(proxy, service, watcher, way)
        assert set(await proxy.let_go()) == {412}
        await owncast.stop_streaming()
        await taken_in(owncast, bucket.public_url)
        await watcher.until_ended("0", within=120)
        await watcher.until_ended("1", within=120)
        log = service.log.read_text()
        assert " writes of playlists fail since " in log
        assert log.count(" writes of playlists work again") == len(ways)
        assert "uploads fail" not in log


async def disturb(proxy: PlaylistProxy, service: Service, watcher: Watcher, way: Way) -> None:
    """Let no playlist through for a while; afterwards the bucket has what was published meanwhile."""
    failed = (await metrics(service))["broadcaster_mirror_writes_total failed"]
    proxy.way = way
    await eventually(
        lambda: metrics(service),
        lambda found: found["broadcaster_mirror_writes_total failed"] >= failed + 3,
        within=180,
    )
    health = await service.health()
    assert "playlists cannot be written into the bucket" in str(health["warning"])

    ours = await eventually(
        lambda: read(f"{service.address}/live/0/playlist.m3u8"),
        lambda ours: way is Way.UNANSWERED or ours.last > watcher.last("0") + 2,
    )
    proxy.way = Way.THROUGH
    await watcher.until_number("0", ours.last + 1, within=120)
    await watcher.until_number("1", ours.last + 1, within=120)
