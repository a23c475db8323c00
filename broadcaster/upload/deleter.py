"""Deletes segments after their retention, removed files, abandoned uploads, and objects that nothing uses."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Container
from datetime import UTC, datetime, timedelta
from typing import Any

from broadcaster.aio import Retrying
from broadcaster.bucket import ObjectStore
from broadcaster.bucket.conditional import BATCH, DEADLINE, delete_all
from broadcaster.catalog import Catalog
from broadcaster.errors import CatalogError, NotPossible, ObjectsNotDeleted, StorageError
from broadcaster.upload.uploader import WARM

SWEEP_EVERY = 5.0  # seconds
POSTPONED = timedelta(minutes=10)  # until objects are tried again that the bucket did not delete
LONGEST_UPLOAD = timedelta(days=7)  # then R2 aborts it as well
YOUNG = timedelta(hours=1)  # for which an upload may be unknown here, and a warm object may be copied
WARM_EVERY = 1800.0  # seconds


class RetentionDeleter:
    """Deletes segments below ``prefix`` or an earlier prefix when their time has come."""

    def __init__(self, store: ObjectStore, catalog: Catalog, *, prefix: str) -> None:
        self.deleted = 0
        self._store = store
        self._catalog = catalog
        self._prefixes = tuple(f"{known}/" for known in catalog.prefixes(prefix))
        self._retrying = Retrying("deletions")

    async def run(self) -> None:
        """Delete until cancelled."""
        while True:
            await self.sweep()
            await self._retrying.pause(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Delete all that is due. A failed request is retried at the next call, a refused object later."""
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
            await self._catalog.postponed([key for key in keys if key in refused], POSTPONED)
            await self._catalog.deleted([key for key in keys if key not in refused])
        if failure:
            self._retrying.failed(failure)
        elif self.deleted > before:
            self._retrying.worked()


class FileDeleter:
    """Deletes files of recordings below ``prefix`` or an earlier prefix, and aborts their uploads.

    Below ``prefix`` it deletes old warm objects: those of a standby that did not take over.
    """

    def __init__(
        self, store: ObjectStore, catalog: Catalog, clock: Callable[[], datetime], *, prefix: str
    ) -> None:
        self._store = store
        self._files = catalog.files
        self._clock = clock
        self._folders = tuple(f"{known}/files/" for known in catalog.prefixes(prefix))
        self._prefix, self._warm_at = prefix, time.monotonic()  # when it last looked for warm objects
        self._retrying = Retrying("deletions of files")

    async def run(self) -> None:
        """Delete until cancelled."""
        while True:
            try:
                await self.sweep()
            except StorageError as error:
                self._retrying.failed(error)
            except CatalogError:  # the catalog reports it
                pass
            else:
                self._retrying.worked()
            await self._retrying.pause(SWEEP_EVERY)

    async def sweep(self) -> None:
        """Delete all removed files; raises the latest StorageError, or CatalogError."""
        failure: StorageError | None = None
        for file in await self._files.removed(self._clock() - LONGEST_UPLOAD):
            try:
                if file.key.startswith(self._folders):
                    if file.upload:  # first, so that it cannot become an object after the deletion
                        await self._store.abort(file.key, file.upload, deadline=DEADLINE)
                    await self._store.delete([file.key], deadline=DEADLINE)
                await self._files.forget(file)
            except StorageError as error:
                failure = error
        if failure:
            raise failure
        if time.monotonic() - self._warm_at >= WARM_EVERY:
            self._warm_at = time.monotonic()
            await delete_all(self._store, [key async for key, _ in old_warm(self._store, self._prefix)])


def old_warm(store: ObjectStore, prefix: str) -> AsyncIterator[tuple[str, int]]:
    """Warm objects that no standby is likely to copy, and their sizes; one that is gone is uploaded again."""
    return store.older(f"{prefix}/{WARM}/", YOUNG, deadline=DEADLINE)


