"""Signs the playlists of recordings and clips in a private bucket when viewers request them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import posixpath
import re
import time
import zlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol
from urllib.parse import unquote

from broadcaster.errors import StorageError
from broadcaster.ipc.messages import SignedPlaylist
from broadcaster.source.scanner import MEDIA_SUFFIXES

logger = logging.getLogger(__name__)

ROUND = timedelta(hours=1)  # in which a playlist has the same text: shared caches keep it for so long
# Seconds for which one holds that grows, that is not there, that names others.
GROWING_AGE, MISSING_AGE, MAIN_AGE = 10, 5, 60
MOST = 16  # that wait
TOLD = 5.0  # seconds in which nobody asks again but who has not read the answer yet
DEADLINE = 30.0  # seconds
GZIP_LEVEL = 6
# What the recorder writes: nothing else is ever signed.
PLAYLIST = re.compile(
    r"(recordings|clips)/[\w-]{1,120}/((?!\.)[\w.-]{1,100}/){0,2}[\w-]{1,64}\.m3u8", re.ASCII
)
ATTRIBUTE = re.compile(r'(?<=URI=")[^"]+')

Sign = Callable[[str], str]  # key → address


class PlaylistReader(Protocol):
    """Where the playlists are."""

    async def get(self, key: str, *, deadline: float) -> bytes:
        """An object; raises StorageError."""


class Signing:
    """Signs one playlist at a time, off the event loop; ``tell`` takes each.

    ``signer`` gives what signs keys as of a time; ``clock`` is the wall time.
    """

    def __init__(
        self,
        store: PlaylistReader,
        signer: Callable[[datetime], Sign],
        prefix: str,
        tell: Callable[[SignedPlaylist], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._signer = signer
        self._prefix = prefix
        self._tell = tell
        self._clock = clock
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._asked: dict[str, float] = {}  # what waits (infinite), or when it was told (monotonic)

    def want(self, paths: Iterable[str]) -> None:
        """Viewers ask for these, relative to the prefix."""
        now = time.monotonic()
        self._asked = {path: told for path, told in self._asked.items() if told > now - TOLD}
        for path in paths:
            if not PLAYLIST.fullmatch(path):
                self._tell(SignedPlaylist(path, None, MISSING_AGE))
            elif path not in self._asked and len(self._asked) < MOST:
                self._asked[path] = float("inf")
                self._waiting.put_nowait(path)

    async def run(self) -> None:
        """Sign until cancelled."""
        while True:
            path = await self._waiting.get()
            try:
                self._tell(await self._playlist(path))
            finally:  # else nobody could ask for it again
                self._asked[path] = time.monotonic()

    async def _playlist(self, path: str) -> SignedPlaylist:
        key = f"{self._prefix}/{path}"
        try:
            text = (await self._store.get(key, deadline=DEADLINE)).decode()
        except (StorageError, ValueError, OSError, EOFError, zlib.error) as error:
            logger.debug("%s cannot be signed: %s", key, error)
            return SignedPlaylist(path, None, MISSING_AGE)
        now = self._clock()
        begin = datetime.fromtimestamp(now.timestamp() // ROUND.total_seconds() * ROUND.total_seconds(), UTC)
        left = int((begin + ROUND - now).total_seconds()) if "#EXT-X-ENDLIST" in text else GROWING_AGE
        if "#EXT-X-STREAM-INF" in text:
            left = MAIN_AGE  # without a signature
        body = await asyncio.to_thread(_packed, text, posixpath.dirname(key), self._signer(begin))
        return SignedPlaylist(path, body, max(1, left))


def _packed(text: str, folder: str, sign: Sign) -> str:
    """In a thread: one of hours has thousands of addresses, and nothing of the stream may wait for them."""
    signed = signed_playlist(text, folder, sign).encode()
    return base64.b64encode(gzip.compress(signed, GZIP_LEVEL, mtime=0)).decode()


def signed_playlist(text: str, folder: str, sign: Sign) -> str:
    """The same playlist with signed addresses in the place of relative ones of media; all others stay.

    Who has written into the bucket gets no address of what else a private one has.
    """

    def signed(uri: str) -> str:
        key = posixpath.normpath(posixpath.join(folder, unquote(uri)))
        return sign(key) if key.endswith(MEDIA_SUFFIXES) else uri

    def line(one: str) -> str:
        if one.startswith("#"):
            return ATTRIBUTE.sub(lambda found: signed(found[0]), one)
        return signed(one) if one else one

    return "\n".join(map(line, text.split("\n")))
