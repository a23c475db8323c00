"""The process that serves viewers, as a test disturbs it."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.servers.end_to_end import EndToEnd, end_to_end
from tests.support.servers.service import Service
from tests.support.waiting import eventually

LATE = 'broadcaster_publish_delay_seconds_bucket{le="1.0",variant="%s"}'
ALL = 'broadcaster_publish_delay_seconds_count{variant="%s"}'


def audience_of(service: Service) -> psutil.Process:
    """The process that serves viewers."""
    assert service.child
    children = psutil.Process(service.child.pid).children()
    (found,) = [child for child in children if child.name() == "audience"]
    return found


async def answered(service: Service) -> int:
    """The status of the main playlist; who comes before anybody serves it waits."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.address}/live/playlist.m3u8") as response,
    ):
        return response.status


async def replaced(service: Service, before: psutil.Process) -> None:
    """Wait until another process answers viewers."""

    async def answers() -> bool:
        with contextlib.suppress(aiohttp.ClientError, ValueError, psutil.Error, AssertionError):
            if audience_of(service).pid != before.pid:
                return await answered(service) == 200
        return False

    await eventually(answers)


async def metrics(service: Service) -> dict[str, float]:
    """All of them, by name and labels."""
    async with aiohttp.ClientSession() as session, session.get(f"{service.admin_address}/metrics") as answer:
        lines = [line.rpartition(" ") for line in (await answer.text()).splitlines() if line[:1] != "#"]
    return {name: float(value) for name, _, value in lines}


@asynccontextmanager
async def live(
    tmp_path: Path,
    bucket: SeaweedBucket,
    wrapper: Sequence[str] = (),
    **settings: Any,  # noqa: ANN401 - a stage's
) -> AsyncIterator[EndToEnd]:
    """A stream of two variants; at the end nothing of it was lost, and no viewer got anything untrue."""
    async with end_to_end(tmp_path, bucket, patient=True, wrapper=wrapper, **settings) as on:
        await on.live_with(3)
        yield on
        await on.owncast.wait_for_segments(on.owncast_segments() + 2)
        await on.owncast.stop_streaming()
        await on.drained()
        await on.check_zeros()
        figures = await metrics(on.service)
        late = {variant: figures[ALL % variant] - figures[LATE % variant] for variant in ("0", "1")}
        print(f"later than a second after their file was finished: {late}")
