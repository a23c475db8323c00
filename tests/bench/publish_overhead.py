"""How long after its file a segment is listed, beside a bare script that reads it and PUTs it.

Both follow the same stream, in turns, and write into the same bucket; and so does the service without its
I-frame index, to see what that takes.
"""

import asyncio
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import RENDITIONS, DemoRendition
from broadcaster.demo.processes import Child, poll
from tests.bench.report import Figure, percentile, progress
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.servers.service import Service

ROUNDS = 5
SEGMENTS = 10  # of each of three variants
SEGMENT_SECONDS = 2
PATIENCE = 200.0  # seconds
VARIANTS = (DemoRendition(854, 480, 1200), *RENDITIONS)


def measure() -> list[Figure]:
    """Follow the simulated Owncast for a while, with a bucket on the same machine."""
    return on_cores(_measure)


def on_cores(follow: Callable[[Path, int], Awaitable[list[Figure]]]) -> list[Figure]:
    """What ``follow`` measures in a folder, with the services on the core that it is given.

    The bucket and the encoder share another: a real bucket is elsewhere.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, cores - {min(cores)})  # for this process and its children, but the service

    async def in_folder() -> list[Figure]:
        with tempfile.TemporaryDirectory() as folder:
            return await follow(Path(folder), min(cores))

    try:
        return asyncio.run(in_folder())
    finally:
        os.sched_setaffinity(0, cores)


async def _measure(folder: Path, core: int) -> list[Figure]:
    hls = folder / "hls"
    async with (
        SeaweedBucket(folder / "bucket") as bucket,
        SimulatedOwncast(
            hls, folder / "owncast", segment_seconds=SEGMENT_SECONDS, variants=VARIANTS, fps=24
        ) as owncast,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(1)
        bare: list[Published] = []
        ours: list[Published] = []
        plain: list[Published] = []
        for number in range(ROUNDS):
            progress(
                f"publish: {number + 1} of {ROUNDS} times {SEGMENTS} segments of {len(VARIANTS)} variants"
            )
            for module, each in (
                ("bare_publisher", bare),
                ("service_events", ours),
                ("service_without_index", plain),
            ):
                place = folder / f"{module}-{number}"  # a service would go on with the state of another one
                place.mkdir()
                environment = Service(place, hls, bucket).environment
                each.append(await publishing(module, environment, place / "events", core))
    figures = []
    for name, share, at_most in (("median", 0.5, 2.2), ("p99", 0.99, 2.2)):
        mine, theirs = ([1000 * percentile(run.delays, share) for run in each] for each in (ours, bare))
        # Of several rounds the median: what else the machine does at the time is nobody's doing.
        ratio = median(delay / other for delay, other in zip(mine, theirs, strict=True))
        figures += [
            Figure(f"publish delay, from file to listing, {name}", median(mine), "ms"),
            Figure(f"bare script, {name}", median(theirs), "ms"),
            Figure(f"publish delay: ratio to the bare script, {name}", ratio, at_most=at_most),
        ]
    return [
        *figures,
        Figure("CPU of a segment", median(1000 * run.cpu for run in ours), "ms"),
        Figure("bare script, CPU of a segment", median(1000 * run.cpu for run in bare), "ms"),
        Figure(
            "CPU of a segment: ratio to the service without I-frame index",
            median(run.cpu / other.cpu for run, other in zip(ours, plain, strict=True)),
            at_most=1.1,
        ),
        Figure("resident memory of the service meanwhile", max(run.memory for run in ours) / 2**20, "MiB"),
    ]


@dataclass(frozen=True)
class Published:
    """What a publisher did, and what it took."""

    delays: list[float]  # seconds
    memory: int  # bytes
    cpu: float  # seconds of each segment, after the first ones
    start: float  # seconds from its start to the first view, NaN of the bare one


async def publishing(
    module: str, environment: dict[str, str], events: Path, core: int, *, segments: int = SEGMENTS
) -> Published:
    """Follow the stream until there are so many segments."""
    command, begun = [sys.executable, "-m", f"tests.bench.{module}", str(events)], time.time()
    child = await Child.start(module, command, events.with_suffix(".log"), env=environment)
    os.sched_setaffinity(child.pid, {core})

    async def until(segments: int) -> tuple[int, float]:
        async def enough() -> bool:
            return len(_delays(events)) >= segments

        await child.until(poll(enough), within=PATIENCE)
        return len(_delays(events)), sum(psutil.Process(child.pid).cpu_times()[:2])

    try:
        first, start = await until(len(VARIANTS))
        last, end = await until(first + segments * len(VARIANTS))
        memory = psutil.Process(child.pid).memory_info().rss
    finally:
        await child.kill()
    live = events.with_suffix(".live")
    began = float(live.read_text()) - begun if live.exists() else math.nan
    return Published(_delays(events)[first:], memory, (end - start) / (last - first), began)


def _delays(events: Path) -> list[float]:
    lines = events.read_text().splitlines(keepends=True) if events.exists() else []
    return [json.loads(line)["delay"] for line in lines if line.endswith("\n")]
