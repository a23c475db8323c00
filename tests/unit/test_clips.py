"""A clip has all of its time, or there is none; nobody ever finds half of one."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.errors import NotPossible
from tests.support.fakes import START
from tests.support.studio import Studio

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path)
    made.restart(timedelta())  # nothing is recorded
    yield made
    made.catalog.close()


async def test_what_is_gone_in_the_middle(studio: Studio) -> None:
    """What another clip has kept and what is live do not make a clip of what lies between them."""
    studio.publish(count=3)
    clips = studio.catalog.clips
    kept = await clips.make("", START, START + 5 * SECOND)
    studio.publish(count=20)
    studio.now += DAY
    gone = await studio.catalog.due(100)
    assert gone
    await studio.catalog.deleted(gone)
    with pytest.raises(NotPossible):
        await clips.make("", START, studio.newest - SECOND)
    assert await clips.all() == [kept]


async def test_nobody_sees_one_that_cannot_be(studio: Studio) -> None:
    """Who writes clips into the bucket meanwhile finds none."""
    studio.publish(count=3)
    clips = studio.catalog.clips
    async with studio.catalog:
        made, seen = await asyncio.gather(
            clips.make("", START, START + 60 * SECOND), clips.unwritten(), return_exceptions=True
        )
    assert isinstance(made, NotPossible)
    assert seen == []


async def test_what_is_already_on_its_way_out(studio: Studio) -> None:
    """What was found to be due, while the wish for a clip waited for its turn, is too late for that."""
    studio.publish(count=10)
    catalog, turn = studio.catalog, threading.Event()
    async with catalog:
        asking = [
            asyncio.create_task(catalog.read(turn.wait)),
            asyncio.create_task(catalog.due(100)),
            asyncio.create_task(catalog.clips.make("", START, START + 5 * SECOND)),
        ]
        await asyncio.sleep(0)
        studio.now += DAY
        turn.set()
        _, due, made = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(due, list)
    assert "live/r0/0/0.ts" in due
    assert isinstance(made, NotPossible)
