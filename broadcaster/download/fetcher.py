"""Reads objects: several at once, each once, in order where that is wanted."""

from __future__ import annotations

import asyncio
import errno
import math
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from broadcaster.aio import FIRST_PAUSE, MAX_PAUSE, Fault, Retrying
from broadcaster.download.cache import DiskCache, MemoryCache, Place
from broadcaster.download.download import Content, Download, Room, Share, Spill, Wanted, is_right
from broadcaster.errors import StorageRefused, StorageUnavailable
from broadcaster.metrics import Metric

MIB = 2**20
AHEAD = 4  # times as many are asked for in advance as are fetched at once: one that is slow holds up no other
RECENT = 1000  # fetches, of which the mean time and the 95th percentile are
TYPICAL = 32  # fetches, the largest of which tells what the next one may need
MOST = 0.95
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Flight:
    """One object on its way, and how many wait for it."""

    task: asyncio.Task[Any] = field(init=False)
    waiting: int = 0
    urgent: asyncio.Event = field(default_factory=asyncio.Event)


class Fetcher:
    """Reads through ``session``, ``at_once`` objects at a time, and ends what is on its way when it is left.

    At most ``bytes_in_flight`` are on their way, counted as they come, and one object besides; as much again
    is read in advance by each ``fetch``. An object of more than ``largest`` bytes (those in flight, unless
    given) is refused.

    What is urgent has ``reserved`` bytes of those to itself, and goes first: all else waits while something
    urgent is on its way, and pauses for it, and no more than ``patient`` others are asked for at once.

    What was read last is kept: ``memory`` bytes of it, and ``disk_bytes`` in the folder ``disk``, which is
    this fetcher's alone; what has no SHA-256 only for ``unchecked_for`` seconds, and not on the disk, if that
    is given. ``patience`` is in seconds.
    """

    def __init__(  # noqa: PLR0913 - each of these bounds is another one
        self,
        session: aiohttp.ClientSession,
        *,
        at_once: int = 8,
        bytes_in_flight: int = 64 * MIB,
        largest: int | None = None,
        reserved: int = 0,
        patient: int | None = None,
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
        self._room = Room(bytes_in_flight - reserved)
        self._urgent_room = Room(reserved) if reserved else self._room
        self._patient = asyncio.Semaphore(patient or at_once)
        self._urgent = 0  # attempts of what is urgent, on their way or waiting for a slot
        self._hurry, self._calm = asyncio.Event(), asyncio.Event()  # there are some; there are none
        self._calm.set()
        self._unchecked_for = unchecked_for
        self._doubtful: dict[Hashable, float] = {}  # until when it is kept (monotonic), the first first
        self._memory = MemoryCache(memory)
        self._spill = Spill(disk, bytes_in_flight) if disk else None
        self._disk = DiskCache(disk, disk_bytes) if disk else None
        self._flights: dict[Hashable, _Flight] = {}
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
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._disk:
            await self._disk.close()

    @property
    def fault(self) -> Fault | None:
        """What keeps objects from being read just now."""
        return self._retrying.fault

    async def has(self, wanted: Wanted) -> bool:
        """Whether it is there, so that nothing has to be fetched for it."""
        if self._memory.get(wanted.key) is not None:
            return True
        return self._disk is not None and await self._disk.has(wanted.key)

    async def get(self, wanted: Wanted, *, urgent: bool = False) -> bytes:
        """The object. Raises StorageUnavailable, StorageRefused, ObjectNotFound; each names its address."""
        self._doubt()
        found = self._memory.get(wanted.key)
        if found is not None:
            self._hits["memory"] += 1
        else:
            found = await self._once(wanted, self._bring, urgent=urgent)
        self._given += len(found)
        return found

    async def _once(
        self,
        wanted: Wanted,
        bring: Callable[[Wanted, _Flight], Coroutine[Any, Any, T]],
        *,
        urgent: bool = False,
    ) -> T:
        """Bring it, or wait for the flight that already does."""
        key = wanted.key
        flight = self._flights.get(key)
        if flight:
            self._hits["flight"] += 1
        else:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(bring(wanted, flight))
            flight.task.add_done_callback(_look_at)
        if urgent:
            flight.urgent.set()
        flight.waiting += 1
        try:
            # One that waits no longer ends nothing for the others.
            found: T = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                if self._flights.get(key) is flight:
                    del self._flights[key]
        return found

    def fetch(self, wanted: Iterable[Wanted]) -> AsyncIterator[tuple[Wanted, bytes]]:
        """All of them, in order; raises what ``get`` does when the turn of such a one has come.

        Whoever leaves it before its end closes it (``contextlib.aclosing``).
        """
        return self._in_order(wanted, self.get)

    def store(self, wanted: Iterable[Wanted]) -> AsyncIterator[tuple[Wanted, Place]]:
        """All of them, in order, as places in the folder ``disk``: ``bytes_in_flight`` bounds the memory.

        However large objects turn out to be, what has no room in memory is written to the disk as it comes.
        Raises what ``get`` does, and OSError. Nothing else may be asked of this fetcher.
        """
        return self._in_order(wanted, lambda one: self._once(one, self._store))

    async def _in_order(
        self, wanted: Iterable[Wanted], get: Callable[[Wanted], Awaitable[T]]
    ) -> AsyncIterator[tuple[Wanted, T]]:
        rest, begun = iter(wanted), deque[tuple[Wanted, asyncio.Future[T], int]]()
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

    def _expected(self, wanted: Wanted) -> int:
        """Bytes that it needs; of the first ones, which nobody knows, only two are fetched at once."""
        known = wanted.known_size
        return known if known is not None else max(self._sizes, default=self._in_flight // 2)

    async def _bring(self, wanted: Wanted, flight: _Flight) -> bytes:
        body = await self._disk.get(wanted.key) if self._disk else None
        if body is not None:
            self._hits["disk"] += 1
        else:
            body = await self._confirmed(wanted)
            if body is None:
                self._misses += 1
                with (self._urgent_room if flight.urgent.is_set() else self._room).share() as share:
                    await share.need(wanted.known_size or 0)
                    body = (await self._insist(wanted, Content(), flight, share)).joined()
            if self._disk and (wanted.sha256 or self._unchecked_for is None):
                self._disk.put(wanted.key, body)
        self._memory.put(wanted.key, body)
        if wanted.sha256 is None and self._unchecked_for is not None:
            self._doubtful[wanted.key] = time.monotonic() + self._unchecked_for
        return body

    def _doubt(self) -> None:
        """Forget what was not checked and has been there for long: it may be wrong."""
        now = time.monotonic()
        while self._doubtful and (first := next(iter(self._doubtful.items())))[1] < now:
            del self._doubtful[first[0]]
            self._memory.drop(first[0])

    async def _confirmed(self, wanted: Wanted) -> bytes | None:
        """What came, or comes, before its sum was known, if it has that sum: it is not fetched again."""
        unchecked = wanted.unchecked
        if wanted.sha256 is None:
            return None
        body = self._memory.get(unchecked.key)
        if body is None and unchecked.key in self._flights:
            body = await self.get(unchecked, urgent=True)
        return body if body is not None and await is_right(body, wanted) else None

    async def _store(self, wanted: Wanted, flight: _Flight) -> Place:
        if self._disk is None:
            raise OSError(errno.ENOENT, "there is no folder to store objects in")
        if place := await self._disk.find(wanted.key):
            self._hits["disk"] += 1
            return place
        self._misses += 1
        content = Content(self._spill)
        try:
            with self._room.share() as share:
                await share.need(self._expected(wanted))
                return await self._disk.store(wanted.key, await self._insist(wanted, content, flight))
        finally:
            content.clear()

    async def _insist(
        self, wanted: Wanted, content: Content, flight: _Flight, share: Share | None = None
    ) -> Content:
        """Make attempts until it is there, or no byte of it has come for too long."""
        download = Download(self._session, wanted, self._largest, content, share)
        try:
            await self._attempts(download, flight)
        finally:
            self._failing.discard(download)
        self._sizes.append(len(content))
        return content

    async def _attempts(self, download: Download, flight: _Flight) -> None:
        pause, since, began = FIRST_PAUSE, time.monotonic(), time.perf_counter()
        while True:
            before = download.received
            try:
                await self._in_turn(download, flight)
            except StorageUnavailable as error:
                self._failures += 1
                self._retrying.failed(error)
                self._failing.add(download)
                if download.received > before:
                    pause, since = FIRST_PAUSE, time.monotonic()
                if time.monotonic() - since > self._patience:
                    raise
            except StorageRefused:
                self._failures += 1
                raise
            else:
                self._note_success(download)
                self._seconds.append(time.perf_counter() - began)
                return
            if download.share:  # others may hold the slot that the next attempt needs, and wait for its room
                download.share.step_back()
            await self._retrying.pause(random.uniform(0, pause))  # noqa: S311
            pause = min(2 * pause, MAX_PAUSE)

    async def _in_turn(self, download: Download, flight: _Flight) -> None:
        """One attempt: what is not urgent waits for what is, and is interrupted by it."""
        if self._urgent_room is self._room:  # nothing is
            async with self._slots:
                await self._attempt(download)
            return
        async with self._patience_of(flight):
            while not flight.urgent.is_set():
                await _first(self._calm.wait(), flight.urgent.wait())
                async with self._slots:
                    if not self._urgent and await self._uninterrupted(download, flight):
                        return
        self._urgent += 1
        self._calm.clear()
        self._hurry.set()
        try:
            async with self._slots:
                if download.share and download.share.room is self._room:  # of those that wait for this one
                    download.share.step_forward()
                await self._attempt(download)
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._hurry.clear()
                self._calm.set()

    @asynccontextmanager
    async def _patience_of(self, flight: _Flight) -> AsyncIterator[None]:
        """A place among those that are not urgent; none as soon as it is."""
        place = asyncio.create_task(self._patient.acquire())
        try:
            await _first(_ended(place), flight.urgent.wait())
            yield
        finally:
            place.cancel()
            await asyncio.wait([place])
            if not place.cancelled():
                self._patient.release()

    async def _uninterrupted(self, download: Download, flight: _Flight) -> bool:
        """Whether an attempt came to its end before anything urgent; what has come of it stays."""
        attempt = asyncio.create_task(self._attempt(download))
        try:
            await _first(_ended(attempt), self._hurry.wait(), flight.urgent.wait())
            if not attempt.done():
                return False
            attempt.result()
            return True
        finally:
            attempt.cancel()
            await asyncio.wait([attempt])

    def _note_success(self, download: Download) -> None:
        """One that had failed tells the others that it is over; what has failed alone wakes nobody."""
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
        """What came from where, how fast, and how many at once."""
        hits = sum(self._hits.values())
        yield Metric(
            "fetch_hits", "Objects that were there, or on their way", self._hits, ("place",), is_counter=True
        )
        yield Metric("fetch_misses", "Objects that had to be fetched", self._misses, is_counter=True)
        yield Metric("fetch_hit_ratio", "Share of hits", hits / max(hits + self._misses, 1))
        yield Metric("fetch_failures", "Attempts that failed", self._failures, is_counter=True)
        yield Metric("fetch_received_bytes", "Bytes that came", self._received, is_counter=True)
        yield Metric("fetch_given_bytes", "Bytes that were asked for", self._given, is_counter=True)
        ordered = sorted(self._seconds) or [0.0]
        yield Metric("fetch_seconds_mean", "Of the last fetches", sum(ordered) / len(ordered))
        yield Metric("fetch_seconds_p95", "Of the last fetches", ordered[math.ceil(MOST * len(ordered)) - 1])
        yield Metric("fetch_most_in_flight", "Objects on their way at once, at most so far", self._most)
        kept = {"memory": self._memory.size, "disk": self._disk.size if self._disk else 0}
        yield Metric("fetch_kept_bytes", "Bytes that are kept", kept, ("place",))


async def _first(*awaited: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is over; the others are given up."""
    tasks = [asyncio.create_task(one) for one in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


def _look_at(task: asyncio.Task[Any]) -> None:
    """What nobody waits for any more may fail without a word."""
    if not task.cancelled():
        task.exception()
