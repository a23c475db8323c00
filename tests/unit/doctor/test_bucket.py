"""The objects that the doctor stores and deletes."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from broadcaster.bucket import ObjectStore
from broadcaster.doctor import bucket
from broadcaster.doctor.bucket import ProbeObjects
from broadcaster.errors import StorageUnavailable


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
