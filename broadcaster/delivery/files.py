"""Deletes what recordings have no more as one file: uploads that were given up, and objects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from broadcaster.catalog import Catalog
from broadcaster.catalog.views import FileUpload
from broadcaster.delivery.sweeper import DEADLINE, SWEEP_EVERY, Deleter
from broadcaster.errors import CatalogError, StorageError
from broadcaster.retrying import Retrying

PATIENCE = timedelta(days=7)  # for an upload; then R2 gives it up as well


class FileStore(Deleter, Protocol):
    """Where they are."""

    async def abort(self, key: str, upload: str, *, deadline: float) -> None:
        """Give an upload up, with all its parts, within ``deadline`` seconds; raises StorageError."""


class FileSweeper:
    """Deletes below ``prefix``, or one that it was before, and nowhere else."""

    def __init__(
        self, store: FileStore, catalog: Catalog, clock: Callable[[], datetime], *, prefix: str
    ) -> None:
        self._store = store
        self._files = catalog.files
        self._clock = clock
        self._folders = tuple(f"{one}/files/" for one in catalog.prefixes(prefix))
        self._retrying = Retrying("deletions of files")

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except StorageError as error:
                self._retrying.failed(error)
            except CatalogError:  # the catalog says so itself
                pass
            else:
                self._retrying.worked()
            await self._retrying.pause(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Delete all that is due; raises StorageError for what it was not, or CatalogError."""
        failure: StorageError | None = None
        for one in await self._files.removed(self._clock() - PATIENCE):
            try:
                if one.key.startswith(self._folders):
                    await self._delete(one)
                await self._files.forget(one)
            except StorageError as error:
                failure = error
        if failure:
            raise failure

    async def _delete(self, one: FileUpload) -> None:
        """First the upload, so that none of it can become an object after that was deleted."""
        if one.upload:
            await self._store.abort(one.key, one.upload, deadline=DEADLINE)
        await self._store.delete([one.key], deadline=DEADLINE)
