"""Deletes segments after their retention, removed files, abandoned uploads and unreferenced objects."""

from __future__ import annotations

import posixpath
import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from broadcaster.aio import Retrying
from broadcaster.bucket.conditional import BATCH, DEADLINE, ConditionalStore
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import FileUpload
from broadcaster.errors import CatalogError, NotPossible, ObjectsNotDeleted, StorageError

SWEEP_EVERY = 5.0  # seconds
DELETE_BATCH = 1000  # what one DeleteObjects takes
DELETE_DEADLINE = 30.0  # seconds
SET_ASIDE = timedelta(minutes=10)  # what the bucket does not delete is tried again after so long


class Deleter(Protocol):
    """Deletes objects."""

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete them all within ``deadline`` seconds; raises StorageError, ObjectsNotDeleted of some."""


class RetentionDeleter:
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
        while keys := await self._catalog.due(DELETE_BATCH):
            ours = [key for key in keys if key.startswith(self._prefixes)]
            refused: frozenset[str] = frozenset()
            try:
                if ours:
                    await self._store.delete(ours, deadline=DELETE_DEADLINE)
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


PATIENCE = timedelta(days=7)  # for an upload; then R2 gives it up as well


class FileStore(Deleter, Protocol):
    """Where they are."""

    async def abort(self, key: str, upload: str, *, deadline: float) -> None:
        """Give an upload up, with all its parts, within ``deadline`` seconds; raises StorageError."""


class FileDeleter:
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
            await self._store.abort(one.key, one.upload, deadline=DELETE_DEADLINE)
        await self._store.delete([one.key], deadline=DELETE_DEADLINE)


# The mirror's playlists, the live poster, and the index; those of recordings and clips by their folders.
PLAYLIST = re.compile(r"([^/]+/)?(playlist|iframes)\.m3u8|poster\.jpg|recordings/index(-\d+)?\.json")
OWNER = re.compile(r".+/owner\.json")  # of a prefix that begins with ours
YOUNG = timedelta(hours=1)  # an upload that has begun just now may not be known yet
VIEW = re.compile(r"(?:recordings|clips)/([^/]+)/")


class GarbageStore(ConditionalStore, Protocol):
    """Where they are. Everything raises StorageError; deadlines are in seconds."""

    def uploads(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, str, datetime]]:
        """Those under way whose keys begin so: key, what the bucket calls it, and when it was begun."""

    async def abort(self, key: str, upload: str, *, deadline: float) -> None:
        """Give an upload up, with all its parts."""


async def sweep(
    store: GarbageStore, catalog: Catalog, prefix: str, keep: Collection[str], *, dry_run: bool
) -> dict[str, Any]:
    """Find them, and delete them unless it is a ``dry_run``; returns which they are, and their bytes.

    ``uploads`` of the result are those that were begun in parts, and that nobody completes.

    Others need what is in ``keep``. Raises StorageError, and NotPossible where the bucket has recordings
    that the catalog does not know, or another broadcaster works below the prefix.
    """
    recordings, clips = await catalog.recordings.all(), await catalog.clips.all()
    views = {one.folder for one in (*recordings, *await catalog.recordings.bin())}
    views |= {one.folder for one in (*clips, *await catalog.clips.bin())}
    keys: list[str] = []
    total = 0
    page: dict[str, int] = {}

    async def look() -> None:
        nonlocal total
        found = await catalog.recordings.unwanted(list(page))
        keys.extend(found)
        total += sum(page[key] for key in found)
        page.clear()

    async for key, size in store.objects(f"{prefix}/", deadline=DEADLINE):
        name = key.removeprefix(f"{prefix}/")
        view = VIEW.match(name)
        if view and view[1] not in views and name.endswith((".json", ".m3u8")):
            raise NotPossible(
                f"{prefix}/{view[0]} is not known here: 'broadcaster recordings rebuild' brings it back"
            )
        if key not in keep and OWNER.fullmatch(name):
            raise NotPossible(f"{posixpath.dirname(key)} is another broadcaster's")
        if key in keep or PLAYLIST.fullmatch(name) or view:
            continue
        page[key] = size
        if len(page) == BATCH:
            await look()
    await look()
    if not dry_run:
        for begin in range(0, len(keys), BATCH):
            await store.delete(keys[begin : begin + BATCH], deadline=DEADLINE)
    uploads = await _uploads(store, catalog, prefix)
    for key, upload in () if dry_run else uploads:
        await store.abort(key, upload, deadline=DEADLINE)
    found = {"objects": len(keys), "bytes": total, "uploads": len(uploads)}
    return {**found, "deleted": not dry_run, "keys": keys[:BATCH]}


async def _uploads(store: GarbageStore, catalog: Catalog, prefix: str) -> list[tuple[str, str]]:
    found = [one async for one in store.uploads(f"{prefix}/", deadline=DEADLINE)]
    known = {(one.key, one.upload) for one in await catalog.files.uploading()}
    late = datetime.now(UTC) - YOUNG
    return [(key, upload) for key, upload, begun in found if begun < late and (key, upload) not in known]
