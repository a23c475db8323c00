"""The owner of the stream: it gives events to the machine, and executes the machine's effects.

``broadcaster.stream`` decides without waiting. Its effects wait here in one queue, and each is complete
before the next begins: a view is written before viewers see it. Uploads run beside the queue and end with an
event. The encoder cannot be slowed, so nothing here makes the source wait: segments wait in the spool. When
the spool is full, the oldest segments become gaps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from broadcaster.aio import USUAL, wait_at_most
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment, SourceFile
from broadcaster.errors import Problem
from broadcaster.events import Observer, SegmentPublished, SourceEvent, happened
from broadcaster.ipc.messages import State, View
from broadcaster.stream import Effect, EncoderStatus, EncoderWatch, Event, Instant, StreamMachine, Tick, model
from broadcaster.upload.scheduler import UplinkMonitor
from broadcaster.upload.spool import Spool
from broadcaster.upload.uploader import Follow, SegmentUpload, SegmentUploader, Uploader

logger = logging.getLogger(__name__)

TICK = 0.5  # seconds
FASTER = "lower the bit rate or the number of variants of the encoder, or use a faster uplink"
LAST_REMOVALS = 5.0  # seconds for the spool's disk when the service stops
LATE, LATE_TARGET_DURATIONS = 10.0, 3  # seconds, or target durations, after which a segment is late


class Pipeline:
    """Takes segments from the source to viewers.

    ``prefix`` begins every object key; with the secret ``names``, keys cannot be guessed. ``clock`` gives
    the wall time, ``show`` is called with each new view, ``behind`` gives how many seconds the most delayed
    viewer is behind live. ``rewrites``: the source may write into a file that is finished.
    """

    def __init__(  # noqa: PLR0913 - all parts that it connects
        self,
        stream: StreamMachine,
        uploader: Uploader,
        spool: Spool,
        catalog: Catalog,
        observe: Observer,
        *,
        clock: Callable[[], datetime],
        prefix: str,
        names: bytes = b"",
        show: Callable[[View], None] = lambda _: None,
        encoder: EncoderWatch | None = None,
        behind: Callable[[], float] = lambda: 0.0,
        rewrites: bool = True,
    ) -> None:
        self.stream = stream
        self.view = stream.public_view  # for viewers
        self.published = 0  # segments since the start
        self.last_tick = time.monotonic()
        self.draining = False
        self.uplink = UplinkMonitor()
        self._uploader = uploader
        self._spool = spool
        self._catalog = catalog
        self._observe = observe
        self._clock = clock
        self._segment_uploader = SegmentUploader(uploader, spool, rewrites=rewrites)
        self._prefix, self._names = prefix, names
        self._show = show
        self._encoder = encoder
        self._behind = behind
        self._rewrites = rewrites
        self._group = asyncio.TaskGroup()
        self._uploads: dict[str, SegmentUpload] = {}  # by object key, oldest first, until they are released
        self._effects: asyncio.Queue[Effect | asyncio.Event] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._leaves = False  # what is not being uploaded, to another broadcaster
        self._under_way = 0  # uploads that have not ended

    async def run(
        self,
        follow: Follow,
        stop: asyncio.Event,
        drain: float,
        on_stop: Callable[[], None] = lambda: None,
        hands_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Work until ``stop``, then call ``on_stop`` and finish uploads, for at most ``drain`` seconds.

        If it then ``hands_over`` to another broadcaster, which has the stream as well, no upload begins.
        ``follow`` calls its argument with each event of the source until it is cancelled. An exception ends
        ingest.
        """
        for segment in self.stream.on_the_way:
            path = self._spool.find(segment.key)
            self._uploads[segment.key] = SegmentUpload(segment, path, recovered=True)
        if self._uploads:
            logger.info("%d segments of the previous process go on", len(self._uploads))
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
                if hands_over():
                    self._leaves = True
                    self._uploader.begin_no_more()
                    self._queue([model.Log("info", "uploads that have not begun are left to the standby")])
                await wait_at_most(drain, self._idle)
                await self._catalog.writer.write(sync=True)
                self._spool.release_durable(self._catalog.writer.durable)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_REMOVALS):
                        await self._spool.done()
                raise _Stopped
        except* _Stopped:
            if self.backlog:
                logger.warning("%d segments wait in the spool for the next start", self.backlog)

    @property
    def backlog(self) -> int:
        """Number of segments that the source has finished and viewers cannot see yet."""
        return len(self._uploads)

    @property
    def listed(self) -> int:
        """Number of segments in all playlists."""
        return sum(len(version.playlist.segments) for version in self.view.playlists.values())

    @property
    def problem(self) -> Problem | None:
        """Why the running stream does not reach viewers, or the fault of the folder; else None.

        The cause says since when, unless a stream is live: then health says for how long viewers are frozen.
        """
        if self.stream.source.fault:
            return Problem(self.stream.source.fault)
        since = self.stream.waiting_since
        if since is None:
            return None
        waited = time.monotonic() - since
        late = waited > max(LATE, LATE_TARGET_DURATIONS * (self.stream.target_duration or 0))
        is_live = self.view.state is State.LIVE
        found = self._clock() - timedelta(seconds=waited)
        began = "" if is_live else f"since {found:%Y-%m-%dT%H:%M:%SZ}: "
        fault = self._uploader.fault
        if fault and (late or fault.permanent):
            cause, remedy = fault.problem
            return Problem(began + cause, remedy)
        if late and (shortage := self.uplink.shortage):
            return Problem(shortage, FASTER)
        return Problem(f"{began}an upload takes too long", USUAL) if late else None

    async def open_doors(self, at: datetime) -> None:
        """Viewers see nothing of before this time any more when this returns."""
        self._handle(model.DoorsOpened(at))
        is_shown = asyncio.Event()
        self._queue([is_shown])
        await is_shown.wait()

    def _now(self) -> Instant:
        return Instant(self._clock(), time.monotonic())

    def _handle(self, event: Event) -> None:
        self._queue(self.stream.handle(event, self._now()))

    def _queue(self, effects: Iterable[Effect | asyncio.Event]) -> None:
        for effect in effects:
            self._effects.put_nowait(effect)
            self._idle.clear()

    async def _accept(self, event: SourceEvent) -> None:
        """Handle an event of the source; a segment's file is in the spool when this returns."""
        if not isinstance(event, Segment):
            self._handle(event)
            return
        segment = event.keyed(self._prefix, self._names)
        self._handle(model.SegmentFound(segment))
        size = segment.file.size if segment.file else 0
        self.uplink.add(segment.variant, size, segment.duration.total_seconds(), time.monotonic())
        if (
            segment.map_key
            and not self._segment_uploader.has_map(segment)
            and not self._spool.find(segment.map_key)
        ):
            # Its name has no encoder's ID: the next run writes into the same file.
            await self._spool_file(segment.map_file, segment.map_key, copy=self._rewrites)
        # A writer that reuses its names may write into the file that a link would share.
        reuses = self._rewrites and not segment.run.has_encoder_id
        path = await self._spool_file(segment.file, segment.key, copy=reuses)
        self._uploads[segment.key] = SegmentUpload(segment, path)
        self._handle(model.SegmentSpooled(segment.key))
        self._make_room()

    def _tick(self, now: float) -> None:
        self.last_tick = now
        self._catalog.writer.maintain()
        self._spool.release_durable(self._catalog.writer.durable)
        self._spool.measure()
        encoder = self._encoder
        status = EncoderStatus(encoder.connected, encoder.disconnected_since) if encoder else None
        self._handle(Tick(status, self._behind()))
        if self._uploader.fault:
            self.uplink.forget()
        self.uplink.measure(self._uploader.sent, now, in_use=self._uploader.is_busy)
        self.uplink.note_busy(self._uploader.busy, now)

    async def _execute(self) -> None:
        """Execute all effects in order; ingest ends if a row cannot be written."""
        while True:
            if self._effects.empty() and not (self._under_way if self._leaves else self._uploads):
                self._idle.set()
            await self._do(await self._effects.get())

    async def _do(self, effect: Effect | asyncio.Event) -> None:  # noqa: C901 - one case for each effect
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
                self._under_way += 1
                self._group.create_task(self._upload(self._uploads[segment.key]), name=segment.key)
            case model.Release(segment):
                if path := self._uploads.pop(segment.key).path:
                    self._spool.release(path, self._catalog.writer.queued)
                self._handle(model.SegmentReleased(segment.key))
            case model.AskEncoder() if self._encoder:
                self._encoder.ask()
            case asyncio.Event():  # all effects before it are executed
                effect.set()
            case model.Log(level, message):
                logger.log(logging.getLevelNamesMapping()[level.upper()], "%s", message)

    async def _upload(self, upload: SegmentUpload) -> None:
        try:
            self._handle(model.SegmentFinished(await self._segment_uploader.finish(upload)))
        except asyncio.CancelledError:  # the effect wakes the queue, which ends when no upload is under way
            self._queue([model.Log("info", f"{upload.segment.key} is left to the standby")])
            raise
        finally:
            self._under_way -= 1

    async def _spool_file(self, file: SourceFile | None, key: str, *, copy: bool) -> Path | None:
        """Add a file to the spool; None if that fails, and the file has to be read from the source."""
        if file is None:
            return None
        try:
            return await self._spool.add(file, key, copy=copy)
        except OSError as error:
            logger.warning("%s cannot be spooled (%s); it is read from the source", key, error.strerror)
            return None

    def _make_room(self) -> None:
        """Abandon the oldest segments while the spool is larger than its limit: they become gaps."""
        for upload in self._uploads.values():
            if self._spool.size <= self._spool.limit:
                return
            if upload.path and upload.abandoned is None:
                upload.abandoned = "was given up: the spool is full"
                self._spool.discard(upload.path)
                if upload.task:
                    upload.task.cancel()


class _Stopped(Exception):  # noqa: N818 - not an error: it ends the task group
    """The pipeline was asked to stop."""
