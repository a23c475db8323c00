"""Limits of connections: slow clients must not take the memory or the connections of other clients.

aiohttp closes idle connections; the other limits are here, and how bodies in small pieces are read.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import termios
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from typing import cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web

from broadcaster.metrics import Metric

REQUEST_TIMEOUT = 10.0  # seconds from a request's first byte, or the connection's begin, to its end
SLOW = 1.0  # seconds for a request, when all connections are taken
STALL_TIMEOUT = 30.0  # seconds for which a client may leave a full buffer unread
FILE_TIMEOUT = 120.0  # seconds for a file: the kernel sends it, and its progress is not visible here
SWEEP_EVERY = 1.0  # seconds
# Bytes of a connection in this process, and in the kernel, whose own limit is megabytes.
WRITE_BUFFER, SEND_BUFFER = 8192, 32_768
RECEIVE_BUFFER = 16_384  # bytes in the kernel: a read returns twice that at most
MAX_HEAD_BYTES = 16_384  # of a request's header fields
MAX_UNANSWERED_BYTES = 2**18  # of requests from a client that does not read the answers
BACKLOG = 1024
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n"
    b"Cache-Control: no-store\r\nRetry-After: 5\r\nAccess-Control-Allow-Origin: *\r\n"
    b"Connection: close\r\n\r\n"
    b"Too many are connected\n"
)


Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connections:
    """All connections of a listener, ``most`` at most. The timeouts are in seconds.

    With ``large_bodies`` the kernel fits the receive buffer to the network, more may be unanswered, and a
    request that is complete is answered although its client has closed: ffmpeg waits for no answer.
    """

    def __init__(
        self,
        most: int,
        *,
        stall_timeout: float = STALL_TIMEOUT,
        file_timeout: float = FILE_TIMEOUT,
        large_bodies: bool = False,
    ) -> None:
        self._most = most
        self.large_bodies = large_bodies
        self.max_unanswered = MAX_UNANSWERED_BYTES * (16 if large_bodies else 1)
        self._stall_timeout = stall_timeout
        self._file_timeout = file_timeout
        self._open: dict[web.RequestHandler, _Connection] = {}
        # Connections with an unfinished request, and connections without a request, each the oldest first.
        self._unfinished: dict[_Connection, None] = {}
        self._idle: dict[_Connection, None] = {}
        self.pipelined = asyncio.Lock()  # held by the next pipelined request for a turn of the event loop
        self._cut = dict.fromkeys(("full", "idle", "unfinished", "stalled"), 0)

    def metrics(self) -> Iterator[Metric]:
        """Open and closed connections."""
        yield Metric("connections", "Connections that are open", len(self._open))
        text = (
            "Connections closed by the service: all are taken (full), idle when another was needed (idle), "
            "a request not finished in time (unfinished), an answer not read (stalled)"
        )
        yield Metric("connections_cut", text, self._cut, labels=("reason",), is_counter=True)

    def complete(self, request: web.BaseRequest) -> None:
        """Note that a request has arrived: its time no longer counts against the client."""
        if connection := self._open.get(request.protocol):
            self._finished(connection)
            if not connection.held:
                self._idle[connection] = None  # when the answer is sent

    def hold(self, request: web.Request) -> None:
        """Note that a long request begins: the connection is not idle until its release."""
        if connection := self._open.get(request.protocol):
            connection.held = True
            self._idle.pop(connection, None)

    def release(self, request: web.Request) -> None:
        """Note the end of a long request."""
        if connection := self._open.get(request.protocol):
            connection.held = False

    def upgrade(self, request: web.Request) -> None:
        """Note that the connection is a WebSocket: it has no requests that must be finished in time."""
        if connection := self._open.get(request.protocol):
            self._finished(connection)
            connection.upgraded = True

    @contextmanager
    def receiving(self, request: web.Request) -> Iterator[None]:
        """A context in which a handler receives a body, within its own limits of time and size."""
        self.upgrade(request)
        connection = self._open.get(request.protocol)
        if connection:
            connection.body = request.content
            connection.close_if_cut()
        try:
            yield
        finally:
            if connection:
                connection.body = None
        if connection and request.protocol in self._open:
            connection.upgraded = False
            self._idle[connection] = None

    def has_closed(self, request: web.Request) -> bool:
        """Whether the client sends nothing more on the connection."""
        connection = self._open.get(request.protocol)
        return connection is None or connection.has_ended

    async def drained(self, request: web.BaseRequest) -> None:
        """Wait until ``WRITE_BUFFER`` bytes at most are unread by the client.

        The loss of the connection cancels its handler.
        """
        if connection := self._open.get(request.protocol):
            await connection.writable.wait()

    def in_turn(self, handle: Handle) -> Handle:
        """``handle``, called when the client has read the earlier answers.

        A turn of the event loop answers one pipelined request of all connections: other requests do not
        wait for what a client, or many clients, have sent at once.
        """

        async def begin(request: web.BaseRequest, connection: _Connection | None) -> web.StreamResponse:
            if connection:
                await connection.next_request()
            if _has_large_head(request):
                refusal = web.Response(status=431, text="The header fields are too large.\n")
                refusal.force_close()
                return refusal
            try:
                return await handle(request)
            finally:
                if not request.content.is_eof():  # what comes of its body begins no other request
                    request.content.on_eof(partial(self.complete, request))

        def begin_soon(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
            """As ``begin``, without a coroutine of its own for the usual request, which need not wait."""
            connection = self._open.get(request.protocol)
            is_usual = request.content is EMPTY_PAYLOAD and not _has_large_head(request)
            if is_usual and (connection is None or connection.begins_request()):
                return handle(request)
            return begin(request, connection)

        return begin_soon

    async def serve(
        self, make_handler: Callable[[], web.RequestHandler], listening: socket.socket
    ) -> asyncio.Server:
        """Accept connections on a listening socket."""
        loop = asyncio.get_running_loop()
        make = partial(_Connection, self, make_handler)
        if not self.large_bodies:  # connections inherit it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return await loop.create_server(make, sock=listening, backlog=BACKLOG)

    async def sweep(self) -> None:
        """Close connections that take too long, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            now = time.monotonic()
            for connection in list(self._open.values()):
                connection.check_progress(now)
                if _longer(connection.unfinished_since, now, REQUEST_TIMEOUT):
                    self.end(connection, "unfinished")
                elif _longer(connection.stalled_since, now, self._stall_timeout) or _longer(
                    connection.deaf_since, now, self._file_timeout
                ):
                    self.end(connection, "stalled")

    def admit(self, connection: _Connection) -> bool:
        """Add a connection, if need be by closing another; returns whether it was added.

        Closed is the connection with the oldest unfinished request, else the one that is idle for longest.
        """
        if len(self._open) >= self._most and not self._make_room():
            self._cut["full"] += 1
            return False
        self._open[connection.handler] = connection
        self.begin_request(connection)
        return True

    def begin_request(self, connection: _Connection) -> None:
        """Note that a connection begins a request."""
        self._idle.pop(connection, None)
        if connection.unfinished_since is None and not connection.upgraded:
            connection.unfinished_since = time.monotonic()
            self._unfinished[connection] = None

    def end(self, connection: _Connection, reason: str) -> None:
        """Close an open connection."""
        if connection.handler in self._open:
            self._cut[reason] += 1
            self.leave(connection)
            connection.end()

    def leave(self, connection: _Connection) -> None:
        """Remove a connection."""
        self._open.pop(connection.handler, None)
        self._unfinished.pop(connection, None)
        self._idle.pop(connection, None)

    def _make_room(self) -> bool:
        slow = next(iter(self._unfinished), None)
        if slow and _longer(slow.unfinished_since, time.monotonic(), SLOW):
            self.end(slow, "unfinished")
            return True
        if idle := next((connection for connection in self._idle if connection.is_quiet), None):
            self.end(idle, "idle")
        return idle is not None

    def _finished(self, connection: _Connection) -> None:
        connection.unfinished_since = None
        self._unfinished.pop(connection, None)


