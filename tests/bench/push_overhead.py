"""CPU of the service for a segment that is pushed, beside one that an encoder writes into the folder."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import aiohttp
import psutil

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import free_ports
from tests.bench.report import Figure, progress
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.servers.service import Service
from tests.support.waiting import eventually

ROUNDS, SEGMENTS, FIRST = 3, 40, 5  # FIRST segments are not measured
PACKETS = 11_000  # of a segment: 2 MB
CHUNK, PACE = 32_768, 0.3  # bytes, as ffmpeg sends them; seconds between two segments
KEY = "a-key-of-an-encoder"


def measure() -> list[Figure]:
    """Both in turns, with one bucket on the same machine."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    folders, pushes = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        async with SeaweedBucket(Path(name) / "bucket") as bucket:
            for number in range(ROUNDS):
                progress(f"push: {number + 1} of {ROUNDS} times {SEGMENTS} segments")
                folders.append(await _cpu(Path(name) / f"folder-{number}", bucket, is_pushed=False))
                pushes.append(await _cpu(Path(name) / f"push-{number}", bucket, is_pushed=True))
    ratio = median(push / folder for push, folder in zip(pushes, folders, strict=True))
    return [
        Figure("CPU of a segment of 2 MB that is pushed", median(pushes), "ms"),
        Figure("the same in the folder", median(folders), "ms"),
        Figure("CPU of a segment that is pushed: ratio to the folder", ratio),
    ]


async def _cpu(folder: Path, bucket: SeaweedBucket, *, is_pushed: bool) -> float:
    """Milliseconds of CPU of the service for a segment and its playlist."""
    hls = folder / "hls"
    writer, (port,) = HlsWriter(hls), free_ports(1)
    writer.start = datetime.now(UTC)
    pushed = {
        "BROADCASTER_HLS_DIR": "",
        "BROADCASTER_SOURCE": "push",
        "BROADCASTER_PUSH_PORT": str(port),
        "BROADCASTER_PUSH_KEY": KEY,
    }
    service = Service(folder, hls, bucket, **(pushed if is_pushed else {}))
    url = f"http://127.0.0.1:{port}/ingest/{KEY}/"
    await service.start()
    try:
        before = 0.0
        async with aiohttp.ClientSession() as session:
            for number in range(FIRST + SEGMENTS):
                if number == FIRST:
                    before = _spent(service)
                packet = b"\x47\x40\x11" + os.urandom(185)
                files = {
                    writer.name(number): packet * PACKETS,
                    "stream.m3u8": writer.text(range(max(0, number - 9), number + 1)).encode(),
                }
                for name, body in files.items():
                    if is_pushed:
                        async with session.put(url + name, data=_chunks(body)) as answer:
                            answer.raise_for_status()
                    else:
                        (hls / name).write_bytes(body)
                await asyncio.sleep(PACE)
        await eventually(service.health, lambda health: health["backlog"] == 0)
        return 1000 * (_spent(service) - before) / SEGMENTS
    finally:
        await service.stop()


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


def _spent(service: Service) -> float:
    """Seconds of CPU of the service's process, without the viewer server."""
    if not service.child:
        raise RuntimeError("the service is not started")
    return sum(psutil.Process(service.child.pid).cpu_times()[:2])
