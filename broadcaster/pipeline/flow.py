"""The way of a segment: discovered → spooled → uploaded → published.

Uploads run in parallel; each variant's segments are published in order. The encoder cannot be slowed,
so nothing here ever makes the source wait: what cannot be uploaded yet waits in the spool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from broadcaster.channel import Channel, Publication, State
from broadcaster.discovery import (
    SourceEnded,
    SourceEvent,
    SourceFile,
    SourceSegment,
    SourceWiped,
    VariantsListed,
)
from broadcaster.events import Observer, SegmentDiscovered, SegmentLost
from broadcaster.pipeline.uploader import Uploader
from broadcaster.playlist import Segment

logger = logging.getLogger(__name__)

PARALLEL_UPLOADS_PER_VARIANT = 8
TICK = 0.5  # seconds
LATE = 10.0  # seconds on the way after which a segment does not get through
LATE_TARGET_DURATIONS = 3
REMEMBERED_KEYS = 4096  # more than any writer's cycle of names


class SegmentSource(Protocol):
    """Where segments come from."""

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled."""


class Keeper(Protocol):
    """Where segments wait."""

    async def keep(self, file: Path, key: str) -> Path:
        """Hold on to a file; raises OSError."""

    def drop(self, kept: Path) -> None:
        """Let go of it."""


@dataclass(slots=True)
class _Waiting:
    """A segment on its way. ``kept`` is None for a gap."""

    segment: SourceSegment
    key: str
    kept: Path | None
    spooled: bool  # ``kept`` is ours to drop; else it is the source's own file


