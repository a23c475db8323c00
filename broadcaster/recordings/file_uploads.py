"""Multipart uploads of the files that the operator adds to recordings.

The uploading client gets a signed URL for each part and sends the parts straight to the bucket. This module
counts the stored parts and completes the upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, Protocol

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import FileUpload, Recording
from broadcaster.errors import NotPossible
from broadcaster.recordings.writer import file_of

MIB = 2**20
PART = 16 * MIB  # bytes
MOST_PARTS, LARGEST = 10_000, 5 * 2**40  # of one object; bytes
VALID = timedelta(minutes=15)  # for how long a part's URL is
DEADLINE = 30.0  # seconds for one request
COMPLETE = 120.0  # seconds: thousands of parts take the bucket a while
CACHE_CONTROL = "public, max-age=31536000, immutable"  # keys are never used twice
TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".ts": "video/mp2t",
    ".mkv": "video/matroska",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
}


class PartStore(Protocol):
    """Where the parts go. Everything raises StorageError; deadlines are in seconds."""

    async def begin(
        self, key: str, *, media_type: str, disposition: str, cache_control: str, deadline: float
    ) -> str:
        """Begin an upload; returns what the bucket calls it."""

    async def part_url(self, key: str, upload: str, number: int, size: int, *, valid: timedelta) -> str:
        """Where this part is PUT, of exactly so many bytes, by whoever has the URL."""

    async def parts(self, key: str, upload: str, *, deadline: float) -> dict[int, tuple[str, int]] | None:
        """MD5 (hexadecimal) and size of each part that is there; None when there is no such upload."""

    async def complete(self, key: str, upload: str, md5s: Sequence[str], *, deadline: float) -> bool:
        """Make the object of these parts; False when there is no such upload, perhaps because it is done."""

    async def etag(self, key: str, *, deadline: float) -> str | None:
        """The ETag of an object, None when there is none."""


class Uploads:
    """Uploads for recordings, one for each; ``tell`` says that something was changed.

    ``part`` is the size in bytes of parts, unless there would be too many of them.
    """

    def __init__(
        self, store: PartStore, catalog: Catalog, prefix: str, tell: Callable[[], None], part: int = PART
    ) -> None:
        self._store = store
        self._files = catalog.files
        self._folder = f"{prefix}/files"
        self._tell = tell
        self._part = part
        self._beginning = asyncio.Lock()  # two that begin at once go on with the same

    async def status(self, recording: Recording) -> dict[str, Any]:
        """What it has as one file, and what is on its way."""
        found = await self._files.uploading(recording.id)
        return {"file": _told(recording), "upload": await self._progress(found[0]) if found else None}

    async def begin(self, recording: Recording, name: str, size: int) -> dict[str, Any]:
        """Begin, or go on with, an upload of a file of so many bytes; one of another size is given up.

        Raises NotPossible for a file that no player takes, or of a stream that is on.
        """
        suffix = PurePath(name).suffix.lower()
        if suffix not in TYPES:
            raise NotPossible(f"a file named {name!r} is none of {', '.join(TYPES)}")
        if recording.ended is None:
            raise NotPossible("its stream is still on")
        async with self._beginning:
            found = await self._files.uploading(recording.id)
            is_same = bool(found) and (found[0].size, found[0].type) == (size, TYPES[suffix])
            if is_same and (progress := await self._progress(found[0])):
                return progress
            upload = await self._new(recording, suffix, size)
        return await self._progress(upload) or {}

    async def part_url(self, recording: Recording, key: str, number: int) -> str:
        """Where a part of it is PUT; raises NotPossible when it is over."""
        upload = await self._uploading(recording, key)
        if not 1 <= number <= upload.parts:
            raise NotPossible(f"it has no part {number}")
        size = _size(upload, number)
        return await self._store.part_url(upload.key, upload.upload, number, size, valid=VALID)

    async def complete(self, recording: Recording, key: str, etag: str) -> dict[str, Any]:
        """Make the recording's file of the parts, which add up to this ETag; again, if no answer came before.

        Raises NotPossible when parts are missing or other ones, or when the upload is over.
        """
        if recording.file and (recording.file.key, recording.file.etag) == (key, etag):
            return {"file": _told(recording)}
        upload = await self._uploading(recording, key)
        parts = await self._store.parts(upload.key, upload.upload, deadline=DEADLINE)
        is_done = False
        if parts is not None:
            if {one: size for one, (_, size) in parts.items()} != _sizes(upload) or etag_of(parts) != etag:
                raise NotPossible("parts are missing, or other ones than were sent: upload it again")
            md5s = [md5 for _, (md5, _) in sorted(parts.items())]
            is_done = await self._store.complete(upload.key, upload.upload, md5s, deadline=COMPLETE)
        # Where an earlier request got no answer, only the object tells.
        if not is_done and (await self._store.etag(upload.key, deadline=DEADLINE) or "").strip('"') != etag:
            raise NotPossible("the bucket knows nothing of this upload any more: upload it again")
        if not await self._files.store(upload, etag):
            raise NotPossible("it was given up meanwhile")
        self._tell()
        return {"file": {"size": upload.size, "type": upload.type, "etag": etag}}

    async def give_up(self, recording: Recording) -> None:
        """Give up what is on its way; it is deleted by who looks for such."""
        await self._files.abandon(recording.id)
        self._tell()

    async def delete(self, recording: Recording, *, at_once: bool = False) -> None:
        """Put its file into the bin, or delete it ``at_once``."""
        await self._files.delete(recording.id, at_once=at_once)
        self._tell()

    async def _new(self, recording: Recording, suffix: str, size: int) -> FileUpload:
        key = f"{self._folder}/{recording.id}-{secrets.token_hex(8)}{suffix}"
        name = await self._store.begin(
            key,
            media_type=TYPES[suffix],
            disposition=f'attachment; filename="{recording.id}{suffix}"',
            cache_control=CACHE_CONTROL,
            deadline=DEADLINE,
        )
        part = part_size(size, self._part)
        upload = FileUpload(key, recording.id, size, TYPES[suffix], datetime.now(UTC), name, part)
        await self._files.begin(upload)
        return upload

    async def _progress(self, upload: FileUpload) -> dict[str, Any] | None:
        """None when the bucket has given it up."""
        found = await self._store.parts(upload.key, upload.upload, deadline=DEADLINE)
        if found is None:
            return None
        whole = {number: md5 for number, (md5, size) in found.items() if size == _size(upload, number)}
        return {"key": upload.key, "size": upload.size, "partSize": upload.part_size, "parts": whole}

    async def _uploading(self, recording: Recording, key: str) -> FileUpload:
        for one in await self._files.uploading(recording.id):
            if one.key == key:
                return one
        raise NotPossible("this upload is over: it was cancelled, or another one took its place")


def part_size(size: int, least: int = PART) -> int:
    """Bytes of each part but the last one, of an object of so many bytes."""
    return max(least, MIB * -(-size // (MOST_PARTS * MIB)))


def etag_of(parts: Mapping[int, tuple[str, int]]) -> str:
    """The ETag of the object that these make, without quotes; empty where a part's is no MD5."""
    try:
        whole = b"".join(bytes.fromhex(md5) for _, (md5, _) in sorted(parts.items()))
    except ValueError:
        return ""
    return f"{hashlib.md5(whole, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _told(recording: Recording) -> dict[str, Any] | None:
    """As viewers are told of it, and what a file on a disk is compared with."""
    told, file = file_of(recording), recording.file
    return {**told, "etag": file.etag, "partSize": file.part_size} if told and file else None


def _size(upload: FileUpload, number: int) -> int:
    """Bytes of this part."""
    return min(upload.part_size, upload.size - (number - 1) * upload.part_size)


def _sizes(upload: FileUpload) -> dict[int, int]:
    return {number: _size(upload, number) for number in range(1, upload.parts + 1)}
