"""Reads objects: several at once, each once, in order if necessary."""

from __future__ import annotations

import asyncio
import errno
import math
import random
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from broadcaster.aio import FIRST_PAUSE, MAX_PAUSE, Backoff, Fault, Retrying
from broadcaster.download.cache import DiskCache, MemoryCache, StoredObject
from broadcaster.download.download import (
    ByteSemaphore,
    ByteShare,
    Content,
    Download,
    FetchRequest,
    Spill,
    is_right,
)
from broadcaster.errors import StorageRefused, StorageUnavailable
from broadcaster.metrics import Metric

MIB = 2**20
AHEAD = 4  # times ``at_once`` objects are requested in advance: a slow object does not stop the others
RECENT = 1000  # fetches for the mean time and the 95th percentile
TYPICAL = 32  # fetches; the largest object of them is the expected size of the next object
P95 = 0.95
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _SharedFetch:
    """The fetch of an object, for ``waiting`` requests."""

    task: asyncio.Task[Any] = field(init=False)
    waiting: int = 0
    urgent: asyncio.Event = field(default_factory=asyncio.Event)


class Fetcher:
    """Reads ``at_once`` objects at a time through ``session``; cancels unfinished fetches on exit.

    At most ``bytes_in_flight`` received bytes are in memory, plus one object, and as many again in advance
    for each ``fetch``. An object of more than ``largest`` bytes (default: ``bytes_in_flight``) is refused.

    Urgent fetches have ``reserved`` bytes of these for themselves. Other fetches wait and are interrupted
    while a fetch is urgent, and at most ``background_at_once`` of them run at a time.

    The cache has ``memory`` bytes in memory, and ``disk_bytes`` in the folder ``disk``, which only this
    fetcher uses. With ``unchecked_for``, objects without a SHA-256 are cached for so many seconds, and only
    in memory. ``patience`` is in seconds.
    """

    def __init__(  # noqa: PLR0913 - independent limits
        self,
        session: aiohttp.ClientSession,
        *,
        at_once: int = 8,
        bytes_in_flight: int = 64 * MIB,
        largest: int | None = None,
        reserved: int = 0,
        background_at_once: int | None = None,
        memory: int = 64 * MIB,
        disk: Path | None = None,
        disk_bytes: int = 1024 * MIB,
        unchecked_for: float | None = None,
        patience: float = 60.0,
    ) -> None:
        self._session = session
        self._at_once = at_once
        self._in_flight = bytes_in_flight
        self._largest = largest or bytes_in_flight
        self._patience = patience
        self._slots = asyncio.Semaphore(at_once)
        self._bytes = ByteSemaphore(bytes_in_flight - reserved)
        self._urgent_bytes = ByteSemaphore(reserved) if reserved else self._bytes
        self._background = asyncio.Semaphore(background_at_once or at_once)
        self._urgent = 0  # urgent attempts, running or waiting for a slot
        self._some_urgent, self._none_urgent = asyncio.Event(), asyncio.Event()
        self._none_urgent.set()
        self._unchecked_for = unchecked_for
        self._unchecked: dict[Hashable, float] = {}  # expiry in memory (monotonic), in order
        self._memory = MemoryCache(memory)
        self._spill = Spill(disk, bytes_in_flight) if disk else None
        self._disk = DiskCache(disk, disk_bytes) if disk else None
        self._fetches: dict[Hashable, _SharedFetch] = {}
        self._retrying = Retrying("fetches")
        self._failing: set[Download] = set()
        self._sizes: deque[int] = deque(maxlen=TYPICAL)
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._hits = Counter(dict.fromkeys(("memory", "disk", "flight"), 0))
        self._misses = self._failures = self._received = self._given = self._on = self._most = 0

    async def __aenter__(self) -> Self:
        if self._disk:
            await self._disk.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [shared.task for shared in self._fetches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._disk:
            await self._disk.close()

    @property
    def fault(self) -> Fault | None:
        """Why fetches fail at present, or None."""
        return self._retrying.fault

    async def has(self, request: FetchRequest) -> bool:
        """Whether the object is cached."""
        if self._memory.get(request.key) is not None:
            return True
        return self._disk is not None and await self._disk.has(request.key)

    async def get(self, request: FetchRequest, *, urgent: bool = False) -> bytes:
        """The object. Raises StorageUnavailable, StorageRefused, ObjectNotFound, which name the URL."""
        self._drop_unchecked()
        found = self._memory.get(request.key)
        if found is not None:
            self._hits["memory"] += 1
        else:
            found = await self._share(request, self._fetch_bytes, urgent=urgent)
        self._given += len(found)
        return found

    async def _share(
        self,
        request: FetchRequest,
        fetch: Callable[[FetchRequest, _SharedFetch], Coroutine[Any, Any, T]],
        *,
        urgent: bool = False,
    ) -> T:
        """Fetch the object, or wait for a fetch that has begun."""
        key = request.key
        shared = self._fetches.get(key)
        if shared:
            self._hits["flight"] += 1
        else:
            shared = self._fetches[key] = _SharedFetch()
            shared.task = asyncio.create_task(fetch(request, shared))
            shared.task.add_done_callback(_ignore_error)
        if urgent:
            shared.urgent.set()
        shared.waiting += 1
        try:
            found: T = await asyncio.shield(shared.task)  # others may wait for the fetch
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                shared.task.cancel()
                if self._fetches.get(key) is shared:
                    del self._fetches[key]
        return found

    def fetch(self, requests: Iterable[FetchRequest]) -> AsyncGenerator[tuple[FetchRequest, bytes], None]:
        """All objects in order. Raises as ``get``, at the object that failed.

        Close the iterator with ``contextlib.aclosing``.
        """
        return self._in_order(requests, self.get)

    def store(
        self, requests: Iterable[FetchRequest]
    ) -> AsyncGenerator[tuple[FetchRequest, StoredObject], None]:
        """All objects in order, stored in the folder ``disk``.

        Bytes beyond ``bytes_in_flight`` are written to disk as they are received. Raises as ``get``, and
        OSError. Do not call other methods of this fetcher.
        """
        return self._in_order(requests, lambda request: self._share(request, self._fetch_to_disk))

    async def _in_order(
        self, requests: Iterable[FetchRequest], get: Callable[[FetchRequest], Awaitable[T]]
    ) -> AsyncGenerator[tuple[FetchRequest, T], None]:
        rest, begun = iter(requests), deque[tuple[FetchRequest, asyncio.Future[T], int]]()
        following, ahead = next(rest, None), 0
        try:
            while begun or following:
                while following and len(begun) < AHEAD * self._at_once:
                    expected = self._expected(following)
                    if begun and ahead + expected > self._in_flight:
                        break
                    begun.append((following, asyncio.ensure_future(get(following)), expected))
                    following, ahead = next(rest, None), ahead + expected
                first, task, expected = begun[0]
                body = await task
                begun.popleft()
                ahead -= expected
                yield first, body
        finally:
            tasks = [task for _, task, _ in begun]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _expected(self, request: FetchRequest) -> int:
        """The expected size; before any object is known, two are fetched at once."""
        known = request.known_size
        return known if known is not None else max(self._sizes, default=self._in_flight // 2)

    async def _fetch_bytes(self, request: FetchRequest, shared: _SharedFetch) -> bytes:
        body = await self._disk.get(request.key) if self._disk else None
        if body is not None:
            self._hits["disk"] += 1
        else:
            body = await self._check_earlier_body(request)
            if body is None:
                self._misses += 1
                with (self._urgent_bytes if shared.urgent.is_set() else self._bytes).share() as share:
                    await share.need(request.known_size or 0)
                    body = (await self._retry_until_fetched(request, Content(), shared, share)).joined()
            if self._disk and (request.sha256 or self._unchecked_for is None):
                self._disk.put(request.key, body)
        self._memory.put(request.key, body)
        if request.sha256 is None and self._unchecked_for is not None:
            self._unchecked[request.key] = time.monotonic() + self._unchecked_for
        return body

    def _drop_unchecked(self) -> None:
        """Remove expired unchecked objects, which may be wrong."""
        while self._unchecked and (first := next(iter(self._unchecked.items())))[1] < time.monotonic():
            del self._unchecked[first[0]]
            self._memory.drop(first[0])

    async def _check_earlier_body(self, request: FetchRequest) -> bytes | None:
        """The body that was fetched before its SHA-256 was known, or is being fetched, if it is right."""
        unchecked = request.unchecked
        if request.sha256 is None:
            return None
        body = self._memory.get(unchecked.key)
        if body is None and unchecked.key in self._fetches:
            body = await self.get(unchecked, urgent=True)
        return body if body is not None and await is_right(body, request) else None

    async def _fetch_to_disk(self, request: FetchRequest, shared: _SharedFetch) -> StoredObject:
        if self._disk is None:
            raise OSError(errno.ENOENT, "there is no folder to store objects in")
        if stored := await self._disk.find(request.key):
            self._hits["disk"] += 1
            return stored
        self._misses += 1
        content = Content(self._spill)
        try:
            with self._bytes.share() as share:
                await share.need(self._expected(request))
                return await self._disk.store(
                    request.key, await self._retry_until_fetched(request, content, shared)
                )
        finally:
            content.clear()

    async def _retry_until_fetched(
        self, request: FetchRequest, content: Content, shared: _SharedFetch, share: ByteShare | None = None
    ) -> Content:
        """Retry until the object is complete, or no byte has been received for ``patience``."""
        download = Download(self._session, request, self._largest, content, share)
        try:
            await self._attempts(download, shared)
        finally:
            self._failing.discard(download)
        self._sizes.append(len(content))
        return content

    async def _attempts(self, download: Download, shared: _SharedFetch) -> None:
        backoff, since, began = Backoff(FIRST_PAUSE, MAX_PAUSE), time.monotonic(), time.perf_counter()
        while True:
            before = download.received
            try:
                await self._attempt_by_urgency(download, shared)
            except StorageUnavailable as error:
                self._failures += 1
                self._retrying.failed(error)
                self._failing.add(download)
                if download.received > before:
                    backoff.reset()
                    since = time.monotonic()
                if time.monotonic() - since > self._patience:
                    raise
            except StorageRefused:
                self._failures += 1
                raise
            else:
                self._note_success(download)
                self._seconds.append(time.perf_counter() - began)
                return
            if download.share:  # a download that holds a slot may wait for these bytes
                download.share.move_back()
            await self._retrying.pause(random.uniform(0, backoff.next()))  # noqa: S311

    async def _attempt_by_urgency(self, download: Download, shared: _SharedFetch) -> None:
        """One attempt, urgent or not; urgent attempts interrupt the others."""
        if self._urgent_bytes is self._bytes:  # without priorities
            async with self._slots:
                await self._attempt(download)
            return
        async with self._background_slot(shared):
            while not shared.urgent.is_set():
                await _first_of(self._none_urgent.wait(), shared.urgent.wait())
                async with self._slots:
                    if not self._urgent and await self._attempt_in_background(download, shared):
                        return
        self._urgent += 1
        self._none_urgent.clear()
        self._some_urgent.set()
        try:
            async with self._slots:
                if download.share and download.share.semaphore is self._bytes:
                    download.share.move_to_front()
                await self._attempt(download)
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._some_urgent.clear()
                self._none_urgent.set()

    @asynccontextmanager
    async def _background_slot(self, shared: _SharedFetch) -> AsyncIterator[None]:
        """One of the background slots, unless the fetch is or becomes urgent."""
        slot = asyncio.create_task(self._background.acquire())
        try:
            await _first_of(_ended(slot), shared.urgent.wait())
            yield
        finally:
            slot.cancel()
            await asyncio.wait([slot])
            if not slot.cancelled():
                self._background.release()

    async def _attempt_in_background(self, download: Download, shared: _SharedFetch) -> bool:
        """Make an attempt until a fetch is urgent; returns whether it ended. Received bytes are kept."""
        attempt = asyncio.create_task(self._attempt(download))
        try:
            await _first_of(_ended(attempt), self._some_urgent.wait(), shared.urgent.wait())
            if not attempt.done():
                return False
            attempt.result()
            return True
        finally:
            attempt.cancel()
            await asyncio.wait([attempt])

    def _note_success(self, download: Download) -> None:
        """End the pauses of other downloads if this download had failed, or if no download is failing."""
        failed = download in self._failing
        self._failing.discard(download)
        if failed or not self._failing:
            self._retrying.worked(over=not self._failing)

    async def _attempt(self, download: Download) -> None:
        before = download.received
        self._on += 1
        self._most = max(self._most, self._on)
        try:
            await download.attempt()
        finally:
            self._on -= 1
            self._received += download.received - before

    def metrics(self) -> Iterable[Metric]:
        """Hits, failures, bytes and times of fetches."""
        hits = sum(self._hits.values())
        yield Metric(
            "fetch_hits", "Objects that were cached or being fetched", self._hits, ("place",), is_counter=True
        )
        yield Metric("fetch_misses", "Objects that had to be fetched", self._misses, is_counter=True)
        yield Metric("fetch_hit_ratio", "Share of hits", hits / max(hits + self._misses, 1))
        yield Metric("fetch_failures", "Attempts that failed", self._failures, is_counter=True)
        yield Metric("fetch_received_bytes", "Bytes received", self._received, is_counter=True)
        yield Metric("fetch_given_bytes", "Bytes of requested objects", self._given, is_counter=True)
        ordered = sorted(self._seconds) or [0.0]
        yield Metric("fetch_seconds_mean", "Mean time of the last fetches", sum(ordered) / len(ordered))
        yield Metric(
            "fetch_seconds_p95",
            "95th percentile of the last fetches",
            ordered[math.ceil(P95 * len(ordered)) - 1],
        )
        yield Metric("fetch_most_in_flight", "Largest number of parallel fetches so far", self._most)
        kept = {"memory": self._memory.size, "disk": self._disk.size if self._disk else 0}
        yield Metric("fetch_kept_bytes", "Bytes in the cache", kept, ("place",))


async def _first_of(*awaited: Coroutine[Any, Any, object]) -> None:
    """Wait until one has ended, and cancel the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


def _ignore_error(task: asyncio.Task[Any]) -> None:
    """Suppress asyncio's message about the error of a fetch for which no request waits."""
    if not task.cancelled():
        task.exception()
