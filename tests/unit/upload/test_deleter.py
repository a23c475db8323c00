"""What has left the playlists is deleted when no player can want it any more, and nothing else ever is."""

import logging
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broadcaster.bucket import Bucket, ObjectStore
from broadcaster.bucket.conditional import BATCH
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import PlaylistState, PlaylistUpdate
from broadcaster.errors import ObjectsNotDeleted, StorageError, StorageUnavailable
from broadcaster.hls import MediaSegment
from broadcaster.service.components import jump_free_clock
from broadcaster.upload.deleter import POSTPONED, RetentionDeleter
from tests.support.fakes.pipeline_parts import START, stored_segment, unlisted

HOUR = timedelta(hours=1)
AVAILABILITY = timedelta(seconds=30)
WINDOW = timedelta()  # the policy: as long as players may want it


class FakeDeleter(ObjectStore):
    """Deletes nothing, and remembers what it was asked to delete; ``failure`` is raised instead."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.calls = 0
        self.failure: StorageError | None = None
        self.locked: set[str] = set()

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        assert deadline > 0
        assert 0 < len(keys) <= BATCH
        self.calls += 1
        if self.failure:
            raise self.failure
        self.deleted += [key for key in keys if key not in self.locked]
        if self.locked & set(keys):
            raise ObjectsNotDeleted("AccessDenied", frozenset(self.locked & set(keys)))


class House:
    """A journal whose one playlist lists one segment, a bucket, and a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.folder = folder
        self.bucket = FakeDeleter()
        self.availability = AVAILABILITY
        self.number = 0
        self.open(WINDOW)

    def clock(self) -> datetime:
        return self.now

    def open(self, retention: timedelta | None, prefix: str = "live") -> None:
        self.catalog = Catalog(self.folder, self.clock, retention)
        self.deleter = RetentionDeleter(self.bucket, self.catalog, prefix=prefix)

    def restart(self, retention: timedelta | None = WINDOW, prefix: str = "live") -> None:
        self.catalog.close()
        self.open(retention, prefix)

    def publish(self, key: str) -> None:
        """List ``key``; the one listed before leaves the window."""
        self.number += 1
        state = PlaylistState("0", True, 2, self.number, self.number + 1, 0, 0, False, 0)
        listed = [(self.number, MediaSegment(f"https://b/{key}", timedelta(seconds=2)), True)]
        segment = stored_segment(key, number=self.number)
        self.catalog.listed(
            [PlaylistUpdate(segment, state, listed, self.number, self.availability, timedelta())]
        )

    async def sweep(self, after: float = 0) -> list[str]:
        """Let time pass (seconds), sweep, and return what was deleted by it."""
        self.now += timedelta(seconds=after)
        self.bucket.deleted.clear()
        await self.deleter.sweep()
        return list(self.bucket.deleted)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.catalog.close()


class LockedBucket:
    """A client whose bucket keeps two of the objects that it is asked to delete."""

    async def delete_objects(self, **_: object) -> dict[str, list[dict[str, str]]]:
        answers = [("live/a", "AccessDenied"), ("live/b", "InternalError"), ("live/c", "NoSuchKey")]
        return {"Errors": [{"Key": key, "Code": code} for key, code in answers]}


async def test_keys_that_the_bucket_kept_are_named() -> None:
    """Of one request the keys that were not deleted are named; one that was not there was."""
    client: Any = LockedBucket()
    store = ObjectStore(client, Bucket("https://s3.example", "b", "id", "secret", None), lambda: START)
    with pytest.raises(ObjectsNotDeleted, match="AccessDenied, InternalError") as caught:
        await store.delete(["live/a", "live/b", "live/c", "live/d"], deadline=1)
    assert caught.value.keys == {"live/a", "live/b"}


async def test_nothing_goes_before_its_availability_time(house: House) -> None:
    """What left the window goes once the longest playlist that listed it has passed."""
    house.publish("live/a")
    assert await house.sweep() == []
    house.publish("live/b")
    assert await house.sweep() == []
    assert await house.sweep(after=29.9) == []
    house.publish("live/c")
    assert await house.sweep(after=0.1) == ["live/a"]
    assert await house.sweep(after=29.8) == []
    assert await house.sweep(after=0.1) == ["live/b"]
    assert await house.sweep(after=1000) == []
    assert house.deleter.deleted == 2


