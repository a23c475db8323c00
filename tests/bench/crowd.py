"""What a crowd at the audience process does to ingest, and to who asks for a playlist.

The service's two processes share one core; the crowd, the bucket and the encoder's stand-in another.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, poll
from broadcaster.http import raise_file_limit
from tests.bench.report import Figure, percentile, progress
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.servers.service import Service
from tests.support.servers.viewer_process import audience_of

CROWD, LARGE_CROWD = 600, 2000  # readers of events, waiters and tracker sockets, each
SEGMENTS = 60  # of each of two variants, a second apart
PACKETS = 1000  # of a segment
PATIENCE = 300.0  # seconds
LISTED = 6
POLL = 0.05  # seconds between two plain playlists


def measure() -> list[Figure]:
    """Idle, with a crowd, with a large one; in the same run."""
    if raise_file_limit(10**6) < 4 * LARGE_CROWD:
        progress(f"crowd: {3 * LARGE_CROWD} connections are more than this system allows, left out")
        return []
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, cores - {min(cores)})
    try:
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(_measure(Path(folder), min(cores)))
    finally:
        os.sched_setaffinity(0, cores)


async def _measure(folder: Path, core: int) -> list[Figure]:
    async with SeaweedBucket(folder / "bucket") as bucket, asyncio.TaskGroup() as group:
        service = Service(folder, folder / "hls", bucket)
        events = folder / "events"
        command = [sys.executable, "-m", "tests.bench.service_events", str(events)]
        service.child = await Child.start("service", command, folder / "log", env=service.environment)
        os.sched_setaffinity(service.child.pid, {core})
        try:
            await service.child.until(poll(service.answers), within=PATIENCE)
            writing = group.create_task(_write(folder / "hls"))
            await _delays(events, 4)
            memory = _memory(service)
            progress(f"crowd: {SEGMENTS} segments of two variants for nobody")
            idle = percentile(await _delays(events, 2 * SEGMENTS), 0.99)
            figures = [
                Figure("memory of both processes, idle", memory, "MiB", at_most=160),
                Figure("publish delay for nobody, p99", 1000 * idle, "ms"),
            ]
            for many in (CROWD, LARGE_CROWD):
                progress(f"crowd: {SEGMENTS} more, with {many} readers, waiters and tracker sockets each")
                async with _crowd(folder / str(many), service, many) as polls:
                    delay = percentile(await _delays(events, 2 * SEGMENTS), 0.99)
                    took = percentile(polls, 0.99)
                    memory = _memory(service)
                promised = many == CROWD
                name = f"with {many} of each"
                figures += [
                    Figure(f"publish delay {name}, p99", 1000 * delay, "ms"),
                    Figure(f"publish delay {name}: ratio", delay / idle, at_most=2 if promised else None),
                    Figure(
                        f"plain playlist {name}, p99", 1000 * took, "ms", at_most=50 if promised else None
                    ),
                    Figure(f"memory of both processes {name}", memory, "MiB"),
                ]
            writing.cancel()
        finally:
            await service.child.kill()
    return figures


async def _write(hls: Path) -> None:
    """A stream of two variants, a segment each in a second."""
    writers = [HlsWriter(hls / variant) for variant in ("0", "1")]
    for writer in writers:
        writer.seconds = 1.0
    lines = [f"#EXT-X-STREAM-INF:BANDWIDTH=1500000\n{variant}/stream.m3u8" for variant in ("0", "1")]
    (hls / "stream.m3u8").write_text("\n".join(["#EXTM3U", *lines, ""]))
    number = 0
    while True:
        for writer in writers:
            writer.segment(number, PACKETS)
            writer.playlist(range(max(0, number - LISTED + 1), number + 1))
        number += 1
        await asyncio.sleep(1)


async def _delays(events: Path, more: int) -> list[float]:
    """Seconds that each of the next so many segments took to be listed."""

    def found() -> list[float]:
        lines = events.read_text().splitlines(keepends=True) if events.exists() else []
        return [json.loads(line)["delay"] for line in lines if line.endswith("\n")]

    first = len(found())

    async def enough() -> bool:
        return len(found()) >= first + more

    async with asyncio.timeout(PATIENCE):
        await poll(enough)
    return found()[first:]


def _memory(service: Service) -> float:
    """MiB of both processes."""
    if service.child is None:
        raise RuntimeError("it does not run")
    both = (psutil.Process(service.child.pid), audience_of(service))
    return sum(process.memory_info().rss for process in both) / 2**20


@asynccontextmanager
async def _crowd(log: Path, service: Service, many: int) -> AsyncIterator[list[float]]:
    """Inside it is there; yields how long each plain playlist takes, in seconds."""
    command = [sys.executable, "-m", "tests.bench.crowd_clients", service.address, str(many)]
    child = await Child.start("crowd", command, log)

    async def there() -> bool:
        return child.log_tail(1) == "there"

    took: list[float] = []
    try:
        await child.until(poll(there), within=PATIENCE)
        polling = asyncio.create_task(_poll(service, took))
        yield took
        polling.cancel()
    finally:
        await child.kill()


async def _poll(service: Service, took: list[float]) -> None:
    """Ask for a plain playlist again and again."""
    async with aiohttp.ClientSession() as session:
        while True:
            began = time.monotonic()
            async with session.get(f"{service.address}/live/0/playlist.m3u8") as answer:
                await answer.read()
            took.append(time.monotonic() - began)
            await asyncio.sleep(POLL)
