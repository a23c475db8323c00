"""The parent's side of the process that writes the file.

A remuxer takes the interpreter's lock at each packet. Beside an event loop, both would mostly wait for it.
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
    from broadcaster.export.plan import ExportPlan

HEAD = struct.Struct("!Q")  # the bytes of the message that follows
RENDITIONS = 2  # at most: what is seen, and the sound where that has a playlist of its own
BUFFER = 2**20  # bytes that wait in a socket, as far as the system allows it


class Remuxing:
    """The running process, with a socket for each rendition."""

    def __init__(self, process: subprocess.Popen[bytes], sockets: list[socket.socket]) -> None:
        self._process = process
        self._sockets = sockets

    async def begin(self, path: Path, plan: ExportPlan, *, in_fragments: bool) -> None:
        """Start to write the file of the plan, from the objects that ``put`` passes from now on."""
        await self._send(0, (path, plan, in_fragments))

    async def ended(self) -> None:
        """Wait until the file is written. Raises ExportError."""
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
        """Pass the next object of a rendition, as soon as the process reads on."""
        await self._send(number, place)

    async def _send(self, number: int, message: object) -> None:
        data = pickle.dumps(message)
        with suppress(ConnectionError):  # ``ended`` says why it ended
            await asyncio.get_running_loop().sock_sendall(self._sockets[number], HEAD.pack(len(data)) + data)


@contextmanager
def remuxing() -> Iterator[Remuxing]:
    """A context with a running process, which is ended when it is left. Raises OSError."""
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
