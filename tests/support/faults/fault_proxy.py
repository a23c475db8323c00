"""A proxy between the service and its bucket whose faults can be switched on and off while it runs.

What it passes on it passes byte for byte, with the Host header that the client has signed, so that the
bucket's check of the signature (SigV4) still holds. Viewers read the bucket without it.

It is a process of its own, ``python -m tests.support.faults.fault_proxy PORT``, which reads an order from
each line of its standard input, and answers with a line.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

from broadcaster.demo.processes import HOST
from tests.support.faults.forwarding import Copy, copy, pass_on
from tests.support.servers.tcp import CHUNK, TcpConnection, TcpServer, connected

CUT_AFTER = 5_000  # bytes of a request's body
SLOW_BYTES, SLOW_PAUSE = 800, 0.1  # 64 kbit/s, of all connections together
LATE = 600.0  # seconds: past every deadline
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


class FaultProxy:
    """Listens on ``url`` while it is entered and stands before the server on ``port`` of this machine."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self._upstream = port
        self._process: subprocess.Popen[str]

    async def __aenter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: ASYNC220 - which returns at once
            [sys.executable, "-m", "tests.support.faults.fault_proxy", str(self._upstream)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self.url = f"http://{HOST}:{await self._order(None)}"
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._end)

    async def switch(self, fault: Fault, *, port: int | None = None) -> None:
        """From now on do this, before the server on ``port`` if there is one; open connections are reset."""
        await self._order({"fault": fault.name, "port": port})

    async def met(self) -> int:
        """How many connections have met the present fault."""
        return await self._order({})

    async def _order(self, order: dict[str, Any] | None) -> int:
        """Give it one order, but not without one; returns its answer."""

        def give() -> str:
            assert self._process.stdin
            assert self._process.stdout
            if order is not None:
                print(json.dumps(order), file=self._process.stdin, flush=True)
            return self._process.stdout.readline()

        return int(await asyncio.to_thread(give))

    def _end(self) -> None:
        self._process.kill()
        with self._process:
            pass


class _Proxy:
    """The proxy in its own process."""

    def __init__(self, port: int) -> None:
        self.met = 0
        self.server = TcpServer(self._serve)
        self._upstream = port
        self._fault = Fault.NONE
        self._line = asyncio.Lock()
        self._ways: dict[Fault, Callable[[TcpConnection], Coroutine[Any, Any, None]]] = {
            Fault.NONE: self._relay,
            Fault.HANG: self._hang,
            Fault.RESET: self._reset,
            Fault.TRUNCATED_REQUEST: self._truncate_request,
            Fault.TRUNCATED_ANSWER: self._truncate_answer,
            Fault.SLOW: self._crawl,
            Fault.LATE: self._delay,
        }

    async def switch(self, fault: Fault, port: int | None) -> None:
        await self.server.close(reset=True)
        self._fault, self.met = fault, 0
        self._upstream = port or self._upstream
        if fault is not Fault.REFUSE:
            self.server.listen()

    async def _serve(self, client: TcpConnection) -> None:
        self.met += 1
        await self._ways.get(self._fault, self._answer)(client)

    async def _hang(self, client: TcpConnection) -> None:
        await client.read_all()  # until the client has had enough

    async def _reset(self, client: TcpConnection) -> None:
        _, length = await _head(client)
        await client.read_exactly(min(length, CUT_AFTER))
        client.reset()

    async def _truncate_request(self, client: TcpConnection) -> None:
        head, length = await _head(client)
        async with connected(self._upstream) as server:
            await server.write(head + await client.read_exactly(min(length // 2, CUT_AFTER)))
            server.end()
            await copy(server, client)

    async def _truncate_answer(self, client: TcpConnection) -> None:
        async def beginning(server: TcpConnection, client: TcpConnection) -> None:
            await client.write((await server.read())[:9])

        await self._relay(client, back=beginning)

    async def _crawl(self, client: TcpConnection) -> None:
        await self._relay(client, self._copy_slowly)

    async def _delay(self, client: TcpConnection) -> None:
        async def late(server: TcpConnection, client: TcpConnection) -> None:
            answer = await server.read()
            await asyncio.sleep(LATE)
            await client.write(answer)

        await self._relay(client, back=late)

    async def _answer(self, client: TcpConnection) -> None:
        status, code, message = ANSWERS[self._fault]
        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>{error}'
        headers = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        while True:
            _, length = await _head(client)
            while length:
                length -= len(await client.read_exactly(min(length, CHUNK)))
            await client.write((headers + body).encode())

    async def _copy_slowly(self, source: TcpConnection, target: TcpConnection) -> None:
        while data := await source.read(SLOW_BYTES):
            async with self._line:
                await asyncio.sleep(SLOW_PAUSE)
            await target.write(data)
        target.end()

    async def _relay(self, client: TcpConnection, there: Copy = copy, back: Copy = copy) -> None:
        async with connected(self._upstream) as server:
            await pass_on(client, server, there, back)


async def _head(client: TcpConnection) -> tuple[bytes, int]:
    """The next request's head, and how many bytes of body follow it."""
    head = await client.read_until(b"\r\n\r\n")
    length = CONTENT_LENGTH.search(head)
    return head, int(length[1]) if length else 0


async def _main(port: int) -> None:
    proxy = _Proxy(port)
    async with proxy.server:
        print(proxy.server.port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if order := json.loads(line):
                await proxy.switch(Fault[order["fault"]], order["port"])
            print(proxy.met, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
