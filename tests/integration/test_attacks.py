"""What strangers can do to a stream that is on: nothing that a viewer notices, and nothing to ingest."""

import asyncio
import contextlib
import os
import resource
import socket
import time
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.length import SOAK
from tests.support.servers.built_page import largest
from tests.support.servers.service import Service
from tests.support.servers.viewer_process import answered, audience_of, live, metrics
from tests.support.waiting import eventually

GARBAGE = 10**9 if SOAK else 3 * 10**7  # bytes
SURPLUS = 300  # clients more than there are places


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_unread has clients that read nothing")
@pytest.mark.takes(15)
async def test_slow_downloads_take_no_descriptor_of_ingest(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Thousands ask for a file of the page and never read on, where few files may be open."""
    wrapper = ("prlimit", "--nofile=1024:8192")
    async with live(tmp_path, bucket, wrapper=wrapper) as on:
        clients = await downloads(on.service, 5300)
        try:
            assert len(clients) == 5300
            await on.owncast.wait_for_segments(on.owncast_segments() + 3)
            figures = await metrics(on.service)
            print({name: figures[name] for name in figures if "connections" in name or "lag" in name})
            log = on.service.log.read_text()
            assert "Too many open files" not in log
            assert len(log.splitlines()) < 50
        finally:
            for client in clients:
                client.close()


async def downloads(service: Service, count: int) -> list[socket.socket]:
    """Clients that asked for the largest file and do not read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 1000)), hard))
    loop, clients = asyncio.get_running_loop(), []
    for _ in range(count):
        client = await connected(service)
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(client, b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % largest().encode())
        clients.append(client)
    return clients


@pytest.mark.takes(10)
async def test_attacks_on_a_live_stream(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Garbage without end, and every place that lasts taken: viewers are served, and nothing is lost."""
    async with live(tmp_path, bucket, BROADCASTER_MAX_CONNECTIONS="300") as on:
        before = audience_of(on.service).pid
        async with asyncio.timeout(600):
            await asyncio.gather(*(garbage(on.service, GARBAGE // 10, kind) for kind in range(10)))
        loop = asyncio.get_running_loop()
        requests = (b"/live/events", b"/live/0/playlist.m3u8?_HLS_msn=%d" % (on.watcher.last("0") + 2))
        with contextlib.ExitStack() as crowd:
            for number in range(2 * SURPLUS):
                client = crowd.enter_context(contextlib.closing(await connected(on.service)))
                with contextlib.suppress(ConnectionError):
                    await loop.sock_sendall(
                        client, b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % requests[number % len(requests)]
                    )
            began = time.monotonic()
            # In the first second those who have not asked yet have places.
            await eventually(lambda: answered(on.service), lambda status: status == 200)
            print(f"a playlist after {1000 * (time.monotonic() - began):.0f} ms, with all places taken")
            await on.owncast.wait_for_segments(on.owncast_segments() + 3)
            figures = await metrics(on.service)
        taken = sum(
            figures[f'broadcaster_long_requests{{kind="{event}"}}'] for event in ("events", "waiters")
        )
        assert taken <= 240
        assert audience_of(on.service).pid == before


async def garbage(service: Service, size: int, kind: int) -> None:
    """Send so many bytes of no sense, or of requests without a pause, and never read."""
    piece = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3000, os.urandom(80_000))[kind % 2]
    loop, sent = asyncio.get_running_loop(), 0
    while sent < size:
        with contextlib.closing(await connected(service)) as client, contextlib.suppress(OSError):
            while sent < size:
                async with asyncio.timeout(5):  # nobody reads, so it is not taken any more
                    await loop.sock_sendall(client, piece)
                sent += len(piece)
        sent += len(piece)


async def connected(service: Service) -> socket.socket:
    """A client that has not asked for anything yet."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    port = int(service.address.rpartition(":")[2])
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return client
