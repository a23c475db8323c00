"""The stream as this process shows it: what ingest said last, ready to be sent.

Bytes that are served: rendered and compressed once per version, never per request.

Wakes a crowd in waves, so that who asks for something short meanwhile need not wait for all of it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import cycle

from aiohttp import web

from broadcaster.hls import BlockingReloadResult, MediaPlaylist, MultivariantPlaylist
from broadcaster.ipc.messages import AnyVersion, State, View, ViewDelta

WAVES = 16


class StaggeredEvent:
    """Like an asyncio.Event that is set once; those who wait for it wake a part at a time."""

    def __init__(self) -> None:
        self._events = [asyncio.Event() for _ in range(WAVES)]
        self._next = cycle(self._events)
        self._waiting = 0

    def is_set(self) -> bool:
        """Whether it was set, though not everybody may have woken yet."""
        return self._events[0].is_set()

    async def wait(self) -> None:
        """Wait until it is set, and one's turn has come."""
        self._waiting += 1
        try:
            await next(self._next).wait()
        finally:
            self._waiting -= 1

    def set(self) -> None:
        """Wake the first part now, each other one when the loop has looked what else there is to do."""
        self._wake(0)

    def _wake(self, number: int) -> None:
        self._events[number].set()
        if number + 1 == WAVES:
            return
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake, number + 1)
        else:
            self._wake(number + 1)


AnyPlaylist = MediaPlaylist | MultivariantPlaylist

GZIP_LEVEL = 6  # of a window of four hours 9 % more than 9 leaves, in a third of the time


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A playlist's text, ready to be sent."""

    body: bytes
    gzipped: bytes
    etag: str  # of ``body``, without quotes


class Snapshot:
    """One version of a playlist: what is served until another takes its place.

    Nothing is rendered before somebody asks for it: of a long window, most want the delta update alone.
    Where a version waits for the next one, ``superseded`` is set as soon as that is there. ``playlist`` is
    what is served of it, if not its own.
    """

    def __init__(self, version: AnyVersion, playlist: AnyPlaylist | None = None) -> None:
        self.version = version
        self.playlist = playlist or version.playlist
        self.target_duration = version.target_duration
        self.modified = version.modified
        self.superseded = StaggeredEvent()

    @property
    def is_live(self) -> bool:
        """Whether it is a media playlist that goes on; only such a one can be waited for."""
        return isinstance(self.playlist, MediaPlaylist) and not self.playlist.ended

    @cached_property
    def full(self) -> Rendered:
        """The whole playlist."""
        return _rendered(self.playlist.render())

    @cached_property
    def delta(self) -> Rendered:
        """A delta update (§6.2.5.1); the whole playlist where nothing may be skipped."""
        playlist = self.playlist
        if isinstance(playlist, MultivariantPlaylist) or not playlist.skippable:
            return self.full
        return _rendered(playlist.render_delta())

    @cached_property
    def iframes(self) -> Rendered | None:
        """The I-frame playlist beside it; None where no key frame is known."""
        playlist = self.playlist
        if isinstance(playlist, MultivariantPlaylist) or not playlist.has_iframes:
            return None
        return _rendered(playlist.render_iframes())

    def reload(self, media_sequence: int) -> BlockingReloadResult:
        """What a client has to wait for that wants this media sequence number (§6.2.5.2)."""
        playlist = self.playlist
        return (
            playlist.reload(media_sequence)
            if isinstance(playlist, MediaPlaylist)
            else BlockingReloadResult.READY
        )

    def max_age(self, now: datetime) -> int:
        """How many seconds a cache may keep it, at least one.

        Until the next version is due: a cache that asks before gets nothing new, one that asks later makes
        its players late. If that is overdue, the longer it is the longer, up to the half target duration
        of appendix B.1; so much as well once the playlist has ended. Always between 1 and a target
        duration, whatever the clock does.
        """
        half = max(1, self.target_duration // 2)
        if isinstance(self.playlist, MultivariantPlaylist):
            return self.target_duration
        if self.playlist.ended or not self.playlist.segments:
            return half
        due = (self.modified + self.playlist.segments[-1].duration - now).total_seconds()
        if due > 0:
            return min(math.ceil(due), self.target_duration)
        return min(max(1, int(-due)), half)


def _rendered(text: str) -> Rendered:
    body = text.encode()
    return Rendered(
        body=body,
        gzipped=gzip.compress(body, GZIP_LEVEL, mtime=0),
        etag=hashlib.sha256(body).hexdigest()[:32],
    )


def now() -> datetime:
    """The wall time."""
    return datetime.now(UTC)


class Stream:
    """Takes changes of what viewers see. ``clock`` gives the wall time."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self.clock = clock
        self.view = View()
        self.main: Snapshot | None = None  # the multivariant playlist, or that of an only variant
        self._snapshots: dict[str, Snapshot] = {}
        self.kept_main: Snapshot | None = None  # as ``main`` and ``media``, for those who are behind
        self._kept: dict[str, Snapshot] = {}

    def media(self, variant: str) -> Snapshot | None:
        """The media playlist of one variant."""
        return self._snapshots.get(variant)

    def kept(self, variant: str) -> Snapshot | None:
        """What that one lists for those who are behind."""
        return self._kept.get(variant)

    @property
    def state(self) -> State:
        """Where the stream stands."""
        return self.view.state

    def apply(self, change: ViewDelta) -> None:
        """Show it, and wake whoever waits for it; raises ValueError when it does not fit what came before."""
        self.show(change.apply_to(self.view))

    def show(self, view: View) -> None:
        """Put the new versions in the place of the old ones."""
        before, before_kept, self.view = self._snapshots, self._kept, view
        self._snapshots = {name: _same(before.get(name), version) for name, version in view.playlists.items()}
        self._kept = {
            name: _same(before_kept.get(name), version, version.kept)
            for name, version in view.playlists.items()
            if version.kept
        }
        # Before anybody wakes up who asked under the main address.
        only = next((name for name, one in view.playlists.items() if one is view.main), None)
        if only is not None:
            self.main, self.kept_main = self._snapshots[only], self._kept.get(only)
        else:
            self.main = _same(self.main, view.main) if view.main else None
            self.kept_main = None
            if self._kept and view.main and isinstance(view.main.playlist, MultivariantPlaylist):
                self.kept_main = Snapshot(view.main, _of_longer(view.main.playlist))
        for now, old in ((self._snapshots, before), (self._kept, before_kept)):
            for name, one in old.items():
                if now.get(name) is not one:
                    one.superseded.set()


STREAM = web.AppKey("STREAM", Stream)


def _same(before: Snapshot | None, version: AnyVersion, playlist: AnyPlaylist | None = None) -> Snapshot:
    """The snapshot of a version; the one that there is, with all that it has rendered, if nothing is new."""
    return before if before and before.version is version else Snapshot(version, playlist)


def _of_longer(main: MultivariantPlaylist) -> MultivariantPlaylist:
    """The same, of the playlists for those who are behind."""
    return main.renamed(lambda uri: f"{uri.removesuffix('playlist.m3u8')}kept.m3u8")
