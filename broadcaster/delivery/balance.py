"""Whether the uplink carries the stream: what moves while uploads are on, beside what is made meanwhile."""

from __future__ import annotations

from collections import defaultdict, deque

SAMPLES = 60  # looks at the link while it is in use, half a second each, before anything is said of it
RECENT = 60.0  # seconds of segments


class Balance:
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
