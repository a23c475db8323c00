"""A stream is recorded as a view of its segments, and nothing that a view has is ever deleted."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import ViewerClipLimits, Visibility
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.old_catalog import old_journal
from tests.support.fakes.pipeline_parts import START, unlisted

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[CatalogFixture]:
    made = CatalogFixture(tmp_path)
    yield made
    made.catalog.close()


async def test_a_recording_is_a_stream(stream: CatalogFixture) -> None:
    """It begins and ends with the stream, over an encoder's break and a restart, and has all of it."""
    stream.publish(count=5)
    stream.restart()
    stream.publish(run=1, count=5)
    (on,) = await stream.recordings()
    assert (on.ended, on.started, on.visibility) == (None, START, Visibility.LISTED)
    assert on.id.startswith("2026-01-01-1200-")
    stream.channel.end()
    stream.restart()
    (over,) = await stream.recordings()
    assert (over.id, over.ended) == (on.id, START + 20 * SECOND)
    assert (over.duration, over.size, over.keep_until) == (20 * SECOND, 20_000, None)
    expected = [f"r{segment // 5}/{variant}/{segment}.ts" for segment in range(10) for variant in "01"]
    assert await stream.names() == [expected]
    ((first, *_, last),) = await stream.segments()
    assert (first.discontinuity, last.discontinuity) == (0, 1)
    stream.publish(run=2)
    assert [recording.ended is None for recording in await stream.recordings()] == [True, False]


async def test_a_stream_that_never_ends(stream: CatalogFixture) -> None:
    """It is recorded in pieces of a day, so that one can be played, and its time can be over."""
    stream.restart(3 * DAY)
    for _ in range(3):
        stream.publish(count=2)
        stream.now += DAY / 2
        stream.restart(3 * DAY)
    stream.publish(count=2)
    on, over = await stream.recordings()
    assert (on.ended, over.duration, over.started) == (None, 8 * SECOND, START)
    assert over.ended == START + DAY / 2 + 8 * SECOND
    assert over.keep_until == START + 4 * DAY + 8 * SECOND
    assert await stream.names() == [
        [f"r0/{variant}/{segment}.ts" for segment in range(4, 8) for variant in "01"]
    ]


async def test_other_variants_are_another_part(stream: CatalogFixture) -> None:
    """Players need the same variants all the time: where they become others, a second part begins."""
    stream.publish("01", count=3)
    stream.publish("0", run=1, count=3)
    first, second = await stream.names()
    assert first == [f"r0/{variant}/{segment}.ts" for segment in range(3) for variant in "01"]
    assert second == [f"r1/0/{segment}.ts" for segment in range(3, 6)]
    stream.restart()
    stream.publish("0", run=1)
    table = stream.catalog.recordings
    (on,) = await stream.recordings()
    parts = (await table.parts())[on.id]
    assert [[variant.uri for variant in part.described.variants] for part in parts] == [["0", "1"], ["0"]]


async def test_a_segment_too_long_for_players_is_whole(stream: CatalogFixture) -> None:
    """What no live playlist can have is one segment of the recording; what is lost is a gap."""
    stream.publish(count=3)
    stream.publish(seconds=90)
    stream.publish(lost=True)
    stream.publish()
    (part,) = await stream.segments()
    found = [(segment.duration, segment.gap, segment.time) for segment in part if segment.variant == "1"]
    assert found[3:] == [
        (90 * SECOND, False, START + 6 * SECOND),
        (2 * SECOND, True, START + 96 * SECOND),
        (2 * SECOND, False, START + 98 * SECOND),
    ]
    assert all(segment.gap for segment in stream.channel.view.playlists["1"].playlist.segments[3:-1])


async def test_what_is_recorded_is_not_deleted(stream: CatalogFixture) -> None:
    """What leaves the window has no time to go as long as a recording has it; then it gets one."""
    stream.publish(count=10)
    stream.now += DAY
    assert await stream.catalog.due(100) == []
    stream.channel.end()
    stream.publish(run=1, count=10)
    _, old = await stream.recordings()
    stream.catalog.recordings.remove(old)
    assert [recording.id for recording in await stream.recordings()] != [old.id]
    stream.now += old.duration - SECOND
    assert await stream.catalog.due(100) == []
    stream.now += SECOND
    gone = await stream.catalog.due(100)
    assert sorted(gone) == sorted(
        f"live/r0/{variant}/{segment}.ts" for segment in range(10) for variant in "01"
    )


async def test_what_is_listed_outlives_its_recording(stream: CatalogFixture) -> None:
    """What is seen live when its recording is removed goes when it has left the window."""
    stream.publish("0", count=3)
    stream.channel.end()
    (over,) = await stream.recordings()
    stream.catalog.recordings.remove(over)
    assert unlisted(stream.catalog) == []
    stream.publish("0", run=1)
    assert len(unlisted(stream.catalog)) == 3
    stream.now += DAY
    assert len(await stream.catalog.due(100)) == 3


