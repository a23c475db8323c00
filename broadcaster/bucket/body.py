"""The body of an upload: counts acknowledged bytes and computes the checksums while it is sent."""

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
    """A rate limit of ``rate`` bytes per second for all parts together; ``clock`` is monotonic."""

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free = 0.0  # monotonic: when all admitted bytes have been sent

    async def __call__(self, size: int) -> None:
        """Wait until ``size`` more bytes may be sent."""
        now = self._clock()
        wait = max(self._free - now, 0.0)
        self._free = now + wait + size / self._rate
        await self._sleep(wait)


class MonitoredPayload(Payload):
    """A body that is written in pieces; ``left`` bytes have not been acknowledged.

    ``md5`` and ``sha256`` are those of the bytes written so far. ``pace`` limits the rate of writing.
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
        """The body as text."""
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body in pieces, each when the connection has room."""
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
            # Hashed while the piece is sent: hashing all first would delay the first byte and block the loop.
            self.md5.update(piece)
            self.sha256.update(piece)

    @contextlib.contextmanager
    def watched(self, limit: asyncio.Timeout, note: Callable[[int], None]) -> Iterator[None]:
        """Extend the timeout while bytes are acknowledged; ``note`` gets their number, in the end of all."""
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
            self._timer.cancel()  # the timer would keep the body in memory

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
        """Set whether the kernel sends the rest after close: an abandoned body would only fill the link."""
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
    """Bytes in the kernel that the peer has not acknowledged (tcp(7): SIOCOUTQ, equal to TIOCOUTQ)."""
    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError, AttributeError):  # closed, or not supported by the kernel
        return 0
    return int(struct.unpack("i", answer)[0])
