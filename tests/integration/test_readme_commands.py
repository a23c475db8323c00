"""The commands of README and docs/ that set up and run the service, in a clean clone."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, free_ports, poll
from tests.integration import test_systemd
from tests.support.documents import ROOT, RUN
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.length import SOAK
from tests.support.servers.service import Service
from tests.support.waiting import eventually

MINUTE = 60.0


class Reader:
    """Somebody who does what README and docs/ say, with a bucket and an HLS folder to do it with."""

    def __init__(self, folder: Path, bucket: SeaweedBucket) -> None:
        self.folder = folder
        self.clone = folder / "clone"
        self._bucket = bucket
        self._log = folder / "commands.log"
        # A test runner, or make around it, must not be seen by what is started here.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MAKE", "PYTEST", "MFLAGS"))
        }
        self._environment = {**kept, "PM2_HOME": str(folder / "pm2"), "PM2_DISCRETE_MODE": "true"}
        self.ways: dict[str, Callable[[str], Awaitable[None]]] = {
            "make demo": self._demo,
            "make test": self._collect,
            "sudo deploy/install.sh": self._seen_elsewhere,
            "sudo broadcaster check": self._seen_elsewhere,
            "make setup": self._run,
            "cp .env.example .env": self._fill_in,
            ".venv/bin/broadcaster check": self._run,
            ".venv/bin/broadcaster run": self._serve,
            "npm ci --prefix deploy/pm2": self._run,
            "deploy/pm2/node_modules/.bin/pm2 start deploy/pm2/ecosystem.config.cjs": self._pm2,
        }

    async def get_clone(self) -> None:
        """What a reader gets: what is committed, and nothing else."""
        process = await asyncio.create_subprocess_exec("git", "clone", "--quiet", ROOT, self.clone)
        assert await process.wait() == 0

    async def _run(self, command: str, within: float = 5 * MINUTE) -> None:
        with self._log.open("ab") as output:
            process = await asyncio.create_subprocess_shell(
                command, cwd=self.clone, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )
        async with asyncio.timeout(within):
            status = await process.wait()
        assert status == 0, f"{command}\n{self._log.read_text()[-3000:]}"

    async def _demo(self, command: str) -> None:
        """Until it prints its link; then Ctrl-C."""
        (port,) = free_ports(1)
        log = self.folder / "demo.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command.split(),
                f"ARGS=--port {port}",
                cwd=self.clone,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def linked() -> bool:
            assert process.returncode is None, log.read_text()
            return f"http://127.0.0.1:{port}/\n" in log.read_text().partition("Open:")[2]

        try:
            await eventually(linked, within=5 * MINUTE)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            async with asyncio.timeout(MINUTE):
                await process.wait()

    async def _collect(self, command: str) -> None:
        """All that ``make test`` does but the tests, of which this is one."""
        await self._run(f"{command} ARGS='--collect-only -q'")

    async def _seen_elsewhere(self, _: str) -> None:
        """An installation on this machine is not a test's business; one below a folder is."""
        assert asyncio.iscoroutinefunction(test_systemd.test_install_and_run)

    async def _fill_in(self, command: str) -> None:
        await self._run(command)
        service = Service(self.folder, self.folder / "hls", self._bucket)
        HlsWriter(self.folder / "hls" / "0").write(range(6))
        example = (self.clone / ".env").read_text()
        kept = [line for line in example.splitlines() if line.partition("=")[0] not in service.environment]
        ours = [f"{name}={value}" for name, value in service.environment.items()]
        (self.clone / ".env").write_text("\n".join([*kept, *ours]) + "\n")
        self._service = service

    async def _serve(self, command: str) -> None:
        child = await Child.start(
            "broadcaster", ["/bin/sh", "-c", f"cd {self.clone} && exec {command}"], self._log
        )
        try:
            await child.until(poll(self._service.answers), within=MINUTE)
        finally:
            assert await child.stop(grace=30) == 0

    async def _pm2(self, command: str) -> None:
        await self._run(command)
        try:
            await eventually(self._service.answers)
        finally:
            await self._run(f"{command.partition(' ')[0]} kill")


@pytest.mark.skipif(not SOAK, reason="make soak runs it; CI itself works in a clean clone")
async def test_the_commands_of_the_readme(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Each does what the page says of it, as far as a machine without a Cloudflare account can tell."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    reader = Reader(tmp_path, bucket)
    assert set(RUN) == set(reader.ways)
    await reader.get_clone()
    for command in RUN:
        await reader.ways[command](command)
