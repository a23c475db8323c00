"""Whose time is over, on a machine that may not know the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from broadcaster.catalog.rows import to_microseconds

BIN = timedelta(days=1)  # for which what was deleted can be had back
DOUBT = timedelta(hours=1)  # after a start, in which the machine's clock may be set right


class Expiry:
    """``clock`` does not jump; ``wall`` gives the time as it is known now, and may."""

    def __init__(self, clock: Callable[[], datetime], wall: Callable[[], datetime] | None) -> None:
        self._clock, self._wall = clock, wall or clock
        self._opened = clock()

    def bounds(self) -> dict[str, int]:
        """Over is what has its end after ``doubted``, and not after ``now``; ``day`` is the bin's.

        A machine without a clock of its own may start in another year: what is over at once is doubted for a
        while, and kept when the clock has been set right meanwhile.
        """
        now = self._clock()
        doubted = to_microseconds(self._opened) if now - self._opened < DOUBT else 0
        return {
            "now": to_microseconds(min(now, self._wall())),
            "doubted": doubted,
            "day": to_microseconds(BIN),
        }
