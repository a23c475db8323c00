"""Whether another broadcaster works under the same prefix: found soon, and never ourselves."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from broadcaster.bucket import ObjectStore
from broadcaster.bucket.lease import ALIVE, EVERY, LeaseRecord, PrefixLease, own_name, stored_name
from broadcaster.errors import StorageUnavailable
from tests.support.fakes.pipeline_parts import START

KEY = "live/owner.json"
GONE = StorageUnavailable("no answer within 10 s")


class Bucket:
    """One object with S3's conditional writes, and the clocks of its writers.

    The next write takes effect and raises ``fault``.
    """

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.writes = 0
        self.seconds = 0.0
        self.fault: StorageUnavailable | None = None

    async def etag(self, key: str, *, deadline: float) -> str | None:
        assert (key, deadline > 0) == (KEY, True)
        return f"tag {self.writes}" if self.body else None

    async def replace(  # noqa: PLR0913 - the properties of an object
        self,
        key: str,
        body: bytes,
        *,
        etag: str | None,
        max_age: int,
        deadline: float,
        gzipped: bool = False,
    ) -> str | None:
        assert not gzipped
        assert max_age < EVERY + 1
        if etag != await self.etag(key, deadline=deadline):
            return None
        self.body = body
        self.writes += 1
        fault, self.fault = self.fault, None
        if fault:
            raise fault
        return f"tag {self.writes}"

    def owner(self, name: str) -> PrefixLease:
        return PrefixLease(
            cast("ObjectStore", self),
            "live",
            name,
            lambda: START + timedelta(seconds=self.seconds),
            lambda: self.seconds,
        )

    async def goes_by(self, *owners: PrefixLease) -> None:
        """A minute, in which each of them renews its object once."""
        self.seconds += EVERY
        for owner in owners:
            await owner.renew()


async def test_alone() -> None:
    """One that is alone, restarts, and comes back after another one has gone, has no warning."""
    bucket = Bucket()
    for name in ("a", "a", "b"):
        owner = bucket.owner(name)
        for _ in range(3):
            await bucket.goes_by(owner)
            assert owner.warning is None
        assert bucket.body
        assert LeaseRecord.parse(bucket.body) == LeaseRecord(name, START + timedelta(seconds=bucket.seconds))


async def test_two(caplog: pytest.LogCaptureFixture) -> None:
    """Both warn of the other within a minute, in one line, until a while after it has gone."""
    bucket = Bucket()
    first, second = bucket.owner("a"), bucket.owner("b")
    await bucket.goes_by(first)
    for _ in range(5):
        await bucket.goes_by(second, first)
        assert first.warning
    assert second.warning == first.warning
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [first.warning] * 2
    assert "another broadcaster writes under live/" in errors[0]
    since = bucket.seconds
    while bucket.seconds <= since + ALIVE:
        assert first.warning
        await bucket.goes_by(first)
    assert first.warning is None


async def test_an_answer_that_is_lost() -> None:
    """An object that we wrote ourselves, without an answer that it arrived, is not another broadcaster's."""
    bucket = Bucket()
    owner = bucket.owner("a")
    await bucket.goes_by(owner)
    bucket.fault = GONE
    with pytest.raises(StorageUnavailable):
        await bucket.goes_by(owner)
    await bucket.goes_by(owner)
    assert owner.warning is None


async def test_an_object_that_is_deleted() -> None:
    """Somebody who cleans the bucket is not another broadcaster; the object is written again."""
    bucket = Bucket()
    owner = bucket.owner("a")
    await bucket.goes_by(owner)
    bucket.body = None
    await bucket.goes_by(owner)
    assert owner.warning is None
    assert bucket.body


def test_the_name_lasts(tmp_path: Path) -> None:
    """It is made at the first start and kept beside the journal; where it cannot be, we start as well."""
    assert stored_name(tmp_path) is None
    name = own_name(tmp_path)
    assert own_name(tmp_path) == stored_name(tmp_path) == name
    assert own_name(tmp_path / "none") not in ("", name)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"owner": 1}', b'{"owner": "a", "at": "now"}'])
def test_what_is_no_claim(body: bytes) -> None:
    """Whatever else lies under the key is a ValueError."""
    with pytest.raises(ValueError, match="owner"):
        LeaseRecord.parse(body)
