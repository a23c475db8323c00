"""The owner of the stream: it gives events to the machine, and executes what the machine decides.

``broadcaster.stream`` decides, at once; its effects wait here in one queue, and each is complete before the
next begins: what viewers see is written before. Uploads run beside that, and answer with an event. The
encoder cannot be slowed, so nothing here makes the source wait: what cannot be uploaded yet waits in the
spool. When the spool is full, the oldest segments become gaps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from broadcaster.aio import wait_at_most
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment, SourceFile
from broadcaster.events import Observer, SegmentPublished, happened
from broadcaster.ipc.messages import View
from broadcaster.source.reports import SourceEvent
from broadcaster.stream import Effect, EncoderStatus, Event, Instant, Stream, Tick, model
from broadcaster.upload.scheduler import UplinkMonitor
from broadcaster.upload.spool import Spool
from broadcaster.upload.uploader import SegmentUpload, SegmentUploader, Uploader

logger = logging.getLogger(__name__)

Follow = Callable[[Callable[[SourceEvent], Awaitable[None]]], Coroutine[None, None, None]]

TICK = 0.5  # seconds
LAST_REMOVALS = 5.0  # seconds for the spool's disk when the service stops
LATE = 10.0  # seconds on the way after which a segment does not get through
LATE_TARGET_DURATIONS = 3


class Encoder(Protocol):
    """What is known of the encoder from elsewhere."""

    @property
    def connected(self) -> bool | None:
        """Whether it is connected; None while that is not known."""

    @property
    def disconnected_since(self) -> float | None:
        """Since when it is known to have gone (monotonic); None while it is not."""

    def ask(self) -> None:
        """Find out soon whether it is still connected."""


class Pipeline:
    """Takes what the source reports to viewers, by way of the bucket.

    ``prefix`` begins every object key, ``clock`` gives the wall time, ``show`` is called with each new view,
    ``behind`` says how many seconds the most delayed viewer is behind live.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        stream: Stream,
        uploader: Uploader,
        spool: Spool,
        catalog: Catalog,
        observe: Observer,
        *,
        clock: Callable[[], datetime],
        prefix: str,
        show: Callable[[View], None] = lambda _: None,
        encoder: Encoder | None = None,
        behind: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.stream = stream
        self.view = stream.view  # what viewers see
        self.published = 0  # segments since the start
        self.last_tick = time.monotonic()
        self.draining = False
        self.balance = UplinkMonitor()
        self._uploader = uploader
        self._spool = spool
        self._catalog = catalog
        self._observe = observe
        self._clock = clock
        self._transfer = SegmentUploader(uploader, spool)
        self._prefix = prefix
        self._show = show
        self._encoder = encoder
        self._behind = behind
        self._group = asyncio.TaskGroup()
        self._uploads: dict[str, SegmentUpload] = {}  # by object key, oldest first, until they are released
        self._effects: asyncio.Queue[Effect] = asyncio.Queue()
        self._idle = asyncio.Event()

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
        for segment in self.stream.on_the_way:
            kept = self._spool.find(segment.key)
            self._uploads[segment.key] = SegmentUpload(segment, kept, recovered=True)
        if self._uploads:
            logger.info("%d segments were on their way and go on", len(self._uploads))
        self._queue(self.stream.resume(self._now()))
        try:
            async with self._group as group:
                group.create_task(self._execute(), name="effects")
                following = group.create_task(follow(self._accept), name="source")
                while not stop.is_set():
                    self._tick(time.monotonic())
                    await wait_at_most(TICK, stop)
                self.draining = True
                on_stop()
                following.cancel()
                await wait_at_most(drain, self._idle)
                await self._catalog.writer.write(sync=True)
                self._spool.settle(self._catalog.writer.durable)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_REMOVALS):
                        await self._spool.done()
                raise _Stopped
        except* _Stopped:
            if self.backlog:
                logger.warning("%d segments wait in the spool for the next start", self.backlog)

    @property
    def backlog(self) -> int:
        """Segments that the source has finished and viewers cannot see yet."""
        return len(self._uploads)

    @property
    def listed(self) -> int:
        """How many segments all playlists list together."""
        return sum(len(one.playlist.segments) for one in self.view.playlists.values())

    @property
    def trouble(self) -> str | None:
        """Why the stream that is on does not get through; None while it does, or while none is on.

        While the folder cannot be read, nobody knows whether one is on.
        """
        if self.stream.source.fault:
            return self.stream.source.fault
        since = self.stream.waiting_since
        if since is None:
            return None
        waited = time.monotonic() - since
        late = waited > max(LATE, LATE_TARGET_DURATIONS * (self.stream.target_duration or 0))
        fault = self._uploader.fault
        if fault and (late or fault.permanent):
            return f"since {fault.since:%Y-%m-%dT%H:%M:%SZ}: {fault.message}"
        on_its_way = f"a segment has been on its way for {waited:.0f} s"
        return (self.balance.shortage or on_its_way) if late else None

    # Events.

    def _now(self) -> Instant:
        return Instant(self._clock(), time.monotonic())

    def _handle(self, event: Event) -> None:
        self._queue(self.stream.handle(event, self._now()))

    def _queue(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self._effects.put_nowait(effect)
            self._idle.clear()

    async def _accept(self, event: SourceEvent) -> None:
        """Take an event of the source; a segment's file is in the spool before the source goes on."""
        if not isinstance(event, Segment):
            self._handle(event)
            return
        segment = event.keyed(self._prefix)
        self._handle(model.SegmentFound(segment))
        size = segment.file.size if segment.file else 0
        self.balance.add(segment.variant, size, segment.duration.total_seconds(), time.monotonic())
        if segment.map_key and not self._transfer.has_map(segment) and not self._spool.find(segment.map_key):
            await self._keep(segment, segment.map_file, segment.map_key)
        kept = await self._keep(segment, segment.file, segment.key)
        self._uploads[segment.key] = SegmentUpload(segment, kept)
        self._handle(model.SegmentKept(segment.key))
        self._make_room()

    def _tick(self, now: float) -> None:
        self.last_tick = now
        self._catalog.writer.maintain()
        self._spool.settle(self._catalog.writer.durable)
        self._spool.measure()
        encoder = self._encoder
        status = EncoderStatus(encoder.connected, encoder.disconnected_since) if encoder else None
        self._handle(Tick(status, self._behind()))
        if self._uploader.fault:
            self.balance.forget()
        self.balance.look(self._uploader.sent, now, in_use=self._uploader.is_busy)

    # Effects.

    async def _execute(self) -> None:
        """Execute all effects in their order; ingest ends where a row cannot be written."""
        while True:
            if self._effects.empty() and not self._uploads:
                self._idle.set()
            await self._do(await self._effects.get())

    async def _do(self, effect: Effect) -> None:  # noqa: C901 - one case for each effect
        match effect:
            case model.WriteFound(segment):
                await self._catalog.noticed(segment)
            case model.WriteStored(segment):
                await self._catalog.stored(segment)
            case model.WriteVariants(described):
                await self._catalog.described(described)
            case model.WritePlaylists(listings, retired, availability, trimmed, over):
                await self._catalog.listed(listings, retired, availability, trimmed=trimmed, over=over)
            case model.ShowView(view):
                self.view = view
                self._show(view)
            case model.Notify(event):
                self.published += isinstance(event, SegmentPublished)
                self._observe(happened(event, self._clock()))
            case model.Upload(segment):
                self._group.create_task(self._upload(self._uploads[segment.key]), name=segment.key)
            case model.Release(segment):
                if kept := self._uploads.pop(segment.key).kept:
                    self._spool.let_go(kept, self._catalog.writer.queued)
                self._handle(model.SegmentShown(segment.key))
            case model.AskEncoder() if self._encoder:
                self._encoder.ask()
            case model.Log(severity, message):
                logger.log(logging.getLevelNamesMapping()[severity.value.upper()], "%s", message)

    async def _upload(self, upload: SegmentUpload) -> None:
        self._handle(model.SegmentFinished(await self._transfer.finish(upload)))

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
        for upload in self._uploads.values():
            if self._spool.size <= self._spool.limit:
                return
            if upload.kept and upload.abandoned is None:
                upload.abandoned = "was given up: the spool is full"
                self._spool.drop(upload.kept)
                if upload.task:
                    upload.task.cancel()


class _Stopped(Exception):  # noqa: N818 - no error: it ends the task group from inside
    """The pipeline was asked to stop."""
