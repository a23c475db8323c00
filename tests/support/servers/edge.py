"""Real nginx with the configuration that operators get, in front of a service."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import pytest

from broadcaster.demo.processes import Child, free_ports, poll
from tests.support.waiting import PATIENCE

SHIPPED = Path(__file__).parents[3] / "deploy/nginx"
CONFIGURATION = SHIPPED / "broadcaster.conf"
GATE_MODULE = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")
# One process, which cannot leave others behind when this one is killed.
AROUND = """
{modules}
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/broadcaster.conf;
}}
"""
LINE = re.compile(r'\S+ (?P<status>\d+) (?P<cache>\S+) (?P<upstream>\S+) \S+ "(?P<method>\S+) (?P<uri>\S+)"')


@dataclass(frozen=True)
class Passed:
    """A line of the log: one request, and whether the origin was asked for it."""

    status: int
    cache: str  # HIT, MISS, ...; "-" where nothing is cached
    from_origin: bool
    method: str
    uri: str


class Edge:
    """nginx at ``address``, with its cache and its log in ``folder``, which it makes.

    ``changes`` are texts of the shipped configuration, and what stands in their places. ``gate_file`` has who
    may watch a private event.
    """

    def __init__(
        self, folder: Path, changes: Mapping[str, str] | None = None, gate_file: Path | None = None
    ) -> None:
        (port,) = free_ports(1)
        self.address = f"http://127.0.0.1:{port}"
        self.error_log = folder / "error.log"
        self.folder = folder
        self.changes = changes or {}
        self.gate_file = gate_file
        self._child: Child | None = None

    async def start(self, origin: str) -> None:
        """Start it in front of ``origin`` and wait until it answers."""
        require_nginx()
        self.folder.mkdir()
        (self.folder / "broadcaster.conf").write_text(self.configuration(origin))
        main, modules = self.folder / "nginx.conf", ""
        if self.gate_file:
            require_nginx(GATE_MODULE)
            modules = f"load_module {GATE_MODULE};"
            shutil.copy(SHIPPED / "gate.js", self.folder / "broadcaster-gate.js")
            own = {
                "/etc/nginx/broadcaster-gate.js": f"{self.folder}/broadcaster-gate.js",
                "/run/broadcaster-gate/gate.json": f"{self.gate_file}",
            }
            (self.folder / "broadcaster-private.conf").write_text(shipped(own, SHIPPED / "private.conf"))
        main.write_text(AROUND.format(folder=self.folder, modules=modules))
        command: list[str | Path] = ["nginx", "-e", self.error_log, "-p", self.folder, "-c", main]
        self._child = await Child.start("nginx", command, self.folder / "output.log")
        await self._child.until(poll(self._answers), within=PATIENCE)

    def configuration(self, origin: str) -> str:
        """What operators get, here and in front of ``origin``."""
        listen, upstream = (str(urlsplit(address).netloc) for address in (self.address, origin))
        return shipped(
            {
                "listen 80;": f"listen {listen};",
                "server 127.0.0.1:3000 ": f"server {upstream} ",
                "/var/cache/nginx-broadcaster ": f"{self.folder}/cache ",
                "/var/log/nginx/broadcaster.log ": f"{self.folder}/access.log ",
                "/etc/nginx/broadcaster-private*": f"{self.folder}/broadcaster-private*",
                **self.changes,
            }
        )

    @asynccontextmanager
    async def before(self, origin: str) -> AsyncIterator[Self]:
        """It runs inside, and is stopped at the end."""
        try:
            await self.start(origin)
            yield self
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End it; its log is complete then."""
        if self._child:
            await self._child.stop()

    def log(self) -> list[Passed]:
        """All requests since the start, in the order of their ends; complete once it has stopped."""
        lines = (self.folder / "access.log").read_text().splitlines()
        found = [match for line in lines if (match := LINE.fullmatch(line))]
        assert len(found) == len(lines)
        return [
            Passed(int(line["status"]), line["cache"], line["upstream"] != "-", line["method"], line["uri"])
            for line in found
        ]

    async def _answers(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.address}/metrics"):
                return True
        except (aiohttp.ClientConnectionError, ConnectionError):
            return False


def shipped(changes: dict[str, str], file: Path = CONFIGURATION) -> str:
    """A shipped configuration with other addresses and paths, each of which must be there once."""
    text = file.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def require_nginx(module: Path | None = None) -> None:
    """Skip the test where nginx, or a module of it, is missing, but never in CI."""
    if shutil.which("nginx") and (module is None or module.is_file()):
        return
    missing = "nginx is missing (on Debian or Ubuntu: apt-get install nginx libnginx-mod-http-js)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@asynccontextmanager
async def running_edge(
    folder: Path, origin: str, changes: Mapping[str, str] | None = None, gate_file: Path | None = None
) -> AsyncIterator[Edge]:
    """An edge that runs, and is stopped at the end."""
    async with Edge(folder / "edge", changes, gate_file).before(origin) as edge:
        yield edge
