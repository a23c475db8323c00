"""The edge's Worker in workerd, as miniflare runs it, in a process of its own."""

import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from broadcaster.demo.processes import Child, free_ports, poll
from broadcaster.edge import VERSION, EdgeClient, open_edge
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[3]
WORKER = ROOT / "deploy/cloudflare/worker"
PAGE = ROOT / "viewer/dist"
# Of nginx before it: workerd closes a connection that is idle for five seconds, Cloudflare does not.
BEHIND_NGINX = {"keepalive_timeout 60s;": "keepalive_timeout 2s;"}
RIG = Path(__file__).with_name("worker_rig.mjs")


class Worker:
    """A Worker at ``address``, whose state is in ``folder``.

    A ``bare`` one is the least that holds requests: a GET waits for the next PUT, and has its body; ``/held``
    says how many wait. With a ``version`` it is of a release with this version of the protocol.
    """

    def __init__(self, folder: Path, *, bare: bool = False, version: int = VERSION) -> None:
        (port,) = free_ports(1)
        self.address = f"http://127.0.0.1:{port}"
        self.key = secrets.token_urlsafe(32)
        self.log = folder / "worker.log"
        self._bare = bare
        self._version = version
        self._folder = folder
        self._port = port
        self._child: Child | None = None

    @property
    def settings(self) -> dict[str, str]:
        """What a service needs to push to it."""
        return {"BROADCASTER_EDGE_URL": self.address, "BROADCASTER_EDGE_KEY": self.key}

    async def start(self) -> None:
        """Start it on what there is in its folder, and wait until it answers."""
        require_worker()
        command: list[str | Path] = [
            "node",
            RIG,
            WORKER if self._version == VERSION else self._other_release(),
            str(self._port),
            self._folder / "state",
            self.key,
            PAGE,
            *(["bare"] if self._bare else []),
        ]
        # miniflare leaves its folder behind when it is killed.
        self._child = await Child.start("worker", command, self.log, env={"TMPDIR": str(self._folder)})
        await self._child.until(poll(self._answers), within=PATIENCE)

    def _other_release(self) -> Path:
        """A copy of the Worker, but for its version."""
        code = self._folder.with_name(f"release-{self._version}")
        code.mkdir()
        for file in WORKER.iterdir():
            if file.suffix in {".mjs", ".json"}:
                text = file.read_text()
                assert file.name != "stage.mjs" or text.count(f"const VERSION = {VERSION};") == 1
                text = text.replace(f"const VERSION = {VERSION};", f"const VERSION = {self._version};")
                (code / file.name).write_text(text)
        (code / "node_modules").symlink_to(WORKER / "node_modules")
        return code

    async def stop(self) -> None:
        """End it."""
        if self._child:
            await self._child.stop()

    async def kill(self) -> None:
        """End it at once, with workerd."""
        assert self._child
        await self._child.kill()

    def suspend(self) -> None:
        """Let it hang: connections stay open without answers."""
        assert self._child
        os.killpg(self._child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._child
        os.killpg(self._child.pid, signal.SIGCONT)

    async def evict(self) -> None:
        """Throw the Stage out of memory, with all requests that it holds."""
        async with aiohttp.ClientSession() as session, session.post(f"{self.address}/rig/evict") as response:
            assert response.status == 204

    async def asked(self) -> dict[str, int]:
        """How often the Stage was asked for each path since its start."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.address}/rig/asked") as response:
            counts: dict[str, int] = await response.json()
            return counts

    @asynccontextmanager
    async def client(self, key: str = "") -> AsyncIterator[EdgeClient]:
        """A client with the Worker's key, or another."""
        async with open_edge(self.address, key or self.key) as client:
            yield client

    async def _answers(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.address}/{'held' if self._bare else 'live/events/now'}") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientConnectionError, ConnectionError):
            return False


def require_worker() -> None:
    """Skip the test where miniflare is missing, but never in CI."""
    if (WORKER / "node_modules/miniflare").is_dir() and shutil.which("node"):
        return
    missing = "miniflare is missing: make test installs it"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@asynccontextmanager
async def running_worker(
    folder: Path, *, bare: bool = False, version: int = VERSION
) -> AsyncIterator[Worker]:
    """A Worker that runs, and is stopped at the end."""
    worker = Worker(folder / ("bare" if bare else "worker"), bare=bare, version=version)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.stop()