class _Lane:
    """The order of one variant: what is to be uploaded, and the uploads in flight."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        # A queue of tasks: its bound is the parallelism, its order the order of publication.
        self.uploads: asyncio.Queue[tuple[_Waiting, asyncio.Task[Publication]]] = asyncio.Queue(
            PARALLEL_UPLOADS_PER_VARIANT
        )
        self.maps: dict[str, asyncio.Task[int]] = {}  # object key → upload of an EXT-X-MAP
        self.keys: dict[str, None] = {}  # the latest, in order

    def key(self, folder: str, name: str) -> str:
        """An object key that was not used before, even when a writer reuses its names in turn."""
        key = f"{folder}/{name}"
        repeats = 1
        while key in self.keys:
            repeats += 1
            key = f"{folder}/{repeats}-{name}"
        self.keys[key] = None
        if len(self.keys) > REMEMBERED_KEYS:
            del self.keys[next(iter(self.keys))]
        return key


class Pipeline:
    """Takes what the source reports to the channel, by way of the bucket.

    ``prefix`` begins every object key; ``end_grace`` is how many seconds without a new segment end the
    stream for viewers.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        uploader: Uploader,
        spool: Keeper,
        channel: Channel,
        observe: Observer,
        *,
        prefix: str,
        end_grace: float,
    ) -> None:
        self._uploader = uploader
        self._spool = spool
        self._channel = channel
        self._observe = observe
        self._prefix = prefix
        self._end_grace = end_grace
        self._group = asyncio.TaskGroup()
        self._lanes: dict[str, _Lane] = {}
        self._on_the_way: dict[str, float] = {}  # object key → since when (monotonic), oldest first
        self._last_segment = time.monotonic()
        self._last_logged = 0.0
        self._source_ended = False
        self._source_wiped = False

    async def run(self, source: SegmentSource) -> None:
        """Work until cancelled; an exception here means that ingest is dead."""
        async with self._group as group:
            group.create_task(source.run(self._accept), name="source")
            while True:
                self._tick(time.monotonic())
                await asyncio.sleep(TICK)

    @property
    def backlog(self) -> int:
        """Segments that the source has finished and viewers cannot see yet."""
        return len(self._on_the_way)

    @property
    def trouble(self) -> str | None:
        """Why the stream that is on does not get through; None while it does, or while none is on."""
        if not self._on_the_way:
            return None
        waited = time.monotonic() - next(iter(self._on_the_way.values()))
        late = waited > max(LATE, LATE_TARGET_DURATIONS * (self._channel.target_duration or 0))
        fault = self._uploader.fault
        if fault and (late or fault.permanent):
            return f"since {fault.since:%Y-%m-%dT%H:%M:%SZ}: {fault.message}"
        return f"a segment has been on its way for {waited:.0f} s" if late else None

    async def _accept(self, event: SourceEvent) -> None:
        match event:
            case SourceSegment():
                await self._discover(event)
            case VariantsListed():
                self._channel.list_variants(event)
            case SourceEnded():
                self._source_ended = True
            case SourceWiped():
                # Wiped in the middle of a stream, it may go on; wiped after its end, it will not.
                self._source_wiped = self._source_ended

    async def _discover(self, segment: SourceSegment) -> None:
        self._last_segment = time.monotonic()
        self._source_ended = self._source_wiped = False
        lane = self._lanes.get(segment.variant) or self._open_lane(segment.variant)
        key = lane.key(f"{self._prefix}/{segment.run.id}/{segment.variant}", segment.name)
        self._observe(SegmentDiscovered(segment.variant, segment.name))
        kept = segment.file.path if segment.file else None
        spooled = False
        if kept:
            try:
                kept, spooled = await self._spool.keep(kept, key), True
            except OSError as error:
                logger.warning("%s cannot be spooled (%s); it is read from the source", key, error.strerror)
        self._on_the_way[key] = time.monotonic()
        lane.waiting.put_nowait(_Waiting(segment, key, kept, spooled))

    def _open_lane(self, variant: str) -> _Lane:
        lane = self._lanes[variant] = _Lane()
        self._group.create_task(self._start_uploads(lane), name=f"uploads of {variant}")
        self._group.create_task(self._publish(lane), name=f"publication of {variant}")
        return lane

    async def _start_uploads(self, lane: _Lane) -> None:
        while True:
            waiting = await lane.waiting.get()
            upload = self._group.create_task(self._upload(lane, waiting), name=waiting.key)
            await lane.uploads.put((waiting, upload))

    async def _publish(self, lane: _Lane) -> None:
        while True:
            waiting, upload = await lane.uploads.get()
            publication = await upload
            del self._on_the_way[waiting.key]
            self._channel.publish(publication)
            if waiting.kept and waiting.spooled:
                self._spool.drop(waiting.kept)

    async def _upload(self, lane: _Lane, waiting: _Waiting) -> Publication:
        """A segment ends up in the bucket or lost, never in an exception that would stop the others."""
        segment = waiting.segment
        map_url = None
        size = 0
        fault = segment.fault
        if segment.file and waiting.kept:
            try:
                map_url = await self._upload_map(lane, segment)
                size = await self._upload_file(waiting, segment.file, waiting.kept)
            except OSError as error:
                fault = f"cannot be read: {error.strerror}"
                logger.error("%s %s; it is listed as a gap", waiting.key, fault)
        if fault:
            self._observe(SegmentLost(segment.variant, segment.name, fault))
        return Publication(
            variant=segment.variant,
            run=segment.run,
            segment=Segment(
                uri=self._uploader.url(waiting.key),
                duration=segment.duration,
                map_uri=map_url,
                program_date_time=segment.program_date_time,
                gap=bool(fault),
            ),
            independent=segment.independent,
            target_duration=segment.target_duration,
            completed=None if fault or not segment.file else segment.file.modified,
            size=size,
        )

    async def _upload_map(self, lane: _Lane, segment: SourceSegment) -> str | None:
        """The URL of the segment's EXT-X-MAP once the bucket has it; each is uploaded once per run."""
        if segment.map_file is None:
            return None
        key = f"{self._prefix}/{segment.run.id}/{segment.variant}/{segment.map_file.name}"
        if key not in lane.maps:
            path = segment.map_file.path
            lane.maps[key] = self._group.create_task(self._uploader.put(segment.variant, key, path))
        await lane.maps[key]
        return self._uploader.url(key)

    async def _upload_file(self, waiting: _Waiting, file: SourceFile, kept: Path) -> int:
        """Upload until what the bucket has is what the source has; returns the size in bytes."""
        while True:
            size = await self._uploader.put(waiting.segment.variant, waiting.key, kept)
            changed = _changed(file)
            if changed is None:
                return size
            logger.warning("%s changed while it was uploaded; it is uploaded again", waiting.key)
            file = changed
            if waiting.spooled:
                kept = await self._spool.keep(file.path, waiting.key)

    def _tick(self, now: float) -> None:
        self._channel.tick(now)
        if self._on_the_way or self._channel.state not in (State.STARTING, State.LIVE):
            return
        if self._source_wiped or now - self._last_segment > self._end_grace:
            self._channel.end()


def _changed(file: SourceFile) -> SourceFile | None:
    """The file as it is now if it is another than it was; None also when it is gone."""
    try:
        status = file.path.stat()
    except OSError:
        return None
    now = SourceFile(file.name, file.path, status.st_size, status.st_mtime_ns)
    return None if now == file else now
