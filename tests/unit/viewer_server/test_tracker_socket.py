"""The tracker's WebSocket, with real sockets."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from broadcaster.http import listening
from broadcaster.tracker.protocol import info_hash, stream_index
from broadcaster.tracker.tracker import Refusal, Tracker, TrackerLimits
from broadcaster.viewer_server.admission import client_network
from broadcaster.viewer_server.tracker_socket import MAX_UNSENT
from tests.support.fakes.viewer_app import ViewerApp
from tests.support.fakes.webtorrent_clients import announce, answer, identifier
from tests.support.waiting import eventually

SWARM = info_hash("r0", stream_index(None))  # the site's run
DEADLINE = 60.0  # seconds
GENEROUS = TrackerLimits(message_rate=1e6, message_burst=10**6)


class Place:
    """A viewer server with a tracker, and its clients."""

    def __init__(
        self, site: ViewerApp, tracker: Tracker, address: str, session: aiohttp.ClientSession
    ) -> None:
        self.site = site
        self.tracker = tracker
        self.address = address
        self.session = session
        self.clients: list[ClientWebSocketResponse] = []

    async def connect(self, **headers: str) -> ClientWebSocketResponse:
        url = f"{self.address}/live/tracker"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        client = await self.session.ws_connect(url, headers=names, autoping=False, max_msg_size=0)
        self.clients.append(client)
        return client


@asynccontextmanager
async def place(folder: Path, limits: TrackerLimits | None = None) -> AsyncIterator[Place]:
    """A live stream with one variant."""
    tracker = Tracker(limits)
    site = ViewerApp(folder, tracker=tracker)
    site.go_live("0")
    async with listening(site.app, "127.0.0.1", 0, "port") as address, aiohttp.ClientSession() as session:
        here = Place(site, tracker, address, session)
        yield here
        for client in here.clients:
            await client.close()


async def say(client: ClientWebSocketResponse, message: str) -> dict[str, Any]:
    """Send a message and return the next message."""
    await client.send_str(message)
    return await hear(client)


async def hear(client: ClientWebSocketResponse) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await client.receive_str(timeout=DEADLINE))
    return message


async def closed(client: ClientWebSocketResponse) -> int:
    """Wait for the close frame and return its code, 0 without a frame."""
    while (message := await client.receive(timeout=DEADLINE)).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
        pass
    return int(message.data or 0)


async def test_viewers_meet(tmp_path: Path) -> None:
    """An offer and its answer go from one viewer to another; a viewer that leaves is removed at once."""
    async with place(tmp_path) as here:
        ada, bob = await here.connect(), await here.connect()
        reply = await say(bob, announce("bob", 5, swarm=SWARM))
        assert (reply["interval"], reply["incomplete"]) == (20, 1)
        assert (await say(ada, announce("ada", 5, swarm=SWARM)))["incomplete"] == 2
        offer = await hear(bob)
        assert (offer["peer_id"], offer["offer"]["sdp"]) == (identifier("ada"), "offer of ada-0")
        await bob.send_str(answer("bob", "ada", "ada-0", swarm=SWARM))
        assert (await hear(ada))["answer"] == {"type": "answer", "sdp": "answer of bob"}
        assert (here.tracker.peers, here.tracker.torrents, here.tracker.sockets) == (2, 1, 2)
        await bob.close()
        await eventually(lambda: here.tracker.sockets == 1)
        assert here.tracker.peers == 1


async def test_swarms_of_the_stream(tmp_path: Path) -> None:
    """The swarms of the served playlists are admitted."""
    async with place(tmp_path) as here:
        client = await here.connect()
        for swarm in (info_hash("other", stream_index(None)), info_hash("r0", "index")):
            assert "does not serve" in (await say(client, announce("a", swarm=swarm)))["failure reason"]
        here.site.channel.end()
        here.site.go_live("0", "1")
        main = here.site.channel.view.main
        assert main
        (playlist, _) = main.playlist.variants  # type: ignore[union-attr]  # a multivariant playlist now
        assert "interval" in await say(client, announce("a", swarm=info_hash("r0", stream_index(playlist))))


async def test_metrics(tmp_path: Path) -> None:
    """Everything is counted, with a fixed set of labels."""
    async with place(tmp_path) as here:
        ada, eve = await here.connect(), await here.connect()
        await say(ada, announce("ada", swarm=SWARM))
        await say(ada, announce("ada", swarm=info_hash("other", "0")))
        await eve.send_str("{}")
        await closed(eve)
        await eventually(lambda: here.tracker.sockets == 1)
        lines = here.site.metrics().splitlines()
        assert "broadcaster_tracker_peers 1.0" in lines
        assert "broadcaster_tracker_swarms 1.0" in lines
        assert "broadcaster_tracker_sockets 1.0" in lines
        assert 'broadcaster_tracker_messages_total{action="announce"} 2.0' in lines
        assert 'broadcaster_tracker_messages_total{action="malformed"} 1.0' in lines
        assert 'broadcaster_tracker_refused_total{reason="unknown_swarm"} 1.0' in lines
        assert 'broadcaster_tracker_refused_total{reason="malformed"} 1.0' in lines
        assert 'broadcaster_requests_total{route="tracker",status="101"} 2.0' in lines


async def test_off(tmp_path: Path) -> None:
    """Without a tracker there is no route."""
    site = ViewerApp(tmp_path)
    async with listening(site.app, "127.0.0.1", 0, "port") as address, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{address}/live/tracker")
        assert refused.value.status == 404
        assert "broadcaster_tracker" not in site.metrics()


async def test_no_websocket(tmp_path: Path) -> None:
    """Other requests, and clients that request a subprotocol, get 426."""
    async with place(tmp_path) as here:
        upgrade = {"Upgrade": "websocket"}
        for headers, status in (({}, 426), ({**upgrade, "Sec-WebSocket-Protocol": "a"}, 426), (upgrade, 400)):
            async with here.session.get(f"{here.address}/live/tracker", headers=headers) as response:
                assert response.status == status
                assert (response.headers.get("Upgrade") == "websocket") is (status == 426)
        assert here.tracker.sockets == 0


async def test_full(tmp_path: Path) -> None:
    """A connection too many gets 503 with Retry-After; after another has left, it is admitted."""
    async with place(tmp_path, TrackerLimits(connections=2)) as here:
        first, _ = await here.connect(), await here.connect()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await here.connect()
        assert refused.value.status == 503
        assert refused.value.headers is not None
        assert refused.value.headers["Retry-After"] == "30"
        await first.close()
        await eventually(lambda: here.tracker.sockets == 1)
        await here.connect()


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        (b"no json", WSMsgType.TEXT, 1008),
        (b"\x00\xff", WSMsgType.BINARY, 1008),
        (b"\xff\xff", WSMsgType.TEXT, 1007),
        (b"[" * 60_000, WSMsgType.TEXT, 1008),
        (b" " * 65_537, WSMsgType.TEXT, 1009),
        (b"", WSMsgType.TEXT, 1008),
    ],
)
async def test_bad_messages(tmp_path: Path, data: bytes, kind: WSMsgType, code: int) -> None:
    """A malformed message closes its socket; other sockets are not affected."""
    async with place(tmp_path) as here:
        good, bad = await here.connect(), await here.connect()
        await say(good, announce("good", swarm=SWARM))
        await say(bad, announce("bad", swarm=SWARM))
        await bad.send_frame(data, kind)
        assert await closed(bad) == code
        await eventually(lambda: here.tracker.sockets == 1)
        assert (await say(good, announce("good", 1, swarm=SWARM)))["incomplete"] == 1


async def test_flood(tmp_path: Path) -> None:
    """Too many messages close the socket."""
    async with place(tmp_path, TrackerLimits(message_burst=10, message_rate=0.001)) as here:
        client = await here.connect()
        for _ in range(11):
            await client.send_str(announce("a", swarm=SWARM))
        assert await closed(client) == 1008
        pinging = await here.connect()
        for _ in range(11):
            await pinging.ping()
        assert await closed(pinging) == 1008


async def test_ping(tmp_path: Path) -> None:
    """A ping is answered."""
    async with place(tmp_path) as here:
        client = await here.connect()
        await client.ping(b"there?")
        pong = await client.receive(timeout=DEADLINE)
        assert (pong.type, pong.data) == (WSMsgType.PONG, b"there?")


async def test_slow_client(tmp_path: Path) -> None:
    """A client that does not read is cut off before it takes much memory, and delays no other client."""
    async with place(tmp_path, GENEROUS) as here, AsyncExitStack() as stack:
        host, port = here.address.removeprefix("http://").split(":")
        slow = stack.enter_context(socket.socket())
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        slow.sendall(
            b"GET /live/tracker HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        message = announce("slow", swarm=SWARM).encode()
        slow.sendall(b"\x81\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message)
        await eventually(lambda: here.tracker.peers == 1)
        eager = await here.connect()
        offers = [{"offer": {"type": "offer", "sdp": "x" * 16_000}, "offer_id": identifier("o")}]
        sent = 0
        while not here.tracker.refused[Refusal.SLOW]:
            assert "interval" in await say(eager, announce("eager", swarm=SWARM, offers=offers))
            sent += 16_000
            assert sent < 20 * MAX_UNSENT
        assert sent > MAX_UNSENT
        assert (here.tracker.peers, here.tracker.sockets) == (1, 1)


async def test_shutdown(tmp_path: Path) -> None:
    """At the end of the service clients get a close frame, and the end does not wait for them."""
    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        site = ViewerApp(tmp_path, tracker=Tracker())
        async with listening(site.app, "127.0.0.1", 0, "port") as address:
            clients = [await session.ws_connect(f"{address}/live/tracker") for _ in range(3)]
        assert [await closed(client) for client in clients] == [1001, 1001, 1001]


async def test_addresses_stay_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs nor metrics nor other viewers have a viewer's address."""
    caplog.set_level(logging.DEBUG)
    async with place(tmp_path, TrackerLimits(address_burst=3, address_rate=0.001)) as here:
        client = await here.connect(X_Forwarded_For="10.1.1.1, 203.0.113.77")
        replies = [await say(client, announce("a", swarm=SWARM)) for _ in range(3)]
        assert "this address" in replies[-1]["failure reason"]
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await here.connect(CF_Connecting_IP="203.0.113.77")
        await client.send_str("{")
        await closed(client)
        assert "203.0.113" not in caplog.text + here.site.metrics() + str(replies)


