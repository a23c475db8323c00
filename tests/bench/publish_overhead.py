"""How long after its file a segment is listed, beside a bare script that reads it and PUTs it.

Both follow the same stream, one after the other, and write into the same bucket.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.children import Child, poll
from broadcaster.demo.owncast import RENDITIONS, Rendition, SimulatedOwncast
from tests.bench.report import Figure, percentile, progress
from tests.support.service import Service

SEGMENTS = 20  # of each of three variants
SEGMENT_SECONDS = 2
VARIANTS = (Rendition(854, 480, 1200), *RENDITIONS)


def measure() -> list[Figure]:
    """Follow the simulated Owncast for a while, with a bucket on the same machine.

    The service has one core, the bucket and the encoder share another: a real bucket is elsewhere.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, cores - {min(cores)})  # for this process and its children, but the service
    try:
        return _in_folder(min(cores))
    finally:
        os.sched_setaffinity(0, cores)


def _in_folder(core: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), core))


async def _measure(folder: Path, core: int) -> list[Figure]:
    hls = folder / "hls"
    async with (
        SeaweedBucket(folder / "bucket") as bucket,
        SimulatedOwncast(
            hls, folder / "owncast", segment_seconds=SEGMENT_SECONDS, variants=VARIANTS
        ) as owncast,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(1)
        environment = Service(folder, hls, bucket).environment
        bare = await _publishing("bare_publisher", environment, folder / "bare", core)
        ours = await _publishing("service_events", environment, folder / "ours", core)
    ratios = {share: percentile(ours.delays, share) / percentile(bare.delays, share) for share in (0.5, 0.99)}
    return [
        Figure("publish delay, from file to listing, median", 1000 * percentile(ours.delays, 0.5), "ms"),
        Figure("publish delay, p99", 1000 * percentile(ours.delays, 0.99), "ms"),
        Figure("bare script, from file to bucket, median", 1000 * percentile(bare.delays, 0.5), "ms"),
        Figure("bare script, p99", 1000 * percentile(bare.delays, 0.99), "ms"),
        Figure("publish delay: ratio to the bare script, median", ratios[0.5], at_most=4),
        Figure("publish delay: ratio to the bare script, p99", ratios[0.99], at_most=4),
        Figure("resident memory of the service meanwhile", ours.memory / 2**20, "MiB"),
        Figure("CPU of the service, start included", 100 * ours.cpu / ours.seconds, "% of a core"),
    ]


@dataclass(frozen=True)
class _Published:
    """What a publisher did, and what it took."""

    delays: list[float]  # seconds
    memory: int  # bytes
    cpu: float  # seconds
    seconds: float


async def _publishing(module: str, environment: dict[str, str], events: Path, core: int) -> _Published:
    """Follow the stream until there are so many segments."""
    progress(f"publish: {module}, {SEGMENTS} segments of {SEGMENT_SECONDS} s in {len(VARIANTS)} variants")
    began = time.monotonic()
    command = [sys.executable, "-m", f"tests.bench.{module}", str(events)]
    child = await Child.start(module, command, events.with_suffix(".log"), env=environment)
    os.sched_setaffinity(child.pid, {core})

    async def enough() -> bool:
        return len(_delays(events)) >= SEGMENTS * len(VARIANTS)

    try:
        await child.until(poll(enough), within=10 * SEGMENTS * SEGMENT_SECONDS)
        process = psutil.Process(child.pid)
        cpu, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
    finally:
        await child.kill()
    return _Published(_delays(events), memory, cpu, time.monotonic() - began)


def _delays(events: Path) -> list[float]:
    lines = events.read_text().splitlines(keepends=True) if events.exists() else []
    return [json.loads(line)["delay"] for line in lines if line.endswith("\n")]
