"""What becomes of one segment: it is in the bucket in the end, or it is a gap."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from broadcaster.aio import OwnThread
from broadcaster.catalog.records import LARGEST, Run, Segment, SourceFile
from broadcaster.errors import StorageRefused, is_final
from broadcaster.own_files import read_all
from broadcaster.upload.spool import Spool
from broadcaster.upload.uploader import Uploader

logger = logging.getLogger(__name__)

Read = Callable[[], Awaitable[bytes]]

OWN_FAULT_AFTER = 60.0  # seconds for which a file cannot be read while others are: what is wrong is its own


@dataclass(slots=True, eq=False)
class SegmentUpload:
    """A segment's file on its way. ``kept`` is where the spool has its bytes, None where it has not."""

    segment: Segment
    kept: Path | None
    recovered: bool = False  # from an earlier process: the bucket may have it already
    task: asyncio.Task[object] | None = None  # once it has begun
    abandoned: str | None = None  # why it was given up


@dataclass(slots=True)
class _Maps:
    """The EXT-X-MAPs of a variant."""

    uploads: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by object key
    newest: tuple[Run, str] | None = None


class Transfer:
    """Takes segments from the spool to the bucket."""

    def __init__(self, uploader: Uploader, spool: Spool) -> None:
        self._uploader = uploader
        self._spool = spool
        self._maps: defaultdict[str, _Maps] = defaultdict(_Maps)  # by variant
        # One thread for each disk: with several, each keeps freed segments in a heap of its own (malloc's
        # arenas). What the source does not answer is to hold up nothing that the spool has.
        self._spool_reads = OwnThread("spool reads")
        self._source_reads = OwnThread("source reads")

    def has_map(self, segment: Segment) -> bool:
        """Whether the segment has no EXT-X-MAP, or one whose upload has begun."""
        return segment.map_key is None or segment.map_key in self._maps[segment.variant].uploads

    async def finish(self, upload: SegmentUpload) -> Segment:
        """A segment ends up stored or lost, never in an exception that would stop the others."""
        if upload.segment.url:
            return upload.segment  # an earlier process came as far as that
        # Only from here on may it be cancelled to give it up: before, it would end without an answer.
        upload.task = asyncio.current_task()
        segment = await self._store(upload)
        upload.task = None  # from here on it is too late to give it up
        map_key, newest = segment.map_key, self._maps[segment.variant].newest
        return replace(
            segment,
            # Signed after the upload: the life of a URL must not pass while the segment waits for the bucket.
            url=await self._uploader.url(segment.key),
            map_url=await self._uploader.lasting_url(map_key) if map_key and not segment.gap else None,
            # A gap names no map, but keeps the run's one from being deleted: who needs it may follow.
            map_key=map_key or (newest[1] if newest and newest[0] == segment.run else None),
        )

    async def _store(self, upload: SegmentUpload) -> Segment:
        """The segment with what the bucket has of it in the end, or with why that is nothing."""
        segment = upload.segment
        fault = upload.abandoned or segment.fault
        alone_since = math.inf  # monotonic: others get through since then
        try:
            while segment.file and not fault:
                try:
                    await self._store_map(segment)
                    return await self._store_file(upload, segment.file)
                except OSError as error:
                    if is_final(error) or time.monotonic() - alone_since > OWN_FAULT_AFTER:
                        fault = f"cannot be read: {error.strerror}"
                    elif await self._uploader.wait_out(segment, error):
                        alone_since = min(alone_since, time.monotonic())
                    else:
                        alone_since = math.inf
        except StorageRefused as error:
            fault = f"is refused while others are taken: {error}"
        except asyncio.CancelledError:
            if upload.abandoned is None:
                raise
            fault = upload.abandoned
        return replace(segment, fault=fault)

    async def _store_map(self, segment: Segment) -> None:
        """Wait until the bucket has the segment's EXT-X-MAP; each is uploaded once per run."""
        key, file = segment.map_key, segment.map_file
        if key is None or file is None:
            return
        maps = self._maps[segment.variant]
        maps.newest = (segment.run, key)
        if key not in maps.uploads:
            maps.uploads[key] = asyncio.create_task(self._put_map(segment, key, file))
        try:
            # One segment that is given up must not end the upload for the others.
            await asyncio.shield(maps.uploads[key])
        except (OSError, StorageRefused):
            maps.uploads.pop(key, None)  # the next segment tries again
            raise

    async def _put_map(self, segment: Segment, key: str, file: SourceFile) -> None:
        kept = self._spool.find(key)
        read = await self._reader_of(file, kept)
        if read:
            await self._uploader.put(segment, key, read, look_first=True)
        elif not await self._uploader.holds(segment, key, file.size):
            raise FileNotFoundError(errno.ENOENT, "its EXT-X-MAP is gone")
        if kept:
            self._spool.drop(kept)

    async def _store_file(self, upload: SegmentUpload, file: SourceFile) -> Segment:
        """Upload the bytes that were kept."""
        segment, kept = upload.segment, upload.kept
        read: Read | None = None
        if kept and not upload.recovered:
            read = partial(self._spool_reads.call, _read, kept)
        else:
            read = await self._reader_of(file, kept)
        if read is None:  # an earlier process may have let go of it, and not have listed it
            if await self._uploader.holds(segment, segment.key, file.size):
                return replace(segment, size=file.size, uploaded=segment.noticed)
            raise FileNotFoundError(errno.ENOENT, "it is gone, or another one has its name")
        look_first, since = upload.recovered, time.monotonic()
        while True:
            before = await self._version(kept)
            stored = await self._uploader.put(segment, segment.key, read, look_first=look_first)
            if await self._version(kept) == before:
                return stored
            if time.monotonic() - since > OWN_FAULT_AFTER:
                raise FileNotFoundError(errno.ENOENT, "it goes on changing")
            # A link shares its bytes with a writer that was not done, where no lease could tell.
            logger.warning("%s changed while it was uploaded; it is uploaded again", segment.key)
            look_first = False

    async def _reader_of(self, file: SourceFile, kept: Path | None) -> Read | None:
        """What reads its bytes, whole: from the spool, unless a power cut took them; else from the source."""
        if kept and await self._spool_reads.call(_size, kept) == file.size:
            return partial(self._spool_reads.call, _read, kept)
        there = await self._source_reads.call(_is_there, file)
        return partial(self._source_reads.call, file.read) if there else None

    async def _version(self, kept: Path | None) -> tuple[int, int, int] | None:
        """Which version the spool has. Of the source's file none but the one that was noticed is read."""
        return await self._spool_reads.call(_version, kept) if kept else None


def _is_there(file: SourceFile) -> bool:
    try:
        os.close(file.open())
    except FileNotFoundError:
        return False
    return True


def _size(kept: Path) -> int:
    return kept.stat().st_size


def _version(kept: Path) -> tuple[int, int, int]:
    status = kept.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(kept: Path) -> bytes:
    with kept.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise FileNotFoundError(errno.ENOENT, f"it has grown past {LARGEST} bytes")
        return read_all(file.fileno(), size)
