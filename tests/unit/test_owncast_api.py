"""Owncast asked over HTTP: its answers, what may come in their place, its webhooks, and the doctor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from pytest_aiohttp.plugin import AiohttpClient

from broadcaster.admin import make_operator_app
from broadcaster.demo.processes import free_ports
from broadcaster.doctor import machine
from broadcaster.errors import EncoderError
from broadcaster.ipc.messages import HealthReport
from broadcaster.owncast import OwncastStatus, fetch, open_session, picture
from tests.support.fakes.owncast_api import VERSION, FakeOwncast, fake_owncast, status
from tests.support.fakes.pipeline_parts import START
from tests.support.judges.check_command import listening


@pytest.fixture
async def owncast() -> AsyncIterator[FakeOwncast]:
    async with fake_owncast() as fake:
        yield fake


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadcaster.owncast.INTERVAL", 0.02)
    monkeypatch.setattr("broadcaster.owncast.MIN_INTERVAL", 0.01)


@asynccontextmanager
async def following(url: str) -> AsyncIterator[OwncastStatus]:
    known = OwncastStatus(url)
    task = asyncio.create_task(known.run())
    try:
        yield known
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@asynccontextmanager
async def released_at_last(event: asyncio.Event) -> AsyncIterator[None]:
    """Let go, whatever happens, of handlers that wait for the event."""
    try:
        yield
    finally:
        event.set()


async def test_the_life_of_a_stream(owncast: FakeOwncast) -> None:
    """A connection is seen before the stream is shown, and the encoder's going at once."""
    async with following(owncast.url) as known:
        assert (known.connected, known.disconnected_since, known.title) == (None, None, None)
        await owncast.until_heard()
        assert (known.connected, known.title, known.fault) == (False, "A title", None)
        for step in (owncast.connect, owncast.show):
            step()
            await owncast.until_heard()
            assert (known.connected, known.disconnected_since) == (True, None)
        owncast.disconnect()
        await owncast.until_heard()
        since = known.disconnected_since
        assert since is not None
        await owncast.until_heard()
        assert (known.connected, known.disconnected_since) == (False, since)
        owncast.connect()
        await owncast.until_heard()
        assert (known.connected, known.disconnected_since) == (True, None)
        owncast.restart()
        await owncast.until_heard()
        assert (known.connected, known.disconnected_since) == (False, None)


