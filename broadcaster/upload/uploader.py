"""Uploads segments: retries until the bucket has an object, or finds why a segment is a gap.

A warm standby uploads what its source finishes as warm objects: their names are random, no playlist lists
them, and whoever leads deletes them when they are old. So nothing that is listed can be taken for one. After
a takeover a segment becomes a copy of its warm object, within the bucket; without one it is uploaded.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import math
import os
import random
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from broadcaster.aio import FIRST_PAUSE, MAX_PAUSE, Fault, OwnThread, Retrying
from broadcaster.bucket import ObjectStore
from broadcaster.catalog.records import LARGEST, FileIdentity, Run, Segment, SourceFile
from broadcaster.errors import StorageError, StorageRefused, is_final
from broadcaster.events import Observer, SegmentUploaded, SourceEvent, UploadFailed
from broadcaster.hls import ByteRange, mp4, mpegts
from broadcaster.metrics import Metric
from broadcaster.own_files import read_all
from broadcaster.upload.scheduler import UploadScheduler
from broadcaster.upload.spool import Spool

logger = logging.getLogger(__name__)

T = TypeVar("T")
Read = Callable[[], Awaitable[bytes]]
Follow = Callable[[Callable[[SourceEvent], Awaitable[None]]], Coroutine[None, None, None]]

REFUSED_PAUSE = 15.0  # seconds
REFUSALS = 3  # of one object while others are accepted: it will never be accepted
DEADLINE = 10.0  # seconds for a request without a body
# Seconds for which a file cannot be read while others can: then the fault is the file's own.
OWN_FAULT_AFTER = 60.0


WARM = ".warm"  # the folder of warm objects; no R2_PREFIX has a dot, so it is of no other broadcaster
MOST_WARM, WARM_WAITING, WARM_AT_ONCE = 10_000, 100, 3  # objects that are known, segments, and uploads


@dataclass(frozen=True, slots=True)
class WarmObject:
    """A file of the source that the bucket has under a name that nothing lists."""

    key: str
    size: int
    sha256: str
    iframe: ByteRange | None


class WarmUploads:
    """The warm objects of this process; one that ends leaves them to the leader's sweep.

    The newest segment is uploaded first. Older ones are given up on an uplink that cannot carry all.
    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._folder = f"{prefix}/{WARM}"
        self._objects: dict[FileIdentity, WarmObject] = {}  # oldest first
        self._waiting: deque[tuple[SourceFile, SourceFile | None]] = deque(maxlen=WARM_WAITING)
        self._found = asyncio.Event()
        self._retrying = Retrying("uploads in advance")
        self._reads = OwnThread("warm reads")

    @property
    def fault(self) -> Fault | None:
        """The current error of uploads."""
        return self._retrying.fault

    def metrics(self) -> Iterator[Metric]:
        """How many segments need no upload after a takeover."""
        yield Metric("warm_segments", "Segments that a standby has uploaded in advance", len(self._objects))

    def take(self, file: SourceFile) -> WarmObject | None:
        """The warm object of this version of a file; None without one, and when it was taken."""
        return self._objects.pop(file.identity, None)

    async def run(self, follow: Follow) -> None:
        """Upload what a source finishes, until cancelled. ``follow`` calls its argument with each event."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._accept))
            for _ in range(WARM_AT_ONCE):
                group.create_task(self._upload_all())

    async def _accept(self, event: SourceEvent) -> None:
        if not isinstance(event, Segment) or event.gap:
            return
        file = event.file
        if file and file.inode and file.identity not in self._objects:
            self._waiting.append((file, event.map_file))
            self._found.set()

    async def _upload_all(self) -> None:
        while True:
            while not self._waiting:
                self._found.clear()
                await self._found.wait()
            file, map_file = self._waiting.pop()
            try:
                await self._upload(file, map_file)
            except OSError as error:  # it is uploaded after a takeover, if it can be read then
                logger.debug("%s is not uploaded in advance: %s", file.name, error.strerror)
            except StorageError as error:
                self._retrying.failed(error)
                await self._retrying.pause(MAX_PAUSE)
            else:
                self._retrying.worked()

    async def _upload(self, file: SourceFile, map_file: SourceFile | None) -> None:
        body = await self._reads.call(file.read)
        flags = mp4.default_flags(await self._reads.call(map_file.read) if map_file else b"")
        key = f"{self._folder}/{secrets.token_hex(16)}{Path(file.name).suffix}"
        sha256 = await self._store.put(key, body)
        self._objects[file.identity] = WarmObject(key, len(body), sha256, _iframe_of(key, body, flags))
        if len(self._objects) > MOST_WARM:
            del self._objects[next(iter(self._objects))]


class Uploader:
    """Retries requests of many segments until they succeed, with a limited number at once.

    ``warm`` gives what was uploaded of a file while this broadcaster stood by.
    """

    def __init__(
        self,
        store: ObjectStore,
        observe: Observer,
        clock: Callable[[], datetime],
        warm: Callable[[SourceFile], WarmObject | None] = lambda _: None,
    ) -> None:
        self.url, self.long_lived_url = store.url, store.long_lived_url
        self._warm = warm
        self._store = store
        self._observe = observe
        self._clock = clock
        self._scheduler = UploadScheduler()
        self._retrying = Retrying("uploads", clock)
        self._succeeded = 0  # attempts

    @property
    def fault(self) -> Fault | None:
        """The current error of uploads."""
        return self._retrying.fault

    @property
    def sent(self) -> int:
        """Bytes sent so far."""
        return self._store.sent

    @property
    def busy(self) -> float:
        """Seconds so far in which an upload was under way."""
        return self._scheduler.busy

    @property
    def is_busy(self) -> bool:
        """Whether the uplink is in use."""
        return self._scheduler.in_flight > 0

    def begin_no_more(self) -> None:
        """Finish the requests that are under way; the tasks of others are cancelled."""
        self._scheduler.close()

    async def put(
        self,
        segment: Segment,
        key: str,
        read: Read,
        *,
        look_first: bool = False,
        flags: Mapping[int, int] = mp4.NO_DEFAULTS,
    ) -> Segment:
        """The segment with the facts of its stored object.

        ``read`` gives the bytes for each attempt. ``look_first`` asks whether the bucket has the object
        already. ``flags`` are the default flags of its EXT-X-MAP. Raises OSError when the bytes cannot be
        read, StorageRefused when the bucket accepts other objects but not this one; other failures of the
        bucket are retried.
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
            uploaded, iframe = self._clock(), _iframe_of(key, body, flags)
            return replace(segment, size=len(body), uploaded=uploaded, sha256=sha256, iframe=iframe)

        return await self._retry_until_stored(segment, attempt)

    async def copy(self, segment: Segment, file: SourceFile) -> Segment | None:
        """The segment with a copy of its warm object, which needs no uplink; None if it must be uploaded."""
        if (warm := self._warm(file)) is None:
            return None
        try:
            await self._store.copy(warm.key, segment.key, deadline=DEADLINE)
        except StorageError as error:
            logger.info("%s is uploaded, although it was in advance: %s", segment.key, error)
            return None
        return replace(
            segment, size=warm.size, uploaded=self._clock(), sha256=warm.sha256, iframe=warm.iframe
        )

    async def has(self, segment: Segment, key: str, size: int) -> bool:
        """Whether the bucket has an object of this size; retries until the bucket answers."""

        async def attempt() -> int | None:
            return await self._store.size(key, deadline=DEADLINE)

        return await self._retry_until_stored(segment, attempt) == size

    async def back_off(self, segment: Segment, error: OSError) -> bool:
        """Pause after a fault of the machine; returns whether other attempts succeeded meanwhile."""
        succeeded = self._succeeded
        self._note_failure(segment, error)
        await self._retrying.pause(MAX_PAUSE)
        return self._succeeded > succeeded

    async def _retry_until_stored(self, segment: Segment, attempt: Callable[[], Awaitable[T]]) -> T:
        """Retry until the bucket answers. A body is in memory only while the scheduler admits its upload.

        Raises StorageRefused when the bucket refuses this attempt three times, and accepts others meanwhile.
        """
        pause, refusals, succeeded = FIRST_PAUSE, 0, self._succeeded
        while True:
            async with self._scheduler.slot(segment):
                try:
                    result = await attempt()
                except StorageError as error:
                    fault = self._note_failure(segment, error)
                    refusals += fault.permanent
                    if refusals >= REFUSALS and self._succeeded > succeeded:
                        raise
                else:
                    self._succeeded += 1
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


