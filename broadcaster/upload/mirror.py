"""Writes every version of the playlists into the bucket too, so that viewers need not ask the service at all.

Their keys, ``{prefix}/playlist.m3u8`` and ``{prefix}/{variant}/playlist.m3u8``, are like the service's paths,
as is that of the one I-frame playlist. What is written names only what is there: segments, which are listed
after their upload, and, in the multivariant playlist, playlists that the bucket has confirmed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from broadcaster.aio import Retrying
from broadcaster.errors import StorageError, StorageUnavailable
from broadcaster.events import Event, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, ServerControl
from broadcaster.ipc import AnyVersion, View
from broadcaster.stream.multivariant_builder import IFRAMES, PLAYLIST

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two writes of one key: R2 takes no more (429)
MAX_PAUSE = 15.0  # seconds between two attempts
MIN_DEADLINE, MAX_DEADLINE = 5.0, 30.0  # seconds for one attempt; grows, so that a slow link gets through
MAX_DOUBLINGS = 8  # of the pause and of the deadline
FLUSH = 5.0  # seconds that the end of the service waits for the newest versions


class PlaylistStore(Protocol):
    """Where the copies go. Everything raises StorageError; ``deadline`` is in seconds."""

    async def etag(self, key: str, *, deadline: float) -> str | None:
        """The ETag of an object, None when there is none."""

    async def replace(
        self, key: str, body: bytes, *, etag: str | None, max_age: int, deadline: float
    ) -> str | None:
        """Store an object in the place of the one with this ETag, or of none.

        Returns its own ETag, None when something else is in that place.
        """

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete objects."""


@dataclasses.dataclass(slots=True, eq=False)
class _Copy:
    """What the bucket has under one key, as far as we know."""

    name: str  # below the prefix
    key: str
    stored: MediaPlaylist | MultivariantPlaylist | None = None  # by this process, and confirmed
    etag: str | None = None  # None: nothing is there
    etag_known: bool = False  # not before the first write, and not after one whose fate is unknown
    failures: int = 0  # in a row
    not_before: float = 0  # monotonic: when the next write may be made
    task: asyncio.Task[None] | None = None


