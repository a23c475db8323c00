"""Keeps the order and decides what becomes of a segment.

Uploads run in parallel; each variant's segments are published in order. The encoder cannot be slowed,
so nothing here ever makes the source wait: what cannot be uploaded yet waits in the spool. When that
is full, the oldest become gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
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
from broadcaster.pipeline.lane import Lane, Waiting
from broadcaster.pipeline.uploader import Uploader
from broadcaster.playlist import Segment

logger = logging.getLogger(__name__)

TICK = 0.5  # seconds
LATE = 10.0  # seconds on the way after which a segment does not get through
LATE_TARGET_DURATIONS = 3


class SegmentSource(Protocol):
    """Where segments come from."""

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled."""


class Keeper(Protocol):
    """Where segments wait."""

    @property
    def size(self) -> int:
        """Bytes that wait."""

    @property
    def limit(self) -> int:
        """Bytes that may wait."""

    async def keep(self, file: Path, key: str) -> Path:
        """Hold on to a file; raises OSError."""

    def drop(self, kept: Path) -> None:
        """Let go of it."""


class Notebook(Protocol):
    """Where it is written down what is on its way."""

    def discovered(self, segment: SourceSegment, key: str) -> None:
        """A segment is on its way under this key."""

    def save(self) -> None:
        """Try again to write what could not be written."""