async def test_silence(owncast: FakeOwncast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer, or the rest of an answer, nothing is known, and why."""
    monkeypatch.setattr("broadcaster.owncast.TIMEOUT", 0.1)
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async def stall(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"online":')
        return await hang(request)

    for answer in (hang, stall):
        owncast.answer = answer
        async with following(owncast.url) as known, released_at_last(released):
            await owncast.until_heard()
            assert (known.connected, known.disconnected_since) == (None, None)
            assert "no answer within" in str(known.fault)
        released.clear()


async def test_faults(owncast: FakeOwncast) -> None:
    """Whatever is wrong with an answer, nothing is known then, and why; the next good answer counts again."""
    elsewhere: list[str] = []

    async def other(request: web.Request) -> web.Response:
        elsewhere.append(request.path)
        return web.json_response(status(online=True))

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=500)

    async def too_much(_: web.Request) -> web.Response:
        return web.json_response({**status(online=True, connected=START), "streamTitle": "x" * 65_536})

    async def packed(_: web.Request) -> web.Response:
        response = web.json_response(status(online=True, connected=START))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with listening(other) as target, following(owncast.url) as known:

        async def redirect(_: web.Request) -> web.Response:
            raise web.HTTPFound(f"{target}/api/status")

        for answer, why in [
            (fail, "answered 500"),
            (too_much, "more than 64 KiB"),
            (packed, "as Owncast does"),
            (redirect, "answered 302"),
        ]:
            owncast.answer = None
            owncast.connect()
            await owncast.until_heard()
            assert (known.connected, known.fault) == (True, None)
            owncast.answer = answer
            await owncast.until_heard()
            assert (known.connected, known.disconnected_since) == (None, None)
            assert why in str(known.fault)
            assert known.title == "A title"
    assert elsewhere == []


async def test_the_picture() -> None:
    """It is passed on as it is, if it is one by its size; else there is a reason."""
    pictures = [b"picture", b"x" * (2**20 + 1)]

    async def handle(request: web.Request) -> web.Response:
        assert request.path == "/thumbnail.jpg"
        return web.Response(body=pictures.pop(0)) if pictures else web.Response(status=404)

    async with listening(handle) as url:
        assert await picture(url) == b"picture"
        for why in ("more than 1024 KiB", "answered 404"):
            with pytest.raises(EncoderError, match=why):
                await picture(url)


async def test_nobody_there() -> None:
    """An address where nothing listens, or that cannot be one, is a fault with its reason."""
    (port,) = free_ports(1)
    async with open_session() as session:
        for url, why in [
            (f"http://127.0.0.1:{port}", "refuses connections"),
            ("http://127.0.0.1:99999", "cannot be reached"),
            ("http://no-such-name.invalid", "not known"),
            (f"http://{'a' * 64}.example", "cannot be reached"),
        ]:
            with pytest.raises(EncoderError, match=why):
                await fetch(session, url)


async def test_asking(owncast: FakeOwncast, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for a look, it looks at once; many askings at a time are one look, and then it rests again."""
    monkeypatch.setattr("broadcaster.owncast.INTERVAL", 3600)
    monkeypatch.setattr("broadcaster.owncast.MIN_INTERVAL", 0)
    seen = asyncio.Event()

    async def hold(_: web.Request) -> web.Response:
        await seen.wait()
        return web.json_response(owncast.status)

    owncast.answer = hold
    async with following(owncast.url) as known, open_session() as session:
        await owncast.until_asked(1)
        for _ in range(10):
            known.ask()
        owncast.connect()
        seen.set()
        await owncast.until_asked(2)
        for _ in range(30):  # time enough for as many looks, if it did not rest
            await fetch(session, owncast.url)
        assert owncast.requests == 2 + 30
        assert known.connected


async def test_webhook(aiohttp_client: AiohttpClient) -> None:
    """Whatever is posted, it makes us ask and nothing else; too much of it is refused."""
    asked: list[bool] = []

    def app(**options: object) -> web.Application:
        report = HealthReport("offline", 0, None)
        return make_operator_app(lambda: report, CollectorRegistry(), **options)  # type: ignore[arg-type]

    client = await aiohttp_client(app(ask_owncast=lambda: asked.append(True)))
    for body in (b'{"type": "STREAM_STOPPED", "eventData": {}}', b"", b"\xff" * 65_000):
        assert (await client.post("/owncast/webhook", data=body)).status == 204
    assert len(asked) == 3
    assert (await client.post("/owncast/webhook", data=b"x" * 70_000)).status == 413
    assert (await client.get("/owncast/webhook")).status == 405
    assert len(asked) == 3
    without = await aiohttp_client(app())
    assert (await without.post("/owncast/webhook", data=b"{}")).status == 404


async def test_check(owncast: FakeOwncast) -> None:
    """The doctor says which version answers; that none does is a warning, which names the setting."""
    found = await machine.owncast(owncast.url)
    assert (found.outcome, found.message) == ("ok", f"version {VERSION} answers; no encoder is connected")
    owncast.connect()
    owncast.status["versionNumber"] = "1\n\x1b[2J"
    found = await machine.owncast(owncast.url)
    assert found.message == "version 1\\n\\x1b[2J answers; an encoder is connected"
    owncast.status = {"status": "ok"}
    found = await machine.owncast(owncast.url)
    assert (found.outcome, "as Owncast does" in found.message) == ("warning", True)
    assert "BROADCASTER_OWNCAST_URL" in found.remedy
