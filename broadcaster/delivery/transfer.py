"""What becomes of one segment: it is in the bucket in the end, or it is a gap."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import time
from dataclasses import replace
from pathlib import Path

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment, SourceFile
from broadcaster.delivery.in_flight import InFlight, VariantQueue
from broadcaster.delivery.spool import Spool
from broadcaster.delivery.uploader import Uploader
from broadcaster.errors import StorageRefused, is_final
from broadcaster.events import Observer, SegmentLost

logger = logging.getLogger(__name__)

OWN_FAULT_AFTER = 60.0  # seconds for which a file cannot be read while others are: what is wrong is its own


class Transfer:
    """Takes segments from the spool to the bucket."""

    def __init__(self, uploader: Uploader, spool: Spool, catalog: Catalog, observe: Observer) -> None:
        self._uploader = uploader
        self._spool = spool
        self._catalog = catalog
        self._observe = observe

    async def finish(self, queue: VariantQueue, flight: InFlight) -> Segment:
        """A segment ends up stored or lost, never in an exception that would stop the others."""
        if flight.segment.url:
            return flight.segment  # an earlier process came as far as that
        # Only from here on may it be cancelled to give it up: before, it would end without an answer.
        flight.upload = asyncio.current_task()
        segment = await self._store(queue, flight)
        flight.upload = None  # from here on it is too late to give it up
        if segment.fault:
            logger.error("%s %s; it is listed as a gap", segment.key, segment.fault)
            self._observe(SegmentLost(segment.variant, segment.name, segment.fault))
        map_key, newest = segment.map_key, queue.map_key
        segment = replace(
            segment,
            # Signed after the upload: the life of a URL must not pass while the segment waits for the bucket.
            url=await self._uploader.url(segment.key),
            map_url=await self._uploader.lasting_url(map_key) if map_key and not segment.gap else None,
            # A gap names no map, but keeps the run's one from being deleted: who needs it may follow.
            map_key=map_key or (newest[1] if newest and newest[0] == segment.run else None),
        )
        flight.stored = self._catalog.stored(segment)
        return segment

    async def _store(self, queue: VariantQueue, flight: InFlight) -> Segment:
        """The segment with what the bucket has of it in the end, or with why that is nothing."""
        segment = flight.segment
        fault = flight.abandoned or segment.fault
        alone_since = math.inf  # monotonic: others get through since then
        try:
            # What the bucket has and the catalog does not know would be nobody's after a kill.
            await flight.noticed
            while segment.file and not fault:
                try:
                    await self._store_map(queue, segment)
                    return await self._store_file(flight, segment.file)
                except OSError as error:
                    if is_final(error) or time.monotonic() - alone_since > OWN_FAULT_AFTER:
                        fault = f"cannot be read: {error.strerror}"
                    elif await self._uploader.wait_out(segment, error):
                        alone_since = min(alone_since, time.monotonic())
                    else:
                        alone_since = math.inf
        except StorageRefused as error:
            fault = f"is refused while others are taken: {error}"
        except asyncio.CancelledError:
            if flight.abandoned is None:
                raise
            fault = flight.abandoned
        return replace(segment, fault=fault)

    async def _store_map(self, queue: VariantQueue, segment: Segment) -> None:
        """Wait until the bucket has the segment's EXT-X-MAP; each is uploaded once per run."""
        key, file = segment.map_key, segment.map_file
        if key is None or file is None:
            return
        queue.map_key = (segment.run, key)
        if key not in queue.maps:
            queue.maps[key] = asyncio.create_task(self._put_map(segment, key, file))
        try:
            # One segment that is given up must not end the upload for the others.
            await asyncio.shield(queue.maps[key])
        except (OSError, StorageRefused):
            queue.maps.pop(key, None)  # the next segment tries again
            raise

    async def _put_map(self, segment: Segment, key: str, file: SourceFile) -> None:
        kept = self._spool.find(key)
        path = _bytes_of(file, kept)
        if path:
            await self._uploader.put(segment, key, path, look_first=True)
        elif not await self._uploader.holds(segment, key, file.size):
            raise FileNotFoundError(errno.ENOENT, "its EXT-X-MAP is gone")
        if kept:
            self._spool.drop(kept)

    async def _store_file(self, flight: InFlight, file: SourceFile) -> Segment:
        """Upload the bytes that were kept."""
        segment = flight.segment
        path = _bytes_of(file, flight.kept) if flight.recovered else flight.kept or _bytes_of(file, None)
        if path is None:  # an earlier process may have let go of it, and not have listed it
            if await self._uploader.holds(segment, segment.key, file.size):
                return replace(segment, size=file.size, uploaded=segment.noticed)
            raise FileNotFoundError(errno.ENOENT, "it is gone, or another one has its name")
        look_first = flight.recovered
        while True:
            before = _version(path)
            stored = await self._uploader.put(segment, segment.key, path, look_first=look_first)
            if _version(path) == before:
                return stored
            if flight.kept is None:
                raise FileNotFoundError(errno.ENOENT, "it was replaced before it could be kept")
            # A link shares its bytes with a writer that was not done, where no lease could tell.
            logger.warning("%s changed while it was uploaded; it is uploaded again", segment.key)
            look_first = False


def _bytes_of(file: SourceFile, kept: Path | None) -> Path | None:
    """Where its bytes are, whole: in the spool, unless a power cut took them; else in the source itself."""
    if kept and kept.stat().st_size == file.size:
        return kept
    return file.path if file.is_unchanged() else None


def _version(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
