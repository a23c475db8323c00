"""One file into the bucket, however long it takes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from broadcaster.aio import FIRST_PAUSE, MAX_PAUSE, Fault, OwnThread, Retrying
from broadcaster.catalog.records import LARGEST, Run, Segment, SourceFile
from broadcaster.errors import StorageError, StorageRefused, is_final
from broadcaster.events import Observer, SegmentUploaded, UploadFailed
from broadcaster.hls import ByteRange
from broadcaster.hls.mpegts import find_iframe
from broadcaster.own_files import read_all
from broadcaster.upload.scheduler import UploadScheduler
from broadcaster.upload.spool import Spool

logger = logging.getLogger(__name__)

T = TypeVar("T")

REFUSED_PAUSE = 15.0  # seconds
REFUSALS = 3  # of one object, while others are taken: it is not going to be
DEADLINE = 10.0  # seconds for a question to the bucket


class Store(Protocol):
    """Where segments go."""

    @property
    def sent(self) -> int:
        """Bytes of objects that have left so far, failed attempts included."""

    async def put(self, key: str, body: bytes) -> str:
        """Store an object, however long it takes while bytes move; its SHA-256. Raises StorageError."""

    async def size(self, key: str, *, deadline: float) -> int | None:
        """The size in bytes of an object, None when there is none; raises StorageError."""

    async def url(self, key: str) -> str:
        """Where viewers read the object, from now on for as long as they may want it."""

    async def lasting_url(self, key: str) -> str:
        """The same of an object that many segments name, and mostly the one that was given before."""


def _iframe_of(key: str, body: bytes) -> ByteRange | None:
    """Where its key frame is, for those who seek; no segment is lost because that cannot be found."""
    try:
        return find_iframe(body)
    except Exception:
        logger.exception("%s has no I-frame index; please report this", key)
        return None


class Uploader:
    """Tries without end, a bounded number at a time."""

    def __init__(self, store: Store, observe: Observer, clock: Callable[[], datetime]) -> None:
        self.url, self.lasting_url = store.url, store.lasting_url
        self._store = store
        self._observe = observe
        self._clock = clock
        self._scheduler = UploadScheduler()
        self._retrying = Retrying("uploads", clock)
        self._taken = 0  # attempts that succeeded

    @property
    def fault(self) -> Fault | None:
        """What is wrong at the moment."""
        return self._retrying.fault

    @property
    def sent(self) -> int:
        """Bytes that have left so far."""
        return self._store.sent

    @property
    def is_busy(self) -> bool:
        """Whether the uplink is in use."""
        return self._scheduler.in_flight > 0

    async def put(
        self, segment: Segment, key: str, read: Callable[[], Awaitable[bytes]], *, look_first: bool = False
    ) -> Segment:
        """The segment with what the bucket has, once it has confirmed the bytes, in the segment's turn.

        ``read`` gives the bytes, for each attempt anew. ``look_first`` asks whether the bucket has them
        already, whole, before they are sent. Raises OSError when they cannot be read, StorageRefused when the
        bucket takes others but not this one; its other failures are tried again.
        """

        async def attempt() -> Segment:
            body = await read()
            if look_first and await self._store.size(key, deadline=DEADLINE) == len(body):
                sha256 = hashlib.sha256(body).hexdigest()
            else:
                started = time.perf_counter()
                sha256 = await self._store.put(key, body)
                seconds = time.perf_counter() - started
                self._scheduler.succeeded(seconds)
                self._observe(SegmentUploaded(segment.variant, key, len(body), seconds))
            uploaded = self._clock()
            return replace(
                segment, size=len(body), uploaded=uploaded, sha256=sha256, iframe=_iframe_of(key, body)
            )

        return await self._retry_until_stored(segment, attempt)

    async def holds(self, segment: Segment, key: str, size: int) -> bool:
        """Whether the bucket has the object whole; asks until it gets an answer."""

        async def attempt() -> int | None:
            return await self._store.size(key, deadline=DEADLINE)

        return await self._retry_until_stored(segment, attempt) == size

    async def wait_out(self, segment: Segment, error: OSError) -> bool:
        """Wait for a fault of the machine to pass; returns whether others got through meanwhile."""
        taken = self._taken
        self._note_failure(segment, error)
        await self._retrying.pause(MAX_PAUSE)
        return self._taken > taken

    async def _retry_until_stored(self, segment: Segment, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make the attempt until the bucket does its part. A body is in memory only while it has its turn.

        Raises StorageRefused when it goes on refusing this one, and takes others meanwhile.
        """
        pause, refusals, taken = FIRST_PAUSE, 0, self._taken
        while True:
            async with self._scheduler.turn(segment):
                try:
                    result = await attempt()
                except StorageError as error:
                    fault = self._note_failure(segment, error)
                    refusals += fault.permanent
                    if refusals >= REFUSALS and self._taken > taken:
                        raise
                else:
                    self._taken += 1
                    self._scheduler.probing = False
                    self._retrying.worked()
                    return result
            seconds = REFUSED_PAUSE if fault.permanent else random.uniform(0, pause)  # noqa: S311
            await self._retrying.pause(seconds)
            pause = min(2 * pause, MAX_PAUSE)

    def _note_failure(self, segment: Segment, error: StorageError | OSError) -> Fault:
        fault = self._retrying.failed(error)
        self._observe(UploadFailed(segment.variant, fault.permanent))
        self._scheduler.failed(transient=not fault.permanent)
        return fault


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


class SegmentUploader:
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