def test_a_jumping_clock_changes_nothing() -> None:
    """What tells when to delete begins with the wall time, and then goes on by what has really passed."""
    walls, seconds = [START], [1000.0]
    clock = jump_free_clock(lambda: walls[-1], lambda: seconds[-1])
    assert clock() == START
    walls.append(START + 24 * HOUR)
    assert clock() == START
    seconds.append(1030.0)
    assert clock() == START + AVAILABILITY
    walls.append(START - 24 * HOUR)
    assert clock() == START + AVAILABILITY


async def test_a_restart_delays_but_never_hurries(house: House) -> None:
    """The next process waits the whole time again, whatever the clock did meanwhile, and then deletes."""
    house.publish("live/a")
    house.publish("live/b")
    assert await house.sweep(after=20) == []
    house.now += 24 * HOUR
    house.restart()
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
    assert await house.sweep(after=3599) == []
    house.restart(retention=timedelta(seconds=1))  # what was decided as it left stands
    house.publish("live/c")
    assert await house.sweep(after=29) == []
    assert await house.sweep(after=1) == ["live/a", "live/b"]


async def test_a_clock_that_was_ahead_only_delays(house: House) -> None:
    """A removal noted while the clock was an hour ahead is late by that hour, not for ever."""
    house.publish("live/a")
    house.now += HOUR
    house.publish("live/b")
    house.now -= HOUR
    house.restart()
    assert await house.sweep(after=3629) == []
    assert await house.sweep(after=1) == ["live/a"]


async def test_a_smaller_window_shortens_nothing(house: House) -> None:
    """What was listed in a long playlist stays for that one's time, however many restarts ago it was."""
    house.availability = HOUR
    house.publish("live/a")
    house.restart()
    house.restart()
    house.availability = AVAILABILITY
    house.publish("live/b")
    house.publish("live/c")
    assert await house.sweep(after=3599) == ["live/b"]
    assert await house.sweep(after=1) == ["live/a"]


async def test_what_an_earlier_prefix_had_is_deleted(house: House) -> None:
    """A changed prefix leaves nothing behind in the bucket."""
    house.publish("live/a")
    house.publish("live/b")
    house.restart(prefix="other")
    house.publish("other/c")
    house.publish("other/d")
    assert await house.sweep(after=30) == ["live/a", "live/b", "other/c"]


async def test_one_that_cannot_be_deleted_blocks_no_other(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An object that the bucket keeps is set aside, said once, and tried again later."""
    house.bucket.locked = {"live/0"}
    for number in range(4):
        house.publish(f"live/{number}")
    assert await house.sweep(after=30) == ["live/1", "live/2"]
    assert unlisted(house.catalog) == ["live/0"]
    assert await house.sweep(after=30) == []
    assert house.bucket.calls == 1
    house.bucket.locked.clear()
    assert await house.sweep(after=POSTPONED.total_seconds()) == ["live/0"]
    (line,) = (record.getMessage() for record in caplog.records)
    assert re.fullmatch(r"deletions fail since \S+: AccessDenied", line)
    assert house.deleter.deleted == 3


async def test_kept_for_ever(house: House) -> None:
    """With ``keep`` nothing is ever deleted, nor by a later start with another policy."""
    house.restart(None)
    house.publish("live/a")
    house.publish("live/b")
    assert await house.sweep(after=1000) == []
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
    assert house.deleter.deleted == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.fullmatch(r"deletions fail since \S+: busy", record.getMessage())
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
    assert unlisted(house.catalog) == []


async def test_many_go_in_batches(house: House) -> None:
    """All that is due goes at once, by requests of what the bucket's interface takes."""
    for number in range(2 * BATCH + 500):
        house.publish(f"live/{number}")
    assert len(await house.sweep(after=30)) == 2 * BATCH + 499
    assert house.bucket.calls == 3
