"""The body of an upload: how much of it is not acknowledged yet, and what its bytes add up to."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import socket
import struct
import termios
import time
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import Payload
from aiohttp.abc import AbstractStreamWriter

PIECE = 65_536  # bytes: as much as a connection takes before it says "wait"
# Seconds. A home uplink that is full, or loses packets, pauses for two or three; after an outage of ten,
# TCP itself waits longer before it tries again than a new connection takes.
STALL = 10.0
# Seconds for the answer to a body that is there: to give it up would mean to send all of it again.
ANSWER = 15.0
PACED_PIECE = 4_096  # bytes, where a rate is kept: so much of each body leaves well within STALL
LOOK = 0.5  # seconds between two looks at what has left


class Pace:
    """Keeps all parts together to ``rate`` bytes a second; ``clock`` is monotonic, ``sleep`` waits."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free = 0.0  # monotonic: when all that was let through has left

    async def __call__(self, size: int) -> None:
        """Wait until so many bytes may follow."""
        now = self._clock()
        wait = max(self._free - now, 0.0)
        self._free = now + wait + size / self._rate
        await self._sleep(wait)


class MonitoredPayload(Payload):
    """Bytes that go to the connection in pieces; ``left`` of them have not been acknowledged.

    ``md5`` and ``sha256`` are of what has been handed out: of all, once there is an answer. ``pace`` is
    waited for before so many bytes are handed out.
    """

    def __init__(self, value: bytes, pace: Pace | None = None) -> None:
        super().__init__(value)
        self._size = self.left = len(value)
        self._handed = 0
        self._pace = pace
        self.md5, self.sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle
        self._limit: asyncio.Timeout
        self._note: Callable[[int], None]

    def __len__(self) -> int:
        return len(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As text."""
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Hand it out in pieces, each when the connection has room for it."""
        self._transport = getattr(writer, "transport", None)
        self._handed = 0
        self.md5, self.sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self._linger(on=False)
        whole = memoryview(self._value)
        size = PACED_PIECE if self._pace else PIECE
        for start in range(0, len(whole), size):
            piece = whole[start : start + size]
            if self._pace:
                await self._pace(len(piece))
            self._handed += len(piece)
            await writer.write(piece)
            # While it is on its way: before, it would hold up the first byte, and in one go everybody else.
            self.md5.update(piece)
            self.sha256.update(piece)

    @contextlib.contextmanager
    def watched(self, limit: asyncio.Timeout, note: Callable[[int], None]) -> Iterator[None]:
        """Put the limit off as long as bytes leave; ``note`` is told how many, in the end all of them."""
        self._limit, self._note = limit, note
        self._plan()
        try:
            yield
            note(self.left)
            self._linger(on=True)
        except BaseException:
            if self._transport:
                self._transport.abort()
            raise
        finally:
            self._timer.cancel()  # nothing else keeps a body longer than its attempt

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _look(self) -> None:
        self._plan()
        left = self._count()
        if left < self.left and not self._limit.expired():
            self._note(self.left - left)
            self.left = left
            self._limit.reschedule(asyncio.get_running_loop().time() + (STALL if left else ANSWER))

    def _linger(self, *, on: bool) -> None:
        """Whether a closed connection sends the rest: of what was given up, that would only fill the link."""
        with contextlib.suppress(OSError):  # closed
            if self._transport:
                how = struct.pack("ii", not on, 0)
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)

    def _count(self) -> int:
        left = len(self._value) - self._handed
        if self._transport:
            left += self._transport.get_write_buffer_size() + _unacknowledged(self._transport)
        return left


def _unacknowledged(transport: asyncio.WriteTransport) -> int:
    """Bytes that the kernel has and the other side does not (tcp(7): SIOCOUTQ, the same as TIOCOUTQ)."""
    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError, AttributeError):  # closed, or not a kernel that tells
        return 0
    return int(struct.unpack("i", answer)[0])