class Mirror:
    """Keeps the bucket's playlists as ``view`` has them. Call it with each event, and let ``run`` work.

    Per key there is one write at a time, at most one a second, and always of the newest version. A write that
    was given up may still reach the bucket later. So each is made on the condition that nothing has changed
    there since our last look: an older version never takes the place of a newer one.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        store: PlaylistStore,
        view: Callable[[], View],
        prefix: str,
        *,
        wall: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.writes = 0
        self.failures = 0
        self._store = store
        self._view = view
        self._prefix = prefix
        self._clock = clock
        self._sleep = sleep
        self._retrying = Retrying("writes of playlists", wall, sleep)
        self._copies: dict[str, _Copy] = {}  # by name
        self._news = asyncio.Event()  # of viewers, or of the bucket; each time another one

    def __call__(self, event: Event) -> None:
        """Take note of an event: there may be new versions."""
        if isinstance(event, SegmentPublished | StreamStarted | StreamEnded):
            self._tell()

    async def run(self) -> None:
        """Write until cancelled; first what an earlier process has left."""
        for copy in self._copies.values():
            copy.task = None  # of a run that has failed
        async with asyncio.TaskGroup() as group:
            while True:
                news = self._news
                for copy in self._all():
                    if copy.task is None:
                        copy.task = group.create_task(self._keep_up(copy), name=copy.key)
                await news.wait()

    @property
    def fault(self) -> str | None:
        """Why playlists cannot be written at the moment."""
        return self._retrying.fault.message if self._retrying.fault else None

    @property
    def behind(self) -> int:
        """How many playlists the bucket does not have in their newest version."""
        return sum(not self._is_current(copy) for copy in self._all())

    async def flush(self, seconds: float = FLUSH) -> None:
        """Wait, no longer than that, until the bucket has the newest versions."""
        try:
            async with asyncio.timeout(seconds):
                while self.behind:
                    await self._news.wait()
        except TimeoutError:
            logger.warning("%d playlists in the bucket are out of date until the next start", self.behind)

    def _all(self) -> list[_Copy]:
        for name in _served(self._view()):
            if name not in self._copies:
                self._copies[name] = _Copy(name, f"{self._prefix}/{name}")
        return list(self._copies.values())

    def _wanted(self, copy: _Copy) -> AnyVersion | None:
        """What the bucket ought to have; None of what the present stream does not have."""
        return _served(self._view()).get(copy.name)

    def _is_current(self, copy: _Copy) -> bool:
        wanted = self._wanted(copy)
        return copy.stored == (wanted.playlist if wanted else None)

    def _is_due(self, copy: _Copy) -> bool:
        """Whether to write, or delete, now: nothing may be named before it is there, nor go while it is."""
        if self._is_current(copy):
            return False
        wanted = self._wanted(copy)
        if wanted is None:
            return self._is_current(self._copies[PLAYLIST])
        if isinstance(wanted.playlist, MultivariantPlaylist):
            names = _served(self._view()).keys() - {PLAYLIST}
            return all(one and one.stored for one in map(self._copies.get, names))
        return True

    async def _keep_up(self, copy: _Copy) -> None:
        """Do all that has to be done under one key."""
        while True:
            news = self._news
            while self._is_due(copy):
                if copy.failures:
                    await self._retrying.pause(min(INTERVAL * 2**copy.failures, MAX_PAUSE))
                await self._sleep(max(copy.not_before - self._clock(), 0))
                await self._attempt(copy)
            await news.wait()

    def _tell(self) -> None:
        """Wake all that wait for what is new."""
        self._news.set()
        self._news = asyncio.Event()

    async def _attempt(self, copy: _Copy) -> None:
        deadline = min(MIN_DEADLINE * 2**copy.failures, MAX_DEADLINE)
        try:
            if not copy.etag_known:
                copy.etag = await self._store.etag(copy.key, deadline=deadline)
            await self._write(copy, deadline)
        except StorageError as error:
            copy.failures = min(copy.failures + 1, MAX_DOUBLINGS)
            self.failures += 1
            self._retrying.failed(error)
        else:
            if copy.failures:
                copy.failures = 0
                self._retrying.worked(over=not any(one.failures for one in self._copies.values()))
            self._tell()  # the multivariant playlist may have waited for this one
        copy.not_before = self._clock() + INTERVAL

    async def _write(self, copy: _Copy, deadline: float) -> None:
        if not self._is_due(copy):
            return  # time has passed
        wanted, etag = self._wanted(copy), None
        copy.etag_known = False  # until there is an answer
        if wanted is None:
            await self._store.delete([copy.key], deadline=deadline)
        else:
            etag = await self._store.replace(
                copy.key,
                _text(wanted.playlist, iframes=copy.name.endswith(IFRAMES)),
                etag=copy.etag,
                max_age=max(1, wanted.target_duration // 2),  # appendix B.1
                deadline=deadline,
            )
            if etag is None:
                raise StorageUnavailable(f"{copy.key} has been changed by another writer")
            self.writes += 1
        copy.etag, copy.etag_known = etag, True
        copy.stored = wanted.playlist if wanted else None


def _served(view: View) -> dict[str, AnyVersion]:
    """What viewers can ask for, by its name."""
    if view.main is None:
        return {}
    served: dict[str, AnyVersion] = {f"{name}/{PLAYLIST}": one for name, one in view.playlists.items()}
    served[PLAYLIST] = view.main
    main = view.main.playlist
    if isinstance(main, MediaPlaylist):
        return served | ({IFRAMES: view.main} if main.has_iframes else {})
    name = main.iframes.uri if main.iframes else ""
    of = view.playlists.get(name.removesuffix(f"/{IFRAMES}"))
    return served | ({name: of} if of else {})


def _text(playlist: MediaPlaylist | MultivariantPlaylist, *, iframes: bool) -> bytes:
    """The playlist without what a bucket cannot do: wait for the next version, or leave out old segments."""
    if isinstance(playlist, MediaPlaylist) and iframes:
        return playlist.render_iframes().encode()
    if isinstance(playlist, MediaPlaylist) and playlist.server_control:
        control = ServerControl(hold_back=playlist.server_control.hold_back)
        playlist = dataclasses.replace(playlist, server_control=control)
    return playlist.render().encode()
