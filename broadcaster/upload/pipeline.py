"""Keeps the order and decides what becomes of a segment.

Uploads run in parallel; each variant's segments are published in order. The encoder cannot be slowed,
so nothing here ever makes the source wait: what cannot be uploaded yet waits in the spool. When that
is full, the oldest become gaps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from broadcaster.aio import wait_at_most
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment, SourceFile
from broadcaster.events import Observer, SegmentDiscovered
from broadcaster.ipc import State
from broadcaster.live import Channel
from broadcaster.live.channel import Decisions
from broadcaster.source.reports import SourceEnded, SourceEvent, SourceFault, SourceIdle, VariantsListed
from broadcaster.upload.departure import Encoder, has_left
from broadcaster.upload.in_flight import InFlight, VariantQueue, key_of, map_key_of
from broadcaster.upload.scheduler import Balance
from broadcaster.upload.spool import Spool
from broadcaster.upload.transfer import Transfer
from broadcaster.upload.uploader import Uploader

logger = logging.getLogger(__name__)

Follow = Callable[[Callable[[SourceEvent], Awaitable[None]]], Coroutine[None, None, None]]

TICK = 0.5  # seconds
LAST_REMOVALS = 5.0  # seconds for the spool's disk when the service stops
LATE = 10.0  # seconds on the way after which a segment does not get through
LATE_TARGET_DURATIONS = 3


class Pipeline:
    """Takes what the source reports to the channel, by way of the bucket.

    ``prefix`` begins every object key; ``end_grace`` is how many seconds without a new segment end the
    stream for viewers, ``disconnect_grace`` how many since the ``encoder`` has gone, where that is known.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        uploader: Uploader,
        spool: Spool,
        catalog: Catalog,
        channel: Channel,
        observe: Observer,
        *,
        prefix: str,
        end_grace: float,
        encoder: Encoder | None = None,
        disconnect_grace: float | None = None,
    ) -> None:
        self.last_tick = time.monotonic()
        self.draining = False
        self._uploader = uploader
        self._spool = spool
        self._catalog = catalog
        self._channel = channel
        self._observe = observe
        self.balance = Balance()
        self._transfer = Transfer(uploader, spool, catalog, observe)
        self._prefix = prefix
        self._end_grace = end_grace
        self._encoder = encoder
        self._disconnect_grace = disconnect_grace
        self._group = asyncio.TaskGroup()
        self._queues: dict[str, VariantQueue] = {}
        self._on_the_way: dict[str, InFlight] = {}  # by object key, oldest first
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_segment = time.monotonic()
        self._source_is_idle = False
        self._source_fault: str | None = None

    def resume(self, pending: Iterable[Segment]) -> None:
        """Take up, before ``run``, the segments that an earlier process had on their way."""
        for segment in pending:
            kept = self._spool.find(segment.key)
            self._on_the_way[segment.key] = InFlight(segment, kept, time.monotonic(), recovered=True)
            self._channel.expect(segment.variant)
        if self._on_the_way:
            self._idle.clear()
            logger.info("%d segments were on their way and go on", len(self._on_the_way))

    async def run(
        self,
        follow: Follow,
        stop: asyncio.Event,
        drain: float,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """Work until ``stop``, then say so and finish what is on its way, for at most ``drain`` seconds.

        ``follow`` gives every event of the source to what it is called with, until it is cancelled.
        An exception here means that ingest is dead.
        """
        try:
            async with self._group as group:
                for flight in self._on_the_way.values():
                    self._queue(flight.segment.variant).waiting.put_nowait(flight)
                following = group.create_task(follow(self._accept), name="source")
                while not stop.is_set():
                    self._tick(time.monotonic())
                    await wait_at_most(TICK, stop)
                self.draining = True
                on_stop()
                following.cancel()
                await wait_at_most(drain, self._idle)
                await self._catalog.write(sync=True)
                self._spool.settle(self._catalog.settled)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_REMOVALS):
                        await self._spool.done()
                raise _Stopped
        except* _Stopped:
            if self._on_the_way:
                logger.warning("%d segments wait in the spool for the next start", len(self._on_the_way))

    @property
    def backlog(self) -> int:
        """Segments that the source has finished and viewers cannot see yet."""
        return len(self._on_the_way)

    @property
    def trouble(self) -> str | None:
        """Why the stream that is on does not get through; None while it does, or while none is on.

        While the folder cannot be read, nobody knows whether one is on.
        """
        if self._source_fault:
            return self._source_fault
        if not self._on_the_way:
            return None
        waited = time.monotonic() - next(iter(self._on_the_way.values())).since
        late = waited > max(LATE, LATE_TARGET_DURATIONS * (self._channel.target_duration or 0))
        fault = self._uploader.fault
        if fault and (late or fault.permanent):
            return f"since {fault.since:%Y-%m-%dT%H:%M:%SZ}: {fault.message}"
        on_its_way = f"a segment has been on its way for {waited:.0f} s"
        return (self.balance.shortage or on_its_way) if late else None

    async def _accept(self, event: SourceEvent) -> None:
        match event:
            case Segment():
                await self._discover(event)
            case VariantsListed():
                self._follow_up(self._channel.list_variants(event))
            case SourceIdle():
                self._source_is_idle = True
            case SourceFault():
                self._source_fault = event.message
            case SourceEnded():
                # Provisional: Owncast takes the same stream up again within five minutes. The grace time
                # counts from the last segment.
                logger.info("variant %s says that it has ended", event.variant)
                if self._encoder:
                    self._encoder.ask()

    async def _discover(self, segment: Segment) -> None:
        self._last_segment = time.monotonic()
        self._source_is_idle = False
        key = key_of(segment, self._prefix)
        segment = replace(segment, key=key, map_key=map_key_of(segment, key))
        self._observe(SegmentDiscovered(segment.variant, segment.name))
        self._channel.expect(segment.variant)
        size = segment.file.size if segment.file else 0
        self.balance.add(segment.variant, size, segment.duration.total_seconds(), self._last_segment)
        queue, map_key = self._queue(segment.variant), segment.map_key
        if map_key and map_key not in queue.maps and not self._spool.find(map_key):
            await self._keep(segment, segment.map_file, map_key)
        flight = InFlight(segment, await self._keep(segment, segment.file, key), time.monotonic())
        flight.noticed = self._catalog.noticed(segment)
        self._on_the_way[key] = flight
        self._idle.clear()
        queue.waiting.put_nowait(flight)
        self._make_room()

    async def _keep(self, segment: Segment, file: SourceFile | None, key: str) -> Path | None:
        """Spool a file; None when that cannot be done, and it has to be read from the source."""
        if file is None:
            return None
        try:
            # A writer that uses its names again may write into the very file that a link would share.
            return await self._spool.keep(file, key, copy=not segment.run.has_encoder_id)
        except OSError as error:
            logger.warning("%s cannot be spooled (%s); it is read from the source", key, error.strerror)
            return None

    def _make_room(self) -> None:
        """The spool has a limit: past it the oldest are given up, and become gaps in their places."""
        for flight in self._on_the_way.values():
            if self._spool.size <= self._spool.limit:
                return
            if flight.kept and flight.abandoned is None:
                flight.abandoned = "was given up: the spool is full"
                self._spool.drop(flight.kept)
                if flight.upload:
                    flight.upload.cancel()

    def _queue(self, variant: str) -> VariantQueue:
        queue = self._queues.get(variant)
        if queue is None:
            queue = self._queues[variant] = VariantQueue()
            self._group.create_task(self._start_uploads(queue), name=f"uploads of {variant}")
            self._group.create_task(self._publish(queue), name=f"publication of {variant}")
        return queue

    async def _start_uploads(self, queue: VariantQueue) -> None:
        while True:
            flight = await queue.waiting.get()
            upload = self._group.create_task(self._transfer.finish(queue, flight), name=flight.segment.key)
            await queue.uploads.put((flight, upload))

    async def _publish(self, queue: VariantQueue) -> None:
        while True:
            flight, upload = await queue.uploads.get()
            shown = self._channel.publish(await upload)
            await flight.stored
            await shown
            self._on_the_way.pop(flight.segment.key, None)
            if flight.kept:
                self._spool.let_go(flight.kept, self._catalog.told)
            if not self._on_the_way:
                self._idle.set()

    def _tick(self, now: float) -> None:
        self.last_tick = now
        self._catalog.save()
        self._spool.settle(self._catalog.settled)
        self._spool.measure()
        self._follow_up(self._channel.tick(now))
        if self._uploader.fault:
            self.balance.forget()
        self.balance.look(self._uploader.sent, now, in_use=self._uploader.is_busy)
        if self._on_the_way or self._channel.state not in (State.STARTING, State.LIVE):
            return
        # A grace time shorter than it takes to see the next segment would end the stream after each.
        grace = max(self._end_grace, LATE_TARGET_DURATIONS * (self._channel.target_duration or 0))
        left = has_left(self._encoder, self._disconnect_grace, self._last_segment, now)
        if self._source_is_idle or now - self._last_segment > grace or left:
            self._follow_up(self._channel.end())

    def _follow_up(self, decisions: Decisions) -> None:
        """Have ingest end, and start where the catalog stands, if they cannot be written."""
        if decisions:
            self._group.create_task(_done(decisions), name="decisions")


async def _done(decisions: Decisions) -> None:
    await decisions


class _Stopped(Exception):  # noqa: N818 - no error: it ends the task group from inside
    """The pipeline was asked to stop."""
