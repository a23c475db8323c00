"""A broadcaster that stands by until it leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry

from broadcaster.bucket.lease import MARGIN
from broadcaster.catalog.records import Numbers
from broadcaster.config import Settings, load
from broadcaster.ipc.messages import Setup, State
from broadcaster.service import standby
from broadcaster.service.components import TAKEOVER
from broadcaster.upload.uploader import WarmUploads
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.lease_bucket import LeaseBucket
from tests.support.fakes.recorder_fixture import FakeObjectStore, RecorderFixture
from tests.support.waiting import eventually


def settings_of(folder: Path) -> Settings:
    return load(
        BROADCASTER_HLS_DIR=folder / "hls",
        BROADCASTER_STATE_DIR=folder / "state",
        R2_ENDPOINT_URL="http://127.0.0.1:9",
        R2_BUCKET="bucket",
        R2_ACCESS_KEY_ID="key",
        R2_SECRET_ACCESS_KEY="secret",
        R2_PUBLIC_URL="http://127.0.0.1:9/bucket",
    )


class HangingStore(FakeObjectStore):
    """A bucket that answers no question for recordings before ``answers`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def get(self, key: str, *, deadline: float) -> bytes:
        await self.answers.wait()
        return await super().get(key, deadline=deadline)

    async def objects(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        await self.answers.wait()
        async for entry in super().objects(prefix, deadline=deadline):
            yield entry


async def test_the_stream_does_not_wait_for_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby leads and lists at once, whatever the bucket has; the recording is one afterwards."""

    @asynccontextmanager
    async def no_listener(*_: object) -> AsyncIterator[str]:
        yield ""

    monkeypatch.setattr(standby, "listening", no_listener)
    bucket, before = LeaseBucket(), RecorderFixture(tmp_path / "before")
    before.restart(30 * timedelta(days=1))
    leader, own = bucket.owner("a", standby=True), bucket.owner("b", standby=True)
    before.stream.publish(count=9)
    leader.numbers = lambda: before.stream.channel.stream.numbers
    before.upload()
    await before.recorder.write()
    await leader.renew()
    await own.renew()
    rig = RecorderFixture(tmp_path / "state")
    rig.restart(30 * timedelta(days=1))
    stream, rig.store = rig.stream, HangingStore()
    rig.store.objects_ = before.store.objects_
    stream.now, stream.count = before.stream.now, before.stream.count
    bucket.seconds = 2 * bucket.ttl
    renewing, settings = asyncio.create_task(own.run()), settings_of(tmp_path)
    async with asyncio.timeout(2):
        assert await standby.stand_by(
            *(settings, stream.catalog, rig.store, own, []),
            warm=WarmUploads(rig.store, "live"),
            registry=CollectorRegistry(),
            stop=asyncio.Event(),
            setup=Setup(tmp_path),
        )
    renewing.cancel()
    assert stream.catalog.load().stream.expected == frozenset("01")
    assert stream.catalog.load().stream.end == before.stream.newest
    stream.begin()
    rig.new_recorder()

    async def is_not_behind() -> None:
        assert not stream.catalog.is_behind

    parts = standby.late_parts(
        rig.store,
        stream.catalog,
        "live",
        dict.fromkeys(("sweeper", "files", "recorder", "viewers' clips"), is_not_behind),
    )
    running = [asyncio.create_task(run()) for run in map(partial, parts.values())]
    await asyncio.sleep(0)
    stream.publish(run=MARGIN + 1, count=3)
    assert stream.channel.state is State.LIVE
    assert stream.catalog.is_behind
    rig.store.answers.set()
    await asyncio.gather(*running)
    assert [recording.duration.total_seconds() for recording in await stream.recordings()] == [24]
    before.stream.catalog.close()
    stream.catalog.close()


@pytest.mark.parametrize("how", ["reads", "writes", "hangs"])
async def test_a_leader_that_still_reads(tmp_path: Path, how: str) -> None:
    """It hands over when the bucket has its recordings, while the stream goes on, and not later than that."""
    bucket, rig = LeaseBucket(), RecorderFixture(tmp_path)
    catalog, recorder = rig.stream.catalog, rig.recorder
    leader, other = bucket.owner("a", standby=True), bucket.owner("b", standby=True)
    await leader.renew()
    catalog.begin_after(Numbers())
    if how == "writes":
        await catalog.caught_up()
        await recorder.lock.acquire()
    stop = asyncio.Event()
    with mock.patch.object(standby, "boot_time", side_effect=lambda: bucket.seconds):
        watching = asyncio.create_task(standby.watch_lead(leader, catalog, recorder, stop))
        await other.renew()
        other.want()
        await bucket.goes_by(9, other, leader)
        await asyncio.sleep(0.01)
        assert leader.must_hand_over
        assert not stop.is_set()
        if how == "reads":
            await catalog.caught_up()
        elif how == "writes":
            recorder.lock.release()
        else:
            bucket.seconds += TAKEOVER + 1

        async def renewed() -> bool:
            await leader.renew()
            return stop.is_set()

        await eventually(renewed)
    await watching
    catalog.close()


async def test_a_listener_that_closes_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lead that was won is kept, though the lease is in doubt when the listener has closed."""
    bucket = LeaseBucket()
    leader, own = bucket.owner("a", standby=True), bucket.owner("b", standby=True)
    await leader.renew()
    await own.renew()
    bucket.seconds = 2 * bucket.ttl

    @asynccontextmanager
    async def closes_slowly(*_: object) -> AsyncIterator[str]:
        yield ""
        bucket.seconds += bucket.ttl

    monkeypatch.setattr(standby, "listening", closes_slowly)
    stream, settings = CatalogFixture(tmp_path / "state"), settings_of(tmp_path)
    renewing, store = asyncio.create_task(own.run()), FakeObjectStore()
    assert await standby.stand_by(
        *(settings, stream.catalog, store, own, []),
        warm=WarmUploads(store, "live"),
        registry=CollectorRegistry(),
        stop=asyncio.Event(),
        setup=Setup(tmp_path),
    )
    renewing.cancel()
    assert stream.catalog.load().stream.first.sequence > MARGIN
    stream.catalog.close()