# The mirror's playlists, the live poster, and the index; playlists of recordings and clips are in folders.
PLAYLIST = re.compile(
    r"([^/]+/)?(playlist|iframes)\.m3u8|([0-9a-f]{32}-)?poster\.jpg|recordings/index(-\d+)?\.json"
)
OWNER = re.compile(r".+/([0-9a-f]{32}-)?owner\.json")  # of a prefix that begins with ours
VIEW = re.compile(r"(?:recordings|clips)/([^/]+)/")


async def sweep(
    store: ObjectStore, catalog: Catalog, prefix: str, keep: Collection[str], *, dry_run: bool
) -> dict[str, Any]:
    """Find objects and uploads without a reference, and delete them unless it is a ``dry_run``.

    Returns the number of ``objects`` and of multipart ``uploads``, the ``bytes``, and the first ``keys``.
    Objects with keys in ``keep`` stay. Raises StorageError, and NotPossible if the bucket has records that
    the catalog does not know, or another broadcaster works below the prefix.
    """
    catalog.check_not_behind()
    known = await _ids(catalog)
    unused: dict[str, int] = {}
    page: dict[str, int] = {}
    halves: dict[str, int] = {}  # of recordings and clips whose record their leader did not come to write

    async def check_page() -> None:
        unused.update((key, page[key]) for key in await catalog.recordings.unwanted(list(page)))
        page.clear()

    async for key, size in store.objects(f"{prefix}/", deadline=DEADLINE):
        name = key.removeprefix(f"{prefix}/")
        if view := VIEW.match(name):
            if not _is_of(view[1], known):
                _check_half(key)
                halves[key] = size
            continue
        if key not in keep and OWNER.fullmatch(name):
            raise NotPossible(f"{posixpath.dirname(key)} is another broadcaster's")
        if key in keep or PLAYLIST.fullmatch(name) or name.startswith(f"{WARM}/"):
            continue
        page[key] = size
        if len(page) == BATCH:
            await check_page()
    await check_page()
    known = await _ids(catalog)  # one may have begun meanwhile
    folders = {key: key.removeprefix(f"{prefix}/").split("/")[1] for key in halves}
    unused |= {key: size for key, size in halves.items() if not _is_of(folders[key], known)}
    unused |= {key: size async for key, size in old_warm(store, prefix)}
    keys = list(unused)
    uploads = await _abandoned(store, catalog, prefix)
    await delete_all(store, [] if dry_run else keys)
    for key, upload in () if dry_run else uploads:
        await store.abort(key, upload, deadline=DEADLINE)
    counts = {"objects": len(keys), "bytes": sum(unused.values()), "uploads": len(uploads)}
    return {**counts, "deleted": not dry_run, "keys": keys[:BATCH]}


def _check_half(key: str) -> None:
    """Raise NotPossible for the record of a recording or clip that is not known."""
    if key.endswith(".json"):
        folder = posixpath.dirname(key)
        raise NotPossible(f"{folder} is not known here: 'broadcaster recordings rebuild' brings it back")


async def _ids(catalog: Catalog) -> set[str]:
    return {view.id for view in await catalog.views()}


def _is_of(folder: str, known: Container[str]) -> bool:
    """Whether the folder is of a known recording or clip: named by the ID, or by the ID and a secret."""
    return folder in known or folder.rpartition("-")[0] in known


async def _abandoned(store: ObjectStore, catalog: Catalog, prefix: str) -> list[tuple[str, str]]:
    """The multipart uploads that nobody goes on with: their keys and IDs."""
    late, active = datetime.now(UTC) - YOUNG, await catalog.files.uploading()
    in_catalog = {(file.key, file.upload) for file in active}
    return [
        (key, upload)
        async for key, upload, begun in store.uploads(f"{prefix}/", deadline=DEADLINE)
        if begun < late and (key, upload) not in in_catalog
    ]
