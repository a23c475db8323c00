"""The process that writes the file, as it is fed.

It is one of its own because a remuxer asks for the interpreter at each packet: beside the event loop both
would spend more time on handing it over than on their work.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from broadcaster.errors import ExportError

if TYPE_CHECKING:
    from broadcaster.download import Place
    from broadcaster.export.plan import Plan

HEAD = struct.Struct("!Q")  # the bytes of the message that follows
RENDITIONS = 2  # at most: what is seen, and the sound where that has a playlist of its own
BUFFER = 2**20  # bytes that wait in a socket, as far as the system allows it


class Remuxing:
    """It, with a socket for each rendition."""

    def __init__(self, process: subprocess.Popen[bytes], sockets: list[socket.socket]) -> None:
        self._process = process
        self._sockets = sockets

    async def begin(self, path: Path, plan: Plan, *, in_fragments: bool) -> None:
        """Have it write the file, of all that is ``put`` from now on."""
        await self._send(0, (path, plan, in_fragments))

    async def ended(self) -> None:
        """Wait until the file is written; raises ExportError."""
        try:
            said, _ = await asyncio.to_thread(self._process.communicate)
        finally:
            self._process.kill()  # for which the thread waits
        if status := self._process.returncode:
            raise ExportError(
                said.decode()
                or f"the process that writes the file ended with status {status}; the same command goes on"
            )

    async def put(self, number: int, place: Place) -> None:
        """Say where the next object of a rendition is, once the process wants more."""
        await self._send(number, place)

    async def _send(self, number: int, message: object) -> None:
        data = pickle.dumps(message)
        with suppress(ConnectionError):  # ``ended`` says why it ended
            await asyncio.get_running_loop().sock_sendall(self._sockets[number], HEAD.pack(len(data)) + data)


@contextmanager
def remuxing() -> Iterator[Remuxing]:
    """Start it, and end it when it is left; raises OSError."""
    with ExitStack() as stack:
        ours: list[socket.socket] = []
        with ExitStack() as starting:
            theirs: list[int] = []
            for _ in range(RENDITIONS):
                one, other = socket.socketpair()
                stack.enter_context(one).setblocking(False)  # noqa: FBT003 - its only argument
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                ours.append(one)
                theirs.append(starting.enter_context(other).fileno())
            process = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - itself
                    (sys.executable, "-P", "-m", "broadcaster.export", *map(str, theirs)),
                    stdout=subprocess.PIPE,
                    pass_fds=theirs,
                    process_group=0,  # Ctrl-C is meant for this one, which ends it
                )
            )
        stack.callback(process.kill)
        yield Remuxing(process, ours)
