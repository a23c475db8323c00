"""The tracker's WebSocket at ``/live/tracker``.

The outgoing queue of a socket is the buffer of its transport, which is limited here: no task waits for a peer
that does not read.
"""

from __future__ import annotations

import sys
import time
from asyncio import Transport
from collections.abc import Callable, Iterator
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from broadcaster.hls import MultivariantPlaylist, Variant
from broadcaster.http.connections import CONNECTIONS
from broadcaster.metrics import Metric
from broadcaster.tracker.protocol import MAX_MESSAGE_BYTES
from broadcaster.tracker.tracker import Action, Refusal, Refused, Send, Tracker
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind
from broadcaster.viewer_server.snapshots import ServedStream

HEARTBEAT = 30.0  # seconds; Cloudflare's tunnel cuts a connection that is silent for 100
CLOSE_TIMEOUT = 2.0  # seconds for the client's close frame
MAX_UNSENT = 65_536  # unread bytes of a client: more than the offers of a minute
RETRY_AFTER = "30"  # seconds

Swarms = tuple[tuple[str, ...], tuple[Variant, ...]]


def new_socket(heartbeat: float | None = None) -> web.WebSocketResponse:
    """A socket of a viewer, which is pinged each ``heartbeat`` seconds."""
    return web.WebSocketResponse(
        timeout=CLOSE_TIMEOUT,
        autoping=False,  # pongs count toward MAX_UNSENT
        heartbeat=heartbeat,
        compress=False,  # a compressor takes more memory than the rest of a connection
        max_msg_size=MAX_MESSAGE_BYTES,
        writer_limit=sys.maxsize,  # sending never waits; the limit is MAX_UNSENT
    )


class TrackerSockets:
    """Connects the tracker with sockets and with the served playlists."""

    def __init__(
        self,
        stream: ServedStream,
        tracker: Tracker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tracker = tracker or Tracker()
        self._stream = stream
        self._clock = clock
        self._served: Swarms = ((), ())
        self._sockets: dict[int, tuple[web.WebSocketResponse, Transport]] = {}

    @property
    def peers(self) -> int:
        """Peers in all swarms."""
        self._update_tracker()
        return self.tracker.peers

    @property
    def torrents(self) -> int:
        """Swarms with a peer in them."""
        self._update_tracker()
        return self.tracker.torrents

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve a socket until either side closes it; 503 for too many, 426 for other requests."""
        asked = request.headers
        # aiohttp would log the address of a client that requests a subprotocol.
        if asked.get(hdrs.UPGRADE, "").lower() != "websocket" or hdrs.SEC_WEBSOCKET_PROTOCOL in asked:
            headers = {hdrs.UPGRADE: "websocket", hdrs.CACHE_CONTROL: "no-store"}
            return web.Response(status=426, text="A WebSocket without subprotocols.\n", headers=headers)
        try:
            with request.app[ADMISSION].take(request, RequestKind.TRACKER):
                return await self._serve(request)
        except (NotAdmitted, Refused) as refused:
            headers = {hdrs.RETRY_AFTER: RETRY_AFTER, hdrs.CACHE_CONTROL: "no-store"}
            return web.Response(status=503, text=f"Not now: {refused}.\n", headers=headers)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        number = self.tracker.connect(request.app[ADMISSION].network(request), self._update_tracker())
        socket = new_socket(HEARTBEAT)
        try:
            await socket.prepare(request)
            request.app[CONNECTIONS].upgrade(request)
            if request.transport is not None:
                self._sockets[number] = (socket, request.transport)
                await self._converse(number, socket)
        except ConnectionResetError:
            pass  # the client has left
        finally:
            self.tracker.disconnect(number)
            self._sockets.pop(number, None)
        return socket

    async def close(self, _: web.Application | None = None) -> None:
        """Close all sockets: the service stops."""
        for socket, transport in list(self._sockets.values()):
            with suppress(ConnectionResetError):
                await socket.send_frame(WSCloseCode.GOING_AWAY.to_bytes(2, "big"), WSMsgType.CLOSE)
            transport.close()

    async def _converse(self, number: int, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            now = self._update_tracker()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await self._perform(self.tracker.receive(number, message.data, now))
            elif message.type in (WSMsgType.PING, WSMsgType.PONG):
                await self._perform(self.tracker.charge(number, now))
                if message.type is WSMsgType.PING:
                    await self._send(number, message.data, WSMsgType.PONG)
            if number not in self._sockets:
                await socket.close(code=WSCloseCode.POLICY_VIOLATION)
                return

    async def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                await self._send(action.connection, action.text.encode(), WSMsgType.TEXT)
            else:  # the handler of the socket closes it
                self._sockets.pop(action.connection, None)

    async def _send(self, number: int, data: bytes, kind: WSMsgType) -> None:
        """Put a frame into the socket's buffer; a full buffer closes the socket."""
        if number not in self._sockets:
            return
        socket, transport = self._sockets[number]
        if transport.get_write_buffer_size() > MAX_UNSENT:
            self.tracker.refused[Refusal.SLOW] += 1
            self._drop(number)
            return
        with suppress(ConnectionResetError):  # the handler of the socket notices
            await socket.send_frame(data, kind)

    def metrics(self) -> Iterator[Metric]:
        """Metrics of the tracker and its sockets."""
        yield Metric("tracker_peers", "Peers in all swarms", self.peers)
        yield Metric("tracker_swarms", "Swarms with a peer in them", self.torrents)
        yield Metric("tracker_sockets", "Sockets that are open", self.tracker.sockets)
        messages, refused = self.tracker.messages, self.tracker.refused
        text = "Messages from viewers"
        yield Metric("tracker_messages", text, dict(messages), labels=("action",), is_counter=True)
        counts: dict[str, int] = {reason: refused[reason] for reason in Refusal}
        yield Metric("tracker_refused", "What was refused", counts, labels=("reason",), is_counter=True)

    def _drop(self, number: int) -> None:
        self.tracker.disconnect(number)
        _, transport = self._sockets.pop(number)
        transport.abort()

    def _update_tracker(self) -> float:
        """Pass the served playlists and the time to the tracker, and return the time (monotonic)."""
        main = self._stream.view.main
        listed = main.playlist if main else None
        variants = listed.variants if isinstance(listed, MultivariantPlaylist) else ()
        served = (self._stream.view.runs, variants)
        if served != self._served:
            self._served = served
            self.tracker.admit(*served)
        now = self._clock()
        for action in self.tracker.sweep(now):
            if action.connection in self._sockets:
                self._drop(action.connection)
        return now
