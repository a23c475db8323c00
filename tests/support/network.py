"""A network of the test's own, and a way to cut one connection in it."""

import asyncio
import contextlib
import ctypes
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
LINKS = (
    "link set lo up",
    "link add v0 type veth peer name v1",
    "addr add 10.99.0.1/24 dev v0",
    "link set v0 up",
    "link set v1 up",
    "route add default dev v0",
)


@contextmanager
def own_network() -> Iterator[None]:
    """What is started inside has loopback and one more interface, which goes nowhere, and nothing else.

    A headless Chromium makes data channels only where there is an interface besides loopback. Raises OSError
    where namespaces are not to be had: it takes CAP_SYS_ADMIN.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    with Path("/proc/thread-self/ns/net").open() as before:
        check(libc.unshare(CLONE_NEWNET))
        try:
            for link in LINKS:
                subprocess.run(["ip", *link.split()], check=True)
            yield
        finally:
            check(libc.setns(before.fileno(), CLONE_NEWNET))


class Relay:
    """Passes connections on to a port of this machine, until it is closed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Cut every connection, and take no more."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[tuple[Relay, int]]:
    """A relay at work, and its port."""
    relay = Relay(port)
    own = await relay.start()
    try:
        yield relay, own
    finally:
        await relay.close()
