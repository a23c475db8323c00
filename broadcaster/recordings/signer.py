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
from urllib.parse import unquote

from broadcaster.bucket import ObjectStore
from broadcaster.errors import StorageError
from broadcaster.ipc.messages import SignedPlaylist
from broadcaster.source.scanner import MEDIA_SUFFIXES

logger = logging.getLogger(__name__)

ROUND = timedelta(hours=1)  # in which a playlist has the same text, so that shared caches can keep it
# Seconds for which caches keep a playlist that grows, one that is missing, and a multivariant playlist.
GROWING_AGE, MISSING_AGE, MAIN_AGE = 10, 5, 60
MOST = 16  # queued playlists
ANSWERED = 5.0  # seconds after an answer, in which the viewer server may ask again before it reads the answer
DEADLINE = 30.0  # seconds
GZIP_LEVEL = 6
# The paths that the recorder writes: no others are signed.
PLAYLIST = re.compile(
    r"(recordings|clips)/[\w-]{1,120}/((?!\.)[\w.-]{1,100}/){0,2}[\w-]{1,64}\.m3u8", re.ASCII
)
ATTRIBUTE = re.compile(r'(?<=URI=")[^"]+')

Sign = Callable[[str], str]  # key → URL


class Signing:
    """Signs playlists one after another, in a thread, and calls ``answer`` with each.

    ``signer`` returns a function that signs keys as of a time; ``clock`` gives the wall time.
    """

    def __init__(
        self,
        store: ObjectStore,
        signer: Callable[[datetime], Sign],
        prefix: str,
        answer: Callable[[SignedPlaylist], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._signer = signer
        self._prefix = prefix
        self._answer = answer
        self._clock = clock
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._requests: dict[str, float] = {}  # by path: the time of the answer (monotonic), infinite before

    def want(self, paths: Iterable[str]) -> None:
        """Queue playlists, by their paths relative to the prefix."""
        oldest = time.monotonic() - ANSWERED
        self._requests = {path: answered for path, answered in self._requests.items() if answered > oldest}
        for path in paths:
            if not PLAYLIST.fullmatch(path):
                self._answer(SignedPlaylist(path, None, MISSING_AGE))
            elif path not in self._requests and len(self._requests) < MOST:
                self._requests[path] = float("inf")
                self._queue.put_nowait(path)

    async def run(self) -> None:
        """Sign until cancelled."""
        while True:
            path = await self._queue.get()
            try:
                self._answer(await self._playlist(path))
            finally:  # after an error, it can be requested again
                self._requests[path] = time.monotonic()

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
            left = MAIN_AGE  # it has no signatures
        body = await asyncio.to_thread(_packed, text, posixpath.dirname(key), self._signer(begin))
        return SignedPlaylist(path, body, max(1, left))


def _packed(text: str, folder: str, sign: Sign) -> str:
    """The signed playlist, compressed. Called in a thread: a recording of hours has thousands of URLs."""
    signed = signed_playlist(text, folder, sign).encode()
    return base64.b64encode(gzip.compress(signed, GZIP_LEVEL, mtime=0)).decode()


def signed_playlist(text: str, folder: str, sign: Sign) -> str:
    """The playlist with signed URLs in place of relative URIs of media.

    Other URIs stay: a forged playlist in the bucket must not give access to other objects.
    """

    def signed(uri: str) -> str:
        key = posixpath.normpath(posixpath.join(folder, unquote(uri)))
        return sign(key) if key.endswith(MEDIA_SUFFIXES) else uri

    def signed_line(line: str) -> str:
        if line.startswith("#"):
            return ATTRIBUTE.sub(lambda found: signed(found[0]), line)
        return signed(line) if line else line

    return "\n".join(map(signed_line, text.split("\n")))
