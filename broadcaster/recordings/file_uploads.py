"""Multipart uploads of the files that the operator adds to recordings.

The uploading client gets a signed URL for each part and sends the parts straight to the bucket. This module
counts the stored parts and completes the upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any

from broadcaster.bucket import CACHE_CONTROL, ObjectStore
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import MultipartUpload, Recording
from broadcaster.errors import NotPossible
from broadcaster.recordings.writer import file_summary

MIB = 2**20
PART = 16 * MIB  # bytes
MOST_PARTS, LARGEST = 10_000, 5 * 2**40  # of one object; bytes
VALID = timedelta(minutes=15)  # for how long a part's URL is
DEADLINE = 30.0  # seconds for one request
COMPLETE = 120.0  # seconds: thousands of parts take the bucket a while
TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".ts": "video/mp2t",
    ".mkv": "video/matroska",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
}


class Uploads:
    """Uploads for recordings, one for each. ``on_change`` is called after each change of a file.

    ``part`` is the size of parts in bytes, unless there would be too many parts.
    """

    def __init__(
        self,
        store: ObjectStore,
        catalog: Catalog,
        prefix: str,
        on_change: Callable[[], None],
        part: int = PART,
    ) -> None:
        self._store = store
        self._files = catalog.files
        self._folder = f"{prefix}/files"
        self._on_change = on_change
        self._part = part
        self._beginning = asyncio.Lock()  # two clients that begin at once share an upload

    async def status(self, recording: Recording) -> dict[str, Any]:
        """The file of the recording, and the upload under way."""
        found = await self._files.uploading(recording.id)
        return {"file": _file_details(recording), "upload": await self._progress(found[0]) if found else None}

    async def begin(self, recording: Recording, name: str, size: int) -> dict[str, Any]:
        """Begin or continue an upload of a file of ``size`` bytes, which replaces an upload of another file.

        Raises NotPossible for a file that players cannot play, and while the stream is on.
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
        """The presigned URL of a part; raises NotPossible when the upload is over."""
        upload = await self._uploading(recording, key)
        if not 1 <= number <= upload.parts:
            raise NotPossible(f"it has no part {number}")
        size = _size(upload, number)
        return await self._store.part_url(upload.key, upload.upload, number, size, valid=VALID)

    async def complete(self, recording: Recording, key: str, etag: str) -> dict[str, Any]:
        """Complete the upload, whose parts must have this ETag together. May be repeated.

        Raises NotPossible when parts are missing or different, or when the upload is over.
        """
        if recording.file and (recording.file.key, recording.file.etag) == (key, etag):
            return {"file": _file_details(recording)}
        upload = await self._uploading(recording, key)
        parts = await self._store.parts(upload.key, upload.upload, deadline=DEADLINE)
        is_done = False
        if parts is not None:
            sizes = {number: _size(upload, number) for number in range(1, upload.parts + 1)}
            if {number: size for number, (_, size) in parts.items()} != sizes or etag_of(parts) != etag:
                raise NotPossible("parts are missing, or other ones than were sent: upload it again")
            md5s = [md5 for _, (md5, _) in sorted(parts.items())]
            is_done = await self._store.complete(upload.key, upload.upload, md5s, deadline=COMPLETE)
        # An earlier request may have completed it without an answer.
        if not is_done and (await self._store.etag(upload.key, deadline=DEADLINE) or "").strip('"') != etag:
            raise NotPossible("the bucket knows nothing of this upload any more: upload it again")
        if not await self._files.store(upload, etag):
            raise NotPossible("it was given up meanwhile")
        self._on_change()
        return {"file": {"size": upload.size, "type": upload.type, "etag": etag}}

    async def cancel(self, recording: Recording) -> None:
        """Cancel the upload; ``FileDeleter`` deletes its parts."""
        await self._files.abandon(recording.id)
        self._on_change()

    async def delete(self, recording: Recording, *, at_once: bool = False) -> None:
        """Move the file into the bin, or delete it ``at_once``."""
        await self._files.delete(recording.id, at_once=at_once)
        self._on_change()

    async def _new(self, recording: Recording, suffix: str, size: int) -> MultipartUpload:
        key = f"{self._folder}/{recording.id}-{secrets.token_hex(8)}{suffix}"
        name = await self._store.begin(
            key,
            media_type=TYPES[suffix],
            disposition=f'attachment; filename="{recording.id}{suffix}"',
            cache_control=CACHE_CONTROL,
            deadline=DEADLINE,
        )
        part = part_size(size, self._part)
        upload = MultipartUpload(key, recording.id, size, TYPES[suffix], datetime.now(UTC), name, part)
        await self._files.begin(upload)
        return upload

    async def _progress(self, upload: MultipartUpload) -> dict[str, Any] | None:
        """The stored parts of an upload; None when the bucket has aborted it."""
        found = await self._store.parts(upload.key, upload.upload, deadline=DEADLINE)
        if found is None:
            return None
        whole = {number: md5 for number, (md5, size) in found.items() if size == _size(upload, number)}
        return {"key": upload.key, "size": upload.size, "partSize": upload.part_size, "parts": whole}

    async def _uploading(self, recording: Recording, key: str) -> MultipartUpload:
        for upload in await self._files.uploading(recording.id):
            if upload.key == key:
                return upload
        raise NotPossible("this upload is over: it was cancelled, or another one took its place")


def part_size(size: int, least: int = PART) -> int:
    """Bytes of each part but the last, of an object of ``size`` bytes."""
    return max(least, MIB * -(-size // (MOST_PARTS * MIB)))


def etag_of(parts: Mapping[int, tuple[str, int]]) -> str:
    """The ETag of the object of these parts, without quotes; empty if a part has no MD5."""
    try:
        whole = b"".join(bytes.fromhex(md5) for _, (md5, _) in sorted(parts.items()))
    except ValueError:
        return ""
    return f"{hashlib.md5(whole, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _file_details(recording: Recording) -> dict[str, Any] | None:
    """The file as in the index, and what a local file is compared with."""
    public, file = file_summary(recording), recording.file
    return {**public, "etag": file.etag, "partSize": file.part_size} if public and file else None


def _size(upload: MultipartUpload, number: int) -> int:
    """Bytes of a part."""
    return min(upload.part_size, upload.size - (number - 1) * upload.part_size)
