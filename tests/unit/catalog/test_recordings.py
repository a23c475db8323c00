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
def studio(tmp_path: Path) -> Iterator[CatalogFixture]:
    made = CatalogFixture(tmp_path)
    yield made
    made.catalog.close()


async def test_a_recording_is_a_stream(studio: CatalogFixture) -> None:
    """It begins and ends with the stream, over an encoder's break and a restart, and has all of it."""
    studio.publish(count=5)
    studio.restart()
    studio.publish(run=1, count=5)
    (on,) = await studio.recordings()
    assert (on.ended, on.started, on.visibility) == (None, START, Visibility.LISTED)
    assert on.id.startswith("2026-01-01-1200-")
    studio.channel.end()
    studio.restart()
    (over,) = await studio.recordings()
    assert (over.id, over.ended) == (on.id, START + 20 * SECOND)
    assert (over.duration, over.size, over.keep_until) == (20 * SECOND, 20_000, None)
    expected = [f"r{segment // 5}/{variant}/{segment}.ts" for segment in range(10) for variant in "01"]
    assert await studio.names() == [expected]
    ((first, *_, last),) = await studio.segments()
    assert (first.discontinuity, last.discontinuity) == (0, 1)
    studio.publish(run=2)
    assert [recording.ended is None for recording in await studio.recordings()] == [True, False]


async def test_a_stream_that_never_ends(studio: CatalogFixture) -> None:
    """It is recorded in pieces of a day, so that one can be played, and its time can be over."""
    studio.restart(3 * DAY)
    for _ in range(3):
        studio.publish(count=2)
        studio.now += DAY / 2
        studio.restart(3 * DAY)
    studio.publish(count=2)
    on, over = await studio.recordings()
    assert (on.ended, over.duration, over.started) == (None, 8 * SECOND, START)
    assert over.ended == START + DAY / 2 + 8 * SECOND
    assert over.keep_until == START + 4 * DAY + 8 * SECOND
    assert await studio.names() == [
        [f"r0/{variant}/{segment}.ts" for segment in range(4, 8) for variant in "01"]
    ]


async def test_other_variants_are_another_part(studio: CatalogFixture) -> None:
    """Players need the same variants all the time: where they become others, a second part begins."""
    studio.publish("01", count=3)
    studio.publish("0", run=1, count=3)
    first, second = await studio.names()
    assert first == [f"r0/{variant}/{segment}.ts" for segment in range(3) for variant in "01"]
    assert second == [f"r1/0/{segment}.ts" for segment in range(3, 6)]
    studio.restart()
    studio.publish("0", run=1)
    book = studio.catalog.recordings
    (on,) = await studio.recordings()
    parts = (await book.parts())[on.id]
    assert [[variant.uri for variant in part.described.variants] for part in parts] == [["0", "1"], ["0"]]


async def test_a_segment_too_long_for_players_is_whole(studio: CatalogFixture) -> None:
    """What no live playlist can have is one segment of the recording; what is lost is a gap."""
    studio.publish(count=3)
    studio.publish(seconds=90)
    studio.publish(lost=True)
    studio.publish()
    (part,) = await studio.segments()
    found = [(segment.duration, segment.gap, segment.time) for segment in part if segment.variant == "1"]
    assert found[3:] == [
        (90 * SECOND, False, START + 6 * SECOND),
        (2 * SECOND, True, START + 96 * SECOND),
        (2 * SECOND, False, START + 98 * SECOND),
    ]
    assert all(segment.gap for segment in studio.channel.view.playlists["1"].playlist.segments[3:-1])


async def test_what_is_recorded_is_not_deleted(studio: CatalogFixture) -> None:
    """What leaves the window has no time to go as long as a recording has it; then it gets one."""
    studio.publish(count=10)
    studio.now += DAY
    assert await studio.catalog.due(100) == []
    studio.channel.end()
    studio.publish(run=1, count=10)
    _, old = await studio.recordings()
    studio.catalog.recordings.remove(old)
    assert [recording.id for recording in await studio.recordings()] != [old.id]
    studio.now += old.duration - SECOND
    assert await studio.catalog.due(100) == []
    studio.now += SECOND
    gone = await studio.catalog.due(100)
    assert sorted(gone) == sorted(
        f"live/r0/{variant}/{segment}.ts" for segment in range(10) for variant in "01"
    )


