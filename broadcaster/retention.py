"""Deletes what has left the window, once no player can still want it.

Deadlines run on the monotonic clock from when this process first saw them: a wall clock that jumps, or a
restart, can only delay a deletion, never bring it forward.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from broadcaster.errors import StorageError

logger = logging.getLogger(__name__)

SWEEP_EVERY = 5.0  # seconds
BATCH = 1000  # what one DeleteObjects takes
DEADLINE = 30.0  # seconds


class Deleter(Protocol):
    """Deletes objects."""

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete them all within ``deadline`` seconds; raises StorageError."""


class RemovalList(Protocol):
    """What has to be deleted."""

    def removals(self, removed_before: datetime | None, most: int) -> list[tuple[str, timedelta]]:
        """Return keys that left the window, oldest first, and how long they must stay readable."""

    def removed(self, keys: Sequence[str], *, kept: bool = False) -> None:
        """Forget them: they are deleted, or kept for ever."""


class Sweeper:
    """Deletes objects below ``prefix`` and no others.

    ``retention`` is how long to keep what has left the window: zero for as long as players may want it, None
    for ever. ``clock`` gives the wall time, which counts for a retention of days alone.
    """

    def __init__(
        self,
        store: Deleter,
        journal: RemovalList,
        clock: Callable[[], datetime],
        *,
        prefix: str,
        retention: timedelta | None,
    ) -> None:
        self.deleted = 0
        self._store = store
        self._journal = journal
        self._clock = clock
        self._prefix = prefix + "/"
        self._retention = retention
        self._deadlines: dict[str, float] = {}
        self._failing = False

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.sweep(time.monotonic())
            await asyncio.sleep(SWEEP_EVERY)

    async def sweep(self, now: float) -> None:
        """Delete what is due at ``now`` (monotonic, seconds). A failure is tried again at the next sweep."""
        before = self._clock() - self._retention if self._retention else None
        listed = self._journal.removals(before, BATCH)
        if self._retention is None:
            self._journal.removed([key for key, _ in listed], kept=True)
            return
        deadlines = self._deadlines
        self._deadlines = {key: deadlines.get(key, now + time.total_seconds()) for key, time in listed}
        due = [key for key, deadline in self._deadlines.items() if deadline <= now]
        ours = [key for key in due if key.startswith(self._prefix)]
        if not due:
            return
        try:
            if ours:
                await self._store.delete(ours, deadline=DEADLINE)
        except StorageError as error:
            if not self._failing:
                logger.warning("%d objects cannot be deleted now: %s", len(ours), error)
            self._failing = True
            return
        self._failing = False
        self.deleted += len(ours)
        self._journal.removed(due)
