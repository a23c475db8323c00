"""Schedules uploads: their order, an adaptive limit of concurrency, and a monitor of the uplink."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Generic, TypeVar

from broadcaster.catalog.records import Segment

MOST, START = 12, 6  # uploads at once, and bodies in memory
PROBES = 2  # uploads at once while the bucket fails
QUICK, SLOW = 2.0, 6.0  # seconds for one upload


T = TypeVar("T")


class AdaptiveLimit(Generic[T]):
    """Admits uploads in the order of their requests: ``limit`` at once, which is ``most`` or less.

    ``in_flight`` uploads are under way; while ``probing``, two at most.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = float(min(START, most))
        self.probing = False
        self.in_flight = 0
        self._busy, self._since = 0.0, 0.0  # seconds with uploads under way, and since when there are some
        self._most = most
        self._clock = clock
        self._waiting: dict[asyncio.Future[None], T] = {}
        self._is_closed = False

    @asynccontextmanager
    async def slot(self, upload: T) -> AsyncIterator[None]:
        """Wait until the upload is admitted, and count it until the end of the context."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[admitted] = upload
        if self._is_closed:
            admitted.cancel()
        self._admit()
        try:
            await admitted
            yield
        finally:
            self._waiting.pop(admitted, None)
            if admitted.done() and not admitted.cancelled():
                if self.in_flight == 1:
                    self._busy = self.busy
                self.in_flight -= 1
            self._admit()

    def close(self) -> None:
        """Admit no more: uploads that wait, and later ones, are cancelled."""
        self._is_closed = True
        for admitted in self._waiting:
            admitted.cancel()

    @property
    def busy(self) -> float:
        """Seconds so far in which an upload was under way."""
        return self._busy + (self._clock() - self._since if self.in_flight else 0.0)

    def succeeded(self, seconds: float) -> None:
        """Raise the limit slowly while uploads are quick; lower it by one for each slow upload.

        It is two at least: while an upload waits for its answer, the other uses the link.
        """
        step = 1 / self.limit if seconds < QUICK else -1.0 if seconds > SLOW else 0.0
        self.limit = min(max(self.limit + step, 2.0), self._most)

    def failed(self, *, transient: bool = True) -> None:
        """Halve the limit after a ``transient`` failure: the link or the bucket is overloaded.

        A few uploads find out whether the bucket works again; more would only hold connections and memory.
        """
        self.probing = True
        if transient:
            self.limit = max(self.limit / 2, 1.0)

    def _admit(self) -> None:
        while self._waiting and self.in_flight < int(min(self.limit, PROBES) if self.probing else self.limit):
            admitted = self._next()
            del self._waiting[admitted]
            if not admitted.cancelled():
                if not self.in_flight:
                    self._since = self._clock()
                self.in_flight += 1
                admitted.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        return next(iter(self._waiting))


class UploadScheduler(AdaptiveLimit[Segment]):
    """Admits the oldest segment first, and of the same time the smallest, so that a variant stays live."""

    def _next(self) -> asyncio.Future[None]:
        oldest = min(self._waiting.values(), key=lambda segment: segment.program_date_time)
        # The times of segments that belong together differ a little from variant to variant.
        until = oldest.program_date_time + max(oldest.duration, timedelta()) / 2
        sizes = {
            admitted: segment.file.size if segment.file else 0
            for admitted, segment in self._waiting.items()
            if segment.program_date_time <= until
        }
        return min(sizes, key=sizes.__getitem__)


SAMPLES = 60  # measurements of the link in use, half a second each, that a shortage needs
RECENT = 60.0  # seconds of segments, and of the link's use
LEAST = 10  # measurements of its use


class UplinkMonitor:
    """Compares what the uplink carries with what the stream needs. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._segments: deque[tuple[float, str, int, float]] = deque()  # time, variant, bytes, duration
        self._sent: deque[tuple[int, float]] = deque(maxlen=SAMPLES)  # bytes in seconds
        self._last: tuple[int, float] | None = None  # None while the link is not in use
        self._busy: deque[tuple[float, float]] = deque(maxlen=2 * int(RECENT))  # seconds in use, and when

    def add(self, variant: str, size: int, duration: float, now: float) -> None:
        """Note a finished segment of ``size`` bytes."""
        self._segments.append((now, variant, size, duration))
        while self._segments[0][0] < now - RECENT:
            self._segments.popleft()

    def measure(self, sent: int, now: float, *, in_use: bool) -> None:
        """Note the number of bytes sent so far; only time with uploads under way counts."""
        if in_use and self._last:
            self._sent.append((sent - self._last[0], now - self._last[1]))
        self._last = (sent, now) if in_use else None

    def note_busy(self, seconds: float, now: float) -> None:
        """Note for how many seconds so far an upload was under way."""
        self._busy.append((seconds, now))

    def forget(self) -> None:
        """Forget all measurements: the bucket failed meanwhile."""
        self._sent.clear()
        self._busy.clear()
        self._last = None

    @property
    def needed(self) -> float:
        """Bytes per second of the latest segments of all variants; 0 before the first."""
        of_variant: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for _, variant, size, duration in self._segments:
            of_variant[variant].append((size, duration))
        return sum(map(_rate, of_variant.values()))

    @property
    def left(self) -> float | None:
        """The share of the last minute in which nothing was uploaded; None before it was measured."""
        if len(self._busy) < LEAST or not self.needed:
            return None
        (busy, began), (busy_now, now) = self._busy[0], self._busy[-1]
        return max(0.0, 1 - (busy_now - busy) / (now - began))

    @property
    def shortage(self) -> str | None:
        """A message with both rates while the link carries less than the stream needs."""
        if len(self._sent) < SAMPLES:
            return None
        carried, needed = _rate(self._sent), self.needed
        if carried >= needed:
            return None
        megabits = 8 / 1e6
        return f"the uplink carries {carried * megabits:.1f} Mbit/s, the stream needs {needed * megabits:.1f}"


def _rate(amounts: Collection[tuple[int, float]]) -> float:
    """Bytes per second."""
    seconds = sum(seconds for _, seconds in amounts)
    return sum(size for size, _ in amounts) / seconds if seconds else 0.0
