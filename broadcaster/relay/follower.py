"""Follows the origin's playlists and builds the view of this relay.

Media playlists are reloaded as a player reloads them, by blocking requests where the origin supports these
(RFC 8216bis, 6.2.5.2 and 6.3.4).
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

from broadcaster.aio import Backoff, LogLimiter, Signal, wait_at_most
from broadcaster.errors import OriginError, PlaylistError
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, PlaylistParser
from broadcaster.ipc.messages import State, Version, View
from broadcaster.relay.origin import WITHIN, Origin, OriginResponse
from broadcaster.relay.url_map import MappedObject, UrlMap

logger = logging.getLogger(__name__)

IDLE = 2.0  # seconds between two requests for a playlist that is missing or has ended
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0  # seconds after a failure
NOTHING_NEW = 0.5  # seconds after an answer without a new version
PATIENCE_TARGET_DURATIONS = 3  # for which the origin holds a blocking request (§6.2.5.2)
OK, TOO_FAR_AHEAD, MISSING = 200, 400, 404


class PlaylistPoller:
    """Reloads the media playlist at ``url``; calls ``take`` with each new version and its final URL.

    ``pause`` waits for seconds, or until there is a reason to poll at once. ``report`` is called with errors.
    """

    def __init__(
        self,
        origin: Origin,
        url: URL,
        take: Callable[[MediaPlaylist, URL], None],
        pause: Callable[[float], Awaitable[None]],
        report: Callable[[Exception], None],
    ) -> None:
        self._origin = origin
        self._url = url
        self._take = take
        self._pause = pause
        self._report = report
        self._reader = PlaylistParser()
        self._playlist: MediaPlaylist | None = None  # the latest
        self._etag: str | None = None
        self._plain = True  # request the current version, not the next one

    async def run(self) -> None:
        """Reload until cancelled."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                pause = self._take_answer(await self._ask())
                backoff.reset()
            except (OriginError, PlaylistError) as error:
                self._report(error)
                self._etag, self._plain = None, True
                pause = backoff.next()
            if pause:
                await self._pause(pause)

    async def _ask(self) -> OriginResponse:
        playlist = self._playlist
        if playlist is None or self._plain or not _can_block(playlist):
            return await self._origin.ask(self._url, etag=self._etag)
        within = WITHIN + PATIENCE_TARGET_DURATIONS * playlist.target_duration
        return await self._origin.ask(self._url.update_query(_HLS_msn=playlist.last + 1), within=within)

    def _take_answer(self, answer: OriginResponse) -> float:
        """Handle an answer; returns the pause in seconds; raises PlaylistError."""
        is_new, self._plain = False, answer.status == TOO_FAR_AHEAD  # the numbers have begun again
        if answer.status == MISSING:
            self._playlist, self._etag = None, None
        elif answer.status == OK:
            found = self._reader.read(answer.playlist)
            if not isinstance(found, MediaPlaylist):
                raise PlaylistError("is not a media playlist")
            is_new = found != self._playlist
            if is_new:
                self._take(found, answer.url)
            self._playlist, self._etag = found, answer.etag
        return _pause_after(self._playlist, is_new=is_new)


def _can_block(playlist: MediaPlaylist) -> bool:
    control = playlist.server_control
    return not playlist.ended and control is not None and control.can_block_reload


def _pause_after(playlist: MediaPlaylist | None, *, is_new: bool) -> float:
    if playlist is None or playlist.ended:
        return IDLE
    if _can_block(playlist):
        return 0.0 if is_new else NOTHING_NEW
    return playlist.target_duration / (1 if is_new else 2)


MAIN = "/live/playlist.m3u8"
# Seconds between two requests for the main playlist while live, and otherwise. It changes only with a stream,
# and events announce that.
POLL_EVERY, POLL_EVERY_WITHOUT = 10.0, 2.0
MAX_VARIANTS = 30
# Seconds for which the origin has to answer 404 before the stream is removed here: a proxy may be wrong. By
# then players have played their buffers.
GONE = 60.0
REMEMBERED_RUNS = 16
# A broadcaster's URI of a variant's playlist.
NAME = re.compile(r"([^/?#:]+)/playlist\.m3u8")


