"""A TCP server on raw sockets, which owns each connection from the call that accepts it.

``asyncio.start_server`` needs several turns of the event loop to hand an accepted connection to its handler,
and several to close its socket. A server that is closed meanwhile leaves the connection open. Here one
callback accepts and registers a connection, and ``close`` closes the sockets itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from broadcaster.demo.processes import HOST, free_ports

CHUNK = 65_536  # bytes
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


class TcpConnection:
    """A connected socket with a buffer for what was read ahead. Reads raise EOFError at its end."""

    def __init__(self, raw: socket.socket) -> None:
        raw.settimeout(0)
        self.raw = raw
        self._buffer = b""

    async def read(self, most: int = CHUNK) -> bytes:
        """The next bytes; empty at the end."""
        if not self._buffer:
            return await asyncio.get_running_loop().sock_recv(self.raw, most)
        found, self._buffer = self._buffer[:most], self._buffer[most:]
        return found

    async def read_until(self, end: bytes) -> bytes:
        """The bytes up to ``end``, included."""
        while end not in self._buffer:
            self._buffer += await self._more()
        length = self._buffer.index(end) + len(end)
        return await self.read(length)

    async def read_exactly(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        pieces = list[bytes]()
        while size:
            data = await self.read(min(size, CHUNK))
            if not data:
                raise EOFError
            pieces.append(data)
            size -= len(data)
        return b"".join(pieces)

    async def read_all(self) -> None:
        """Read to the end and discard the bytes."""
        while await self.read():
            pass

    async def write(self, data: bytes) -> None:
        """Send all bytes."""
        await asyncio.get_running_loop().sock_sendall(self.raw, data)

    def end(self) -> None:
        """Send FIN; answers can still be read."""
        with contextlib.suppress(OSError):
            self.raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Make the owner's close send RST."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async def _more(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.raw, CHUNK)
        if not data:
            raise EOFError
        return data


Handler = Callable[[TcpConnection], Coroutine[Any, Any, None]]


class TcpServer:
    """Serves each connection with ``handler`` while it is entered, at ``url``, on one port.

    ``options`` are set on the listener, whose connections inherit them. A handler may end with OSError or
    EOFError; any other exception is raised on exit.
    """

    def __init__(self, handler: Handler, *, options: Sequence[tuple[int, int, int]] = ()) -> None:
        (self.port,) = free_ports(1)  # no outgoing connection can take it while nobody listens
        self._handler = handler
        self._options = options
        self._listener: socket.socket | None = None
        self._open: dict[asyncio.Task[None], TcpConnection] = {}
        self._failures: list[BaseException] = []

    @property
    def is_serving(self) -> bool:
        """Whether the server accepts connections."""
        return self._listener is not None

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        if self._failures and not error:
            raise self._failures[0]

    def listen(self) -> None:
        """Accept connections, always on the same port."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in self._options:
            self._listener.setsockopt(*option)
        self._listener.settimeout(0)
        self._listener.bind((HOST, self.port))
        self._listener.listen(128)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def close(self, *, reset: bool = False) -> None:
        """Stop accepting and close all connections; ``reset`` with RST."""
        if self._listener:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task, connection in self._open.items():
            if reset:
                connection.reset()
            task.cancel()
        await self.finished()

    async def finished(self) -> None:
        """Wait until all handlers have ended and their connections are closed."""
        tasks = list(self._open)
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            self._ended(task)

    def _accept(self) -> None:
        """Accept and register in one step: nothing else runs between."""
        assert self._listener is not None
        try:
            raw, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        connection = TcpConnection(raw)
        task = asyncio.create_task(self._handler(connection))
        self._open[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if connection := self._open.pop(task, None):
            connection.raw.close()
            error = None if task.cancelled() else task.exception()
            if error and not isinstance(error, OSError | EOFError):
                self._failures.append(error)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[TcpConnection]:
    """A connection to a loopback port."""
    with socket.socket() as raw:
        connection = TcpConnection(raw)
        await asyncio.get_running_loop().sock_connect(raw, (HOST, port))
        yield connection
