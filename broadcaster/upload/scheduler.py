"""Schedules uploads: their order, an adaptive limit of concurrency, and a monitor of the uplink."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Generic, TypeVar

from broadcaster.catalog.records import Segment

MOST, START = 12, 6  # uploads at once, and bodies in memory
PROBES = 2  # while the bucket fails
QUICK, SLOW = 2.0, 6.0  # seconds for one upload


T = TypeVar("T")


class AdaptiveLimit(Generic[T]):
    """Who comes first has the first turn; ``most`` at once.

    ``in_flight`` of at most ``limit`` are on; a few only while ``probing``.
    """

    def __init__(self, most: int = MOST) -> None:
        self.limit = float(min(START, most))
        self.probing = False
        self.in_flight = 0
        self._most = most
        self._waiting: dict[asyncio.Future[None], T] = {}

    @asynccontextmanager
    async def turn(self, one: T) -> AsyncIterator[None]:
        """Wait for it, and hold it."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[come] = one
        self._admit()
        try:
            await come
            yield
        finally:
            self._waiting.pop(come, None)
            if come.done() and not come.cancelled():
                self.in_flight -= 1
            self._admit()

    def succeeded(self, seconds: float) -> None:
        """One more now and then while uploads are quick, one less for each that is slow.

        Two at least: while one waits for its answer, the other uses the link.
        """
        step = 1 / self.limit if seconds < QUICK else -1.0 if seconds > SLOW else 0.0
        self.limit = min(max(self.limit + step, 2.0), self._most)

    def failed(self, *, transient: bool = True) -> None:
        """Half as many where that was ``transient``: the link, or the bucket, has had too much.

        A few find out whether the bucket is back; more would only hold connections and memory.
        """
        self.probing = True
        if transient:
            self.limit = max(self.limit / 2, 1.0)

    def _admit(self) -> None:
        while self._waiting and self.in_flight < int(min(self.limit, PROBES) if self.probing else self.limit):
            come = self._next()
            del self._waiting[come]
            if not come.cancelled():
                self.in_flight += 1
                come.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        return next(iter(self._waiting))


class UploadScheduler(AdaptiveLimit[Segment]):
    """The oldest time comes first, and of one time the smaller variant, so that something stays live."""

    def _next(self) -> asyncio.Future[None]:
        oldest = min(self._waiting.values(), key=lambda one: one.program_date_time)
        # The times of one moment differ a little from variant to variant.
        until = oldest.program_date_time + max(oldest.duration, timedelta()) / 2
        first = (come for come, one in self._waiting.items() if one.program_date_time <= until)
        return min(first, key=lambda come: _size(self._waiting[come]))


def _size(segment: Segment) -> int:
    return segment.file.size if segment.file else 0


SAMPLES = 60  # looks at the link while it is in use, half a second each, before anything is said of it
RECENT = 60.0  # seconds of segments


class UplinkMonitor:
    """Compares the two. All times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._made: deque[tuple[float, str, int, float]] = deque()
        self._moved: deque[tuple[int, float]] = deque(maxlen=SAMPLES)
        self._last: tuple[int, float] | None = None  # None while the link is not in use

    def add(self, variant: str, size: int, duration: float, now: float) -> None:
        """A segment of ``size`` bytes is finished."""
        self._made.append((now, variant, size, duration))
        while self._made[0][0] < now - RECENT:
            self._made.popleft()

    def look(self, sent: int, now: float, *, in_use: bool) -> None:
        """So many bytes have been sent in all; time counts only while uploads are on."""
        if in_use and self._last:
            self._moved.append((sent - self._last[0], now - self._last[1]))
        self._last = (sent, now) if in_use else None

    def forget(self) -> None:
        """What was seen says nothing of the link: the bucket failed meanwhile."""
        self._moved.clear()
        self._last = None

    @property
    def needed(self) -> float:
        """Bytes a second that the latest segments of all variants have; 0 before the first."""
        made: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for _, variant, size, duration in self._made:
            made[variant].append((size, duration))
        return sum(map(_rate, made.values()))

    @property
    def shortage(self) -> str | None:
        """Both rates, when the link has been in use long enough and carries less than the stream needs."""
        if len(self._moved) < SAMPLES:
            return None
        carried, needed = _rate(self._moved), self.needed
        if carried >= needed:
            return None
        megabits = 8 / 1e6
        return f"the uplink carries {carried * megabits:.1f} Mbit/s, the stream needs {needed * megabits:.1f}"


def _rate(amounts: list[tuple[int, float]] | deque[tuple[int, float]]) -> float:
    """Bytes per second."""
    seconds = sum(seconds for _, seconds in amounts)
    return sum(size for size, _ in amounts) / seconds if seconds else 0.0
