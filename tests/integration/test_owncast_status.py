"""What the simulated Owncast says of itself, word for word as a real one said it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp import web

from broadcaster.demo.processes import HOST, free_ports
from tests.support.fakes.simulated_owncast import SimulatedStatus
from tests.support.waiting import eventually


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 42, 22, 271045, UTC)

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


async def asked(status: SimulatedStatus) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{status.url}/api/status") as answer:
        assert answer.headers["Content-Type"].startswith("application/json")
        return await answer.text()


async def test_status_over_a_stream_and_a_restart() -> None:
    """It is online three segments, or 7 s, after the encoder came; an end is known to the next process."""
    clock = Clock()
    status = SimulatedStatus(clock=clock)
    await status.start()
    rest = '"versionNumber":"0.1.3","streamTitle":"",'
    assert await asked(status) == (
        '{"serverTime":"2026-11-22T10:42:22.271045Z","lastConnectTime":null,"lastDisconnectTime":null,'
        + rest
        + '"online":false}\n'
    )
    clock.go_on(17)
    status.connect(segment_seconds=3)
    clock.go_on(8.9)
    connected = '"lastConnectTime":"2026-11-22T10:42:39Z","lastDisconnectTime":null,'
    assert connected + rest + '"online":false}' in await asked(status)
    clock.go_on(0.1)
    assert connected + rest + '"online":true}' in await asked(status)
    clock.go_on(6)
    status.disconnect()
    disconnected = '"lastConnectTime":null,"lastDisconnectTime":"2026-11-22T10:42:54Z",'
    assert disconnected + rest + '"online":false}' in await asked(status)
    status.stopped()
    status.connect(segment_seconds=1)
    clock.go_on(6.9)
    assert not status.online
    clock.go_on(0.1)
    assert status.online
    await status.close()
    await status.start()  # it was killed in mid-stream
    assert disconnected + rest + '"online":false}' in await asked(status)
    await status.close()


@asynccontextmanager
async def hooked(events: list[str]) -> AsyncIterator[str]:
    async def note(request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/json"
        events.append(await request.text())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", note)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_ports(1)[0]
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield f"http://{HOST}:{port}/hook"
    finally:
        await runner.cleanup()


async def test_webhooks_when_a_stream_begins_and_ends() -> None:
    """Both are posted, with the status of that moment; nobody is needed to take them."""
    clock, events = Clock(), list[str]()
    async with hooked(events) as url:
        status = SimulatedStatus(webhook_url=url, clock=clock)
        await status.start()
        status.connect(segment_seconds=3)
        await eventually(lambda: len(events) == 1)
        clock.go_on(15)
        status.disconnect()
        status.stopped()
        await eventually(lambda: len(events) == 2)
    identifiers = [json.loads(event)["eventData"]["id"] for event in events]
    assert identifiers[0] != identifiers[1]
    times = (
        '"lastConnectTime":"2026-11-22T10:42:22Z","lastDisconnectTime":null',
        '"lastConnectTime":null,"lastDisconnectTime":"2026-11-22T10:42:37Z"',
    )
    stamps = ("2026-11-22T10:42:22.271045Z", "2026-11-22T10:42:37.271045Z")
    kinds = ("STREAM_STARTED", "STREAM_STOPPED")
    assert events == [
        f'{{"eventData":{{"id":"{identifier}","name":"New Owncast Server","status":{{{time},'
        '"versionNumber":"0.1.3","streamTitle":"","viewerCount":0,"overallMaxViewerCount":0,'
        '"sessionMaxViewerCount":0,"online":false},"streamTitle":"",'
        '"summary":"This is a new live video streaming server powered by Owncast.",'
        f'"timestamp":"{stamp}"}},"type":"{kind}"}}'
        for identifier, time, stamp, kind in zip(identifiers, times, stamps, kinds, strict=True)
    ]
    status.connect(segment_seconds=3)  # the hook is gone: that is nobody's business
    await status.close()
