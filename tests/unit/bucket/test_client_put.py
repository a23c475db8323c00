"""What a PUT sends, and when it is given up, with a server that does what the test says."""

import asyncio
import contextlib
import hashlib
import re
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.parsers import ResponseParserError

from broadcaster.bucket import Bucket, ObjectStore, open_store
from broadcaster.bucket.client import classify_error
from broadcaster.bucket.session import session
from broadcaster.errors import StorageUnavailable
from tests.support.servers.tcp import Handler, TcpConnection, TcpServer

BODY = bytes(range(256)) * 16_384  # 4 MiB: more than the kernel takes for a server that does not read
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, seconds in (("client", "STALL", 0.5), ("body", "STALL", 0.5), ("body", "LOOK", 0.02)):
        monkeypatch.setattr(f"broadcaster.bucket.{module}.{name}", seconds)


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

    async def take(client: TcpConnection) -> None:
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

    async def take(client: TcpConnection) -> None:
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

    async def stop(client: TcpConnection) -> None:
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
        monkeypatch.setattr(f"broadcaster.bucket.body.{patience}", 0.1)

    async def take(client: TcpConnection) -> None:
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
        (MD5, ("Content-Type: text/html",), None),  # as moto answers
        ("0" * 32, ("x-amz-server-side-encryption: aws:kms",), None),
    ],
)
async def test_other_bytes_in_the_bucket(etag: str, more: tuple[str, ...], fault: str | None) -> None:
    """An ETag that is an MD5 must be that of what was sent; else the attempt has failed."""

    async def take(client: TcpConnection) -> None:
        await client.read_until(b"\r\n\r\n")
        await client.read_exactly(len(BODY))
        await client.write(answer(etag, *more))

    async with store_at(take) as store:
        failing = pytest.raises(StorageUnavailable, match=fault) if fault else contextlib.nullcontext()
        with failing:
            await store.put("live/a.ts", BODY)


PORTAL = "<!DOCTYPE html><title>Welcome to our hotel</title>"


@pytest.mark.parametrize(
    "head",
    [
        "",
        "ETag: \r\n",
        'ETag: ""\r\n',
        "Content-Type: text/html\r\n",
        f'Content-Type: text/html; charset=utf-8\r\nETag: "{MD5}"\r\n',
    ],
    ids=["none", "empty", "empty quotes", "page", "page with an ETag"],
)
async def test_what_answers_is_no_bucket(head: str) -> None:
    """A 200 without an ETag, or with a page, stores nothing, no segment and no playlist."""

    async def take(client: TcpConnection) -> None:
        while request := (await client.read_until(b"\r\n\r\n")).decode().lower():
            size = int(request.partition("content-length: ")[2].partition("\r\n")[0])
            await client.read_exactly(size)
            await client.write(
                f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(PORTAL)}\r\n\r\n{PORTAL}".encode()
            )

    async with store_at(take) as store:
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="without an ETag: the answer is not from a bucket"):
                await store.put("live/a.ts", b"x")
        if MD5 not in head:
            with pytest.raises(StorageUnavailable):
                await store.replace("live/a.m3u8", b"x", etag=None, max_age=1, deadline=5)


async def test_settings_of_other_programs_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Profiles, files and variables of AWS, torn or strange, are not ours."""
    torn, strange = tmp_path / "torn", tmp_path / "strange"
    torn.write_text("[default\nregion")
    strange.write_text(
        "[default]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:1\nuse_fips_endpoint = true\n"
        "s3 =\n  addressing_style = virtual\n  use_accelerate_endpoint = true\n"
    )
    (home := tmp_path / "home").mkdir()
    (home / ".aws").mkdir()
    (home / ".aws/config").write_text("[profile x\n")
    (home / ".aws/models").touch()
    where = Bucket("http://127.0.0.1:9", "bucket", "our-key", "secret", None, timedelta(minutes=1))
    said = []
    for ambient in (
        {},
        {"AWS_PROFILE": "none", "HOME": str(home)},
        {"AWS_DEFAULT_PROFILE": "none", "AWS_CONFIG_FILE": str(strange)},
        {"AWS_CONFIG_FILE": str(torn), "AWS_SHARED_CREDENTIALS_FILE": str(torn)},
        {"AWS_CONFIG_FILE": str(strange), "AWS_SESSION_TOKEN": "theirs", "AWS_ACCESS_KEY_ID": "theirs"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_USE_FIPS_ENDPOINT": "true", "AWS_REGION": "x"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_RETRY_MODE": "nonsense", "AWS_MAX_ATTEMPTS": "many"},
        {"AWS_DEFAULTS_MODE": "nonsense", "AWS_REQUEST_CHECKSUM_CALCULATION": "nonsense"},
        {"AWS_CA_BUNDLE": "/nowhere", "AWS_DATA_PATH": str(torn)},
    ):
        with monkeypatch.context() as patch:
            for name, value in ambient.items():
                patch.setenv(name, value)
            session.cache_clear()
            async with open_store(where) as store:
                url = await store.url("live/a.ts")
                config: Any = store._client.meta.config  # noqa: SLF001
        url = re.sub(r"X-Amz-(Date|Signature)=\w+", "", url)
        said.append((url, str(config.s3), str(config.retries), config.region_name))
    session.cache_clear()
    assert said[0][0].startswith("http://127.0.0.1:9/bucket/live/a.ts?")
    assert "our-key" in said[0][0]
    assert "ecurity-Token" not in said[0][0]
    assert set(said) == {said[0]}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TypeError("a secret"), "our own code fails (TypeError); please report this"),
        (AttributeError("a secret"), "our own code fails (AttributeError); please report this"),
        (KeyError("ETag"), "the answer is not from a bucket (KeyError)"),
        (aiohttp.ServerDisconnectedError(), "cannot be reached (ServerDisconnectedError)"),
        (EndpointConnectionError(endpoint_url="http://b"), "cannot be reached (EndpointConnectionError)"),
        (ResponseParserError("<html>"), "cannot be reached (ResponseParserError)"),
        (ConnectionResetError(), "cannot be reached (ConnectionResetError)"),
    ],
)
def test_whose_fault_it_is(error: Exception, message: str, caplog: pytest.LogCaptureFixture) -> None:
    """A defect of our own is not called the network's; the log says where it is, without what it quotes."""
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - each of them
        failure = classify_error("GET to http://b", caught, 10)
    assert isinstance(failure, StorageUnavailable)
    assert str(failure) == f"GET to http://b: {message}"
    assert "a secret" not in caplog.text
    assert ("in our own code" in caplog.text) is message.startswith("our own")
