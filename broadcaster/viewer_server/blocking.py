"""Blocking playlist reload (§6.2.5.2): requests that wait for a version that is not there yet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

from aiohttp import web

from broadcaster.hls import BlockingReloadResult
from broadcaster.metrics import Metric
from broadcaster.viewer_server.snapshots import Snapshot

PATIENCE_TARGET_DURATIONS = 3  # then 503 (§6.2.5.2)
MAX_PATIENCE = 90.0  # seconds; Cloudflare's tunnel cuts a connection that is silent for 100


class BlockRefused(Exception):  # noqa: N818 - no error: an answer
    """There was no place, or what was waited for did not come; says why.

    A cache may answer others so for ``max_age`` seconds.
    """

    max_age: int | None = None


class BlockTimeout(BlockRefused):
    """It did not come in time, for anybody.

    A cache holds back those who ask for the same: unless it may answer them too, each would then wait in vain
    in turn. The segment may come at once, so it is for a second only.
    """

    max_age = 1


class BlockingReloadQueue:
    """Holds up to ``places`` requests. ``observe`` is told how many seconds after a publication each wakes.

    ``occupied`` and ``refused`` are how many wait now, and how many found no place.
    """

    def __init__(self, places: int, observe: Callable[[float], None], clock: Callable[[], datetime]) -> None:
        self.occupied = 0
        self.refused = 0
        self._places = places
        self._observe = observe
        self._clock = clock
        self._awaited: Counter[Snapshot] = Counter()
        self._closing = False

    def metrics(self) -> Iterator[Metric]:
        """How full it is."""
        yield Metric("waiters", "Blocked requests that wait now", self.occupied)
        text = "Blocked requests that found no place"
        yield Metric("waiters_refused", text, self.refused, is_counter=True)

    async def newer(self, current: Callable[[], Snapshot | None], media_sequence: int) -> Snapshot | None:
        """Wait for a version with this media sequence number, or for the end of the stream.

        Returns None when the playlist is gone; raises BlockRefused. Cancelled when the client leaves.
        """
        if self._closing or self.occupied >= self._places:
            self.refused += 1
            raise BlockRefused("The service stops" if self._closing else "Too many are waiting")
        version = current()
        patience = PATIENCE_TARGET_DURATIONS * version.target_duration if version else 0
        self.occupied += 1
        try:
            async with asyncio.timeout(min(patience, MAX_PATIENCE)):
                while version and version.reload(media_sequence) is BlockingReloadResult.PENDING:
                    await self._superseded(version)
                    if self._closing:
                        raise BlockRefused("The service stops")
                    version = current()
        except TimeoutError:
            raise BlockTimeout("No new segment has come in time") from None
        finally:
            self.occupied -= 1
        if version:
            self._observe((self._clock() - version.modified).total_seconds())
        return version

    async def close(self, _: web.Application | None = None) -> None:
        """Let everybody go: the service stops."""
        self._closing = True
        for version in self._awaited:
            version.superseded.set()

    async def _superseded(self, version: Snapshot) -> None:
        self._awaited[version] += 1
        try:
            await version.superseded.wait()
        finally:
            self._awaited[version] -= 1
            if not self._awaited[version]:
                del self._awaited[version]
