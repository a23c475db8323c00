"""How far behind live the furthest viewer is that has been heard of lately."""

from __future__ import annotations

from collections import deque

MEMORY = 90  # seconds for which a report counts: a browser lets a page in the background send one in a minute


class MaxViewerDelay:
    """Remembers where the furthest stood, second by second, and of nobody who that was.

    Who is paused falls behind further until the next report. ``now`` is monotonic, seconds.
    """

    def __init__(self) -> None:
        # In whole seconds when it was heard, and when live was where the furthest stood.
        self._places: deque[tuple[int, float]] = deque(maxlen=MEMORY)

    def heard(self, seconds: float, now: float) -> None:
        """Somebody is so far behind live; with 0, nobody is."""
        if seconds <= 0:
            return
        second, place = int(now), now - seconds
        if self._places and self._places[-1][0] == second:
            place = min(place, self._places.pop()[1])
        self._places.append((second, place))

    def seconds(self, now: float) -> float:
        """How far behind live; 0 where nobody is."""
        while self._places and self._places[0][0] < now - MEMORY:
            self._places.popleft()
        return now - min((place for _, place in self._places), default=now)
