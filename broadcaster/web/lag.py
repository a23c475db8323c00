"""How late this process is: what it measures is what every client waits in addition."""

from __future__ import annotations

import asyncio
import time

EVERY = 0.1  # seconds between two measurements
FADES = 0.9  # what is left of a peak after each, so that whoever asks in between sees it
TOO_LATE, FOR_LONG = 0.25, 1.0  # seconds: by so much, and for so long without being in time once


class Lag:
    """Measures by how much the event loop wakes up too late; ``seconds`` is that, fading."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._late_since: float | None = None  # monotonic

    @property
    def is_overloaded(self) -> bool:
        """Whether it is too late all the time: thousands that wake up together make it late for a moment."""
        return self._late_since is not None and time.monotonic() - self._late_since > FOR_LONG

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            self.note(time.monotonic() - due)

    def note(self, late: float) -> None:
        """Take note of a measurement."""
        self.seconds = max(late, FADES * self.seconds)
        if late <= TOO_LATE:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = time.monotonic() - late
