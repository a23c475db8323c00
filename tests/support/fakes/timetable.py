"""A clock of its own, and what is to happen by it."""

import heapq
from collections.abc import Callable


class Timetable:
    """Things that happen one after another at a made-up ``time``, in seconds."""

    def __init__(self) -> None:
        self.time = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Let something happen after so many seconds."""
        self._count += 1
        heapq.heappush(self._queue, (self.time + delay, self._count, action))

    @property
    def next_at(self) -> float:
        """When the next thing happens."""
        return self._queue[0][0] if self._queue else float("inf")

    def step(self) -> None:
        """Let the next thing happen."""
        time, _, action = heapq.heappop(self._queue)
        self.time = max(self.time, time)
        action()
