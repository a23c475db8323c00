"""The objects that the doctor stores and deletes, and what it says of a standby."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from broadcaster.bucket import ObjectStore
from broadcaster.bucket.lease import LeaseRecord
from broadcaster.doctor import bucket
from broadcaster.doctor.bucket import BucketChecks, Clients, ProbeObjects
from broadcaster.errors import ObjectNotFound, StorageUnavailable
from tests.support.fakes.pipeline_parts import START


class LateStore:
    """A bucket that stores what it was sent only after the next deletion, and does not answer."""

    def __init__(self) -> None:
        self.objects: set[str] = set()
        self._sent: list[str] = []

    async def put(self, key: str, _: bytes) -> None:
        self._sent.append(key)
        await asyncio.Event().wait()

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        assert deadline
        self.objects.difference_update(keys)
        self.objects.update(self._sent)
        self._sent.clear()


async def test_an_upload_without_an_answer_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that the bucket stores after the first deletion is deleted as well."""
    monkeypatch.setattr(bucket, "SETTLE", 0.0)
    store = LateStore()
    objects = ProbeObjects(cast("ObjectStore", store), "live")
    with pytest.raises(StorageUnavailable):
        await objects.put("uplink", 16, deadline=0.01)
    assert await objects.remove() == 1
    assert store.objects == set()


OURS = {
    "version": "2.0",
    "machine": "here",
    "R2_PUBLIC_URL": "https://cdn.example",
    "BROADCASTER_STANDBY": "True",
    "BROADCASTER_URLS": "public",
}
THEIRS = LeaseRecord("a", START - timedelta(seconds=3), standby=True, settings=OURS | {"machine": "there"})


async def test_interrupted_while_the_bucket_is_slow() -> None:
    """An interrupt does not stop the upload: its object is deleted once it is there."""
    stored = list[str]()

    class Slow:
        async def put(self, key: str, body: bytes) -> str:
            await asyncio.sleep(0.2)
            stored.append(key)
            return str(len(body))

        async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
            assert deadline > 0
            for key in keys:
                stored.remove(key)

    objects = ProbeObjects(cast("ObjectStore", Slow()), "live")
    check = asyncio.create_task(objects.put("probe", 10))
    await asyncio.sleep(0)  # it begins
    check.cancel()
    assert await objects.remove() == 1
    assert stored == []


@pytest.mark.parametrize(
    ("lease", "outcome", "message"),
    [
        (None, "ok", "nobody has led under live/ yet: .* the same bucket and prefix"),
        (THEIRS, "ok", "wrote 3.0 s ago: this one takes over"),
        (replace(THEIRS, owner="b", settings=OURS), "ok", "no other broadcaster"),
        (replace(THEIRS, owner="b"), "warning", "another machine leads with the state folder of this one"),
        (replace(THEIRS, owner="b", at=START - timedelta(hours=1)), "ok", "no other broadcaster"),
        (replace(THEIRS, at=START - timedelta(hours=1)), "ok", "does no more"),
        (replace(THEIRS, standby=False), "failed", "never stands by: it takes the lead back"),
        (replace(THEIRS, settings={}), "warning", "of an earlier release"),
        (replace(THEIRS, settings=OURS | {"version": "1.9"}), "warning", r"version \(1.9 there, 2.0 here\)$"),
        (
            replace(THEIRS, settings=OURS | {"version": "1.9", "BROADCASTER_URLS": "presigned"}),
            "failed",
            r"version \(1.9 there, 2.0 here\), BROADCASTER_URLS \(presigned there, public here\)$",
        ),
    ],
)
async def test_a_standby(lease: LeaseRecord | None, outcome: str, message: str) -> None:
    """The check says what would keep it from taking over, or makes viewers see something else then."""

    class Store:
        async def get(self, key: str, *, deadline: float) -> bytes:
            assert (key, deadline > 0) == ("live/owner.json", True)
            if lease is None:
                raise ObjectNotFound(key)
            return lease.render()

    clients = Clients(*cast("tuple[Any, ...]", (None, Store(), None, None)))
    found = await BucketChecks(clients, "https://s3.example", "live").lease("b", START, OURS)
    assert found.outcome == outcome
    assert re.search(message, found.message)
    assert bool(found.remedy) == (outcome != "ok")
