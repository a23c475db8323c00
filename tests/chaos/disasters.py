"""What can go wrong, as tracks that run beside each other, so that disasters meet.

Every track has its own generator, seeded from the one seed: what it does and when is the same for a seed,
whatever the others do. How far the service has come at that moment is not, and need not be.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.support.servers.end_to_end import EndToEnd
from tests.support.servers.worker import Worker
from tests.support.suspending import resume, suspend

Disaster = Callable[[random.Random], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what in ``seconds``."""

    seconds: float
    kills: int  # of the broadcaster
    longest_freeze: float  # seconds of SIGSTOP for the bucket
    freezes: int
    bucket_kills: int
    encoder_restarts: int  # and one end with a wiped folder
    evictions: int  # of the edge's object
    edge_kills: int

    @classmethod
    def of(cls, seconds: float) -> "Plan":
        """As much as fits in."""
        return cls(
            seconds=seconds,
            kills=max(3, round(seconds / 18)),
            longest_freeze=min(15.0, seconds / 9),
            freezes=max(1, round(seconds / 60)),
            bucket_kills=max(1, round(seconds / 90)),
            encoder_restarts=max(1, round(seconds / 60)),
            evictions=max(1, round(seconds / 30)),
            edge_kills=max(1, round(seconds / 60)),
        )


class Chaos:
    """Does to a stage what a plan says, at moments that ``seed`` decides; ``done`` counts it."""

    def __init__(self, on: EndToEnd, plan: Plan, seed: int, edge: Worker) -> None:
        self._edge = edge
        self.done: Counter[str] = Counter()
        self._on = on
        self._plan = plan
        self._seed = seed
        self._began = time.monotonic()
        self._service_is_mine = asyncio.Lock()

    async def run(self) -> None:
        """Until the plan is fulfilled; everything is up again then."""
        plan = self._plan
        encoder: list[Disaster] = [self._restart_encoder] * plan.encoder_restarts
        encoder.insert(len(encoder) // 2 + 1, self._end_and_wipe)
        bucket: list[Disaster] = []
        bucket += [self._freeze_bucket] * plan.freezes + [self._kill_bucket] * plan.bucket_kills
        edge: list[Disaster] = []
        edge += [self._evict_edge] * plan.evictions + [self._kill_edge] * plan.edge_kills
        async with asyncio.TaskGroup() as group:
            group.create_task(self._track("edge", edge, shuffled=True))
            group.create_task(self._track("broadcaster", [self._kill_broadcaster] * plan.kills))
            group.create_task(self._track("bucket", bucket, shuffled=True))
            group.create_task(self._track("encoder", encoder))

    def say(self, text: str) -> None:
        """Show progress."""
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    async def _track(
        self,
        name: str,
        disasters: list[Disaster],
        *,
        shuffled: bool = False,
    ) -> None:
        """Each disaster at a random moment of its own share of the time."""
        chance = random.Random(f"{self._seed} {name}")
        if shuffled:
            chance.shuffle(disasters)
        share = self._plan.seconds / len(disasters)
        for number, disaster in enumerate(disasters):
            moment = self._began + (number + chance.uniform(0.1, 0.8)) * share
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            await disaster(chance)

    async def _kill_broadcaster(self, chance: random.Random) -> None:
        down = chance.choice((0.0, chance.uniform(0.1, 1.0), chance.uniform(1.0, 4.0)))
        service = self._on.service
        assert service.child
        assert service.child.returncode is None, f"the broadcaster died by itself: {service.child.log_tail()}"
        async with self._service_is_mine:
            await service.kill()
            self.say(f"broadcaster killed, for {down:.1f} s")
            await asyncio.sleep(down)
            await service.start()
        self.done["broadcaster killed"] += 1

    async def _freeze_bucket(self, chance: random.Random) -> None:
        seconds = chance.uniform(self._plan.longest_freeze / 2, self._plan.longest_freeze)
        self.say(f"bucket frozen for {seconds:.1f} s")
        with self._on.availability.disturbed():
            suspend(self._on.bucket.child)
            await asyncio.sleep(seconds)
            resume(self._on.bucket.child)
        self.done["bucket frozen"] += 1

    async def _kill_bucket(self, chance: random.Random) -> None:
        down = chance.uniform(0.0, 4.0)
        with self._on.availability.disturbed():
            await self._on.bucket.kill()
            self.say(f"bucket killed, for {down:.1f} s and its start")
            await asyncio.sleep(down)
            await self._on.bucket.start()
        self.done["bucket killed"] += 1

    async def _evict_edge(self, _: random.Random) -> None:
        await self._edge.evict()
        self.say("the edge's object is evicted")
        self.done["edge evicted"] += 1

    async def _kill_edge(self, chance: random.Random) -> None:
        down = chance.uniform(0.0, 4.0)
        await self._edge.kill()
        self.say(f"edge killed, for {down:.1f} s and its start")
        await asyncio.sleep(down)
        await self._edge.start()
        self.done["edge killed"] += 1

    async def _restart_encoder(self, chance: random.Random) -> None:
        how = chance.choice((self._crash, self._stop, self._restart_owncast, self._kill_owncast))
        async with self._service_is_mine:
            await how()
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            await self._on.owncast.go_live()
        self.done["encoder restarted"] += 1

    async def _crash(self) -> None:
        self.say("encoder crashes and comes back")
        await self._on.owncast.crash_encoder()
        await self._on.taken_in()

    async def _stop(self) -> None:
        self.say("encoder stops and comes back")
        await self._on.owncast.stop_streaming()
        await self._on.taken_in()

    async def _restart_owncast(self) -> None:
        self.say("Owncast is restarted")
        await self._on.owncast.shut_down()
        await self._on.taken_in()
        await self._on.owncast.start_again()

    async def _kill_owncast(self) -> None:
        self.say("Owncast is killed and comes back")
        await self._on.owncast.shut_down(with_signal=signal.SIGKILL)
        await self._on.taken_in()
        await self._on.owncast.start_again()

    async def _end_and_wipe(self, chance: random.Random) -> None:
        self.say("stream ends")
        async with self._service_is_mine:
            await self._on.owncast.stop_streaming()
            await self._on.taken_in()
            self.say("folder is wiped")
            await self._on.owncast.wipe()
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            self.say("a new stream begins")
            await self._on.owncast.go_live()
        self.done["folder wiped"] += 1
