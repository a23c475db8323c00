"""The process that writes the file, as it is fed.

It is one of its own because a remuxer asks for the interpreter at each packet: beside the event loop both
would spend more time on handing it over than on their work.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from broadcaster.errors import ExportError
from broadcaster.export.plan import Plan

LENGTH = struct.Struct("!Q")  # bytes of the object that follows


class Remuxing:
    """It, with a socket for each rendition."""

    def __init__(self, process: Process, sockets: list[socket.socket]) -> None:
        self._process = process
        self._sockets = sockets

    async def write(self, path: Path, plan: Plan, *, in_fragments: bool) -> None:
        """Have it write the file, of all that is ``put``; raises ExportError."""
        said, _ = await self._process.communicate(pickle.dumps((path, plan, in_fragments)))
        if status := self._process.returncode:
            raise ExportError(said.decode() or f"the process that writes {path} ended with status {status}")

    async def put(self, number: int, body: bytes) -> None:
        """Give it the next object of a rendition, once it wants more."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._sockets[number], LENGTH.pack(len(body)))
            await loop.sock_sendall(self._sockets[number], body)
        except ConnectionError:
            await self._process.wait()  # ``write`` says why it ended


@asynccontextmanager
async def remuxing(renditions: int) -> AsyncIterator[Remuxing]:
    """Start it, and end it when it is left; raises OSError."""
    with ExitStack() as stack:
        ours: list[socket.socket] = []
        with ExitStack() as starting:
            theirs: list[int] = []
            for _ in range(renditions):
                one, other = socket.socketpair()
                stack.enter_context(one).setblocking(False)  # noqa: FBT003 - its only argument
                ours.append(one)
                theirs.append(starting.enter_context(other).fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "broadcaster.export", *map(str, theirs)),
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=theirs,
            )
        try:
            yield Remuxing(process, ours)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
