"""Clients that send requests without a pause and read no answer."""

import asyncio
import base64
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psutil

BLOCKED = 0.1  # seconds after which a client that cannot send any more begins another connection
PIECE = 100_000  # bytes that a client sends at once
MEBIBYTE = 2**20
LOOK_EVERY = 0.05  # seconds


def get(path: str, method: str = "GET", fields: str = "") -> bytes:
    """A request."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()


def large_fields(path: str) -> bytes:
    """A request with as many header fields as will be read."""
    return get(path, fields="".join(f"X-{number}: {'x' * 3900}\r\n" for number in range(60)))


def upgraded(path: str) -> tuple[bytes, bytes]:
    """The request for a WebSocket, and pings on it."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
    return get(path, fields=fields + "Sec-WebSocket-Version: 13\r\n"), b"\x89\xfd" + bytes(4) + b"p" * 125


class Unread:
    """How many bytes the clients have sent, and by how much the memory of a process grew meanwhile."""

    def __init__(self, process: psutil.Process) -> None:
        self.sent = 0
        self._process = process
        self._before = self._most = process.memory_info().rss

    @property
    def growth(self) -> float:
        """At most, in MiB."""
        return (self._most - self._before) / MEBIBYTE

    async def look(self) -> None:
        """Keep looking, until cancelled."""
        while True:
            self._most = max(self._most, self._process.memory_info().rss)
            await asyncio.sleep(LOOK_EVERY)

    async def send(self, port: int, first: bytes, then: bytes, size: int, until: float) -> None:
        """Send ``first``, and ``then`` again and again, on connections that stay open while there is time."""
        loop, piece, sent = asyncio.get_running_loop(), then * max(1, PIECE // len(then)), 0
        with contextlib.ExitStack() as stack:
            while time.monotonic() < until and sent < size:
                client = stack.enter_context(contextlib.closing(socket.socket()))
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                with contextlib.suppress(OSError, TimeoutError):
                    await loop.sock_connect(client, ("127.0.0.1", port))
                    await loop.sock_sendall(client, first)
                    while time.monotonic() < until and sent < size:
                        async with asyncio.timeout(BLOCKED):
                            await loop.sock_sendall(client, piece)
                        sent += len(piece)
                        self.sent += len(piece)
                await asyncio.sleep(0)


@asynccontextmanager
async def unread(
    process: psutil.Process, port: int, requests: Sequence[tuple[bytes, bytes]], *, size: int, seconds: float
) -> AsyncIterator[Unread]:
    """Send so many bytes, or for so many seconds, while inside; at the end all is sent."""
    attack, until = Unread(process), time.monotonic() + seconds
    looking = asyncio.create_task(attack.look())
    try:
        async with asyncio.TaskGroup() as group:
            for first, then in requests:
                group.create_task(attack.send(port, first, then, size // len(requests), until))
            yield attack
    finally:
        looking.cancel()
