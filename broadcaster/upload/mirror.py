"""Copies every version of the live playlists to the bucket, so that players can do without the service.

The keys, ``{prefix}/playlist.m3u8`` and ``{prefix}/{variant}/playlist.m3u8``, follow the service's paths, as
does the key of the I-frame playlist. A copy refers only to objects in the bucket: segments are listed after
their upload, and the multivariant playlist is written after the media playlists that it names.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from broadcaster.aio import Retrying, Signal
from broadcaster.bucket import ObjectStore
from broadcaster.bucket.conditional import ConditionalWriter
from broadcaster.errors import NotLeading, Problem, StorageError
from broadcaster.events import Event, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, ServerControl
from broadcaster.ipc.messages import AnyVersion, View
from broadcaster.stream.playlists import IFRAMES, PLAYLIST

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two writes of the same key: R2 allows no more (429)
MAX_PAUSE = 15.0  # seconds between two attempts
MIN_DEADLINE, MAX_DEADLINE = 5.0, 30.0  # seconds for one attempt; grows, so that a slow link gets through
MAX_DOUBLINGS = 8  # of the pause and of the deadline
FLUSH = 5.0  # seconds that the end of the service waits for the newest versions


@dataclasses.dataclass(slots=True, eq=False)
class _Copy:
    """One playlist in the bucket, and the version of it that was stored."""

    name: str  # below the prefix
    key: str
    stored: MediaPlaylist | MultivariantPlaylist | None = None  # by this process, and confirmed
    failures: int = 0  # in a row
    not_before: float = 0  # monotonic: when the next write may be made
    task: asyncio.Task[None] | None = None


class Mirror:
    """Keeps the playlists in the bucket equal to those of ``view``. Call it with each event; ``run`` writes.

    Each key has at most one write at a time and one per second, always of the newest version. Writes are
    conditional: a delayed request never overwrites a newer version.
    """

    def __init__(  # noqa: PLR0913 - all parts that it connects
        self,
        store: ObjectStore,
        view: Callable[[], View],
        prefix: str,
        *,
        wall: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.writes = 0
        self.failures = 0
        self._objects = ConditionalWriter(store)
        self._view = view
        self._prefix = prefix
        self._clock = clock
        self._sleep = sleep
        self._retrying = Retrying("writes of playlists", wall, sleep)
        self._copies: dict[str, _Copy] = {}  # by name
        self._changed = Signal()  # new versions of viewers, or stored copies

    def __call__(self, event: Event) -> None:
        """Handle an event after which there may be new versions."""
        if isinstance(event, SegmentPublished | StreamStarted | StreamEnded):
            self._changed.notify()

    async def run(self) -> None:
        """Write until cancelled."""
        for copy in self._copies.values():
            copy.task = None  # of a failed run
        async with asyncio.TaskGroup() as group:
            while True:
                changed = self._changed.next()
                for copy in self._all():
                    if copy.task is None:
                        copy.task = group.create_task(self._keep_up(copy), name=copy.key)
                await changed.wait()

    @property
    def fault(self) -> Problem | None:
        """The current error of writes, None where there is none."""
        return self._retrying.problem

    @property
    def behind(self) -> int:
        """Number of playlists whose newest version is not in the bucket."""
        return sum(not self._is_current(copy) for copy in self._all())

    async def flush(self, seconds: float = FLUSH) -> None:
        """Wait until the bucket has the newest versions, for ``seconds`` at most."""
        try:
            async with asyncio.timeout(seconds):
                while self.behind:
                    await self._changed.next().wait()
        except TimeoutError:
            logger.warning("%d playlists in the bucket are out of date until the next start", self.behind)

    def _all(self) -> list[_Copy]:
        for name in _served(self._view()):
            if name not in self._copies:
                self._copies[name] = _Copy(name, f"{self._prefix}/{name}")
        return list(self._copies.values())

    def _wanted(self, copy: _Copy) -> AnyVersion | None:
        """The newest version; None for a playlist that the current stream does not have."""
        return _served(self._view()).get(copy.name)

    def _is_current(self, copy: _Copy) -> bool:
        wanted = self._wanted(copy)
        return copy.stored == (wanted.playlist if wanted else None)

    def _is_due(self, copy: _Copy) -> bool:
        """Whether to write or delete now: a playlist must exist as long as another one refers to it."""
        if self._is_current(copy):
            return False
        wanted = self._wanted(copy)
        if wanted is None:
            return self._is_current(self._copies[PLAYLIST])
        if isinstance(wanted.playlist, MultivariantPlaylist):
            names = _served(self._view()).keys() - {PLAYLIST}
            return all(media and media.stored for media in map(self._copies.get, names))
        return True

    async def _keep_up(self, copy: _Copy) -> None:
        """Write all versions of one playlist until cancelled."""
        while True:
            changed = self._changed.next()
            while self._is_due(copy):
                if copy.failures:
                    await self._retrying.pause(min(INTERVAL * 2**copy.failures, MAX_PAUSE))
                await self._sleep(max(copy.not_before - self._clock(), 0))
                await self._attempt(copy)
            await changed.wait()

    async def _attempt(self, copy: _Copy) -> None:
        deadline = min(MIN_DEADLINE * 2**copy.failures, MAX_DEADLINE)
        try:
            await self._objects.look_up(copy.key, deadline=deadline)
            await self._write(copy, deadline)
        except NotLeading:
            copy.failures = 1  # a pause, and no fault
        except StorageError as error:
            copy.failures = min(copy.failures + 1, MAX_DOUBLINGS)
            self.failures += 1
            self._retrying.failed(error)
        else:
            if copy.failures:
                copy.failures = 0
                self._retrying.worked(over=not any(other.failures for other in self._copies.values()))
            self._changed.notify()  # the multivariant playlist may wait for this copy
        copy.not_before = self._clock() + INTERVAL

    async def _write(self, copy: _Copy, deadline: float) -> None:
        if not self._is_due(copy):
            return  # no longer, after the look-up
        wanted = self._wanted(copy)
        if wanted is None:
            await self._objects.delete(copy.key, deadline=deadline)
        else:
            text = _text(wanted.playlist, iframes=copy.name.endswith(IFRAMES))
            max_age = max(1, wanted.target_duration // 2)  # appendix B.1
            await self._objects.put(copy.key, text, max_age, deadline=deadline)
            self.writes += 1
        copy.stored = wanted.playlist if wanted else None


def _served(view: View) -> dict[str, AnyVersion]:
    """The playlists of the current stream by their names."""
    if view.main is None:
        return {}
    main = view.main.playlist
    served: dict[str, AnyVersion] = {f"{name}/{PLAYLIST}": media for name, media in view.playlists.items()}
    served[PLAYLIST] = view.main
    if isinstance(main, MediaPlaylist):
        return served | ({IFRAMES: view.main} if main.has_iframes else {})
    name = main.iframes.uri if main.iframes else ""
    media = view.playlists.get(name.removesuffix(f"/{IFRAMES}"))
    return served | ({name: media} if media else {})


def _text(playlist: MediaPlaylist | MultivariantPlaylist, *, iframes: bool) -> bytes:
    """The playlist without blocking reload and delta updates, which a bucket cannot serve."""
    if isinstance(playlist, MediaPlaylist) and iframes:
        return playlist.render_iframes().encode()
    if isinstance(playlist, MediaPlaylist) and playlist.server_control:
        control = ServerControl(hold_back=playlist.server_control.hold_back)
        playlist = dataclasses.replace(playlist, server_control=control)
    return playlist.render().encode()