class BodyGatherer:
    """Leaves bodies that come in small pieces in the kernel, to read many pieces at once.

    To read each as it comes costs more CPU than all else. Each peek at what has come costs CPU as well, and
    the last piece may come at any time; but segments that are sent as they are encoded take equally long. All
    times are in seconds.
    """

    FEW = 2**18 - 2**14  # bytes: asyncio reads 2**18 at once, and after so many there may be more
    ENOUGH, LONGEST_GATHERING = 2**19, 1.0  # bytes, and seconds
    # Time until the next peek: a part of the time so far, within limits. A fast link brings all in 20 ms.
    SHORTEST, SO_FAR, LONGEST = 0.001, 0.1, 0.01
    # The same, if it is known when the last piece comes: a part of the time that is left, within limits.
    PART, NEAR, EARLY, FAR = 0.75, 0.001, 0.01, 0.1
    CLOSE = 0.002  # around that time each piece is read as it comes
    LEAST, ALIKE = 0.015, 0.1  # seconds for a body that is noted, and by how much of it two may differ
    SOON = 0.1  # of the usual time: so much before the end, the end is looked for
    LAST_CHUNK = b"0\r\n\r\n"  # without trailers

    def __init__(self) -> None:
        self._latest = 0.0
        self._usual: float | None = None  # seconds for a body
        self._waiting = bytearray(self.ENOUGH)  # what the kernel has

    def note(self, took: float) -> None:
        """Note that a body took so long."""
        if took > self.LEAST:
            self._usual = took if abs(took - self._latest) < self.ALIKE * took else None
            self._latest = took

    def pause(self, elapsed: float) -> float:
        """The time until the next peek at a body that began so long ago."""
        if self._usual is None:
            return min(max(self.SHORTEST, self.SO_FAR * elapsed), self.LONGEST)
        rest = abs(self._usual - elapsed)
        pause = min(max(self.EARLY, 2 * elapsed), self.PART * rest, max(rest - self.CLOSE, self.NEAR))
        return min(max(self.NEAR, pause), self.FAR)

    def _ends_now(self, elapsed: float) -> bool:
        return self._usual is not None and abs(self._usual - elapsed) < self.CLOSE

    def _ends_soon(self, elapsed: float) -> bool:
        return self._usual is None or self._usual - elapsed < self.SOON * self._usual

    def _has_last(self, connection: socket.socket) -> bool:
        """Whether the last chunk has come: all that waits is copied for that."""
        copy = os.dup(connection.fileno())
        with socket.socket(connection.family, connection.type, connection.proto, copy) as kernel:
            size = kernel.recv_into(self._waiting, 0, socket.MSG_PEEK)
        return self._waiting.endswith(self.LAST_CHUNK, 0, size)

    async def gather(self, request: web.Request, data: bytes, started: float) -> None:
        """Wait until more has come: enough, the end of the body, or no more than at the peek before.

        ``data`` was read last; ``started`` is by the loop's clock.
        """
        transport, loop, size = request.transport, asyncio.get_running_loop(), request.content_length
        if len(data) >= self.FEW or request.content.is_eof() or not (transport and transport.is_reading()):
            return
        if self._ends_now(loop.time() - started):
            return
        enough = self.ENOUGH if size is None else min(self.ENOUGH, size - request.content.total_bytes)
        until, gathered = loop.time() + self.LONGEST_GATHERING, loop.create_future()
        ends_soon = self._ends_soon(loop.time() - started)

        def peek_later(before: int) -> None:
            loop.call_later(self.pause(loop.time() - started), peek, before)

        def peek(before: int) -> None:  # a task that sleeps costs half as much again
            if gathered.done():
                return
            try:
                waiting = _readable(connection.fileno())
                now = loop.time()
                goes_on = before < waiting < enough and now < until and not self._ends_now(now - started)
                if goes_on and size is None and self._ends_soon(now - started):
                    # What came before is read once, and not copied by each later peek.
                    goes_on = ends_soon and not self._has_last(connection)
            except (OSError, ValueError):  # the connection is lost, or closed
                goes_on = False
            if goes_on:
                peek_later(waiting)
            else:
                gathered.set_result(None)

        transport.pause_reading()
        connection = transport.get_extra_info("socket")
        for least in (self.ENOUGH, 1):  # the receive buffer grows to it, and stays so
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
        try:
            peek_later(0)
            await gathered
        finally:
            transport.resume_reading()


