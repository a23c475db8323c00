"""A crawl of the public listener by somebody who means no good."""

import asyncio
import base64
import contextlib
import itertools
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.own_files import VIEWER_DIR
from tests.integration.hostile_requests import hostile_requests
from tests.support import waiting
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.length import SOAK
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

AT_ONCE = 40
PATIENCE, IDLE = 3.0, 1.0  # seconds for the first byte, and for each of the others
SECRET = b"the quick brown fox has a secret"
SOCKETS = 300
MEBIBYTE = 2**20
STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.MULTILINE)


async def answer(port: int, request: bytes) -> bytes:
    """Everything that comes back on a connection of its own, until it is over or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b""
    with contextlib.closing(writer), contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(request)
        async with asyncio.timeout(PATIENCE) as patience:
            while data := await reader.read(65_536):
                body += data
                patience.reschedule(asyncio.get_running_loop().time() + IDLE)
    return body


async def crawl(
    port: int, every: int = 1, excused: Callable[[int, bytes], bool] = lambda *_: False
) -> dict[int, int]:
    """Send them all, or one of so many; returns how often each status came.

    ``excused`` says of a status and its request whether another program than ours answers so.
    """
    places, statuses = asyncio.Semaphore(AT_ONCE), dict[int, int]()

    async def ask(request: bytes) -> None:
        async with places:
            body = await answer(port, request)
        for status in map(int, STATUS.findall(body)):
            statuses[status] = statuses.get(status, 0) + 1
            assert status < 500 or excused(status, request), (status, request[:300])
        assert SECRET not in body, request[:300]
        assert b"root:x:0" not in body, request[:300]
        assert b"broadcaster_requests_total" not in body, request[:300]
        assert b"Traceback" not in body, request[:300]

    async with asyncio.TaskGroup() as group:
        for request in itertools.islice(hostile_requests(), None, None, every):
            group.create_task(ask(request))
    assert sum(statuses.values()) > 1500 / every  # the others never finish, and get no answer
    return statuses


async def flood_tracker(address: str) -> None:
    """Sockets that say nothing of sense, all at once."""

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        with contextlib.suppress(aiohttp.ClientError):  # turned away
            async with session.ws_connect(f"{address}/live/tracker") as socket:
                await socket.send_str("{" * number)
                await socket.send_bytes(secrets.token_bytes(100 * number))
                await socket.send_str('{"action":"announce","info_hash":"' + "x" * 100_000)
                await socket.receive(timeout=waiting.PATIENCE)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(ask(session, number) for number in range(SOCKETS)))


async def half_sockets(port: int) -> None:
    """Upgrades that are never used."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    request = (
        f"GET /live/tracker HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await asyncio.gather(*(answer(port, request.encode() + b"\xff" * 50) for _ in range(SOCKETS)))


def prepare(tmp_path: Path) -> tuple[Path, Path]:
    """An HLS folder with a stream, and a page beside which there is something that nobody shall see."""
    viewer, hls = tmp_path / "viewer" / "dist", tmp_path / "hls"
    shutil.copytree(VIEWER_DIR, viewer)
    for folder in (tmp_path, viewer.parent):
        (folder / "secret.txt").write_bytes(SECRET)
        (folder / ".env").write_bytes(SECRET)
    HlsWriter(hls / "0").write(range(6))
    return viewer, hls


@pytest.mark.takes(10)
async def test_a_hostile_crawl(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Whatever is asked: no 5xx, no file outside the page, no traceback, bounded memory; players play on."""
    viewer, hls = prepare(tmp_path)
    assert sum(1 for _ in hostile_requests()) >= 2000
    settings = {"BROADCASTER_VIEWER_DIR": str(viewer), "BROADCASTER_RECORDINGS": "keep"}
    settings["BROADCASTER_VIEWER_CLIPS"] = "true"
    async with running_service(tmp_path, hls, bucket, **settings) as service:
        await plays(service)
        HlsWriter(hls / "0").playlist(range(6), ended=True)  # that nothing more comes is no failure then
        port = int(service.address.rpartition(":")[2])
        assert service.child
        process = psutil.Process(service.child.pid)
        await crawl(port, every=10)  # whatever is made only once
        before = process.memory_info().rss / MEBIBYTE
        statuses = await crawl(port, every=1 if SOAK else 2)
        await flood_tracker(service.address)
        await half_sockets(port)
        growth = process.memory_info().rss / MEBIBYTE - before
        print(f"statuses {dict(sorted(statuses.items()))}, memory grew by {growth:.1f} MiB")
        assert growth < 30
        await plays(service)
    assert "Traceback" not in service.log.read_text()


async def plays(service: Service) -> None:
    """Wait until a player would get the stream."""

    async def listed() -> bool:
        url = f"{service.address}/live/0/playlist.m3u8"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200

    await eventually(listed)
