"""An uplink of so many bytes per second, which all connections share, and which can go away."""

import asyncio
import contextlib
import socket
from types import TracebackType
from typing import Self

from broadcaster.demo.ports import HOST, free_ports

CHUNK = 4096  # bytes
SEGMENT = 1400  # bytes: as on a real link; the loopback's of 64 KiB do not fit the buffer
BUFFER = 16_384  # bytes: what the link takes beyond what it has passed on
BURST = 0.2  # seconds for which unused bandwidth may be made up


class ThrottledLink:
    """Listens on ``url`` while it is entered, before the server on ``port`` of this machine.

    ``passed`` is how many bytes of requests' bodies have gone up. While ``up`` is clear, nothing moves
    and nothing is refused.
    """

    def __init__(self, port: int, rate: float) -> None:
        self._upstream_port = port
        (self._port,) = free_ports(1)
        self.url = f"http://{HOST}:{self._port}"
        self.passed = 0
        self.up = asyncio.Event()
        self.up.set()
        self._rate = rate
        self._line = asyncio.Lock()  # first come, first served: each connection gets its share
        self._free_at = 0.0
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._listener = socket.socket()

    async def __aenter__(self) -> Self:
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # connections inherit it
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        self._listener.setblocking(False)
        self._listener.bind((HOST, self._port))
        self._listener.listen(64)
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._accepting
        for task in (self._accepting, *self._connections):
            task.cancel()
        await asyncio.gather(self._accepting, *self._connections, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            task = asyncio.create_task(self._serve(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, client: socket.socket) -> None:
        with client, socket.socket() as server:
            client.setblocking(False)
            server.setblocking(False)
            with contextlib.suppress(OSError):  # either side went away
                await asyncio.get_running_loop().sock_connect(server, (HOST, self._upstream_port))
                forth = asyncio.create_task(self._send(client, server))
                back = asyncio.create_task(self._answer(server, client))
                try:
                    await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    forth.cancel()
                    back.cancel()
                    await asyncio.gather(forth, back, return_exceptions=True)

    async def _send(self, client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.up.wait()
            data = await loop.sock_recv(client, CHUNK)
            if not data:
                return
            async with self._line:
                await self.up.wait()
                self._free_at = max(self._free_at, loop.time() - BURST) + len(data) / self._rate
                if (ahead := self._free_at - loop.time()) > 0:
                    await asyncio.sleep(ahead)
            head = data.index(b"\r\n\r\n") + 4 if data.startswith((b"PUT /", b"HEAD /", b"GET /")) else 0
            self.passed += len(data) - head
            await loop.sock_sendall(server, data)

    async def _answer(self, server: socket.socket, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(server, CHUNK):
            await self.up.wait()
            await loop.sock_sendall(client, data)
