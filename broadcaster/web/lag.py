"""How late this process is: what it measures is what every client waits in addition."""

from __future__ import annotations

import asyncio
import time

EVERY = 0.1  # seconds between two measurements
FADES = 0.9  # what is left of a peak after each, so that whoever asks in between sees it


class Lag:
    """Measures by how much the event loop wakes up too late; ``seconds`` is that, fading."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            self.seconds = max(time.monotonic() - due, FADES * self.seconds)
