"""What has left the playlists is deleted when no player can want it any more, and nothing else ever is."""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from broadcaster.channel import Change, PlaylistState
from broadcaster.discovery import Run
from broadcaster.errors import StorageError, StorageUnavailable
from broadcaster.journal import Journal
from broadcaster.playlist import Segment
from broadcaster.retention import BATCH, Sweeper
from tests.support.fakes import START

HOUR = timedelta(hours=1)
AVAILABILITY = timedelta(seconds=30)
WINDOW = timedelta()  # the policy: as long as players may want it


class FakeDeleter:
    """Deletes nothing, and remembers what it was asked to delete; ``failure`` is raised instead."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.calls = 0
        self.failure: StorageError | None = None

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        assert deadline > 0
        assert 0 < len(keys) <= BATCH
        self.calls += 1
        if self.failure:
            raise self.failure
        self.deleted += keys


class House:
    """A journal whose one playlist lists one segment, a bucket, and clocks that stand still."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.monotonic = 1000.0
        self.folder = folder
        self.bucket = FakeDeleter()
        self.journal = Journal(folder, self.clock)
        self.number = 0
        self.sweeper = self.new_sweeper(WINDOW)

    def clock(self) -> datetime:
        return self.now

    def new_sweeper(self, retention: timedelta | None) -> Sweeper:
        self.sweeper = Sweeper(self.bucket, self.journal, self.clock, prefix="live", retention=retention)
        return self.sweeper

    def restart(self, retention: timedelta = WINDOW) -> None:
        self.journal.close()
        self.journal = Journal(self.folder, self.clock)
        self.new_sweeper(retention)

    def publish(self, key: str) -> None:
        """List ``key``; the one listed before leaves the window."""
        self.number += 1
        state = PlaylistState("0", True, 2, self.number, self.number + 1, 0, 0, False, 0)
        listed = [(self.number, Segment(f"https://b/{key}", timedelta(seconds=2)), True)]
        self.journal.published([Change(state, listed, AVAILABILITY, Run(0, "r", "#0"), timedelta(), key)])

    async def sweep(self, after: float = 0) -> list[str]:
        """Let time pass (monotonic, seconds), sweep, and return what was deleted by it."""
        self.monotonic += after
        self.bucket.deleted.clear()
        await self.sweeper.sweep(self.monotonic)
        return list(self.bucket.deleted)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.journal.close()


async def test_nothing_goes_before_its_availability_time(house: House) -> None:
    """What left the window goes once the longest playlist that listed it has passed, by the steady clock."""
    house.publish("live/a")
    assert await house.sweep() == []
    house.publish("live/b")
    assert await house.sweep() == []
    assert await house.sweep(after=29.9) == []
    house.publish("live/c")
    assert await house.sweep(after=0.1) == ["live/a"]
    assert await house.sweep(after=29.9) == []
    assert await house.sweep(after=0.1) == ["live/b"]
    assert await house.sweep(after=1000) == []
    assert house.sweeper.deleted == 2


async def test_a_jumping_clock_changes_nothing(house: House) -> None:
    """An hour back or forth on the wall, with the policy ``window``, deletes neither early nor never."""
    house.publish("live/a")
    house.publish("live/b")
    for jump in (HOUR, -2 * HOUR, HOUR, -HOUR):
        house.now += jump
        assert await house.sweep() == []
    house.publish("live/c")  # removed an hour ago, by the wall clock
    assert await house.sweep(after=30) == ["live/a"]
    assert await house.sweep(after=30) == ["live/b"]


async def test_a_restart_delays_but_never_hurries(house: House) -> None:
    """The next process waits the whole time again, whatever the clock did meanwhile, and then deletes."""
    house.publish("live/a")
    house.publish("live/b")
    assert await house.sweep(after=20) == []
    house.now += 24 * HOUR
    house.restart()
    assert await house.sweep(after=20) == []
    assert await house.sweep(after=29) == []
    assert await house.sweep(after=1) == ["live/a"]
    house.restart()
    assert await house.sweep(after=1000) == []
    assert await house.sweep(after=1000) == []


async def test_kept_for_a_time(house: House) -> None:
    """A duration counts from the removal, over restarts; it is never shorter than the availability time."""
    house.restart(retention=HOUR)
    house.publish("live/a")
    house.publish("live/b")
    house.now += HOUR - timedelta(seconds=1)
    assert await house.sweep(after=3599) == []
    assert await house.sweep(after=3599) == []
    house.restart(retention=HOUR)
    house.now += timedelta(seconds=1)
    assert await house.sweep() == []
    assert await house.sweep(after=30) == ["live/a"]
    house.restart(retention=timedelta(seconds=1))
    house.publish("live/c")
    house.now += HOUR
    assert await house.sweep() == []
    assert await house.sweep(after=30) == ["live/b"]


async def test_a_clock_that_was_ahead_only_delays(house: House) -> None:
    """A removal noted while the clock was an hour ahead is late by that hour, not for ever."""
    house.restart(retention=HOUR)
    house.publish("live/a")
    house.now += HOUR
    house.publish("live/b")
    house.now -= HOUR
    house.now += HOUR + timedelta(seconds=1)
    assert await house.sweep(after=3601) == []
    assert await house.sweep(after=30) == []
    house.now += HOUR
    assert await house.sweep(after=3600) == []
    assert await house.sweep(after=30) == ["live/a"]


async def test_kept_for_ever(house: House) -> None:
    """With ``keep`` nothing is ever deleted, nor by a later start with another policy."""
    house.new_sweeper(None)
    house.publish("live/a")
    house.publish("live/b")
    assert await house.sweep(after=1000) == []
    assert house.journal.removals(None, 10) == []
    house.restart()
    assert await house.sweep(after=1000) == []
    assert await house.sweep(after=1000) == []
    assert house.bucket.calls == 0


async def test_a_failure_is_tried_again(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A bucket that fails is asked again at each sweep, with one line in the log; then all is deleted."""
    house.publish("live/a")
    house.publish("live/b")
    await house.sweep()
    house.bucket.failure = StorageUnavailable("busy")
    for _ in range(3):
        assert await house.sweep(after=30) == []
    assert house.sweeper.deleted == 0
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "1 objects cannot be deleted now: busy")
    ]
    house.restart()  # it is remembered over a restart too
    await house.sweep()
    house.bucket.failure = None
    assert await house.sweep(after=30) == ["live/a"]
    assert house.bucket.calls == 4


@pytest.mark.parametrize("key", ["other/a", "livestream/a", "a", "/live/a", "live", ""])
async def test_nothing_outside_the_prefix_is_deleted(house: House, key: str) -> None:
    """Whatever the journal says, what is not below the service's own prefix is left alone, and forgotten."""
    house.publish(key)
    house.publish("live/b")
    house.publish("live/c")
    await house.sweep()
    assert await house.sweep(after=30) == ["live/b"]
    assert house.journal.removals(None, 10) == []


async def test_many_go_in_batches(house: House) -> None:
    """However many there are, one request deletes at most what the bucket's interface takes."""
    for number in range(BATCH + 500):
        house.publish(f"live/{number}")
    await house.sweep()
    assert len(await house.sweep(after=30)) == BATCH
    await house.sweep()
    assert len(await house.sweep(after=30)) == 499
    assert house.bucket.calls == 2
