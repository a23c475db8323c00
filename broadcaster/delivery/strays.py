"""Objects under the prefix that nothing needs: of crashed uploads, or of what was removed."""

from __future__ import annotations

import posixpath
import re
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from broadcaster.catalog import Catalog
from broadcaster.delivery.shelf import BATCH, DEADLINE, ShelfStore
from broadcaster.errors import NotPossible

# The mirror's playlists, the live poster, and the index; those of recordings and clips by their folders.
PLAYLIST = re.compile(r"([^/]+/)?(playlist|iframes)\.m3u8|poster\.jpg|recordings/index(-\d+)?\.json")
OWNER = re.compile(r".+/owner\.json")  # of a prefix that begins with ours
YOUNG = timedelta(hours=1)  # an upload that has begun just now may not be known yet
VIEW = re.compile(r"(?:recordings|clips)/([^/]+)/")


class StrayStore(ShelfStore, Protocol):
    """Where they are. Everything raises StorageError; deadlines are in seconds."""

    def uploads(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, str, datetime]]:
        """Those under way whose keys begin so: key, what the bucket calls it, and when it was begun."""

    async def abort(self, key: str, upload: str, *, deadline: float) -> None:
        """Give an upload up, with all its parts."""


async def sweep(
    store: StrayStore, catalog: Catalog, prefix: str, keep: Collection[str], *, dry_run: bool
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


async def _uploads(store: StrayStore, catalog: Catalog, prefix: str) -> list[tuple[str, str]]:
    found = [one async for one in store.uploads(f"{prefix}/", deadline=DEADLINE)]
    known = {(one.key, one.upload) for one in await catalog.files.uploading()}
    late = datetime.now(UTC) - YOUNG
    return [(key, upload) for key, upload, begun in found if begun < late and (key, upload) not in known]
