"""An HTTP server with scripted answers for each path, some of which end the connection early."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from tests.support.servers.tcp import TcpConnection, TcpServer

REASONS = {200: "OK", 206: "Partial Content"}


@dataclass
class Answer:
    """An answer after ``gate``; with ``cut``, the connection ends after so many bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    gate: asyncio.Event | None = None


class ScriptedServer:
    """``answers`` are the answers to each path in order; the last answer is repeated."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: defaultdict[str, list[dict[str, str]]] = defaultdict(list)  # headers, by path
        self.open = self.most = 0  # requests that are being answered, now and at most
        self.came = asyncio.Event()
        self.url = ""

    async def _serve(self, client: TcpConnection) -> None:
        while await self._answer(client):
            pass

    async def _answer(self, client: TcpConnection) -> bool:
        first, *lines = (await client.read_until(b"\r\n\r\n")).decode().split("\r\n")
        path = first.split()[1].partition("?")[0]
        self.asked[path].append(
            {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
        )
        answers = self.answers[path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.open += 1
        self.most = max(self.most, self.open)
        self.came.set()
        try:
            if answer.gate:
                await answer.gate.wait()
            head = {"Content-Length": len(answer.body), **answer.headers}
            text = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            status = f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Other')}\r\n"
            await client.write((status + text + "\r\n").encode() + answer.body[: answer.cut])
        finally:
            self.open -= 1
        return answer.cut is None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on ``url``."""
        async with TcpServer(self._serve) as server:
            self.url = server.url
            yield


@contextlib.asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """A running server."""
    server = ScriptedServer()
    async with server.running():
        yield server
