"""Small objects that are written again and again, each in the place of the version before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from broadcaster.catalog.references import SECRET
from broadcaster.errors import StorageUnavailable
from broadcaster.upload.mirror import PlaylistStore

DEADLINE = 30.0  # seconds for one request
BATCH = 1000  # what one DeleteObjects takes
PICTURE_AGE = 60  # seconds for which caches may keep a picture of a recording: a poster is replaced once
# After the id of a recording or a clip: whose folder has another name is another one's.
OWN = re.compile(rf"(-{SECRET})?/")
PICTURE = re.compile(rf"(-{SECRET})?/(?P<name>(part-\d+/)?((poster|sprite-\d+)\.jpg|thumbnails\.vtt))")


class ConditionalStore(PlaylistStore, Protocol):
    """Where the objects are. Everything raises StorageError; ``deadline`` is in seconds."""

    async def replace(  # noqa: PLR0913 - what is known of it
        self,
        key: str,
        body: bytes,
        *,
        etag: str | None,
        max_age: int,
        deadline: float,
        gzipped: bool = False,
    ) -> str | None:
        """As a ``PlaylistStore`` does; a body that is ``gzipped`` is stored as such."""

    async def get(self, key: str, *, deadline: float) -> bytes:
        """An object, as it was before it was compressed."""

    def objects(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        """The keys that begin so, in order, and the sizes of their objects in bytes."""


class ConditionalWriter:
    """Writes to ``store`` on the condition that nothing has changed there since our last look.

    So a write that was given up, and arrives later, takes the place of no newer one.
    """

    def __init__(self, store: ConditionalStore) -> None:
        self._store = store
        self._stored: dict[str, tuple[str, bytes]] = {}  # by key: ETag, and digest of what we wrote

    async def put(self, key: str, content: str | bytes, max_age: int, *, gzipped: bool = False) -> int:
        """See to it that the object is this; returns how many bytes were sent for it.

        Caches may keep it for ``max_age`` seconds; content that is ``gzipped`` is stored as such. Raises
        StorageError.
        """
        body = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(body).digest()
        etag, known = self._stored.pop(key, (None, b""))  # nothing is known until there is an answer
        if etag is None:
            etag = await self._store.etag(key, deadline=DEADLINE)
        elif known == digest:
            self._stored[key] = (etag, digest)
            return 0
        how = {"gzipped": True} if gzipped else {}
        written = await self._store.replace(key, body, etag=etag, max_age=max_age, deadline=DEADLINE, **how)
        if written is None:
            raise StorageUnavailable(f"{key} has been changed by another writer")
        self._stored[key] = (written, digest)
        return len(body)

    async def clear(self, view: str, keep: Iterable[str] = (), album: str | None = None) -> None:
        """Delete what is in the folder of a recording or a clip, whatever secret that has, but those keys.

        With an ``album``, a folder, the pictures among them are kept there. Raises StorageError.
        """
        kept = set(keep)
        found = [
            key
            async for key, _ in self._store.objects(view, deadline=DEADLINE)
            if key not in kept and OWN.match(key, len(view))
        ]
        if album:
            for key in found:
                if picture := PICTURE.fullmatch(key, len(view)):
                    kept.add(await self._move(key, f"{album}/{picture['name']}"))
            found = [key for key in found if key not in kept]
        await self.remove(found)

    async def remove(self, keys: Sequence[str]) -> None:
        """Delete these objects; raises StorageError."""
        for begin in range(0, len(keys), BATCH):
            await self._store.delete(keys[begin : begin + BATCH], deadline=DEADLINE)
        for key in keys:
            self._stored.pop(key, None)

    async def _move(self, key: str, target: str) -> str:
        """A copy at the target, unless there is one; whoever asked deletes the other."""
        if key != target and await self._store.etag(target, deadline=DEADLINE) is None:
            await self.put(target, await self._store.get(key, deadline=DEADLINE), PICTURE_AGE)
        return target

    def forget(self, prefix: str) -> None:
        """What begins so is not written soon again."""
        self._stored = {key: known for key, known in self._stored.items() if not key.startswith(prefix)}
