"""What an audience of pages costs the origin behind nginx with the shipped file: every route, every byte."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.playout import FILM, Playout, made, playing_out
from tests.support.judges.simulated_pages import SimulatedPages
from tests.support.servers.counted_origin import Traffic, counted_origin
from tests.support.servers.edge import running_edge
from tests.support.servers.service import running_service
from tests.support.waiting import eventually

LATE = 60  # seconds that a busy machine may take longer


@dataclass(frozen=True)
class Case:
    """Pages join within ``join_within`` seconds, a part of them leaves and comes back; then all watch."""

    variants: int
    segment_seconds: int
    viewers: int
    join_within: float
    watch: float  # seconds
    leave: float = 0.0
    changes_every: float = float("inf")  # seconds until a page changes its quality

    @property
    def settling(self) -> float:
        """Seconds until the last page is there."""
        return (3 if self.leave else 1) * self.join_within + self.segment_seconds


@dataclass(frozen=True)
class Costs:
    """The traffic of the two parts, and how the pages fared; ``versions`` were published in the second."""

    joining: Traffic
    watching: Traffic
    versions: int
    pages: SimulatedPages


async def costs(folder: Path, bucket: SeaweedBucket, case: Case, **settings: str) -> Costs:
    """Play it all."""
    repeated = int((case.settling + case.watch + LATE) // FILM) + 1
    film = made(folder / "film", segment_seconds=case.segment_seconds, repeated=repeated)
    hls, names = folder / "hls", [str(index) for index in range(case.variants)]
    playout = Playout(film, hls, segment_seconds=case.segment_seconds, variants=names)
    settings = {"BROADCASTER_TRUSTED_HEADER": "x-forwarded-for", **settings}
    async with (
        running_service(folder, hls, bucket, **settings) as service,
        counted_origin(service.address) as origin,
        running_edge(folder, origin.address) as edge,
        playing_out(playout),
    ):
        await service.until_health(stream="live")
        origin.take()
        pages = SimulatedPages(edge.address, playout.published, changes_every=case.changes_every)
        async with pages.open(case.viewers, join_within=case.join_within, leave=case.leave):
            await asyncio.sleep(case.settling)
            await eventually(lambda: all(page.is_settled for page in pages.pages))
            joining, first = origin.take(), playout.number
            await asyncio.sleep(case.watch)
            watching, last = origin.take(), playout.number
    return Costs(joining, watching, case.variants * (last - first), pages)
