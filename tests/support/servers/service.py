"""The service as an operator runs it: a process of its own, settings in its environment."""

import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, find_program, free_ports, poll
from tests.support.servers.prepared import start_broadcaster
from tests.support.waiting import PATIENCE, eventually

PUSH_KEY = "a-key-of-an-encoder"


def push_settings(port: int) -> dict[str, str]:
    """The settings with which encoders push to the service at this port, and there is no folder."""
    return {
        "BROADCASTER_HLS_DIR": "",
        "BROADCASTER_SOURCE": "push",
        "BROADCASTER_PUSH_PORT": str(port),
        "BROADCASTER_PUSH_KEY": PUSH_KEY,
    }


def push_url(port: int) -> str:
    """Where files are pushed to at this port; it has the key."""
    return f"http://127.0.0.1:{port}/ingest/{PUSH_KEY}"


class Service:
    """``broadcaster run`` against a bucket; ``settings`` overrule and complete its environment.

    ``wrapper`` is a command that runs it; without a wrapper ``start_broadcaster`` makes a copy.
    """

    def __init__(
        self,
        folder: Path,
        hls_dir: Path,
        bucket: SeaweedBucket,
        wrapper: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self.command = [*wrapper, find_program("broadcaster"), "run"]
        port, admin_port = free_ports(2)
        self.address = f"http://127.0.0.1:{port}"
        self.admin_address = f"http://127.0.0.1:{admin_port}"
        self.log = folder / "broadcaster.log"
        self.environment = {
            "BROADCASTER_HLS_DIR": str(hls_dir),
            "BROADCASTER_STATE_DIR": str(folder / "state"),
            "BROADCASTER_PORT": str(port),
            "BROADCASTER_ADMIN_PORT": str(admin_port),
            "R2_ENDPOINT_URL": bucket.endpoint_url,
            "R2_BUCKET": bucket.bucket,
            "R2_ACCESS_KEY_ID": bucket.access_key_id,
            "R2_SECRET_ACCESS_KEY": bucket.secret_access_key,
            "R2_PUBLIC_URL": bucket.public_url,
            "R2_PREFIX": "live",
            "SSL_CERT_FILE": os.devnull,  # nothing here is signed by one: to read them all takes 70 ms
            "BROADCASTER_PICTURES": "off",  # what a machine has beside us makes no difference
            **settings,
        }
        self.child: Child | None = None
        self._commands = itertools.count(1)

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.child = await start_broadcaster(self.command, self.log, self.environment)
        await self.child.until(poll(self.answers), within=120)

    async def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.child
        return await self.child.stop(grace=30)

    async def kill(self) -> None:
        """SIGKILL."""
        assert self.child
        await self.child.kill()

    async def manage(self, *arguments: str) -> str:
        """What the command line says, as the operator runs it."""
        output = self.log.with_name(f"command-{next(self._commands)}.log")
        child = await start_broadcaster([find_program("broadcaster"), *arguments], output, self.environment)
        try:
            assert await child.wait() == 0, output.read_text()
        finally:
            await child.kill()
        return output.read_text()

    async def health(self) -> dict[str, object]:
        """What ``/health`` tells the operator; the HTTP status is under ``http``."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.admin_address}/health") as response,
        ):
            return {**await response.json(), "http": response.status}

    async def until_health(self, *, within: float = PATIENCE, **wanted: object) -> dict[str, object]:
        """Wait until ``/health`` says so."""
        return await eventually(self.health, lambda health: wanted.items() <= health.items(), within=within)

    async def answers(self) -> bool:
        try:
            await self.health()
        except (aiohttp.ClientConnectionError, ConnectionError, TimeoutError):
            return False
        return True


@asynccontextmanager
async def running_service(
    folder: Path, hls_dir: Path, bucket: SeaweedBucket, wrapper: Sequence[str] = (), **settings: str
) -> AsyncIterator[Service]:
    """A service that runs, and is stopped at the end."""
    service = Service(folder, hls_dir, bucket, wrapper, **settings)
    try:
        await service.start()
        yield service
    finally:
        if service.child:
            await service.stop()
