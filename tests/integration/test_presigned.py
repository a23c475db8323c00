"""A bucket that nobody may read without a signature, and viewers who get one with every URL."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import imageio_ffmpeg
import pytest
from yarl import URL

from broadcaster.bucket import Bucket, open_store
from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.watcher import Watcher
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

PRESIGNED = {"BROADCASTER_URLS": "presigned", "R2_PUBLIC_URL": "", "BROADCASTER_LOG_LEVEL": "debug"}


class Reader(Watcher):
    """A watcher that reads segments as players do: these signatures are for GET alone."""

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(URL(url, encoded=True)) as response:
            if response.status != 200 or not await response.read():
                self.missing.append(f"{url}: {response.status}")


@asynccontextmanager
async def reading(service: Service) -> AsyncIterator[Reader]:
    """A reader at work, who finds nothing to complain of."""
    reader = Reader(service.address, patient=True)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(reader.run())
        yield reader
        task.cancel()
    assert reader.violations == []
    assert reader.missing == []


@pytest.fixture
async def private(tmp_path: Path) -> AsyncIterator[SeaweedBucket]:
    """A real S3 server with an empty bucket that answers signed requests alone."""
    async with SeaweedBucket(tmp_path / "bucket", anonymous=False) as running:
        yield running


def check_for_secrets(text: str, bucket: SeaweedBucket) -> None:
    """Nothing of what signs is in there, nor anything that was signed."""
    assert bucket.access_key_id not in text
    assert bucket.secret_access_key not in text
    assert "X-Amz-" not in text
    assert not re.search(r"\b[0-9a-f]{64}\b", text)  # what a signature looks like


@pytest.mark.takes(12)
async def test_a_stream_from_a_private_bucket(tmp_path: Path, private: SeaweedBucket) -> None:
    """Every URL works without a key, keeps its signature from version to version and over a crash."""
    async with (
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast") as owncast,
        running_service(tmp_path, tmp_path / "hls", private, **PRESIGNED) as service,
    ):
        await owncast.go_live()
        async with reading(service) as reader:
            await reader.until_number("0", 4)
            await service.kill()
            await owncast.wait_for_segments(reader.last("0") + 2)
            await service.start()
            await reader.until_number("0", reader.last("0") + 4)
        assert len({url.partition("?")[0] for url in reader.listed.values()}) == len(reader.listed)
        for url in reader.listed.values():
            assert url.startswith(f"{private.public_url}/live/")
            assert "X-Amz-Expires=604800&" in url
        part = {"Range": "bytes=188-375"}  # as pictures on the seek bar are read
        signed = URL(url, encoded=True)
        async with aiohttp.ClientSession() as session, session.get(signed, headers=part) as response:
            assert (response.status, len(await response.read())) == (206, 188)
        async with aiohttp.ClientSession() as session, session.get(url.partition("?")[0]) as response:
            assert response.status == 403


async def test_an_expired_signature_is_refused(private: SeaweedBucket) -> None:
    """The bucket itself judges how long a URL is good for."""
    ours = Bucket(
        private.endpoint_url,
        private.bucket,
        private.access_key_id,
        private.secret_access_key,
        public_url=None,
        signed_for=timedelta(seconds=2),
    )
    async with open_store(ours) as store, aiohttp.ClientSession() as session:
        await store.put("live/run/0/stream-ä b-1.ts", b"x")
        url = URL(await store.url("live/run/0/stream-ä b-1.ts"), encoded=True)

        async def is_refused() -> bool:
            async with session.get(url) as response:
                assert response.status in (200, 403)
                return response.status == 403

        assert not await is_refused()
        await eventually(is_refused)


@pytest.mark.takes(12)
async def test_nothing_that_signs_is_ever_said(tmp_path: Path, private: SeaweedBucket) -> None:
    """At debug level, with a bucket that fails: no key, no signature in log, metrics, health or errors."""
    async with (
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast") as owncast,
        running_service(
            tmp_path, tmp_path / "hls", private, **PRESIGNED, BROADCASTER_MIRROR="true"
        ) as service,
    ):
        await owncast.go_live()
        async with reading(service) as reader:
            await reader.until_number("0", 3)
        await private.kill()
        await eventually(lambda: "uploads fail" in service.log.read_text())
        answers = [str(await service.health())]
        async with aiohttp.ClientSession() as session:
            for url in (f"{service.admin_address}/metrics", f"{service.address}/live/nothing/playlist.m3u8"):
                async with session.get(url) as response:
                    answers.append(await response.text())
        await private.start()
        async with reading(service) as reader:
            await reader.until_number("0", 6)
        await owncast.stop_streaming()
        assert await service.stop() == 0
    log = service.log.read_text()
    assert " DEBUG " in log
    for text in (*answers, log):
        check_for_secrets(text, private)


@pytest.mark.takes(10)
async def test_fragmented_mp4(tmp_path: Path, private: SeaweedBucket) -> None:
    """An EXT-X-MAP has one signed URL for all its segments, and ffmpeg plays the playlist."""
    hls = tmp_path / "hls"
    hls.mkdir()
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    async with running_service(tmp_path, hls, private, **PRESIGNED) as service:
        async with reading(service) as reader:
            picture = ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25", "-c:v", "libx264", "-g", "25"]
            output = ["-t", "7", "-f", "hls", "-hls_time", "1", "-hls_segment_type", "fmp4", "video.m3u8"]
            writer = await asyncio.create_subprocess_exec(
                ffmpeg, "-v", "error", "-re", *picture, *output, cwd=hls
            )
            await reader.until_number("main", 6)
            assert await writer.wait() == 0
        maps = {segment.map_uri for version in reader.versions["main"] for segment in version.segments}
        (map_url,) = maps
        assert map_url
        assert "X-Amz-Signature=" in map_url
        player = await asyncio.create_subprocess_exec(
            *(ffmpeg, "-v", "error", "-live_start_index", "0", "-i", f"{service.address}/live/playlist.m3u8"),
            *("-t", "4", "-f", "null", "-"),
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaints = await player.communicate()
        assert complaints == b""