async def test_what_is_listed_outlives_its_recording(studio: CatalogFixture) -> None:
    """What is seen live when its recording is removed goes when it has left the window."""
    studio.publish("0", count=3)
    studio.channel.end()
    (over,) = await studio.recordings()
    studio.catalog.recordings.remove(over)
    assert unlisted(studio.catalog) == []
    studio.publish("0", run=1)
    assert len(unlisted(studio.catalog)) == 3
    studio.now += DAY
    assert len(await studio.catalog.due(100)) == 3


async def test_without_recordings(studio: CatalogFixture) -> None:
    """Nothing is recorded, what is on ends, and what leaves the window goes as ever."""
    studio.publish(count=2)
    studio.restart(timedelta())
    (over,) = await studio.recordings()
    assert over.ended == START + 4 * SECOND
    studio.publish(count=10)
    studio.now += DAY
    assert len(await studio.catalog.due(100)) == 8
    assert len(await studio.recordings()) == 1


async def test_kept_for_days(studio: CatalogFixture) -> None:
    """The time begins with the end; the bucket gets each change, and the end of the time."""
    studio.restart(3 * DAY)
    studio.publish(count=2)
    studio.channel.end()
    (over,) = await studio.recordings()
    assert over.keep_until == START + 4 * SECOND + 3 * DAY
    book = studio.catalog.recordings
    assert await book.unwritten() == [over]
    book.written(over)
    assert await book.unwritten() == []
    book.change(over.id, title="A night", titled=True)
    (changed,) = await book.unwritten()
    assert changed.title == "A night"
    book.written(over)  # as it was before: that is not all
    assert await book.unwritten() == [changed]
    book.written(changed)
    assert await book.expired() == []
    studio.now += 3 * DAY
    assert [segment.id for segment in await book.expired()] == [over.id]


async def test_a_machine_that_starts_in_another_year(studio: CatalogFixture) -> None:
    """What is over at once is doubted for an hour; where the clock was set right meanwhile, it is kept."""
    studio.restart(3 * DAY)
    studio.publish(count=2)
    studio.channel.end()
    await studio.catalog.clips.make("", START, studio.newest, ViewerClipLimits(1, 1, 1))
    right = studio.now
    studio.now += 4000 * DAY
    studio.wall = lambda: studio.now
    studio.restart(3 * DAY)
    (over,) = await studio.recordings()
    assert (await studio.catalog.recordings.expired(), await studio.catalog.clips.expired()) == ([], [])
    studio.now += timedelta(hours=2)
    studio.wall = lambda: right
    assert (await studio.catalog.recordings.expired(), await studio.catalog.clips.expired()) == ([], [])
    studio.wall = lambda: studio.now  # it was right
    assert await studio.catalog.recordings.expired() == [over]
    assert len(await studio.catalog.clips.expired()) == 1
    studio.restart(3 * DAY)
    studio.catalog.recordings.delete(over.id, at_once=True)  # by the operator's wish
    assert [segment.id for segment in await studio.catalog.recordings.expired()] == [over.id]


@pytest.mark.parametrize("ahead", [-1000 * DAY, 1000 * DAY])
async def test_an_encoder_whose_clock_is_wrong(studio: CatalogFixture, ahead: timedelta) -> None:
    """How long a recording is kept is by our clock: it is not gone at once, nor there for ever."""
    studio.restart(3 * DAY)
    studio.encoder_is_ahead = ahead
    studio.publish(count=2)
    studio.channel.end()
    (over,) = await studio.recordings()
    assert over.keep_until == studio.now + 3 * DAY
    assert await studio.catalog.recordings.expired() == []


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


async def test_switched_off_while_a_stream_is_on(studio: CatalogFixture) -> None:
    """No other one is made; what was recorded is not thrown away for that."""
    studio.publish(count=2)
    studio.restart(timedelta())
    assert await studio.catalog.recordings.expired() == []
    (over,) = await studio.recordings()
    assert (over.ended, over.keep_until) == (START + 4 * SECOND, None)


async def test_switched_on_while_a_stream_is_on(studio: CatalogFixture) -> None:
    """All variants of the stream are in one part from the beginning."""
    studio.restart(timedelta())
    studio.publish(count=2)
    studio.restart()
    studio.publish(count=2)
    assert await studio.names() == [[f"r0/{variant}/{number}.ts" for number in (2, 3) for variant in "01"]]
