"""Two services under one prefix, frozen and killed: the bucket has the writes of one leader, in order."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.length import SOAK, seconds
from tests.support.servers.service import Service, running_service
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

TTL = 3  # seconds
EVERY = 0.5  # seconds between two segments
SETTINGS = {
    "BROADCASTER_MIRROR": "true",
    "BROADCASTER_LEASE_SECONDS": str(TTL),
}


@dataclass
class Watch:
    """What somebody sees who knows the bucket alone."""

    leases: list[int] = field(default_factory=list)  # epochs, in order
    epochs: list[int] = field(default_factory=list)  # of the playlist
    segments: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)

    def has_more(self, epochs: int) -> bool:
        return len(set(self.epochs)) > epochs

    async def run(self, bucket: SeaweedBucket) -> None:
        address = f"{bucket.public_url}/live/playlist.m3u8"
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{bucket.public_url}/live/owner.json") as response:
                    if response.status == 200:
                        self.leases.append(json.loads(await response.read())["epoch"])
                async with session.get(address) as response:
                    if response.status == 200:
                        self.epochs.append(int(response.headers["x-amz-meta-epoch"]))
                        playlist = parse(await response.text())
                        assert isinstance(playlist, MediaPlaylist)
                        await self.look_at(session, [urljoin(address, one.uri) for one in playlist.segments])
                await asyncio.sleep(0.1)

    async def look_at(self, session: aiohttp.ClientSession, found: list[str]) -> None:
        for uri in found:
            if uri not in self.segments:
                async with session.head(uri) as response:
                    self.segments.add(uri)
                    if response.status != 200:
                        self.missing.append(uri)


async def encode(writer: HlsWriter) -> None:
    """An encoder that is on until it is cancelled."""
    number = 0
    while True:
        writer.segment(number)
        number += 1
        writer.playlist(range(max(number - 6, 0), number))
        await asyncio.sleep(EVERY)


async def leads(service: Service) -> bool:
    """What the metric says; False of one that does not answer."""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session,
            session.get(f"{service.admin_address}/metrics") as response,
        ):
            families = text_string_to_metric_families(await response.text())
            values = {sample.name: sample.value for family in families for sample in family.samples}
            return values["broadcaster_leader"] == 1
    return False


@asynccontextmanager
async def two_services(tmp_path: Path, bucket: SeaweedBucket) -> AsyncIterator[list[Service]]:
    """Two services, each with an encoder and a state folder of its own."""
    async with asyncio.TaskGroup() as group:
        folders = [tmp_path / "a", tmp_path / "b"]
        encoders = [group.create_task(encode(HlsWriter(folder / "hls", folder.name))) for folder in folders]
        first, second = (running_service(folder, folder / "hls", bucket, **SETTINGS) for folder in folders)
        async with first as one, second as other:
            yield [one, other]
        for encoder in encoders:
            encoder.cancel()


@pytest.mark.takes(30)
async def test_one_leads(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Whoever is frozen or killed, another leads; who thaws changes nothing; all that is listed is there."""
    watch, chance = Watch(), random.Random(35)
    async with two_services(tmp_path, bucket) as services:
        watching = asyncio.create_task(watch.run(bucket))
        for episode in range(seconds(100, 2)):
            leader = await eventually(partial(one_of, services))
            assert leader
            other = services[1 - services.index(leader)]
            before = len(set(watch.epochs))
            if episode % 2:
                await leader.kill()
            else:
                suspend(leader.child)
            await eventually(partial(leads, other))
            await eventually(partial(watch.has_more, before))
            if episode % 2:
                await leader.start()
            else:
                if SOAK:
                    await asyncio.sleep(chance.uniform(0, 10))
                resume(leader.child)
                await leader.until_health(http=200)
                told = await eventually(leader.health, lambda health: health["warning"])
                assert "another broadcaster writes under live/" in str(told["warning"])
                assert await leads(other)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert watch.leases == sorted(watch.leases)
    assert watch.epochs == sorted(watch.epochs)
    assert len(set(watch.epochs)) > seconds(100, 2)
    assert watch.missing == []


async def one_of(services: list[Service]) -> Service | None:
    """Who leads, if it is one."""
    found = [service for service in services if await leads(service)]
    return found[0] if len(found) == 1 else None
