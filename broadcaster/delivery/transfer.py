"""What becomes of one segment: it is in the bucket in the end, or it is a gap."""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import replace

from broadcaster.catalog.memory import Publication
from broadcaster.catalog.records import Segment, SourceFile
from broadcaster.delivery.lane import Lane, Waiting, map_key_of
from broadcaster.delivery.neighbours import Keeper
from broadcaster.delivery.uploader import Stored, Uploader
from broadcaster.events import Observer, SegmentLost
from broadcaster.hls import MediaSegment

logger = logging.getLogger(__name__)


class Transfer:
    """Takes segments to the bucket; every object key begins with ``prefix``."""

    def __init__(self, uploader: Uploader, spool: Keeper, observe: Observer, prefix: str) -> None:
        self._uploader = uploader
        self._spool = spool
        self._observe = observe
        self._prefix = prefix

    def folder(self, segment: Segment) -> str:
        """Where the objects of the segment's variant and run are."""
        return f"{self._prefix}/{segment.run.id}/{segment.variant}"

    async def publication(self, lane: Lane, waiting: Waiting) -> Publication:
        """A segment ends up in the bucket or lost, never in an exception that would stop the others."""
        # Only from here on may it be cancelled to give it up: before, it would end without an answer.
        waiting.upload = asyncio.current_task()
        segment = waiting.segment
        stored, fault = await self._upload(lane, waiting)
        waiting.upload = None  # from here on it is too late to give it up
        if fault:
            logger.error("%s %s; it is listed as a gap", waiting.key, fault)
            self._observe(SegmentLost(segment.variant, segment.name, fault))
        map_key = map_key_of(segment, waiting.key)
        # Signed after the upload: the life of a URL must not pass while the segment waits for the bucket.
        map_uri = await self._uploader.lasting_url(map_key) if map_key and not fault else None
        return Publication(
            variant=segment.variant,
            run=segment.run,
            key=waiting.key,
            segment=MediaSegment(
                uri=await self._uploader.url(waiting.key),
                duration=segment.duration,
                map_uri=map_uri,
                program_date_time=segment.program_date_time,
                gap=bool(fault),
            ),
            independent=segment.independent,
            target_duration=segment.target_duration,
            completed=None if fault or not segment.file else segment.file.modified,
            size=stored.size if stored else 0,
            # A gap names no map, but keeps the run's one from being deleted: who needs it may follow.
            map_key=map_key or (lane.map_key[1] if lane.map_key and lane.map_key[0] == segment.run else None),
            noticed=segment.noticed,
            uploaded=stored.at if stored else None,
            sha256=stored.sha256 if stored else None,
        )

    async def _upload(self, lane: Lane, waiting: Waiting) -> tuple[Stored | None, str | None]:
        """What the bucket has in the end, or why that is nothing."""
        file, fault = waiting.segment.file, waiting.abandoned or waiting.segment.fault
        if file is None or fault:
            return None, fault
        try:
            await self._upload_map(lane, waiting)
            return await self._upload_file(waiting, file), None
        except OSError as error:
            return None, f"cannot be read: {error.strerror}"
        except asyncio.CancelledError:
            if waiting.abandoned is None:
                raise
            return None, waiting.abandoned

    async def _upload_map(self, lane: Lane, waiting: Waiting) -> None:
        """Wait until the bucket has the segment's EXT-X-MAP; each is uploaded once per run."""
        segment, key = waiting.segment, map_key_of(waiting.segment, waiting.key)
        if key is None or segment.map_file is None:
            return
        lane.map_key = (segment.run, key)
        if key not in lane.maps:
            lane.maps[key] = asyncio.create_task(self._put_map(segment, key, segment.map_file))
        try:
            # One segment that is given up must not end the upload for the others.
            await asyncio.shield(lane.maps[key])
        except OSError:
            lane.maps.pop(key, None)  # the next segment tries again
            raise

    async def _put_map(self, segment: Segment, key: str, file: SourceFile) -> None:
        kept = self._spool.find(key)
        try:
            await self._uploader.put(segment, key, kept or file.path, look_first=True)
        except OSError:
            if not await self._uploader.holds(segment, key, file.size):
                raise
        if kept:
            self._spool.drop(kept)

    async def _upload_file(self, waiting: Waiting, file: SourceFile) -> Stored:
        """Upload until what the bucket has is what the source has."""
        kept = waiting.kept
        if kept is None:  # an earlier process had let go of it, but had not listed it
            if await self._uploader.holds(waiting.segment, waiting.key, file.size):
                return Stored(file.size, waiting.segment.noticed)
            raise FileNotFoundError(errno.ENOENT, "it went with its process")
        while True:
            recovered, waiting.recovered = waiting.recovered, False
            stored = await self._uploader.put(waiting.segment, waiting.key, kept, look_first=recovered)
            now = changed(file)
            if now is None:
                return stored
            logger.warning("%s changed while it was uploaded; it is uploaded again", waiting.key)
            file = now
            if waiting.spooled:
                kept = await self._spool.keep(
                    file.path, waiting.key, copy=not waiting.segment.run.has_encoder_id
                )


def changed(file: SourceFile) -> SourceFile | None:
    """The file as it is now if it was written on; None also when it is gone, or replaced by another file."""
    try:
        status = file.path.stat()
    except OSError:
        return None
    if file.inode not in (0, status.st_ino):
        return None
    now = replace(file, size=status.st_size, modified_ns=status.st_mtime_ns)
    return None if now == file else now