async def test_without_recordings(stream: CatalogFixture) -> None:
    """Nothing is recorded, what is on ends, and what leaves the window goes as ever."""
    stream.publish(count=2)
    stream.restart(timedelta())
    (over,) = await stream.recordings()
    assert over.ended == START + 4 * SECOND
    stream.publish(count=10)
    stream.now += DAY
    assert len(await stream.catalog.due(100)) == 8
    assert len(await stream.recordings()) == 1


async def test_kept_for_days(stream: CatalogFixture) -> None:
    """The time begins with the end; the bucket gets each change, and the end of the time."""
    stream.restart(3 * DAY)
    stream.publish(count=2)
    stream.channel.end()
    (over,) = await stream.recordings()
    assert over.keep_until == START + 4 * SECOND + 3 * DAY
    table = stream.catalog.recordings
    assert await table.unwritten() == [over]
    table.written(over)
    assert await table.unwritten() == []
    table.change(over.id, title="A night", titled=True)
    (changed,) = await table.unwritten()
    assert changed.title == "A night"
    table.written(over)  # as it was before: that is not all
    assert await table.unwritten() == [changed]
    table.written(changed)
    assert await table.expired() == []
    stream.now += 3 * DAY
    assert [segment.id for segment in await table.expired()] == [over.id]


async def test_a_machine_that_starts_in_another_year(stream: CatalogFixture) -> None:
    """What is over at once is doubted for an hour; where the clock was set right meanwhile, it is kept."""
    stream.restart(3 * DAY)
    stream.publish(count=2)
    stream.channel.end()
    await stream.catalog.clips.make("", START, stream.newest, ViewerClipLimits(1, 1, 1))
    right = stream.now
    stream.now += 4000 * DAY
    stream.wall = lambda: stream.now
    stream.restart(3 * DAY)
    (over,) = await stream.recordings()
    assert (await stream.catalog.recordings.expired(), await stream.catalog.clips.expired()) == ([], [])
    stream.now += timedelta(hours=2)
    stream.wall = lambda: right
    assert (await stream.catalog.recordings.expired(), await stream.catalog.clips.expired()) == ([], [])
    stream.wall = lambda: stream.now  # it was right
    assert await stream.catalog.recordings.expired() == [over]
    assert len(await stream.catalog.clips.expired()) == 1
    stream.restart(3 * DAY)
    stream.catalog.recordings.delete(over.id, at_once=True)  # by the operator's wish
    assert [segment.id for segment in await stream.catalog.recordings.expired()] == [over.id]


@pytest.mark.parametrize("ahead", [-1000 * DAY, 1000 * DAY])
async def test_an_encoder_whose_clock_is_wrong(stream: CatalogFixture, ahead: timedelta) -> None:
    """How long a recording is kept is by our clock: it is not gone at once, nor there for ever."""
    stream.restart(3 * DAY)
    stream.encoder_is_ahead = ahead
    stream.publish(count=2)
    stream.channel.end()
    (over,) = await stream.recordings()
    assert over.keep_until == stream.now + 3 * DAY
    assert await stream.catalog.recordings.expired() == []


def test_a_state_of_the_seventh_schema_goes_on(tmp_path: Path) -> None:
    """What an older version left is in no recording, and what it had to delete still goes."""
    old_journal(tmp_path / "journal.db", 7)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.executescript(
            """
            INSERT INTO playlists VALUES ('0', 1, 2, 2, 3, 0, 0, 0, 0, NULL);
            INSERT INTO segments (step, key, variant, unlisted, delete_at)
                VALUES ('unlisted', 'a', '0', 1, 2);
            INSERT INTO segments (step, key, variant, duration, url, number, discontinuity, time)
                VALUES ('listed', 'b', '0', 2000000, 'u/b', 2, 0, 0);
            """
        )
    with closing(Catalog(tmp_path, lambda: START, recordings=None)) as catalog:
        ((_, listed),) = catalog.load().stream.playlists
        assert [number for number, _, _ in listed] == [2]
        assert unlisted(catalog) == ["a"]


async def test_switched_off_while_a_stream_is_on(stream: CatalogFixture) -> None:
    """No other one is made; what was recorded is not thrown away for that."""
    stream.publish(count=2)
    stream.restart(timedelta())
    assert await stream.catalog.recordings.expired() == []
    (over,) = await stream.recordings()
    assert (over.ended, over.keep_until) == (START + 4 * SECOND, None)


async def test_switched_on_while_a_stream_is_on(stream: CatalogFixture) -> None:
    """All variants of the stream are in one part from the beginning."""
    stream.restart(timedelta())
    stream.publish(count=2)
    stream.restart()
    stream.publish(count=2)
    assert await stream.names() == [[f"r0/{variant}/{number}.ts" for number in (2, 3) for variant in "01"]]
