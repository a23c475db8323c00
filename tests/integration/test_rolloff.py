"""What has left the playlists leaves the bucket, but not before players are done with it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.length import SOAK
from tests.support.servers.end_to_end import end_to_end
from tests.support.waiting import eventually


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit/upload has the deleter's times")
@pytest.mark.takes(30)
async def test_objects_go_after_their_availability_time(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A segment can be read for the longest playlist's duration after its removal, and is gone later."""
    async with end_to_end(
        tmp_path,
        bucket,
        segment_seconds=1,
        patient=True,
        BROADCASTER_RETENTION="window",
        BROADCASTER_RETENTION_MAX_MINUTES="0",
        BROADCASTER_WINDOW_SEGMENTS="6",
    ) as on:
        await on.owncast.go_live()
        await on.watcher.until_number("0", 1)
        first = on.watcher.listed["0", 1]
        async with aiohttp.ClientSession() as session:
            listed = await last_listed(session, f"{on.service.address}/live/0/playlist.m3u8", first)
            await until_gone(session, first)
            stayed = timedelta(seconds=asyncio.get_running_loop().time() - listed)
            assert stayed > timedelta(seconds=6.5)  # six segments and its own duration, hardly less
            await on.service.kill()
            await on.service.start()
            await on.watcher.until_number("0", on.watcher.last("0") + 1)
            await until_gone(session, on.watcher.versions["0"][-1].segments[0].uri)
        assert on.watcher.missing == []
        assert on.watcher.violations == []


async def last_listed(session: aiohttp.ClientSession, playlist: str, url: str) -> float:
    """Wait until a segment is no longer listed; returns when it surely was (the loop's time)."""
    listed = 0.0

    async def is_listed() -> bool:
        nonlocal listed
        asked = asyncio.get_running_loop().time()
        async with session.get(playlist) as response:
            found = url in await response.text()
        listed = asked if found else listed
        return found

    await eventually(is_listed, lambda found: not found)
    assert listed
    return listed


async def until_gone(session: aiohttp.ClientSession, url: str) -> None:
    async def gone() -> bool:
        async with session.head(url) as response:
            assert response.status in (200, 404)
            return response.status == 404

    await eventually(gone)
