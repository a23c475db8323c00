"""Deletes what has left the window, once no player can still want it.

When that is, the journal has written down as it left; here it is only done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from broadcaster.catalog import Catalog
from broadcaster.errors import ObjectsNotDeleted, StorageError
from broadcaster.retrying import Retrying

SWEEP_EVERY = 5.0  # seconds
BATCH = 1000  # what one DeleteObjects takes
DEADLINE = 30.0  # seconds
SET_ASIDE = timedelta(minutes=10)  # what the bucket does not delete is tried again after so long


class Deleter(Protocol):
    """Deletes objects."""

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete them all within ``deadline`` seconds; raises StorageError, ObjectsNotDeleted of some."""


class Sweeper:
    """Deletes objects below ``prefix``, or one that it was before, and no others."""

    def __init__(self, store: Deleter, catalog: Catalog, *, prefix: str) -> None:
        self.deleted = 0
        self._store = store
        self._catalog = catalog
        self._prefixes = tuple(f"{one}/" for one in catalog.prefixes(prefix))
        self._retrying = Retrying("deletions")

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.sweep()
            await self._retrying.pause(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Delete all that is due. What fails is tried again: a request at the next sweep, an object later."""
        before = self.deleted
        failure: StorageError | None = None
        while keys := await self._catalog.due(BATCH):
            ours = [key for key in keys if key.startswith(self._prefixes)]
            refused: frozenset[str] = frozenset()
            try:
                if ours:
                    await self._store.delete(ours, deadline=DEADLINE)
            except ObjectsNotDeleted as error:
                failure = error
                refused = error.keys if error.keys <= set(ours) else frozenset(ours)
            except StorageError as error:
                failure = error
                break
            self.deleted += len(ours) - len(refused)
            await self._catalog.postponed([key for key in keys if key in refused], SET_ASIDE)
            await self._catalog.deleted([key for key in keys if key not in refused])
        if failure:
            self._retrying.failed(failure)
        elif self.deleted > before:
            self._retrying.worked()