@pytest.mark.parametrize(
    ("remote", "headers", "site"),
    [
        ("8.8.8.8", {}, "8.8.8.8"),
        ("8.8.8.8", {"CF-Connecting-IP": "1.1.1.1", "X-Forwarded-For": "1.1.1.1"}, "8.8.8.8"),
        ("127.0.0.1", {}, None),
        ("127.0.0.1", {"CF-Connecting-IP": "1.1.1.1", "X-Forwarded-For": "9.9.9.9"}, "1.1.1.1"),
        ("127.0.0.2", {"X-Forwarded-For": "6.6.6.6, 9.9.9.9"}, "9.9.9.9"),
        ("192.168.0.7", {"X-Forwarded-For": "9.9.9.9"}, "192.168.0.7"),
        ("127.0.0.1", {"X-Forwarded-For": "nonsense"}, None),
        ("127.0.0.1", {"X-Forwarded-For": "2606:4700::9%" + 8000 * "z"}, None),  # it is not kept
        ("::1", {"CF-Connecting-IP": "2606:4700:1:2:3:4:5:6"}, "2606:4700:1:2::/64"),
        ("2606:4700:1:2::9", {}, "2606:4700:1:2::/64"),
        ("::ffff:8.8.8.8", {}, "8.8.8.8"),
        (None, {"CF-Connecting-IP": "1.1.1.1"}, "1.1.1.1"),
        ("", {}, None),
    ],
)
def test_client_network(remote: str | None, headers: dict[str, str], site: str | None) -> None:
    """A proxy or tunnel on this machine sends the viewer's address; other senders are ignored."""
    assert client_network(remote, headers) == site
