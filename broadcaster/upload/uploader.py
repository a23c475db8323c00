"""One file into the bucket, however long it takes."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar

from broadcaster.aio import FIRST_PAUSE, MAX_PAUSE, Fault, Retrying
from broadcaster.catalog.records import Segment
from broadcaster.errors import StorageError
from broadcaster.events import Observer, SegmentUploaded, UploadFailed
from broadcaster.hls import ByteRange
from broadcaster.hls.mpegts import find_iframe
from broadcaster.upload.scheduler import UploadScheduler

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