@dataclass(slots=True, eq=False)
class SegmentUpload:
    """All attempts to upload a segment. ``path`` is its file in the spool, None if it is not spooled."""

    segment: Segment
    path: Path | None
    recovered: bool = False  # from an earlier process: the bucket may have the object already
    task: asyncio.Task[object] | None = None  # while it can be cancelled
    abandoned: str | None = None  # why it was cancelled


class _SpooledFile:
    """A file of the spool, which is read in a thread. The source's is read only as it was noticed."""

    def __init__(self, thread: OwnThread, path: Path) -> None:
        self._thread = thread
        self._path = path
        self._read: tuple[int, int, int] | None = None  # the version that was read last

    async def read(self) -> bytes:
        """The bytes; raises OSError."""
        self._read, body = await self._thread.call(_read, self._path)
        return body

    async def size(self) -> int:
        """In bytes; raises OSError."""
        return (await self._thread.call(os.stat, self._path)).st_size

    async def has_changed(self) -> bool:
        """Whether the file is another than was read, if it was read; raises OSError."""
        return self._read is not None and self._read != _version(await self._thread.call(os.stat, self._path))


@dataclass(slots=True)
class _Maps:
    """The EXT-X-MAPs of a variant."""

    # By object key: the default flags of its samples.
    uploads: dict[str, asyncio.Task[dict[int, int]]] = field(default_factory=dict)
    newest: tuple[Run, str] | None = None


