"""How long after its file a segment is listed with an edge that hangs, refuses or is slow, beside none.

All follow the same stream, in turns.
"""

from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from broadcaster.demo.bucket import SeaweedBucket
from tests.bench.publish_overhead import SEGMENT_SECONDS, VARIANTS, on_cores, publishing
from tests.bench.report import Figure, percentile, progress
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.servers.odd_edge import KINDS, OddEdge
from tests.support.servers.service import Service

ROUNDS = 6


def measure() -> list[Figure]:
    """Follow the simulated Owncast for a while; the service has one core."""
    return on_cores(_measure)


async def _measure(folder: Path, core: int) -> list[Figure]:
    hls = folder / "hls"
    async with (
        SeaweedBucket(folder / "bucket") as bucket,
        SimulatedOwncast(
            hls, folder / "owncast", segment_seconds=SEGMENT_SECONDS, variants=VARIANTS, fps=24
        ) as owncast,
        AsyncExitStack() as stack,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(1)
        settings: dict[str, dict[str, str]] = {"none": {}}
        for kind in KINDS:
            settings[kind] = (await stack.enter_async_context(OddEdge(kind).running())).settings
        delays: dict[str, list[float]] = {kind: [] for kind in settings}
        for number in range(ROUNDS):
            progress(f"edge: {number + 1} of {ROUNDS} rounds with each of {len(settings)} edges")
            kinds = list(settings)
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                place = folder / f"{kind.replace(' ', '-')}-{number}"
                place.mkdir()
                environment = Service(place, hls, bucket, **settings[kind]).environment
                found = await publishing("service_events", environment, place / "events", core)
                delays[kind].append(1000 * percentile(found.delays, 0.5))
    figures = [Figure("publish delay without an edge, median", median(delays["none"]), "ms")]
    for kind in KINDS:
        # Of several rounds the median: what else the machine does at the time is nobody's doing.
        ratio = median(delay / none for delay, none in zip(delays[kind], delays["none"], strict=True))
        figures.append(Figure(f"publish delay: ratio with an edge that {kind}", ratio, at_most=1.05))
    return figures
