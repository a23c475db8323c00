"""Compare-and-swap writes: an object is replaced only in the version that the writer knows.

A delayed request therefore never overwrites a newer version. Used for playlists, for small objects of
recordings and clips, and for the lease of the prefix.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from broadcaster.bucket.client import ObjectStore
from broadcaster.catalog.records import SECRET
from broadcaster.errors import StorageUnavailable

DEADLINE = 30.0  # seconds for one request
BATCH = 1000  # keys of one DeleteObjects request
PICTURE_AGE = 60  # seconds for which caches may keep a picture of a recording: a poster is replaced once
# After the ID of a recording or a clip; a folder with any other name is not of that recording.
OWN = re.compile(rf"(-{SECRET})?/")
# Sprites and WebVTT lie beside recordings of version 0.1.0: they move with their recording.
PICTURE = re.compile(rf"(-{SECRET})?/(?P<name>(part-\d+/)?((poster|sprite-\d+)\.jpg|thumbnails\.vtt))")


class ConditionalWriter:
    """Writes to ``store`` and remembers the ETag of each version that it stored or looked up."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        # By key: ETag (None: no object) and digest of the body, b"" if this writer did not store it.
        self._stored: dict[str, tuple[str | None, bytes]] = {}

    def etag(self, key: str) -> str | None:
        """The ETag of the known version of an object, None where none is known."""
        return self._stored.get(key, (None, b""))[0]

    async def look_up(self, key: str, *, deadline: float = DEADLINE) -> str | None:
        """The ETag of an object, read from the bucket if it is not known; raises StorageError."""
        if key not in self._stored:
            self._stored[key] = (await self._store.etag(key, deadline=deadline), b"")
        return self._stored[key][0]

    async def put(
        self,
        key: str,
        content: str | bytes,
        max_age: int,
        *,
        gzipped: bool = False,
        deadline: float = DEADLINE,
    ) -> int:
        """Store an object unless this writer has stored the same content; returns the number of bytes sent.

        Caches may keep it for ``max_age`` seconds. Raises StorageError.
        """
        body = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(body).digest()
        etag = await self.look_up(key, deadline=deadline)
        if etag and self._stored[key][1] == digest:
            return 0
        if not await self.replace(key, body, max_age, gzipped=gzipped, deadline=deadline):
            raise StorageUnavailable(f"{key} has been changed by another writer")
        return len(body)

    async def replace(
        self, key: str, body: bytes, max_age: int, *, gzipped: bool = False, deadline: float = DEADLINE
    ) -> bool:
        """Replace the known version; False if the bucket has another version. Raises StorageError."""
        etag, _ = self._stored.pop(key)  # unknown until the bucket answers
        stored = await self._store.replace(
            key, body, etag=etag, max_age=max_age, deadline=deadline, gzipped=gzipped
        )
        if stored is None:
            return False
        self._stored[key] = (stored, hashlib.sha256(body).digest())
        return True

    async def delete(self, key: str, *, deadline: float = DEADLINE) -> None:
        """Delete one object that will be written again; raises StorageError."""
        self._stored.pop(key, None)
        await self._store.delete([key], deadline=deadline)
        self._stored[key] = (None, b"")

    async def clear(self, view: str, keep: Iterable[str] = (), posters: str | None = None) -> None:
        """Delete the objects of a recording or a clip, under any of its secrets, except the keys in ``keep``.

        Pictures are moved to the folder ``posters``, if there is one. Raises StorageError.
        """
        kept = set(keep)
        found = [
            key
            async for key, _ in self._store.objects(view, deadline=DEADLINE)
            if key not in kept and OWN.match(key, len(view))
        ]
        if posters:
            for key in found:
                if picture := PICTURE.fullmatch(key, len(view)):
                    target = f"{posters}/{picture['name']}"
                    if key != target and await self._store.etag(target, deadline=DEADLINE) is None:
                        await self.put(target, await self._store.get(key, deadline=DEADLINE), PICTURE_AGE)
                    kept.add(target)
            found = [key for key in found if key not in kept]
        await self.remove(found)

    async def remove(self, keys: Sequence[str]) -> None:
        """Delete objects; raises StorageError."""
        await delete_all(self._store, keys)
        for key in keys:
            self._stored.pop(key, None)

    def forget(self, prefix: str) -> None:
        """Forget the versions of objects with this prefix, which will not be written again soon."""
        self._stored = {key: version for key, version in self._stored.items() if not key.startswith(prefix)}


async def delete_all(store: ObjectStore, keys: Sequence[str]) -> None:
    """Delete any number of objects; raises StorageError."""
    for begin in range(0, len(keys), BATCH):
        await store.delete(keys[begin : begin + BATCH], deadline=DEADLINE)


async def folders_of(store: ObjectStore, view: str, most: int) -> dict[str, set[str]]:
    """The keys in each folder of a recording or clip: one that was moved by a killed leader may have two.

    Raises StorageError, and ValueError for more than ``most`` objects in a folder.
    """
    found = defaultdict[str, set[str]](set)
    async for key, _ in store.objects(view, deadline=DEADLINE):
        if match := OWN.match(key, len(view)):
            keys = found[posixpath.basename(key[: match.end() - 1])]
            keys.add(key)
            if len(keys) > most:
                raise ValueError(f"{view} has too many objects")
    return found


async def is_latest(store: ObjectStore, key: str, others: Sequence[str]) -> bool:
    """Whether an object was written after the others. Raises StorageError, and ValueError if that is unsure.

    A later leader has written later, whatever the bucket's clock says.
    """
    written = await store.written(key, deadline=DEADLINE)
    for other in others:
        found = await store.written(other, deadline=DEADLINE)
        if found and found == written:
            raise ValueError(f"{key} and {other} were written at the same time: delete the wrong folder")
        if written is None or (found and found > written):
            return False
    return True