def _readable(descriptor: int) -> int:
    """The number of bytes that the kernel has received."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


CONNECTIONS = web.AppKey("CONNECTIONS", Connections)


class _Connection(asyncio.Protocol):
    """Wraps aiohttp's protocol, and watches the time."""

    def __init__(self, connections: Connections, make_handler: Callable[[], web.RequestHandler]) -> None:
        self.handler = make_handler()
        self.transport: asyncio.Transport | None = None
        self.unfinished_since: float | None = None  # monotonic
        self.stalled_since: float | None = None  # monotonic
        self.deaf_since: float | None = None  # monotonic: it is not read, as while a file is sent
        self.upgraded = False
        self.held = False  # by a long request
        self.body: StreamReader | None = None  # of the request that is received
        self.has_ended = False  # the client sends nothing more
        self._connections = connections
        self._admitted = False
        self._unsent = 0  # bytes, when it stalled
        self._unanswered = 0  # bytes received since the last request was begun
        self._is_fresh = True  # data has arrived since the last request was begun
        self.writable = asyncio.Event()
        self.writable.set()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be sent."""
        return self.transport is not None and not self.transport.get_write_buffer_size()

    def check_progress(self, now: float) -> None:
        """Update the times that the transport does not report; ``now`` is monotonic."""
        if self.transport is None:
            return
        if self.transport.is_reading():
            self.deaf_since = None
        elif self.deaf_since is None:
            self.deaf_since = now
        if self.stalled_since is not None:  # a large answer may be read though the buffer stays full
            unsent = self.transport.get_write_buffer_size()
            if self._unsent - unsent >= WRITE_BUFFER:
                self.stalled_since, self._unsent = now, unsent
            self._unsent = max(self._unsent, unsent)

    def begins_request(self) -> bool:
        """Whether the next request may be answered now; it is begun then."""
        if not self._is_fresh or not self.writable.is_set():
            return False
        self._is_fresh, self._unanswered = False, 0
        return True

    async def next_request(self) -> None:
        """Wait until the next request may be answered."""
        if not self._is_fresh:
            async with self._connections.pipelined:
                await asyncio.sleep(0)
        await self.writable.wait()
        self._is_fresh, self._unanswered = False, 0

    def end(self) -> None:
        """Close it without waiting for the client."""
        if self.transport is None:
            return
        if self.transport.is_reading():
            self.transport.abort()
            return
        # If it is closed while a file is sent, its descriptor stays in asyncio's selector, and the next
        # connection with this number is not read. So the sender of the file has to notice first.
        with suppress(OSError):
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        asyncio.get_running_loop().call_later(SWEEP_EVERY, self.transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._admitted = self._connections.admit(self)
        if not self._admitted:
            self.transport.write(FULL)
            self.transport.close()
            return
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._admitted:
            self._connections.begin_request(self)
            self.deaf_since = None
            self._is_fresh = True
            if not self.upgraded:
                self._unanswered += len(data)
                if self._unanswered > self._connections.max_unanswered:
                    self._connections.end(self, "unfinished")
                    return
            self.handler.data_received(data)

    def eof_received(self) -> bool:
        """Returns whether the connection stays open, for the answer to what has come."""
        if not self._admitted:
            return False
        self.handler.eof_received()
        self.has_ended = True
        has_begun = self.body is not None or self.unfinished_since is not None
        if not self._connections.large_bodies or not has_begun:
            return False
        asyncio.get_running_loop().call_later(REQUEST_TIMEOUT, self.end)
        self.close_if_cut()
        return True

    def close_if_cut(self) -> None:
        """Close it if the client has closed it in the middle of a body."""
        if self.has_ended and self.body and not self.body.is_eof() and self.transport:
            self.transport.close()

    def pause_writing(self) -> None:
        self.writable.clear()
        self.stalled_since = time.monotonic()
        self._unsent = self.transport.get_write_buffer_size() if self.transport else 0
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        self.writable.set()
        self.stalled_since = None
        self.handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._admitted:
            self._connections.leave(self)
            self.handler.connection_lost(exc)


def _has_large_head(request: web.BaseRequest) -> bool:
    return sum(map(len, chain.from_iterable(request.raw_headers))) > MAX_HEAD_BYTES


def _longer(since: float | None, now: float, seconds: float) -> bool:
    return since is not None and now - since > seconds
