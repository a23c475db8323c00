"""What the lease takes of a broadcaster that is alone: beside the same service without its requests.

Both follow the same stream, in turns, with mirror and recordings, whose writes ask for the lease.
"""

import asyncio
from pathlib import Path
from statistics import median

from broadcaster.demo.bucket import SeaweedBucket
from tests.bench.publish_overhead import VARIANTS, Published, on_cores, publishing
from tests.bench.report import Figure, progress
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.servers.service import Service

ROUNDS = 6
SEGMENTS = 12  # of each of three variants
MODULES = ("service_events", "service_without_lease")
SETTINGS = {"BROADCASTER_MIRROR": "true", "BROADCASTER_RECORDINGS": "keep"}
AT_MOST = 1.03


def measure() -> list[Figure]:
    """Follow the simulated Owncast for three minutes; the service has one core."""
    return on_cores(_measure)


async def _measure(folder: Path, core: int) -> list[Figure]:
    hls, runs = folder / "hls", {module: list[Published]() for module in MODULES}
    async with (
        SeaweedBucket(folder / "bucket") as bucket,
        SimulatedOwncast(hls, folder / "owncast", segment_seconds=1, variants=VARIANTS, fps=24) as owncast,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(4)
        for number in range(ROUNDS):
            progress(f"lease: {number + 1} of {ROUNDS} rounds with and without")
            for module in MODULES[:: 1 if number % 2 else -1]:
                place = folder / f"{module}-{number}"
                await asyncio.to_thread(place.mkdir)
                own = SETTINGS | {"R2_PREFIX": place.name}  # another prefix has another lease
                environment = Service(place, hls, bucket, **own).environment
                found = await publishing(module, environment, place / "events", core, segments=SEGMENTS)
                runs[module].append(found)
    with_lease, without = (runs[module] for module in MODULES)
    delays = [median(delay for run in each for delay in run.delays) for each in (with_lease, without)]
    cpu = [median(run.cpu for run in each) for each in (with_lease, without)]
    start = [median(run.start for run in each) for each in (with_lease, without)]
    return [
        figure
        for name, (own, other), scale, unit in (
            ("publish delay", delays, 1000, "ms"),
            ("CPU of a segment", cpu, 1000, "ms"),
            ("from the start of the process to the first view", start, 1, "s"),
        )
        for figure in (
            Figure(f"{name}, alone, median", scale * own, unit),
            Figure(f"{name}: ratio to the service without its lease", own / other, at_most=AT_MOST),
        )
    ]
