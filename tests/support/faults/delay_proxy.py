"""A server that is far away: each request reaches it so many seconds later.

``python -m tests.support.faults.delay_proxy PORT SECONDS`` prints the port it listens on.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

from tests.support.faults.forwarding import pass_on
from tests.support.servers.tcp import TcpConnection, TcpServer, connected

CHUNK = 2**18  # bytes


class DelayProxy:
    """Before the server on ``port``; ``requests`` counts them, ``on_request`` is called with each count."""

    def __init__(self, port: int, delay: float) -> None:
        self.requests = 0
        self.on_request: Callable[[int], None] = lambda _: None
        self._upstream = port
        self._delay = delay

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address."""
        async with TcpServer(self._serve) as server:
            yield server.url

    async def _serve(self, client: TcpConnection) -> None:
        async with connected(self._upstream) as server:
            await pass_on(client, server, self._send)

    async def _send(self, client: TcpConnection, server: TcpConnection) -> None:
        while data := await client.read(CHUNK):
            self.requests += 1
            self.on_request(self.requests)
            await asyncio.sleep(self._delay)
            await server.write(data)
        server.end()


async def _main(port: int, delay: float) -> None:
    async with DelayProxy(port, delay).running() as url:
        print(url.rpartition(":")[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)  # as long as somebody holds it


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
