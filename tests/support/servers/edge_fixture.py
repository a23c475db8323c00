"""The public application with an edge before it, and somebody who asks there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from broadcaster.demo.processes import free_ports
from broadcaster.http import listening
from tests.support.fakes.viewer_app import ViewerApp
from tests.support.servers.edge import Edge, running_edge


@dataclass
class Front:
    """An edge, the site behind it, and somebody who asks."""

    site: ViewerApp
    edge: Edge
    session: aiohttp.ClientSession
    origin: str = ""  # the address of the site itself

    async def get(self, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body as it came, and headers."""
        url = URL(self.edge.address + path, encoded=True)  # as it is spelt
        async with self.session.get(url, headers=headers) as response:
            return response.status, await response.read(), dict(response.headers)

    def asked(self, status: int = 200) -> float:
        """How many requests for media playlists the site has answered so."""
        value = self.site.registry.get_sample_value(
            "broadcaster_requests_total", {"route": "media_playlist", "status": str(status)}
        )
        return value or 0

    async def somebody_waits(self) -> bool:
        names = ("broadcaster_waiters", "broadcaster_held_events")
        return any(self.site.registry.get_sample_value(name) for name in names)


@asynccontextmanager
async def serving(site: ViewerApp, port: int) -> AsyncIterator[None]:
    async with listening(site.app, "127.0.0.1", port, "the test's port"):
        yield


@asynccontextmanager
async def running_front(tmp_path: Path, site: ViewerApp) -> AsyncIterator[Front]:
    """All three, at work."""
    (port,) = free_ports(1)
    async with (
        serving(site, port),
        running_edge(tmp_path, f"http://127.0.0.1:{port}") as edge,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield Front(site, edge, session)
