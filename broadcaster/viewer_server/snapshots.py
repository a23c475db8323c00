"""The playlists as viewers get them: rendered and compressed once per version, never per request."""

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

GROUPS = 16


class StaggeredEvent:
    """An event that is set once and wakes its waiting tasks in groups, so that other tasks run in between."""

    def __init__(self) -> None:
        self._events = [asyncio.Event() for _ in range(GROUPS)]
        self._next = cycle(self._events)
        self._waiting = 0

    def is_set(self) -> bool:
        """Whether it was set; some tasks may not have woken yet."""
        return self._events[0].is_set()

    async def wait(self) -> None:
        """Wait for the turn of a group."""
        self._waiting += 1
        try:
            await next(self._next).wait()
        finally:
            self._waiting -= 1

    def set(self) -> None:
        """Wake the first group now, and each further group after an iteration of the event loop."""
        self._wake(0)

    def _wake(self, number: int) -> None:
        self._events[number].set()
        if number + 1 == GROUPS:
            return
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake, number + 1)
        else:
            self._wake(number + 1)


AnyPlaylist = MediaPlaylist | MultivariantPlaylist

GZIP_LEVEL = 6  # for a window of four hours, 9 % larger than level 9 in a third of the time


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A playlist's text, ready to be sent."""

    body: bytes
    gzipped: bytes
    etag: str  # of ``body``, without quotes


class Snapshot:
    """One version of a playlist, rendered on request: of a long window most players need delta updates only.

    ``superseded`` is set when the next version is there. ``playlist`` is served instead of the version's own.
    """

    def __init__(self, version: AnyVersion, playlist: AnyPlaylist | None = None) -> None:
        self.version = version
        self.playlist = playlist or version.playlist
        self.target_duration = version.target_duration
        self.modified = version.modified
        self.superseded = StaggeredEvent()

    @property
    def is_live(self) -> bool:
        """Whether it is a media playlist without EXT-X-ENDLIST: requests can wait for its next version."""
        return isinstance(self.playlist, MediaPlaylist) and not self.playlist.ended

    @cached_property
    def full(self) -> Rendered:
        """The whole playlist."""
        return _rendered(self.playlist.render())

    @cached_property
    def delta(self) -> Rendered:
        """The delta update (§6.2.5.1); the whole playlist if nothing may be skipped."""
        playlist = self.playlist
        if isinstance(playlist, MultivariantPlaylist) or not playlist.skippable:
            return self.full
        return _rendered(playlist.render_delta())

    @cached_property
    def iframes(self) -> Rendered | None:
        """The I-frame playlist; None if no key frame is known."""
        playlist = self.playlist
        if isinstance(playlist, MultivariantPlaylist) or not playlist.has_iframes:
            return None
        return _rendered(playlist.render_iframes())

    def reload(self, media_sequence: int) -> BlockingReloadResult:
        """Whether a request for this media sequence number has to wait (§6.2.5.2)."""
        playlist = self.playlist
        if isinstance(playlist, MultivariantPlaylist):
            return BlockingReloadResult.READY
        return playlist.reload(media_sequence)

    def max_age(self, now: datetime) -> int:
        """Seconds for which a cache may keep it, between 1 and a target duration.

        Until the next version is due: an earlier request gets nothing new, a later one makes players late.
        When it is overdue, the longer the overdue time the longer, up to half a target duration (appendix
        B.1), as for an ended playlist.
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


class ServedStream:
    """The current snapshot of each playlist. ``clock`` gives the wall time."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self.clock = clock
        self.view = View()
        self.main: Snapshot | None = None  # the multivariant playlist, or the playlist of a single variant
        self._snapshots: dict[str, Snapshot] = {}
        self.kept_main: Snapshot | None = None  # the main playlist of the DVR playlists
        self._kept: dict[str, Snapshot] = {}

    def snapshot(self, variant: str | None) -> Snapshot | None:
        """The media playlist of a variant; the main playlist for None."""
        return self.main if variant is None else self._snapshots.get(variant)

    def dvr_snapshot(self, variant: str | None) -> Snapshot | None:
        """The DVR playlist of a variant; the main playlist of the DVR playlists for None."""
        return self.kept_main if variant is None else self._kept.get(variant)

    @property
    def state(self) -> State:
        """The state of the stream."""
        return self.view.state

    def apply(self, change: ViewDelta) -> None:
        """Show a change and wake waiting requests; raises ValueError if it does not fit the view."""
        self.show(change.apply_to(self.view))

    def show(self, view: View) -> None:
        """Replace the snapshots of changed versions."""
        before, before_kept, self.view = self._snapshots, self._kept, view
        self._snapshots = {name: _same(before.get(name), version) for name, version in view.playlists.items()}
        self._kept = {
            name: _same(before_kept.get(name), version, version.kept)
            for name, version in view.playlists.items()
            if version.kept
        }
        # Before requests for the main playlist wake up.
        only = next((name for name, version in view.playlists.items() if version is view.main), None)
        if only is not None:
            self.main, self.kept_main = self._snapshots[only], self._kept.get(only)
        else:
            self.main = _same(self.main, view.main) if view.main else None
            self.kept_main = None
            if self._kept and view.main and isinstance(view.main.playlist, MultivariantPlaylist):
                main = view.main.playlist.renamed(lambda uri: f"{uri.removesuffix('playlist.m3u8')}kept.m3u8")
                self.kept_main = Snapshot(view.main, main)
        for now, old in ((self._snapshots, before), (self._kept, before_kept)):
            for name, snapshot in old.items():
                if now.get(name) is not snapshot:
                    snapshot.superseded.set()


STREAM = web.AppKey("STREAM", ServedStream)


def _same(before: Snapshot | None, version: AnyVersion, playlist: AnyPlaylist | None = None) -> Snapshot:
    """The snapshot of a version: ``before``, with what it has rendered, if it is the same version."""
    return before if before and before.version is version else Snapshot(version, playlist)
