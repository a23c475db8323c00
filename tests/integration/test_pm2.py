"""The service under pm2, from the ecosystem file: a real pm2 with a home of its own."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.fakes.systemd import Ears
from tests.support.length import SOAK
from tests.support.servers.end_to_end import object_keys
from tests.support.servers.service import Service
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

FOLDER = Path(__file__).parents[2] / "deploy/pm2"
PROGRAM = FOLDER / "node_modules/.bin/pm2"
DRAIN = 25  # seconds

pytestmark = pytest.mark.skipif(not SOAK, reason="make soak runs it: test_install has systemd")


class Pm2:
    """Gives orders to a pm2 of its own; ``environment`` is what the service gets."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self._environment = {**os.environ, **environment, "PM2_HOME": str(home), "PM2_DISCRETE_MODE": "true"}

    async def order(self, *arguments: str, **environment: str) -> str:
        """Run a command of pm2 to its end, from a folder that has nothing to do with the service."""
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *arguments,
            cwd="/",
            env={**self._environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def app(self) -> dict[str, Any]:
        """What pm2 knows of the service."""
        listed = await self.order("jlist", "--silent")
        (app,) = json.loads(listed[listed.index("[") :])
        return {"pid": app["pid"], **app["pm2_env"]}


@pytest.fixture
async def service(tmp_path: Path, bucket: SeaweedBucket) -> Service:
    settings = {
        "BROADCASTER_DRAIN_SECONDS": str(DRAIN),
        "BROADCASTER_RETENTION": "keep",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }
    return Service(tmp_path, tmp_path / "hls", bucket, **settings)


@pytest.fixture
async def pm2(tmp_path: Path, service: Service) -> AsyncIterator[Pm2]:
    running = Pm2(tmp_path / "pm2", service.environment)
    yield running
    await running.order("kill")


@pytest.mark.takes(13)
async def test_pm2_starts_restarts_and_stops(
    tmp_path: Path, bucket: SeaweedBucket, service: Service, pm2: Pm2
) -> None:
    """It runs from the ecosystem file, comes back after a kill, and stops with its uploads done."""
    systemd = Ears(tmp_path / "notify")
    await pm2.order("start", str(FOLDER / "ecosystem.config.cjs"))
    assert await systemd.hear() == "READY=1"
    first = (await pm2.app())["pid"]
    os.kill(first, signal.SIGKILL)
    assert await systemd.hear() == "READY=1"
    app = await pm2.app()
    assert (app["pid"] != first, app["status"], app["restart_time"]) == (True, "online", 1)
    assert app["kill_timeout"] > DRAIN * 1000

    suspend(bucket.child)
    writer = HlsWriter(tmp_path / "hls/0")
    writer.write(range(3))
    await service.until_health(backlog=3)
    stopping = asyncio.create_task(pm2.order("stop", "broadcaster"))
    assert await systemd.hear() == "STOPPING=1"
    resume(bucket.child)
    await stopping
    app = await pm2.app()
    assert (app["status"], app["exit_code"], app["restart_time"]) == ("stopped", 0, 1)
    assert len(await object_keys(bucket)) == 3
    assert not [path for path in (tmp_path / "state/spool").rglob("*") if path.is_file()]
    systemd.close()


async def test_a_wrong_setting_is_not_tried_again(pm2: Pm2) -> None:
    """Status 2 asks for a person: pm2 leaves the service stopped."""
    await pm2.order("start", str(FOLDER / "ecosystem.config.cjs"), BROADCASTER_PORT="many")
    await eventually(pm2.app, lambda app: app["status"] == "stopped" and app.get("exit_code") == 2)
    assert (await pm2.app())["restart_time"] == 0
