"""An uplink of so many bytes per second, which all connections share, and which can go away."""

import asyncio
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.faults.forwarding import pass_on
from tests.support.servers.tcp import TcpConnection, TcpServer, connected

CHUNK = 4096  # bytes
SEGMENT = 1400  # bytes: as on a real link; the loopback's of 64 KiB do not fit the buffer
BUFFER = 16_384  # bytes: what the link takes beyond what it has passed on
BURST = 0.2  # seconds for which unused bandwidth may be made up
OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER),
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT),
)


class ThrottledLink:
    """Listens on ``url`` while it is entered, before the server on ``port`` of this machine.

    ``passed`` is how many bytes of requests' bodies have gone up. While ``up`` is clear, nothing moves
    and nothing is refused. ``clock`` is what the rate is kept by.
    """

    def __init__(self, port: int, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.passed = 0
        self.up = asyncio.Event()
        self.up.set()
        self._server = TcpServer(self._serve, options=OPTIONS)
        self.url = self._server.url
        self._upstream = port
        self._rate = rate
        self._clock = clock
        self._line = asyncio.Lock()  # first come, first served: each connection gets its share
        self._free_at = 0.0

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.__aexit__(kind, error, trace)

    async def _serve(self, client: TcpConnection) -> None:
        async with connected(self._upstream) as server:
            await pass_on(client, server, self._send, self._answer)

    async def _send(self, client: TcpConnection, server: TcpConnection) -> None:
        now = self._clock
        while True:
            await self.up.wait()
            data = await client.read(CHUNK)
            if not data:
                server.end()
                return
            async with self._line:
                await self.up.wait()
                self._free_at = max(self._free_at, now() - BURST) + len(data) / self._rate
                if (ahead := self._free_at - now()) > 0:
                    await asyncio.sleep(ahead)
            head = data.index(b"\r\n\r\n") + 4 if data.startswith((b"PUT /", b"HEAD /", b"GET /")) else 0
            self.passed += len(data) - head
            await server.write(data)

    async def _answer(self, server: TcpConnection, client: TcpConnection) -> None:
        while data := await server.read(CHUNK):
            await self.up.wait()
            await client.write(data)
