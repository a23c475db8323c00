"""The event loop waits for no disk, neither for ours nor for the source's."""

import asyncio
import itertools
import os
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from broadcaster.bucket import ObjectStore
from broadcaster.config import load
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.errors import StorageUnavailable
from broadcaster.events import Event, SegmentPublished, StreamEnded, UploadFailed
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.service import serve
from tests.integration.loop_watch import watching_disks
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.faults.hanging_mount import hanging_mount
from tests.support.length import SOAK
from tests.support.servers.r2_rules import Gate, strict_front
from tests.support.servers.service import Service, running_service
from tests.support.waiting import PATIENCE, changes

SEGMENTS = 8
ROUNDS, PAUSE = 5, 0.2  # of requests while file systems hang, and seconds between them
LATE = 1.0  # seconds, at full length: a loop that waited for a disk would answer nothing


@pytest.mark.parametrize("encoder", ["abc", ""], ids=["links", "copies"])
async def test_the_event_loop_waits_for_no_disk(
    tmp_path: Path, bucket: SeaweedBucket, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    """Nothing is asked of one by retried uploads, answers, the end of a stream, or a stop in good order."""
    hls, state = tmp_path / "hls", tmp_path / "state"
    writer = HlsWriter(hls / "0", encoder)
    writer.seconds = 1.0
    (hls / "stream.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n")
    settings = {"BROADCASTER_RECORDINGS": "keep", "BROADCASTER_END_GRACE_SECONDS": "0"}
    if program := shutil.which("ffmpeg"):
        settings["BROADCASTER_PICTURES"] = program
    service = Service(tmp_path, hls, bucket, **settings)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    events: list[Event] = []
    changed, ready, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    put, attempts = ObjectStore.put, itertools.count()

    async def failing_at_first(store: ObjectStore, key: str, body: bytes) -> str:
        if key.endswith(".ts") and next(attempts) < 3:
            raise StorageUnavailable("not now")
        return await put(store, key, body)

    monkeypatch.setattr(ObjectStore, "put", failing_at_first)

    def observe(event: Event) -> None:
        events.append(event)
        changed.set()

    def published() -> int:
        return sum(isinstance(event, SegmentPublished) and not event.segment.gap for event in events)

    running = asyncio.create_task(serve(load(), stop, on_ready=lambda *_: ready.set(), on_event=observe))
    await asyncio.wait([running, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not running.done()
    with watching_disks(hls, state) as asked:
        for number in range(SEGMENTS):
            (writer.folder / writer.name(number)).write_bytes(PACKET[:-1] + bytes([number]))
            writer.playlist(range(max(0, number - 4), number + 1))
            await changes(changed, lambda: published() > number)  # noqa: B023 - it is awaited here
        async with aiohttp.ClientSession() as session:
            for path in ("health", "metrics", "dashboard/data.json"):
                async with session.get(f"{service.admin_address}/{path}") as response:
                    assert (await response.read()) is not None
            async with session.get(f"{service.address}/live/0/playlist.m3u8") as response:
                assert response.status == 200
        writer.playlist(range(SEGMENTS - 5, SEGMENTS), ended=True)
        await changes(changed, lambda: any(isinstance(event, StreamEnded) for event in events))
        stop.set()
        await running
    assert any(isinstance(event, UploadFailed) for event in events)
    # The files that the test itself has written.
    asked = [call for call in asked if "hls_writer.py" not in call and "write_bytes(PACKET" not in call]
    assert not asked, asked[0]


def lag_of(metrics: str) -> float:
    """How late the service's event loop has been, in seconds."""
    (lag,) = (line.split()[1] for line in metrics.splitlines() if line.startswith("broadcaster_lag_seconds "))
    return float(lag)


async def test_file_systems_that_hang(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """While the HLS folder hangs, uploads are listed; while the state folder does, requests are answered."""
    hls, state = tmp_path / "hls", tmp_path / "state"
    writer = HlsWriter(hls)
    async with AsyncExitStack() as stack, AsyncExitStack() as mounts:
        front = await stack.enter_async_context(strict_front(bucket))
        service = await stack.enter_async_context(
            running_service(tmp_path, hls, bucket, R2_ENDPOINT_URL=front.url)
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE))
        )

        async def get(address: str) -> str:
            async with session.get(address) as response:
                assert response.status in {200, 503}  # /health tells of the folder in the end
                return await response.text()

        writer.write(range(4))
        await service.until_health(manifestChunks=4)
        playlist = f"{service.address}/live/playlist.m3u8"
        before = parse(await get(playlist))
        assert isinstance(before, MediaPlaylist)
        first, second = front.gates[writer.name(4)], front.gates[writer.name(5)] = Gate(), Gate()
        writer.write(range(6))
        await first.reached.wait()
        await second.reached.wait()
        reload = asyncio.create_task(get(f"{playlist}?_HLS_msn={before.last + 1}"))
        touching = []
        for folder in (hls, state):
            mounts.enter_context(hanging_mount(folder))
            touching.append(asyncio.create_task(asyncio.to_thread(os.access, folder, os.F_OK)))
            if folder == hls:
                first.open.set()
                assert writer.name(4) in await reload
        second.open.set()  # the service asks the spool for it once more, and waits for that
        for _ in range(ROUNDS):
            for path in ("health", "dashboard/data.json"):
                await get(f"{service.admin_address}/{path}")
            assert writer.name(4) in await get(f"{playlist}?_HLS_msn={before.last + 1}")
            lag = lag_of(await get(f"{service.admin_address}/metrics"))
            assert lag < LATE or not SOAK
            await asyncio.sleep(PAUSE)
        assert not any(task.done() for task in touching), "the file systems did not hang"
        await mounts.aclose()
        await asyncio.wait(touching)
        writer.write(range(8))
        await service.until_health(manifestChunks=8, backlog=0)
        assert "Traceback" not in service.log.read_text()
