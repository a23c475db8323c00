"""A broadcaster that stands by until it leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from broadcaster.bucket.lease import MARGIN
from broadcaster.config import load
from broadcaster.ipc.messages import Setup
from broadcaster.service import standby
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.lease_bucket import LeaseBucket
from tests.support.fakes.recorder_fixture import FakeShelf


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
    studio = CatalogFixture(tmp_path / "state")
    settings = load(
        BROADCASTER_HLS_DIR=tmp_path / "hls",
        BROADCASTER_STATE_DIR=tmp_path / "state",
        R2_ENDPOINT_URL="http://127.0.0.1:9",
        R2_BUCKET="bucket",
        R2_ACCESS_KEY_ID="key",
        R2_SECRET_ACCESS_KEY="secret",
        R2_PUBLIC_URL="http://127.0.0.1:9/bucket",
    )
    stop, setup = asyncio.Event(), Setup(tmp_path)
    renewing = asyncio.create_task(own.run())
    assert await standby.stand_by(
        settings, studio.catalog, FakeShelf(), own, [], registry=CollectorRegistry(), stop=stop, setup=setup
    )
    renewing.cancel()
    assert studio.catalog.load().stream.first.sequence > MARGIN
    studio.catalog.close()