class SegmentUploader:
    """Uploads segments from the spool or the source.

    The source may write into a file that is finished if it ``rewrites``.
    """

    def __init__(self, uploader: Uploader, spool: Spool, *, rewrites: bool = True) -> None:
        self._uploader = uploader
        self._spool = spool
        self._rewrites = rewrites
        self._maps: defaultdict[str, _Maps] = defaultdict(_Maps)  # by variant
        # One thread for each disk: with several, each thread keeps freed segments in a heap of its own
        # (malloc's arenas). If the source's file system hangs, files of the spool can still be read.
        self._spool_reads = OwnThread("spool reads")
        self._source_reads = OwnThread("source reads")

    def has_map(self, segment: Segment) -> bool:
        """Whether the segment has no EXT-X-MAP, or an EXT-X-MAP whose upload has begun."""
        return segment.map_key is None or segment.map_key in self._maps[segment.variant].uploads

    async def finish(self, upload: SegmentUpload) -> Segment:
        """The segment as it is stored, or as a gap."""
        if upload.segment.url:
            return upload.segment  # stored by an earlier process
        # A task that is cancelled before its first step would end without a result.
        upload.task = asyncio.current_task()
        segment = await self._store(upload)
        upload.task = None
        map_key, newest = segment.map_key, self._maps[segment.variant].newest
        return replace(
            segment,
            # Signed after the upload: a URL must not expire while the segment waits for the bucket.
            url=await self._uploader.url(segment.key),
            map_url=await self._uploader.long_lived_url(map_key) if map_key and not segment.gap else None,
            # A gap has no EXT-X-MAP, but must still reference the run's map so that it is not deleted before
            # later segments.
            map_key=map_key or (newest[1] if newest and newest[0] == segment.run else None),
        )

    async def _store(self, upload: SegmentUpload) -> Segment:
        """The segment with the facts of its object, or with the reason why it is a gap."""
        segment = upload.segment
        fault = upload.abandoned or segment.fault
        alone_since = math.inf  # monotonic: since when only this segment fails
        try:
            while segment.file and not fault:
                try:
                    flags = await self._store_map(segment)
                    return await self._store_file(upload, segment.file, flags)
                except OSError as error:
                    if is_final(error) or time.monotonic() - alone_since > OWN_FAULT_AFTER:
                        fault = f"cannot be read: {error.strerror}"
                    elif await self._uploader.back_off(segment, error):
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

    async def _store_map(self, segment: Segment) -> dict[int, int]:
        """Wait until the bucket has the segment's EXT-X-MAP; each is uploaded once per run.

        Returns the default flags of its samples.
        """
        key, file = segment.map_key, segment.map_file
        if key is None or file is None:
            return {}
        maps = self._maps[segment.variant]
        maps.newest = (segment.run, key)
        if key not in maps.uploads:
            maps.uploads[key] = asyncio.create_task(self._put_map(segment, key, file))
        try:
            # A segment that is abandoned must not end the upload for other segments.
            return await asyncio.shield(maps.uploads[key])
        except (OSError, StorageRefused):
            maps.uploads.pop(key, None)  # the next segment tries again
            raise

    async def _put_map(self, segment: Segment, key: str, file: SourceFile) -> dict[int, int]:
        path, flags = self._spool.find(key), dict[int, int]()
        read = await self._reader_of(file, _SpooledFile(self._spool_reads, path) if path else None)
        if read:
            flags = mp4.default_flags(await read())
            await self._uploader.put(segment, key, read, look_first=True)
        elif not await self._uploader.has(segment, key, file.size):
            raise FileNotFoundError(errno.ENOENT, "its EXT-X-MAP is gone")
        if path:
            self._spool.discard(path)
        return flags

    async def _store_file(self, upload: SegmentUpload, file: SourceFile, flags: Mapping[int, int]) -> Segment:
        segment, path = upload.segment, upload.path
        if copied := await self._uploader.copy(segment, file):
            return copied
        spooled = _SpooledFile(self._spool_reads, path) if path else None
        read: Read | None = None
        if spooled and not upload.recovered:
            read = spooled.read
        else:
            read = await self._reader_of(file, spooled)
        if read is None:  # an earlier process may have stored it and discarded the file, but not listed it
            if await self._uploader.has(segment, segment.key, file.size):
                return replace(segment, size=file.size, uploaded=segment.noticed)
            raise FileNotFoundError(errno.ENOENT, "the file is gone or replaced")
        look_first, since = upload.recovered, time.monotonic()
        while True:
            stored = await self._uploader.put(segment, segment.key, read, look_first=look_first, flags=flags)
            if not (spooled and self._rewrites and await spooled.has_changed()):
                return stored
            if time.monotonic() - since > OWN_FAULT_AFTER:
                raise FileNotFoundError(errno.ENOENT, "it goes on changing")
            # A hard link shares its bytes with a writer that had not finished, and that no lease showed.
            logger.warning("%s changed while it was uploaded; it is uploaded again", segment.key)
            look_first = False

    async def _reader_of(self, file: SourceFile, spooled: _SpooledFile | None) -> Read | None:
        """Reads the spooled file, unless a power cut truncated it; else the source's; None without both."""
        if spooled and await spooled.size() == file.size:
            return spooled.read
        there = file.content is not None or await self._source_reads.call(_is_there, file)
        return partial(self._source_reads.call, file.read) if there else None


def _iframe_of(key: str, body: bytes, flags: Mapping[int, int]) -> ByteRange | None:
    """The key frame of a segment. A fault in its search loses no segment."""
    try:
        return mpegts.find_iframe(body) or mp4.find_iframe(body, flags)
    except Exception:
        logger.exception("%s has no I-frame index; please report this", key)
        return None


def _is_there(file: SourceFile) -> bool:
    try:
        os.close(file.open())
    except FileNotFoundError:
        return False
    return True


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path) -> tuple[tuple[int, int, int], bytes]:
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if status.st_size > LARGEST:
            raise FileNotFoundError(errno.ENOENT, f"it has grown past {LARGEST} bytes")
        return _version(status), read_all(file.fileno(), status.st_size)
