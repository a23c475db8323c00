"""The server under test, as a player sees it: by the URL of a playlist."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import count
from typing import Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from tests.conformance.text import Playlist
from tests.conformance.verdicts import Violation

ORIGIN = "https://player.example"  # of the page that the player is in
PATIENCE_TARGET_DURATIONS = 3  # of a server with a blocked request (§6.2.5.2)
MARGIN = 5.0  # seconds beyond that
ATTEMPTS, BUSY_ATTEMPTS = 5, 15  # at requests that no new version crosses
KEEPALIVE = (
    2.0  # seconds: a server may close a connection that is idle for longer, as workerd does after five
)
IDENTITY = {"Accept-Encoding": "identity"}
Query = Mapping[str, object]
NOTHING: Query = {}
POLLS = 5  # looks for a new version in a target duration


class Unusable(Exception):  # noqa: N818 - reads as what it is
    """There is nothing to test at this URL."""


class State(StrEnum):
    """What the stream is doing, as the caller says."""

    LIVE = "live"
    PAUSED = "paused"  # live, but no new segment comes
    ENDED = "ended"  # with ENDLIST
    OFFLINE = "offline"  # there is none yet


@dataclass(frozen=True)
class Answer:
    """A response, whole, and how many seconds it took."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    seconds: float

    @cached_property
    def text(self) -> str:
        """The body, decompressed."""
        body = self.body
        if self.headers.get("Content-Encoding") == "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError) as error:
                raise Violation(f"the body is no gzip: {error}") from None
        return body.decode(errors="replace")

    @cached_property
    def playlist(self) -> Playlist:
        """The body as a playlist; anything but a 200 is a Violation."""
        if self.status != 200:
            raise Violation(f"200 expected, {self.status} seen")
        return Playlist(self.text)


class Subject:
    """A playlist's ``url`` and, unless the stream is offline, its media playlists.

    With several variants, ``media_urls`` are those of the multivariant playlist; the first one is asked.
    ``delay`` is how many seconds the machine that it is on may take by itself, for whatever it is asked.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, state: State, delay: float = 0.0) -> None:
        self.url = URL(url)
        self.state = state
        self.delay = delay
        self.media_urls = [self.url]
        self.target_duration = 1  # seconds
        self.versions: list[Playlist] = []  # that have been seen, while the stream is live
        self._session = session
        self._seen: dict[int, float] = {}  # last number → when
        self._fault: Violation | None = None
        self._progress = asyncio.Condition()
        self._unique = count(time.time_ns())

    @property
    def promptly(self) -> float:
        """Seconds within which an answer that nothing holds up has to be there."""
        return max(1.0, self.target_duration / 2) + self.delay

    @property
    def patience(self) -> float:
        """Seconds for which a server may hold a request."""
        return PATIENCE_TARGET_DURATIONS * self.target_duration

    async def find_media_playlists(self) -> Self:
        """Raises Unusable where the URL has no playlist in the state that was promised."""
        try:
            answer = await self.ask()
            if answer.status != 200:
                raise Unusable(f"{self.url} answers {answer.status}: name the state that the stream is in")
            if variants := answer.playlist.variants:
                self.media_urls = [self.url.join(URL(uri)) for uri in variants]
            playlist = (await self.ask()).playlist
            self.target_duration = playlist.target_duration
        except Violation as violation:
            raise Unusable(f"{self.url} has no playlist: {violation}") from None
        if playlist.ended is not (self.state is State.ENDED):
            seen = "has" if playlist.ended else "has no"
            raise Unusable(f"{self.url} {seen} ENDLIST: name the state that the stream is in")
        return self

    @property
    def attempts(self) -> range:
        """How often to try what a new version crosses by chance, more often where the machine is busy."""
        return range(BUSY_ATTEMPTS if self.delay else ATTEMPTS)

    async def ask(
        self,
        query: Query = NOTHING,
        *,
        url: URL | None = None,
        method: str = "GET",
        headers: Mapping[str, str] = IDENTITY,
    ) -> Answer:
        """Request the first media playlist, or ``url``; ``query`` is added to its own.

        Raises Violation where no answer comes in time.
        """
        url = url or self.media_urls[0]
        if query:  # else not even the spelling of a signed URL may change
            url = url.update_query({name: str(value) for name, value in query.items()})
        within = self.patience + MARGIN + 2 * self.delay
        begin = time.monotonic()
        try:
            async with (
                asyncio.timeout(within),
                self._session.request(
                    method, url, headers={"Origin": ORIGIN, **headers}, allow_redirects=False
                ) as response,
            ):
                body = await response.read()
                return Answer(response.status, response.headers, body, time.monotonic() - begin)
        except TimeoutError:
            raise Violation(f"{url.raw_path_qs}: no answer within {within:.1f} s") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Violation(f"{url.raw_path_qs}: {type(error).__name__}: {error}") from None

    async def ask_origin(self, query: Query = NOTHING, *, url: URL | None = None) -> Answer:
        """As ``ask``, past the caches in between: no two queries are the same."""
        return await self.ask({**query, "conformance": next(self._unique)}, url=url)

    async def watch(self) -> None:
        """Keep every version of the media playlist in ``versions``, until cancelled."""
        while True:
            try:
                playlist = (await self.ask_origin()).playlist
                self._note(playlist)
            except Violation as violation:
                self._fault = violation
            async with self._progress:
                self._progress.notify_all()
            await asyncio.sleep(self.target_duration / POLLS)

    async def new_version(self) -> Playlist:
        """The next version, as soon as it is seen; where none will come, the one there is."""
        if self.state is not State.LIVE:
            return (await self.ask_origin()).playlist
        known = len(self.versions)
        await self.versions_seen(known + 1)
        return self.versions[-1]

    async def versions_seen(self, number: int) -> list[Playlist]:
        """Wait until there are so many versions; returns them all."""
        try:
            async with asyncio.timeout(number * self.patience + MARGIN + self.delay), self._progress:
                await self._progress.wait_for(lambda: len(self.versions) >= number or self._fault)
        except TimeoutError:
            raise Violation(f"{number} versions expected, {len(self.versions)} seen") from None
        if self._fault:
            raise self._fault
        return self.versions

    async def seen(self, number: int) -> float:
        """When (monotonic, seconds) a segment of this number was first seen listed."""
        async with self._progress:
            await self._progress.wait_for(lambda: max(self._seen, default=0) >= number or self._fault)
        return next((when for last, when in sorted(self._seen.items()) if last >= number), time.monotonic())

    def _note(self, playlist: Playlist) -> None:
        self._seen.setdefault(playlist.last, time.monotonic())
        if not self.versions or self.versions[-1].text != playlist.text:
            self.versions.append(playlist)


@asynccontextmanager
async def subject_at(url: str, state: State = State.LIVE, *, delay: float = 0.0) -> AsyncIterator[Subject]:
    """A server that is ready to be tested, and watched while its stream is live; raises Unusable."""
    connector = aiohttp.TCPConnector(keepalive_timeout=KEEPALIVE)
    async with aiohttp.ClientSession(auto_decompress=False, connector=connector) as session:
        subject = Subject(session, url, state, delay)
        if state is not State.OFFLINE:
            await subject.find_media_playlists()
        watching = asyncio.create_task(subject.watch()) if state is State.LIVE else None
        try:
            yield subject
        finally:
            if watching:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
