"""A clip has all of its time, or there is none; nobody ever finds half of one."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import ViewerClipLimits
from broadcaster.errors import NotPossible, TooMany
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.pipeline_parts import START

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[CatalogFixture]:
    made = CatalogFixture(tmp_path)
    made.restart(timedelta())  # nothing is recorded
    yield made
    made.catalog.close()


async def test_what_is_gone_in_the_middle(stream: CatalogFixture) -> None:
    """What another clip has kept and what is live do not make a clip of what lies between them."""
    stream.publish(count=3)
    clips = stream.catalog.clips
    kept = await clips.make("", START, START + 5 * SECOND)
    stream.publish(count=20)
    stream.now += DAY
    gone = await stream.catalog.due(100)
    assert gone
    await stream.catalog.deleted(gone)
    with pytest.raises(NotPossible):
        await clips.make("", START, stream.newest - SECOND)
    assert await clips.all() == [kept]


async def test_nobody_sees_one_that_cannot_be(stream: CatalogFixture) -> None:
    """Who writes clips into the bucket meanwhile finds none."""
    stream.publish(count=3)
    clips = stream.catalog.clips
    async with stream.catalog.writer:
        made, seen = await asyncio.gather(
            clips.make("", START, START + 60 * SECOND), clips.unwritten(), return_exceptions=True
        )
    assert isinstance(made, NotPossible)
    assert seen == []


@pytest.mark.parametrize("bound", ["of_a_stream", "of_a_day", "in_all"])
async def test_viewers_clips_are_bounded(tmp_path: Path, bound: str) -> None:
    """Of a stream, in a day and in all; the operator's own count for nothing, and are not counted."""
    stream = CatalogFixture(tmp_path)
    stream.restart(timedelta(days=30))
    stream.publish(count=6)
    bounds, clips = replace(ViewerClipLimits(9, 9, 9), **{bound: 2}), stream.catalog.clips
    await clips.make("", START, START + 5 * SECOND)
    first = await clips.make("", START, START + 5 * SECOND, bounds)
    await clips.make("", START, START + 5 * SECOND, bounds)
    with pytest.raises(TooMany):
        await clips.make("", START, START + 5 * SECOND, bounds)
    await clips.make("", START, START + 5 * SECOND)
    clips.delete(first.id)
    await clips.make("", START, START + 5 * SECOND, bounds)
    with pytest.raises(TooMany):
        await clips.make("", START, START + 5 * SECOND, bounds)
    stream.channel.end()
    stream.now += 2 * DAY
    stream.publish(count=6, run=1)  # another stream, another day
    begin = stream.newest - 6 * SECOND
    if bound == "in_all":
        with pytest.raises(TooMany):
            await clips.make("", begin, begin + 5 * SECOND, bounds)
    else:
        assert (await clips.make("", begin, begin + 5 * SECOND, bounds)).viewer
    stream.catalog.close()


@pytest.mark.parametrize("visibility", ["hidden", "unlisted"])
async def test_viewers_have_clips_of_what_everybody_finds(tmp_path: Path, visibility: str) -> None:
    """Whoever guesses the time of a recording that is not listed gets nothing of it, the operator does."""
    stream = CatalogFixture(tmp_path)
    stream.restart(30 * DAY)
    stream.publish(count=20)
    clips, recordings, bounds = stream.catalog.clips, stream.catalog.recordings, ViewerClipLimits(9, 9, 9)
    (recording,) = await stream.recordings()
    await clips.make("", START, START + 5 * SECOND, bounds)
    recordings.change(recording.id, visibility=visibility)
    left = stream.newest - 16 * SECOND  # the window a moment ago
    await clips.make("", left, left + 5 * SECOND, bounds)
    stream.now += timedelta(minutes=2)
    with pytest.raises(NotPossible):
        await clips.make("", START, START + 5 * SECOND, bounds)
    await clips.make("", START, START + 5 * SECOND)
    await clips.make("", stream.newest - 6 * SECOND, stream.newest, bounds)  # of the window
    recordings.change(recording.id, visibility="listed")
    stream.channel.end()
    recordings.delete(recording.id)
    with pytest.raises(NotPossible):
        await clips.make("", START, START + 5 * SECOND, bounds)
    stream.catalog.close()


async def test_viewers_clips_go_when_recordings_go(tmp_path: Path) -> None:
    """They need no more of the bucket than those; the operator's own stay."""
    stream = CatalogFixture(tmp_path)
    stream.restart(30 * DAY)
    stream.publish(count=6)
    clips = stream.catalog.clips
    kept = await clips.make("", START, START + 5 * SECOND)
    await clips.make("", START, START + 5 * SECOND, ViewerClipLimits(1, 1, 1))
    stream.now += 29 * DAY
    assert await clips.expired() == []
    stream.now += 2 * DAY
    (over,) = await clips.expired()
    assert over.viewer
    clips.release(over)
    assert await clips.all() == [kept]
    stream.restart()  # for ever
    await stream.catalog.clips.make("", START, START + 5 * SECOND, ViewerClipLimits(1, 1, 1))
    stream.now += 1000 * DAY
    assert await stream.catalog.clips.expired() == []
    stream.catalog.close()


async def test_a_title_that_changes_while_the_clip_is_written(stream: CatalogFixture) -> None:
    """The newer title reaches the bucket, too."""
    stream.publish(count=6)
    clips = stream.catalog.clips
    clip = await clips.make("first", START, START + 5 * SECOND)
    clips.rename(clip.id, "second")
    clips.written(clip)
    (left,) = await clips.unwritten()
    clips.written(left)
    assert (left.title, await clips.unwritten()) == ("second", [])


async def test_what_is_already_on_its_way_out(stream: CatalogFixture) -> None:
    """What was found to be due, while the wish for a clip waited for its turn, is too late for that."""
    stream.publish(count=10)
    catalog, turn = stream.catalog, threading.Event()
    async with catalog.writer:
        asking = [
            asyncio.create_task(catalog.writer.read(turn.wait)),
            asyncio.create_task(catalog.due(100)),
            asyncio.create_task(catalog.clips.make("", START, START + 5 * SECOND)),
        ]
        await asyncio.sleep(0)
        stream.now += DAY
        turn.set()
        _, due, made = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(due, list)
    assert "live/r0/0/0.ts" in due
    assert isinstance(made, NotPossible)


async def test_an_id_that_is_drawn_twice(stream: CatalogFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of one minute that draw the same letters are clips of their own."""
    monkeypatch.setattr("broadcaster.catalog.records.secrets.choice", lambda letters: letters[0])
    stream.publish(count=6)
    made = [await stream.catalog.clips.make("", START, START + 5 * SECOND) for _ in range(4)]
    assert {clip.id for clip in await stream.catalog.clips.all()} == {
        made_segment.id for made_segment in made
    }
    assert len({made_segment.id for made_segment in made}) == 4
