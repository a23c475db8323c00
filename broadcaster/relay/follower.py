"""Follows the origin's playlists, and makes of them what viewers see here.

Reloads one media playlist of the origin, as a player does that blocks (§6.2.5.2, §6.3.4).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

from yarl import URL

from broadcaster.aio import wait_at_most
from broadcaster.errors import OriginError, PlaylistError
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, PlaylistReader
from broadcaster.ipc import State, Version, View
from broadcaster.relay.origin import WITHIN, Answer, Origin
from broadcaster.relay.url_map import Listed, Listing

IDLE = 2.0  # seconds until a playlist is looked at again that is not there, or has ended
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0  # seconds after a failure
NOTHING_NEW = 0.5  # seconds after a request that was answered without anything new
PATIENCE_TARGET_DURATIONS = 3  # of the origin with a blocked request (§6.2.5.2)
OK, TOO_FAR_AHEAD, MISSING = 200, 400, 404


class Reloading:
    """The playlist at ``url``: ``take`` gets each new version, and where it was.

    ``pause`` waits for so many seconds, or until there is reason to look again; ``complain`` is told of
    faults.
    """

    def __init__(
        self,
        origin: Origin,
        url: URL,
        take: Callable[[MediaPlaylist, URL], None],
        pause: Callable[[float], Awaitable[None]],
        complain: Callable[[Exception], None],
    ) -> None:
        self._origin = origin
        self._url = url
        self._take = take
        self._pause = pause
        self._complain = complain
        self._reader = PlaylistReader()
        self._playlist: MediaPlaylist | None = None  # the latest
        self._etag: str | None = None
        self._plain = True  # ask for what there is, not for what comes next

    async def run(self) -> None:
        """Reload until cancelled."""
        failures = 0
        while True:
            try:
                pause = self._take_answer(await self._ask())
                failures = 0
            except (OriginError, PlaylistError) as error:
                self._complain(error)
                self._etag, self._plain = None, True
                pause = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE)
                failures = min(failures + 1, 10)
            if pause:
                await self._pause(pause)

    async def _ask(self) -> Answer:
        playlist = self._playlist
        if playlist is None or self._plain or not _can_block(playlist):
            return await self._origin.ask(self._url, etag=self._etag)
        within = WITHIN + PATIENCE_TARGET_DURATIONS * playlist.target_duration
        return await self._origin.ask(self._url.update_query(_HLS_msn=playlist.last + 1), within=within)

    def _take_answer(self, answer: Answer) -> float:
        """Returns for how many seconds to wait now; raises PlaylistError."""
        fresh, self._plain = False, answer.status == TOO_FAR_AHEAD  # its numbers have begun anew
        if answer.status == MISSING:
            self._playlist, self._etag = None, None
        elif answer.status == OK:
            found = self._reader.read(answer.playlist)
            if not isinstance(found, MediaPlaylist):
                raise PlaylistError("is no media playlist")
            fresh = found != self._playlist
            if fresh:
                self._take(found, answer.url)
            self._playlist, self._etag = found, answer.etag
        return _pause_after(self._playlist, fresh=fresh)


def _can_block(playlist: MediaPlaylist) -> bool:
    control = playlist.server_control
    return not playlist.ended and control is not None and control.can_block_reload


def _pause_after(playlist: MediaPlaylist | None, *, fresh: bool) -> float:
    if playlist is None or playlist.ended:
        return IDLE
    if _can_block(playlist):
        return 0.0 if fresh else NOTHING_NEW
    return playlist.target_duration / (1 if fresh else 2)


logger = logging.getLogger(__name__)

MAIN = "/live/playlist.m3u8"
# The main playlist changes with a stream alone, of which events tell. Seconds between two looks at it.
LOOK_EVERY, LOOK_EVERY_WITHOUT = 10.0, 2.0
MAX_VARIANTS = 30
# Seconds for which the origin says that there is no stream before there is none here: a proxy may be wrong.
# By then who plays has nothing left.
GONE = 60.0
REMEMBERED_RUNS = 16
COMPLAIN_EVERY = 60.0  # seconds
# How a broadcaster names the playlists of its variants.
NAME = re.compile(r"([^/?#:]+)/playlist\.m3u8")


class Following:
    """Shows each new version with ``show``; ``fresh`` is told of objects that a version lists first.

    ``clock`` gives the wall time.
    """

    def __init__(
        self,
        origin: Origin,
        listing: Listing,
        show: Callable[[View], None],
        fresh: Callable[[list[Listed]], None],
        clock: Callable[[], datetime],
    ) -> None:
        self.view = View()
        self._origin = origin
        self._listing = listing
        self._show = show
        self._fresh = fresh
        self._clock = clock
        self._main: Version[MultivariantPlaylist] | None = None
        self._etag: str | None = None  # of the main playlist
        self._missing_since: float | None = None  # when that was not there first (monotonic)
        self._reader = PlaylistReader()  # as is this
        self._only = "0"  # what an only variant is called: the latest event says
        self._urls: dict[str, URL] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._versions: dict[str, Version[MediaPlaylist]] = {}
        self._runs: deque[str] = deque(maxlen=REMEMBERED_RUNS)
        self._starting = False
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._complained = -COMPLAIN_EVERY

    @property
    def silence(self) -> float:
        """For how many seconds a playlist that has not ended has brought nothing new, the longest of all."""
        on = [one.modified for one in self.view.playlists.values() if not one.playlist.ended]
        now = self._clock()
        return (now - min(on, default=now)).total_seconds()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    answer = await self._origin.ask(self._origin.url(MAIN), etag=self._etag)
                    if answer.status == OK:
                        self._take_main(answer, group)
                        self._etag = answer.etag
                    self._note_missing(group, missing=answer.status == MISSING)
                except (OriginError, PlaylistError) as error:
                    self._etag = None
                    self._complain(error)
                live = self.view.state is State.LIVE and self._origin.fault is None
                await self._pause(LOOK_EVERY if live else LOOK_EVERY_WITHOUT)

    def hurry(self) -> None:
        """Something has changed: look at everything now that is only looked at from time to time."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def note_run(self, run: str | None, variant: str | None = None) -> None:
        """The origin tells of this run; and how a variant is called."""
        self._only = variant or self._only
        if self._main is None and self._tasks and self._only not in self._tasks:
            self._etag = None
            self.hurry()
        if run and run not in self._runs:
            self._runs.append(run)
            self._assemble()

    def note_starting(self, *, starting: bool) -> None:
        """Whether a stream begins there of which there are no playlists yet."""
        if starting is not self._starting:
            self._starting = starting
            self._assemble()

    async def until(self, condition: Callable[[View], bool], seconds: float) -> bool:
        """Wait until what is shown is so; whether it came to that in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition(self.view):
                    await self._changed.wait()
                return True
        return condition(self.view)

    def _take_main(self, answer: Answer, group: asyncio.TaskGroup) -> None:
        playlist = self._reader.read(answer.playlist)  # a page of another, as a portal's, changes nothing
        if isinstance(playlist, MediaPlaylist):
            self._main = None
            self._follow({self._only: answer.url}, group)
            return
        if not 0 < len(playlist.uris) <= MAX_VARIANTS:
            raise PlaylistError("is no multivariant playlist that can be followed")
        names = {}
        uris = [one.uri for one in playlist.variants] + [one.uri for one in playlist.renditions if one.uri]
        for uri in uris:
            match = NAME.fullmatch(uri)
            if match is None:
                raise PlaylistError(f"names {uri[:80]!r}: it is not a broadcaster's")
            names[URL(match[1], encoded=True).path] = answer.url.join(URL(uri, encoded=True))
        if self._main is None or self._main.playlist != playlist:
            self._main = Version(playlist, self._clock(), self.view.target_duration or 1)
        self._follow(names, group)

    def _note_missing(self, group: asyncio.TaskGroup, *, missing: bool) -> None:
        """Whether the origin says that it has no stream, as one does that has lost its book."""
        if not missing:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or time.monotonic()
        if self._tasks and time.monotonic() - self._missing_since >= GONE:
            self._main = self._etag = None
            self._follow({}, group)

    def _follow(self, urls: dict[str, URL], group: asyncio.TaskGroup) -> None:
        """Follow these media playlists by the names of their variants, and no others."""
        for name in [name for name in self._tasks if urls.get(name) != self._urls[name]]:
            self._tasks.pop(name).cancel()
            self._versions.pop(name, None)
            self._listing.drop(name)
        for name, url in urls.items():
            if name not in self._tasks:
                take = partial(self._take, name)
                one = Reloading(self._origin, url, take, self._pause, self._complain)
                self._tasks[name] = group.create_task(one.run(), name=f"variant {name}")
        self._urls, self._tasks = urls, {name: self._tasks[name] for name in urls}
        self._assemble()

    def _take(self, name: str, playlist: MediaPlaylist, base: URL) -> None:
        known = name in self._versions
        ours, new = self._listing.take(name, playlist, base)
        self._versions[name] = Version(ours, self._clock(), ours.target_duration)
        self._assemble()
        if known:  # of a window that was there before anybody came, who comes takes what he wants
            self._fresh(new)

    def _assemble(self) -> None:
        """Show all that belongs together, once all of it is there; until then what was there before."""
        playlists = {name: self._versions[name] for name in self._tasks if name in self._versions}
        main, target_duration = self.view.main, self.view.target_duration
        if playlists and len(playlists) == len(self._tasks):
            target_duration = max(one.target_duration for one in playlists.values())
            if self._main and self._main.target_duration != target_duration:
                self._main = replace(self._main, target_duration=target_duration)
            main = self._main or next(iter(playlists.values()))
        elif self._tasks:
            playlists = dict(self.view.playlists)
        else:
            main = None
        view = View(self._state(playlists.values()), target_duration, tuple(self._runs), playlists, main)
        if view == self.view:
            return
        self.view = view
        self._show(view)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _state(self, versions: Iterable[Version[MediaPlaylist]]) -> State:
        ended = [one.playlist.ended for one in versions]
        if not all(ended):
            self._starting = False
            return State.LIVE
        return State.STARTING if self._starting else State.ENDED if ended else State.OFFLINE

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            logger.warning("the origin cannot be followed, trying again: %s", error)

    async def _pause(self, seconds: float) -> None:
        await wait_at_most(seconds, self._news)
