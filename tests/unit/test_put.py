"""What a PUT sends, and when it is given up, with a server that does what the test says."""

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator

import pytest

from broadcaster.demo.tcp import Connection, Handler, TcpServer
from broadcaster.errors import StorageUnavailable
from broadcaster.storage import Bucket, ObjectStore, open_store

BODY = bytes(range(256)) * 16_384  # 4 MiB: more than the kernel takes for a server that does not read
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, seconds in (("store", "STALL", 0.5), ("body", "STALL", 0.5), ("body", "LOOK", 0.02)):
        monkeypatch.setattr(f"broadcaster.storage.{module}.{name}", seconds)


@contextlib.asynccontextmanager
async def store_at(serve: Handler) -> AsyncIterator[ObjectStore]:
    async with TcpServer(serve, options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)]) as server:
        async with open_store(Bucket(server.url, "bucket", "key", "secret", server.url)) as store:
            yield store
        async with asyncio.timeout(60):
            await server.finished()


def answer(etag: str, *more: str) -> bytes:
    lines = ("HTTP/1.1 200 OK", f'ETag: "{etag}"', "Content-Length: 0", *more)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_what_is_sent() -> None:
    """One head with the length, neither chunked nor signed nor waited for, then the bytes."""
    heads = []
    bodies = []

    async def take(client: Connection) -> None:
        heads.append((await client.read_until(b"\r\n\r\n")).decode().lower())
        bodies.append(await client.read_exactly(len(BODY)))
        await client.write(answer(MD5))

    async with store_at(take) as store:
        assert await store.put("live/a.ts", BODY) == hashlib.sha256(BODY).hexdigest()
        assert store.sent == len(BODY)
    assert bodies == [BODY]
    (head,) = heads
    assert f"\r\ncontent-length: {len(BODY)}\r\n" in head
    assert "content-md5" not in head  # it would have to be known before the first byte leaves
    assert "\r\nx-amz-content-sha256: unsigned-payload\r\n" in head
    assert "\r\ncontent-type: video/mp2t\r\n" in head
    assert "transfer-encoding" not in head
    assert "expect" not in head


async def test_a_connection_that_was_closed_meanwhile() -> None:
    """The client sends the bytes once more by itself: what they add up to is counted anew."""
    connections = 0

    async def take(client: Connection) -> None:
        nonlocal connections
        connections += 1
        await client.read_until(b"\r\n\r\n")
        await client.read_exactly(len(BODY))
        await client.write(answer(MD5))
        if connections == 1:
            await client.read_until(b"\r\n\r\n")
            await client.read_exactly(len(BODY) // 2)

    async with store_at(take) as store:
        for _ in range(2):
            assert await store.put("live/a.ts", BODY) == hashlib.sha256(BODY).hexdigest()
    assert connections == 2


@pytest.mark.usefixtures("short_patience")
async def test_a_server_that_takes_no_bytes() -> None:
    """When nothing moves any more, the attempt ends, and what the kernel still has of it is not sent."""
    given_up = asyncio.Event()

    async def stop(client: Connection) -> None:
        await given_up.wait()
        with pytest.raises(ConnectionResetError):  # and not the rest of it, and then its end
            await client.read_all()

    async with store_at(stop) as store:
        with pytest.raises(StorageUnavailable, match="no bytes get through for"):
            await store.put("live/a.ts", BODY)
        assert store.sent < len(BODY)
        given_up.set()


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all the bytes are there, its answer is waited for on its own terms."""
    for patience in ("LOOK", "ANSWER"):
        monkeypatch.setattr(f"broadcaster.storage.body.{patience}", 0.1)

    async def take(client: Connection) -> None:
        await client.read_until(b"\r\n\r\n")
        await client.read_exactly(len(BODY))
        with pytest.raises(ConnectionResetError):
            await client.read_all()

    async with store_at(take) as store:
        with pytest.raises(StorageUnavailable, match="no answer within"):
            await store.put("live/a.ts", BODY)
        assert store.sent == len(BODY)


@pytest.mark.parametrize(
    ("etag", "more", "fault"),
    [
        (MD5, (), None),
        ("0" * 32, (), "other bytes"),
        ("0" * 32 + "-1", (), None),  # of parts: no MD5
        ("0" * 32, ("x-amz-server-side-encryption: aws:kms",), None),
    ],
)
async def test_other_bytes_in_the_bucket(etag: str, more: tuple[str, ...], fault: str | None) -> None:
    """An ETag that is an MD5 must be that of what was sent; else the attempt has failed."""

    async def take(client: Connection) -> None:
        await client.read_until(b"\r\n\r\n")
        await client.read_exactly(len(BODY))
        await client.write(answer(etag, *more))

    async with store_at(take) as store:
        failing = pytest.raises(StorageUnavailable, match=fault) if fault else contextlib.nullcontext()
        with failing:
            await store.put("live/a.ts", BODY)
