"""One file into the bucket, however long it takes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from broadcaster.errors import StorageError, StorageRefused
from broadcaster.events import Observer, SegmentUploaded, UploadFailed

logger = logging.getLogger(__name__)

T = TypeVar("T")

PARALLEL_UPLOADS = 12  # connections in all, and bodies in memory
PARALLEL_PROBES = 2  # while the bucket fails
MIN_DEADLINE, MAX_DEADLINE = 6.0, 60.0  # seconds for one attempt; grows, so that a slow link gets through
BACKOFF = wait_random_exponential(multiplier=0.2, max=10)  # seconds, full jitter
BACKOFF_PERMANENT = 15.0  # seconds
FRESH = 5.0  # seconds; a file finished just now is in memory, and reading it is faster than changing threads
LOG_INTERVAL = 60.0  # seconds between lines about a fault that goes on


class Store(Protocol):
    """Where segments go."""

    async def put(self, key: str, body: bytes, *, deadline: float) -> None:
        """Store an object within ``deadline`` seconds; raises StorageError."""

    async def size(self, key: str, *, deadline: float) -> int | None:
        """The size in bytes of an object, None when there is none; raises StorageError."""

    async def url(self, key: str) -> str:
        """Where viewers read the object, from now on for as long as they may want it."""

    async def lasting_url(self, key: str) -> str:
        """The same of an object that many segments name, and mostly the one that was given before."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the bucket has confirmed, and when."""

    size: int  # bytes
    at: datetime
    sha256: str | None = None  # hexadecimal; None for what an earlier process uploaded


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the bucket does not take segments, and since when."""

    message: str
    permanent: bool
    since: datetime


class Uploader:
    """Tries without end, a bounded number at a time. ``fault`` says what is wrong at the moment."""

    def __init__(self, store: Store, observe: Observer, clock: Callable[[], datetime]) -> None:
        self.fault: Fault | None = None
        self.url, self.lasting_url = store.url, store.lasting_url
        self._store = store
        self._observe = observe
        self._clock = clock
        # One thread: with several, each keeps freed segments in a heap of its own (malloc's arenas).
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read")
        self._slots = asyncio.Semaphore(PARALLEL_UPLOADS)
        self._probes = asyncio.Semaphore(PARALLEL_PROBES)
        self._recovered = asyncio.Event()
        self._last_logged = 0.0

    async def put(self, variant: str, key: str, path: Path, *, look_first: bool = False) -> Stored:
        """Return what the bucket has, once it has confirmed the file.

        ``look_first`` asks whether the bucket has it already, whole, before it is sent.
        Raises OSError when the file cannot be read; failures of the bucket are tried again.
        """

        async def attempt(deadline: float) -> Stored:
            body = await self._read(path)
            if not look_first or await self._store.size(key, deadline=deadline) != len(body):
                started = time.perf_counter()
                await self._store.put(key, body, deadline=deadline)
                self._observe(SegmentUploaded(variant, key, len(body), time.perf_counter() - started))
            # Here, and not in a thread, which would have to wait for its turn while other uploads are busy.
            return Stored(len(body), self._clock(), hashlib.sha256(body).hexdigest())

        return await self._insist(variant, attempt)

    async def _read(self, path: Path) -> bytes:
        if not self.fault and time.time() - os.stat(path).st_mtime < FRESH:  # noqa: PTH116 - see FRESH
            return _load(path)
        return await asyncio.get_running_loop().run_in_executor(self._reader, _load, path)

    async def holds(self, variant: str, key: str, size: int) -> bool:
        """Whether the bucket has the object whole; asks until it gets an answer."""

        async def attempt(deadline: float) -> int | None:
            return await self._store.size(key, deadline=deadline)

        return await self._insist(variant, attempt) == size

    async def _insist(self, variant: str, attempt: Callable[[float], Awaitable[T]]) -> T:
        """Make the attempt, given its deadline in seconds, until the bucket does its part."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(StorageError),
            wait=_pause,
            sleep=self._sleep,
            before_sleep=lambda state: self._note_failure(variant, state),
        )
        async for trial in retrying:
            with trial:
                tried = trial.retry_state.attempt_number - 1
                deadline = min(MIN_DEADLINE * 2 ** min(tried, 8), MAX_DEADLINE)
                # While the bucket fails, a few attempts find out whether it is back; the others would only
                # hold connections and memory. A body is in memory only while it has a slot.
                async with self._probes if self.fault else self._slots:
                    result = await attempt(deadline)
                self._clear_fault()
        return result

    async def _sleep(self, seconds: float) -> None:
        """Wait for the next attempt, or until another one got through."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._recovered.wait()

    def _note_failure(self, variant: str, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        permanent = isinstance(error, StorageRefused)
        self._observe(UploadFailed(variant, permanent))
        known = self.fault and self.fault.permanent == permanent
        since = self.fault.since if self.fault else self._clock()
        self.fault = Fault(str(error), permanent, since)
        if not known or time.monotonic() - self._last_logged > LOG_INTERVAL:
            self._last_logged = time.monotonic()
            level = logging.ERROR if permanent else logging.WARNING
            logger.log(level, "uploads fail since %s: %s", f"{since:%H:%M:%SZ}", error)

    def _clear_fault(self) -> None:
        if self.fault:
            logger.info("uploads work again; they failed since %s", f"{self.fault.since:%H:%M:%SZ}")
            self.fault = None
            # Wakes those that wait now; whoever fails later waits for the next recovery.
            self._recovered.set()
            self._recovered = asyncio.Event()


def _load(path: Path) -> bytes:
    return path.read_bytes()


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt."""
    permanent = state.outcome is not None and isinstance(state.outcome.exception(), StorageRefused)
    return BACKOFF_PERMANENT if permanent else BACKOFF(state)
