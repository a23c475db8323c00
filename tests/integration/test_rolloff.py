"""What has left the playlists leaves the bucket, but not before players are done with it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.stage import stage


async def test_objects_go_after_their_availability_time(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """A segment can be read for the longest playlist's duration after its removal, and is gone later."""
    async with stage(
        tmp_path,
        bucket,
        segment_seconds=1,
        patient=True,
        BROADCASTER_RETENTION="window",
        BROADCASTER_WINDOW_SEGMENTS="6",
    ) as on:
        await on.owncast.go_live()
        await on.watcher.until_number("0", 7)
        first = on.watcher.listed["0", 1]
        async with aiohttp.ClientSession() as session:
            removed = asyncio.get_running_loop().time()
            while await status(session, first) == 200:
                number = on.watcher.last("0")
                await on.watcher.until_number("0", number + 1)
            stayed = timedelta(seconds=asyncio.get_running_loop().time() - removed)
            # Six segments and its own duration, and a poll of the watcher that saw the removal late.
            assert timedelta(seconds=6.5) < stayed < timedelta(seconds=25)
            await on.service.kill()
            await on.service.start()
            last = on.watcher.last("0")
            await on.watcher.until_number("0", last + 15)
            assert await status(session, on.watcher.listed["0", last - 6]) == 404
        assert on.watcher.missing == []
        assert on.watcher.violations == []


async def status(session: aiohttp.ClientSession, url: str) -> int:
    async with session.head(url) as response:
        return response.status