class OriginFollower:
    """Calls ``show`` with each new view, and ``on_new_objects`` with newly listed objects.

    ``clock`` returns the wall time.
    """

    def __init__(
        self,
        origin: Origin,
        url_map: UrlMap,
        show: Callable[[View], None],
        on_new_objects: Callable[[list[MappedObject]], None],
        clock: Callable[[], datetime],
    ) -> None:
        self.view = View()
        self._origin = origin
        self._url_map = url_map
        self._show = show
        self._on_new_objects = on_new_objects
        self._clock = clock
        self._main: Version[MultivariantPlaylist] | None = None
        self._etag: str | None = None  # of the main playlist
        self._missing_since: float | None = None  # since when it is missing (monotonic)
        self._reader = PlaylistParser()  # of the main playlist
        self._only = "0"  # name of an only variant, as in the latest event
        self._urls: dict[str, URL] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._versions: dict[str, Version[MediaPlaylist]] = {}
        self._runs: deque[str] = deque(maxlen=REMEMBERED_RUNS)
        self._starting = False
        self._poll = Signal()
        self._changed = Signal()
        self._log = LogLimiter()

    @property
    def silence(self) -> float:
        """Seconds since the last new version, of the playlist that waits longest; 0 if none is live."""
        live = [version.modified for version in self.view.playlists.values() if not version.playlist.ended]
        now = self._clock()
        return (now - min(live, default=now)).total_seconds()

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
                    self._report(error)
                live = self.view.state is State.LIVE and self._origin.fault is None
                await self._pause(POLL_EVERY if live else POLL_EVERY_WITHOUT)

    def poll_now(self) -> None:
        """Request all playlists now that are requested only from time to time."""
        self._poll.notify()

    def note_run(self, run: str | None, variant: str | None = None) -> None:
        """Note an encoder run, and the name of a variant, from an event of the origin."""
        self._only = variant or self._only
        if self._main is None and self._tasks and self._only not in self._tasks:
            self._etag = None
            self.poll_now()
        if run and run not in self._runs:
            self._runs.append(run)
            self._assemble()

    def note_starting(self, *, starting: bool) -> None:
        """Note whether a stream is starting at the origin that has no playlists yet."""
        if starting is not self._starting:
            self._starting = starting
            self._assemble()

    async def until(self, condition: Callable[[View], bool], seconds: float) -> bool:
        """Wait until the view fulfils a condition; returns whether it does within ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition(self.view):
                    await self._changed.next().wait()
        return condition(self.view)

    def _take_main(self, answer: OriginResponse, group: asyncio.TaskGroup) -> None:
        playlist = self._reader.read(answer.playlist)  # raises for another document, such as a portal's page
        if isinstance(playlist, MediaPlaylist):
            self._main = None
            self._follow({self._only: answer.url}, group)
            return
        if not 0 < len(playlist.uris) <= MAX_VARIANTS:
            raise PlaylistError("has no variants, or too many")
        names = {}
        uris = [variant.uri for variant in playlist.variants]
        uris += [rendition.uri for rendition in playlist.renditions if rendition.uri]
        for uri in uris:
            match = NAME.fullmatch(uri)
            if match is None:
                raise PlaylistError(f"names {uri[:80]!r}, which is not a playlist of a broadcaster")
            names[URL(match[1], encoded=True).path] = answer.url.join(URL(uri, encoded=True))
        if self._main is None or self._main.playlist != playlist:
            self._main = Version(playlist, self._clock(), self.view.target_duration or 1)
        self._follow(names, group)

    def _note_missing(self, group: asyncio.TaskGroup, *, missing: bool) -> None:
        """Note whether the origin answers 404; it does so without a stream, or after losing its catalog."""
        if not missing:
            self._missing_since = None
            return
        self._missing_since = self._missing_since or time.monotonic()
        if self._tasks and time.monotonic() - self._missing_since >= GONE:
            self._main = self._etag = None
            self._follow({}, group)

    def _follow(self, urls: dict[str, URL], group: asyncio.TaskGroup) -> None:
        """Follow exactly these media playlists, by variant."""
        for name in [name for name in self._tasks if urls.get(name) != self._urls[name]]:
            self._tasks.pop(name).cancel()
            self._versions.pop(name, None)
            self._url_map.drop(name)
        for name, url in urls.items():
            if name not in self._tasks:
                take = partial(self._take, name)
                poller = PlaylistPoller(self._origin, url, take, self._pause, self._report)
                self._tasks[name] = group.create_task(poller.run(), name=f"variant {name}")
        self._urls, self._tasks = urls, {name: self._tasks[name] for name in urls}
        self._assemble()

    def _take(self, name: str, playlist: MediaPlaylist, base: URL) -> None:
        known = name in self._versions
        ours, new = self._url_map.take(name, playlist, base)
        self._versions[name] = Version(ours, self._clock(), ours.target_duration)
        self._assemble()
        if known:  # the first window is not prefetched
            self._on_new_objects(new)

    def _assemble(self) -> None:
        """Show the playlists of all variants together; keep the earlier view until all have been read."""
        playlists = {name: self._versions[name] for name in self._tasks if name in self._versions}
        main, target_duration = self.view.main, self.view.target_duration
        if playlists and len(playlists) == len(self._tasks):
            target_duration = max(version.target_duration for version in playlists.values())
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
        self._changed.notify()

    def _state(self, versions: Iterable[Version[MediaPlaylist]]) -> State:
        ended = [version.playlist.ended for version in versions]
        if not all(ended):
            self._starting = False
            return State.LIVE
        return State.STARTING if self._starting else State.ENDED if ended else State.OFFLINE

    def _report(self, error: Exception) -> None:
        if self._log.allows("follow"):
            logger.warning("cannot follow the origin, trying again: %s", error)

    async def _pause(self, seconds: float) -> None:
        await wait_at_most(seconds, self._poll.next())
