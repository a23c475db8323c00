"""A proxy between the service and its bucket whose faults can be switched on and off while it runs.

What it passes on it passes byte for byte, with the Host header that the client has signed, so that the
bucket's check of the signature (SigV4) still holds. Viewers read the bucket without it.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

from broadcaster.demo.ports import HOST, free_ports

CHUNK = 65_536  # bytes
CUT_AFTER = 5_000  # bytes of a request's body
SLOW_BYTES, SLOW_PAUSE = 800, 0.1  # 64 kbit/s, of all connections together
TURNS = (
    5  # of the event loop, from a connection that is accepted to its task, and from its end to its socket's
)
LATE = 600.0  # seconds: past every deadline
Copy = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Fault(Enum):
    """What the proxy does to a connection."""

    NONE = auto()
    REFUSE = auto()  # nobody listens
    HANG = auto()  # the request is taken, and never answered
    RESET = auto()  # RST in the middle of the request's body
    TRUNCATED_REQUEST = (
        auto()
    )  # the bucket gets the beginning of the body, and then the end of the connection
    TRUNCATED_ANSWER = auto()  # the bucket does its work, the client gets the beginning of the answer
    SLOW = auto()  # 64 kbit/s
    LATE = auto()  # the bucket does its work, its answer comes after the deadline
    TOO_MANY_REQUESTS = auto()
    INTERNAL_ERROR = auto()
    UNAVAILABLE = auto()
    SLOW_DOWN = auto()
    DENIED = auto()


# As R2 words them: status line, code, message.
ANSWERS = {
    Fault.TOO_MANY_REQUESTS: (
        "429 Too Many Requests",
        "TooManyRequests",
        "Reduce your concurrent request rate for the same object.",
    ),
    Fault.INTERNAL_ERROR: (
        "500 Internal Server Error",
        "InternalError",
        "We encountered an internal error. Please try again.",
    ),
    Fault.UNAVAILABLE: (
        "503 Service Unavailable",
        "ServiceUnavailable",
        "Please reduce your request rate.",
    ),
    Fault.SLOW_DOWN: ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    Fault.DENIED: ("403 Forbidden", "AccessDenied", "Access Denied"),
}


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Client:
    """One connection of the client, and what has been read of its request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> tuple[bytes, int]:
        """The next request's head, and how many bytes of body follow it."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(head)
        return head, int(length[1]) if length else 0

    def reset(self) -> None:
        """End the connection with RST."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class FaultProxy:
    """Listens on ``url`` while it is entered and stands before the server on ``port`` of this machine.

    ``met`` is how many connections have met the present fault.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        (self._port,) = free_ports(1)
        self.url = f"http://{HOST}:{self._port}"
        self.fault = Fault.NONE
        self.met = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._line = asyncio.Lock()
        self._ways: dict[Fault, Callable[[Client], Coroutine[Any, Any, None]]] = {
            Fault.NONE: self._pass,
            Fault.HANG: self._hang,
            Fault.RESET: self._reset,
            Fault.TRUNCATED_REQUEST: self._truncate_request,
            Fault.TRUNCATED_ANSWER: self._truncate_answer,
            Fault.SLOW: self._crawl,
            Fault.LATE: self._delay,
        }

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def switch(self, fault: Fault) -> None:
        """From now on do this; connections that are open are reset."""
        await self._close()
        self.fault, self.met = fault, 0
        if fault is not Fault.REFUSE:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self._port, limit=CHUNK)

    async def _close(self) -> None:
        if self._server:
            # asyncio leaves a connection open for ever whose server is closed right after it is accepted.
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
            await _turns()
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await _turns()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Known from the first moment on: a task that never had a turn must not leave its connection open."""
        task = asyncio.create_task(self._serve(Client(reader, writer)))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, client: Client) -> None:
        try:
            self.met += 1
            await self._ways.get(self.fault, self._answer)(client)
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side went away
        except asyncio.CancelledError:
            client.reset()

    async def _pass(self, client: Client) -> None:
        await self._relay(client, _copy, _copy)

    async def _hang(self, client: Client) -> None:
        await client.reader.read(-1)  # until the client has had enough

    async def _reset(self, client: Client) -> None:
        _, length = await client.head()
        await client.reader.readexactly(min(length, CUT_AFTER))
        client.reset()

    async def _truncate_request(self, client: Client) -> None:
        head, length = await client.head()
        async with self._upstream() as (answers, requests):
            requests.write(head + await client.reader.readexactly(min(length // 2, CUT_AFTER)))
            requests.write_eof()
            await _copy(answers, client.writer)

    async def _truncate_answer(self, client: Client) -> None:
        async def beginning(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read(CHUNK))[:9])
            await writer.drain()

        await self._relay(client, _copy, beginning)

    async def _crawl(self, client: Client) -> None:
        await self._relay(client, self._copy_slowly, _copy)

    async def _delay(self, client: Client) -> None:
        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answer = await reader.read(CHUNK)
            await asyncio.sleep(LATE)
            writer.write(answer)

        await self._relay(client, _copy, late)

    async def _answer(self, client: Client) -> None:
        status, code, message = ANSWERS[self.fault]
        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>{error}'
        headers = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        while True:
            _, length = await client.head()
            while length:
                length -= len(await client.reader.readexactly(min(length, CHUNK)))
            client.writer.write((headers + body).encode())
            await client.writer.drain()

    async def _copy_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(SLOW_BYTES):
            async with self._line:
                await asyncio.sleep(SLOW_PAUSE)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    @contextlib.asynccontextmanager
    async def _upstream(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _relay(self, client: Client, there: Copy, back: Copy) -> None:
        """Both ways at once, until the way back has come to its end or the client has gone away."""
        async with self._upstream() as (answers, requests):
            forth = asyncio.create_task(there(client.reader, requests))
            returning = asyncio.create_task(back(answers, client.writer))
            try:
                await asyncio.wait({forth, returning}, return_when=asyncio.FIRST_COMPLETED)
                if not returning.done():
                    await forth  # its failure ends both; after its end the answer may still come
                await returning
            finally:
                forth.cancel()
                returning.cancel()
                await asyncio.gather(forth, returning, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
