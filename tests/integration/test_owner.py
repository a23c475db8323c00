"""Two broadcasters on one prefix: the operator sees it everywhere, and the stream goes on."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from broadcaster.bucket import open_store
from broadcaster.bucket.lease import PrefixLease, owner_key
from broadcaster.config import load
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.service import bucket_of, serve
from tests.support.judges.check_command import examine
from tests.support.servers.service import Service
from tests.support.waiting import eventually


async def shared(service: Service) -> bool:
    """What the metric says."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.admin_address}/metrics") as response,
    ):
        return "broadcaster_prefix_shared 1.0" in await response.text()


async def test_two_broadcasters(
    tmp_path: Path, bucket: SeaweedBucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Log, ``/health``, metric and doctor name the other broadcaster while it leads, and not this one."""
    monkeypatch.setattr("broadcaster.service.components.IDLE_TTL", 2.0)
    (tmp_path / "hls").mkdir()
    service = Service(tmp_path, tmp_path / "hls", bucket)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    stop, settings = asyncio.Event(), load()
    async with open_store(bucket_of(settings)) as store, asyncio.TaskGroup() as group:
        found = await examine(tmp_path, service.environment, "--json")
        found.says("owner", "ok", "no other broadcaster", "")
        assert await store.etag(owner_key("live"), deadline=10) is None
        serving = group.create_task(serve(settings, stop))

        async def is_claimed() -> bool:
            assert not serving.done()
            return bool(await store.etag(owner_key("live"), deadline=10))

        await eventually(is_claimed)
        found = await examine(tmp_path, service.environment, "--json")
        found.says("owner", "ok", "no other broadcaster", "")
        assert not (await service.health())["warning"]
        assert not await shared(service)
        other = PrefixLease(store, "live", "other", lambda: datetime.now(UTC), ttl=lambda: 2.0)
        working = group.create_task(other.run())
        health = await eventually(service.health, lambda health: health["warning"])
        assert health["http"] == 200
        assert await shared(service)
        working.cancel()
        await eventually(service.health, lambda health: not health["warning"])
        stop.set()
        await serving
        await PrefixLease(store, "live", "third", lambda: datetime.now(UTC)).renew()
        found = await examine(tmp_path, service.environment, "--json")
        found.says("owner", "warning", "another broadcaster wrote under live/", "its own prefix (R2_PREFIX)")
    said = [record.levelname for record in caplog.records if "another broadcaster writes" in record.message]
    assert set(said) == {"ERROR"}
