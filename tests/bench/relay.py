"""How long a relay takes for a segment that it has, and how much it sends in a second."""

import asyncio
import socket
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from broadcaster.demo.processes import find_program
from tests.bench.cores import CLIENT, free_port, run, this_process_on
from tests.bench.report import Figure, percentile, progress
from tests.support.servers.relay import relayed_at
from tests.support.servers.relay_origin import SmallOrigin

SIZE = 1_200_000  # bytes of a segment
HITS = 2000
WHOLE = 300


def measure() -> list[Figure]:
    """The relay on one core; its origin, which has nothing to do then, and the client on the other."""
    with tempfile.TemporaryDirectory() as folder, this_process_on(CLIENT):
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Figure]:
    origin = SmallOrigin()
    origin.size = SIZE
    port, admin_port = free_port(), free_port()
    async with origin.running():
        origin.publish(3)
        command = [find_program("broadcaster"), "relay", origin.public, "--listen", f"127.0.0.1:{port}"]
        command += ["--admin", f"127.0.0.1:{admin_port}", "--viewer", str(folder)]
        with ExitStack() as stack:
            await asyncio.to_thread(run, stack, command, port)
            async with relayed_at(port, admin_port) as relayed:
                path = (await relayed.until_last(3)).segments[-1].uri
                await relayed.get(path)
            progress("relay: hits")
            first, whole = await asyncio.to_thread(_hits, port, path)
    return [
        Figure("relay: a hit, request to first byte, p50", 1000 * percentile(first, 0.5), "ms", at_most=1),
        Figure("relay: a hit, request to first byte, p99", 1000 * percentile(first, 0.99), "ms", at_most=5),
        Figure("relay: a hit of 1.2 MB, to the last byte, p50", 1000 * percentile(whole, 0.5), "ms"),
        Figure("relay: sent on one connection", SIZE / percentile(whole, 0.5) / 1e6, "MB/s"),
    ]


def _hits(port: int, path: str) -> tuple[list[float], list[float]]:
    """Seconds to the first byte of a kilobyte of it, and to the last of all of it, each time."""
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        part = f"GET {path} HTTP/1.1\r\nHost: bench\r\nRange: bytes=0-999\r\n\r\n".encode()
        first = [_ask(connection, part, 1000)[0] for _ in range(HITS)]
        all_of_it = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        return first, [_ask(connection, all_of_it, SIZE)[1] for _ in range(WHOLE)]


def _ask(connection: socket.socket, request: bytes, size: int) -> tuple[float, float]:
    begin = time.perf_counter()
    connection.sendall(request)
    found = connection.recv(2**18)
    first = time.perf_counter() - begin
    while b"\r\n\r\n" not in found:
        found += connection.recv(2**18)
    left = size - (len(found) - found.index(b"\r\n\r\n") - 4)
    while left:
        left -= len(connection.recv(2**18))
    return first, time.perf_counter() - begin
