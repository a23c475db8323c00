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
    from broadcaster.export.plan import Plan

HEAD = struct.Struct("!?Q")  # whether what follows says where the object is, and its bytes
Place = tuple[Path, int, int]  # a file, where the object begins in it, and its bytes
RENDITIONS = 2  # at most: what is seen, and the sound where that has a playlist of its own
BUFFER = 2**20  # bytes that wait in a socket, as far as the system allows it


class Remuxing:
    """It, with a socket for each rendition."""

    def __init__(self, process: subprocess.Popen[bytes], sockets: list[socket.socket]) -> None:
        self._process = process
        self._sockets = sockets

    async def begin(self, path: Path, plan: Plan, *, in_fragments: bool) -> None:
        """Have it write the file, of all that is ``put`` from now on."""
        await self.put(0, pickle.dumps((path, plan, in_fragments)))

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

    async def put(self, number: int, body: bytes, place: Place | None = None) -> None:
        """Give it the next object of a rendition, once it wants more, or say where it is: that takes less."""
        loop = asyncio.get_running_loop()
        data = pickle.dumps(place) if place else body
        with suppress(ConnectionError):  # ``ended`` says why it ended
            await loop.sock_sendall(self._sockets[number], HEAD.pack(place is not None, len(data)))
            await loop.sock_sendall(self._sockets[number], data)


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
