"""Reloads one media playlist of the origin, as a player does that blocks (§6.2.5.2, §6.3.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from yarl import URL

from broadcaster.errors import OriginError, PlaylistError
from broadcaster.hls import MediaPlaylist, PlaylistReader
from broadcaster.relay.origin import WITHIN, Answer, Origin

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