class Pipeline:
    """Takes what the source reports to the channel, by way of the bucket.

    ``prefix`` begins every object key; ``end_grace`` is how many seconds without a new segment end the
    stream for viewers.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        uploader: Uploader,
        spool: Keeper,
        notebook: Notebook,
        channel: Channel,
        observe: Observer,
        *,
        prefix: str,
        end_grace: float,
    ) -> None:
        self.last_tick = time.monotonic()
        self._uploader = uploader
        self._spool = spool
        self._notebook = notebook
        self._channel = channel
        self._observe = observe
        self._prefix = prefix
        self._end_grace = end_grace
        self._group = asyncio.TaskGroup()
        self._lanes: dict[str, Lane] = {}
        self._keys: dict[str, list[str]] = {}
        self._on_the_way: dict[str, Waiting] = {}  # by object key, oldest first
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_segment = time.monotonic()
        self._source_ended = False
        self._source_wiped = False

    def resume(
        self,
        pending: Iterable[tuple[SourceSegment, str]],
        spooled: dict[str, Path],
        keys: dict[str, list[str]],
    ) -> None:
        """Take up, before ``run``, what an earlier process had on its way.

        ``spooled`` is what the spool still has, by key; ``keys`` are those used before, by variant.
        """
        self._keys = keys
        for segment, key in pending:
            kept = spooled.get(key)
            if (
                segment.file
                and kept is None
                and _changed(segment.file) is None
                and segment.file.path.is_file()
            ):
                kept = segment.file.path
            fault = segment.fault or ("was lost with its process" if kept is None else None)
            waiting = Waiting(
                segment if kept else replace(segment, file=None, fault=fault),
                key,
                kept,
                spooled=key in spooled,
                since=time.monotonic(),
                recovered=True,
            )
            self._on_the_way[key] = waiting
        if self._on_the_way:
            self._idle.clear()
            logger.info("%d segments were on their way and go on", len(self._on_the_way))

    async def run(self, source: SegmentSource, stop: asyncio.Event, drain: float) -> None:
        """Work until ``stop``, then finish what is on its way for at most ``drain`` seconds.

        An exception here means that ingest is dead.
        """
        try:
            async with self._group as group:
                for waiting in self._on_the_way.values():
                    self._lane(waiting.segment.variant).waiting.put_nowait(waiting)
                following = group.create_task(source.run(self._accept), name="source")
                while not stop.is_set():
                    self._tick(time.monotonic())
                    await _wait_for(stop, TICK)
                following.cancel()
                await _wait_for(self._idle, drain)
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
        """Why the stream that is on does not get through; None while it does, or while none is on."""
        if not self._on_the_way:
            return None
        waited = time.monotonic() - next(iter(self._on_the_way.values())).since
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
        lane = self._lane(segment.variant)
        key = lane.key(f"{self._prefix}/{segment.run.id}/{segment.variant}", segment.name)
        self._observe(SegmentDiscovered(segment.variant, segment.name))
        kept = segment.file.path if segment.file else None
        spooled = False
        if kept:
            try:
                kept, spooled = await self._spool.keep(kept, key), True
            except OSError as error:
                logger.warning("%s cannot be spooled (%s); it is read from the source", key, error.strerror)
        self._notebook.discovered(segment, key)
        waiting = Waiting(segment, key, kept, spooled, time.monotonic())
        self._on_the_way[key] = waiting
        self._idle.clear()
        lane.waiting.put_nowait(waiting)
        self._make_room()

    def _make_room(self) -> None:
        """The spool has a limit: past it the oldest are given up, and become gaps in their places."""
        if self._spool.size <= self._spool.limit:
            return
        for waiting in self._on_the_way.values():
            if self._spool.size <= self._spool.limit:
                return
            if waiting.spooled and waiting.kept and waiting.abandoned is None:
                waiting.abandoned = "was given up: the spool is full"
                self._spool.drop(waiting.kept)
                if waiting.upload:
                    waiting.upload.cancel()

    def _lane(self, variant: str) -> Lane:
        lane = self._lanes.get(variant)
        if lane is None:
            lane = self._lanes[variant] = Lane(self._keys.pop(variant, ()))
            self._group.create_task(self._start_uploads(lane), name=f"uploads of {variant}")
            self._group.create_task(self._publish(lane), name=f"publication of {variant}")
        return lane

    async def _start_uploads(self, lane: Lane) -> None:
        while True:
            waiting = await lane.waiting.get()
            waiting.upload = self._group.create_task(self._upload(lane, waiting), name=waiting.key)
            await lane.uploads.put((waiting, waiting.upload))

    async def _publish(self, lane: Lane) -> None:
        while True:
            waiting, upload = await lane.uploads.get()
            publication = await upload
            del self._on_the_way[waiting.key]
            self._channel.publish(publication)
            if waiting.kept and waiting.spooled:
                self._spool.drop(waiting.kept)
            if not self._on_the_way:
                self._idle.set()

    async def _upload(self, lane: Lane, waiting: Waiting) -> Publication:
        """A segment ends up in the bucket or lost, never in an exception that would stop the others."""
        segment = waiting.segment
        size, fault = 0, waiting.abandoned or segment.fault
        if segment.file and waiting.kept and not fault:
            try:
                await self._upload_map(lane, segment)
                size = await self._upload_file(waiting, segment.file, waiting.kept)
            except OSError as error:
                fault = f"cannot be read: {error.strerror}"
            except asyncio.CancelledError:
                if waiting.abandoned is None:
                    raise
                fault = waiting.abandoned
        if fault:
            logger.error("%s %s; it is listed as a gap", waiting.key, fault)
            self._observe(SegmentLost(segment.variant, segment.name, fault))
        map_key = self._map_key(segment) if size else None
        return Publication(
            variant=segment.variant,
            run=segment.run,
            key=waiting.key,
            segment=Segment(
                uri=self._uploader.url(waiting.key),
                duration=segment.duration,
                map_uri=self._uploader.url(map_key) if map_key else None,
                program_date_time=segment.program_date_time,
                gap=bool(fault),
            ),
            independent=segment.independent,
            target_duration=segment.target_duration,
            completed=None if fault or not segment.file else segment.file.modified,
            size=size,
            map_key=map_key,
        )

    def _map_key(self, segment: SourceSegment) -> str | None:
        """The object of the segment's EXT-X-MAP."""
        name = segment.map_file and segment.map_file.name
        return f"{self._prefix}/{segment.run.id}/{segment.variant}/{name}" if name else None

    async def _upload_map(self, lane: Lane, segment: SourceSegment) -> None:
        """Wait until the bucket has the segment's EXT-X-MAP; each is uploaded once per run."""
        key = self._map_key(segment)
        if key is None or segment.map_file is None:
            return
        if key not in lane.maps:
            upload = self._uploader.put(segment.variant, key, segment.map_file.path, look_first=True)
            lane.maps[key] = self._group.create_task(upload, name=key)
        await asyncio.shield(lane.maps[key])  # one segment that is given up must not end it for the others

    async def _upload_file(self, waiting: Waiting, file: SourceFile, kept: Path) -> int:
        """Upload until what the bucket has is what the source has; returns the size in bytes."""
        while True:
            recovered, waiting.recovered = waiting.recovered, False
            size = await self._uploader.put(waiting.segment.variant, waiting.key, kept, look_first=recovered)
            changed = _changed(file)
            if changed is None:
                return size
            logger.warning("%s changed while it was uploaded; it is uploaded again", waiting.key)
            file = changed
            if waiting.spooled:
                kept = await self._spool.keep(file.path, waiting.key)

    def _tick(self, now: float) -> None:
        self.last_tick = now
        self._notebook.save()
        self._channel.tick(now)
        if self._on_the_way or self._channel.state not in (State.STARTING, State.LIVE):
            return
        if self._source_wiped or now - self._last_segment > self._end_grace:
            self._channel.end()


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class _Stopped(Exception):  # noqa: N818 - no error: it ends the task group from inside
    """The pipeline was asked to stop."""


def _changed(file: SourceFile) -> SourceFile | None:
    """The file as it is now if it is another than it was; None also when it is gone."""
    try:
        status = file.path.stat()
    except OSError:
        return None
    now = SourceFile(file.name, file.path, status.st_size, status.st_mtime_ns)
    return None if now == file else now
