"""A stream whose encoder is away for a while, and players that have to play on by themselves."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import DemoRendition
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.length import seconds
from tests.support.servers.service import Service, running_service
from tests.support.waiting import PATIENCE, eventually

AWAY = seconds(20, 8)
LOOK = 0.5  # seconds between two looks: what a player has said by then is read anew each time
SEGMENT_SECONDS = 2
FPS = 10
SMALL = (DemoRendition(160, 90, 80), DemoRendition(128, 72, 50))  # so that all players together need little
DRY = 2.0  # seconds without a new picture
ENOUGH = 2 * SEGMENT_SECONDS * FPS  # pictures: two segments


class Player(Protocol):
    """Something that plays the stream."""

    name: str

    async def pictures(self) -> int:
        """How many it has shown since its start; raises AssertionError once it has failed or ended."""
        ...


@dataclass(frozen=True)
class OnAir:
    """A stream that players can begin with."""

    owncast: SimulatedOwncast
    service: Service

    @property
    def url(self) -> str:
        return f"{self.service.address}/live/playlist.m3u8"

    async def is_there(self) -> bool:
        async with aiohttp.ClientSession() as session, session.get(self.url) as response:
            return response.status == 200

    async def reconnect(self, players: Sequence[Player]) -> str:
        """Take the encoder away, and back when all is shown that there was; return the new run's id."""
        await self.owncast.stop_streaming()
        await asyncio.gather(asyncio.sleep(AWAY), *(run_dry(player) for player in players))
        run_id = await self.owncast.go_live()
        await self.owncast.wait_for_segments(1)
        return run_id


@asynccontextmanager
async def on_air(tmp_path: Path, bucket: SeaweedBucket) -> AsyncIterator[OnAir]:
    """The real service beside a simulated Owncast that is live."""
    hls = tmp_path / "hls"
    async with (
        SimulatedOwncast(
            hls, tmp_path / "owncast", segment_seconds=SEGMENT_SECONDS, variants=SMALL, fps=FPS
        ) as owncast,
        running_service(tmp_path, hls, bucket) as service,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(4)
        on = OnAir(owncast, service)
        await eventually(on.is_there)
        yield on


async def shown(players: Sequence[Player]) -> dict[str, int]:
    """How many pictures each has shown."""
    return {player.name: await player.pictures() for player in players}


async def all_show_more(players: Sequence[Player], than: Mapping[str, int]) -> None:
    """Wait until each has shown two segments more; the failure names those that have not."""

    async def late() -> dict[str, int]:
        await asyncio.sleep(LOOK)
        now = await shown(players)
        return {name: more for name in than if (more := now[name] - than[name]) < ENOUGH}

    await eventually(late, lambda late: not late)


async def run_dry(player: Player) -> None:
    """Wait until it shows nothing new."""
    async with asyncio.timeout(PATIENCE):
        before, now = -1, await player.pictures()
        while now != before:
            await asyncio.sleep(DRY)
            before, now = now, await player.pictures()
