"""What strangers say of how far they are behind costs no more than the operator allows."""

import asyncio
import itertools
import json
import re
from pathlib import Path

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.length import SOAK
from tests.support.servers.service import Service, running_service
from tests.support.servers.shared_bucket import client_of
from tests.support.waiting import eventually

PACKETS = 200
SIZE = PACKETS * len(PACKET)  # bytes of a segment
WINDOW = 6  # segments
KEPT = 8  # segments
MORE = 40  # segments after so many are kept


async def forge(service: Service) -> None:
    """Say again and again to be a week behind."""
    report = json.dumps({"seconds": 0, "viewer": "0123456789abcdef", "over": True, "behind": 604800.0})
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.post(f"{service.address}/live/beacon", data=report) as response:
                assert response.status in (204, 429)
            await asyncio.sleep(0.5)


async def write(writer: HlsWriter) -> None:
    """Write segments, more than a viewer sees, until cancelled."""
    for number in itertools.count():
        writer.segment(number, PACKETS)
        writer.playlist(range(max(0, number - 9), number + 1))
        await asyncio.sleep(0.1)


async def stored(bucket: SeaweedBucket) -> int:
    """Segments that the bucket has."""
    async with client_of(bucket) as client:
        found = await client.list_objects_v2(Bucket=bucket.bucket, Prefix="live/")
    return sum(item["Key"].endswith(".ts") for item in found.get("Contents", []))


async def playlist(url: str) -> str:
    """The text of a playlist; empty before there is a stream."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text() if response.ok else ""


async def listed(url: str) -> int:
    """Segments of a playlist."""
    return (await playlist(url)).count("#EXTINF")


async def first_listed(service: Service) -> int:
    """The media sequence number of the playlist."""
    found = re.search(r"MEDIA-SEQUENCE:(\d+)", await playlist(f"{service.address}/live/playlist.m3u8"))
    return int(found[1]) if found else 0


@pytest.mark.skipif(not SOAK, reason="make soak runs it: unit tests have forged reports")
@pytest.mark.takes(30)
async def test_storage_stays_under_the_cap(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """With nothing but forged reports so much is kept as the cap allows, and all else is deleted."""
    hls = tmp_path / "hls"
    settings = {
        "BROADCASTER_WINDOW_SEGMENTS": str(WINDOW),
        "BROADCASTER_RETENTION_MAX_SIZE": str((WINDOW + KEPT) * SIZE),
    }
    async with running_service(tmp_path, hls, bucket, **settings) as service, asyncio.TaskGroup() as group:
        forger = group.create_task(forge(service))
        writes = group.create_task(write(HlsWriter(hls / "0")))
        await eventually(lambda: stored(bucket), lambda found: found >= WINDOW + KEPT)
        begun = await first_listed(service)
        await eventually(lambda: first_listed(service), lambda first: first >= begun + MORE)
        writes.cancel()
        await eventually(lambda: stored(bucket), lambda found: found == WINDOW + KEPT)
        assert await listed(f"{service.address}/live/kept.m3u8") == WINDOW + KEPT
        assert await listed(f"{service.address}/live/playlist.m3u8") == WINDOW
        forger.cancel()
