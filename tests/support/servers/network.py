"""A network of the test's own, and a way to cut one connection in it."""

import ctypes
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.support.faults.forwarding import pass_on
from tests.support.servers.tcp import TcpConnection, TcpServer, connected

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
        self.server = TcpServer(self._serve)
        self._target = port

    async def close(self) -> None:
        """Cut every connection, and take no more."""
        await self.server.close(reset=True)

    async def _serve(self, client: TcpConnection) -> None:
        async with connected(self._target) as server:
            await pass_on(client, server)


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[tuple[Relay, int]]:
    """A relay at work, and its port."""
    relay = Relay(port)
    async with relay.server:
        yield relay, relay.server.port
