"""What the service adds to the PUT itself, from a segment complete on disk to its listing."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import psutil

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.children import Child
from broadcaster.demo.owncast import RENDITIONS, Rendition, SimulatedOwncast
from tests.bench.report import Figure, percentile, progress
from tests.support.service import Service

SEGMENTS = 35  # of each of three variants
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
    progress(f"publish: {SEGMENTS * SEGMENT_SECONDS} s of a stream with {len(VARIANTS)} variants")
    hls, events = folder / "hls", folder / "events"
    async with (
        SeaweedBucket(folder / "bucket") as bucket,
        SimulatedOwncast(
            hls, folder / "owncast", segment_seconds=SEGMENT_SECONDS, variants=VARIANTS
        ) as owncast,
    ):
        environment = Service(folder, hls, bucket).environment
        command = [sys.executable, "-m", "tests.bench.service_events", str(events)]
        service = await Child.start("service", command, folder / "service.log", env=environment)
        os.sched_setaffinity(service.pid, {core})
        await owncast.go_live()
        await owncast.wait_for_segments(SEGMENTS, within=SEGMENTS * SEGMENT_SECONDS + 30)
        process = psutil.Process(service.pid)
        seconds = process.cpu_times().user + process.cpu_times().system
        memory = process.memory_info().rss
        await service.stop()
    return _figures(events, memory, seconds)


def _figures(events: Path, memory: int, cpu_seconds: float) -> list[Figure]:
    puts: dict[str, float] = {}
    overheads, delays, live = [], [], False
    for event in map(json.loads, events.read_text().splitlines()):
        if "key" in event:
            puts[event["key"]] = event["put"]
        elif "started" in event:
            live = True
        elif live and event["delay"] is not None:  # before, the first segments waited for their siblings
            put = next(seconds for key, seconds in puts.items() if event["url"].endswith(key))
            delays.append(event["delay"] * 1000)
            overheads.append((event["delay"] - put) * 1000)
    if len(overheads) < SEGMENTS * len(VARIANTS) * 0.8:
        raise RuntimeError(f"only {len(overheads)} segments were published")
    return [
        Figure("publish overhead (delay minus PUT), median", percentile(overheads, 0.5), "ms"),
        Figure("publish overhead (delay minus PUT), p99", percentile(overheads, 0.99), "ms", at_most=15),
        Figure("publish delay, median", percentile(delays, 0.5), "ms"),
        Figure("publish delay, p99", percentile(delays, 0.99), "ms"),
        Figure("resident memory of the service meanwhile", memory / 2**20, "MiB"),
        Figure(
            "CPU of the service, start included",
            100 * cpu_seconds / (SEGMENTS * SEGMENT_SECONDS),
            "% of a core",
        ),
    ]
