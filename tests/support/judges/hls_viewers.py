"""Viewers that reload playlists by the rules of hls.js 1.7 (base-playlist-controller.ts), without the video.

``computeReloadInterval`` there: a target duration after the last request was begun, half of one when it had
brought nothing new. Where the server can block and the last answer was new, the next request is made at once
and asks for the number after the last one. What fails is asked again after 1, 2, 4 and then 8 seconds,
without directives. Older players, and those of other makers, do not block.

Nobody has a cache of his own: every reload reaches the edge.
"""

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import aiohttp

from tests.support.waiting import changes

MAIN = "/live/playlist.m3u8"
CHANGES_VARIANT = 0.02  # of all reloads, where there is more than one
LEAVES = 0.1  # of all viewers
RETRY = (1.0, 2.0, 4.0, 8.0)  # seconds
TIMEOUT = aiohttp.ClientTimeout(total=30)  # the page's
ACCEPT_ENCODINGS = ("gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "identity")
ORIGINS = ("https://live.example.com", "https://club.example.org", "null")
VARIANT = re.compile(r"^(?!#)(.+\.m3u8)$", re.MULTILINE)
TARGET_DURATION = re.compile(r"#EXT-X-TARGETDURATION:(\d+)")
NAME_NUMBER = re.compile(r"-(\d+)\.ts$", re.MULTILINE)


@dataclass(frozen=True)
class Update:
    """What a player reads from a media playlist."""

    target_duration: int  # seconds
    last: int  # the media sequence number of the last segment
    newest: int  # the number in that segment's name
    can_block: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        first, target_duration = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text), TARGET_DURATION.search(text)
        assert first, text
        assert target_duration, text
        return cls(
            target_duration=int(target_duration[1]),
            last=int(first[1]) + text.count("#EXTINF:") - 1,
            newest=int(NAME_NUMBER.findall(text)[-1]),
            can_block="CAN-BLOCK-RELOAD=YES" in text,
        )


class Audience:
    """What all viewers have met. ``published`` is when each segment was made, by the loop's time.

    ``late`` is how many seconds after that each viewer knew of each, of those who block (True) and who poll.
    """

    def __init__(self, published: dict[int, float]) -> None:
        self.answers: Counter[int] = Counter()  # by status; 0 for a connection that failed
        self.late: dict[bool, list[float]] = {True: [], False: []}
        self.viewers: list[Viewer] = []
        self._published = published
        self._changed = asyncio.Event()

    @property
    def requests(self) -> int:
        return self.answers.total()

    async def until_seen(self, number: int, *, within: float) -> None:
        """Wait until every viewer knows of that segment; raises TimeoutError."""
        await changes(
            self._changed, lambda: all(viewer.newest >= number for viewer in self.viewers), within=within
        )

    def learned(self, numbers: Iterable[int], since: float, *, blocks: bool) -> None:
        """A viewer who has been there ``since`` then (the loop's time) knows of these segments now."""
        now = asyncio.get_running_loop().time()
        times = [self._published[number] for number in numbers]
        self.late[blocks] += [now - time for time in times if time > since]
        self._changed.set()


class Viewer:
    """One player at ``address``; it asks for blocking reloads if it ``blocks`` and the server can."""

    def __init__(
        self,
        audience: Audience,
        session: aiohttp.ClientSession,
        address: str,
        chance: random.Random,
        *,
        blocks: bool,
    ) -> None:
        self.newest = -1  # the number in the name of the newest segment that it knows
        self._audience = audience
        self._session = session
        self._address = address
        self._chance = chance
        self._blocks = blocks
        self._joined = 0.0
        self._headers = {
            "Accept-Encoding": chance.choice(ACCEPT_ENCODINGS),
            "Origin": chance.choice(ORIGINS),
        }

    async def run(self, join_after: float, leave_after: float | None) -> None:
        """Join after so many seconds; leave after so many more, and come back at once. Until cancelled."""
        await asyncio.sleep(join_after)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(leave_after):
                await self._watch()
        self.newest = -1
        await self._watch()

    async def _watch(self) -> None:
        self._joined = asyncio.get_running_loop().time()
        text = await self._get(MAIN)
        if "#EXT-X-STREAM-INF" in text:
            await self._follow([f"/live/{uri}" for uri in VARIANT.findall(text)], None)
        await self._follow([MAIN], text)

    async def _follow(self, paths: list[str], text: str | None) -> None:
        path, known, query = self._chance.choice(paths), -1, ""
        begun = asyncio.get_running_loop().time()
        while True:
            update = Update.parse(text or await self._get(path + query))
            advanced, known, text, query = update.last > known, update.last, None, ""
            self._learn(update)
            if len(paths) > 1 and self._chance.random() < CHANGES_VARIANT:
                path, known = self._chance.choice(paths), -1
            elif self._blocks and update.can_block and advanced:
                query = f"?_HLS_msn={update.last + 1}"
            else:
                pause = update.target_duration / (1 if advanced else 2)
                await asyncio.sleep(begun + pause - asyncio.get_running_loop().time())
            begun = asyncio.get_running_loop().time()

    def _learn(self, update: Update) -> None:
        if update.newest <= self.newest:
            return
        known = self.newest if self.newest >= 0 else update.newest
        self._audience.learned(range(known + 1, update.newest + 1), self._joined, blocks=self._blocks)
        self.newest = update.newest

    async def _get(self, path: str) -> str:
        """The playlist; asked for again, without directives, until it comes."""
        failures = 0
        while True:
            try:
                async with self._session.get(self._address + path, headers=self._headers) as response:
                    self._audience.answers[response.status] += 1
                    text = await response.text()
                    if response.status == 200:
                        return text
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                self._audience.answers[0] += 1
            await asyncio.sleep(RETRY[min(failures, len(RETRY) - 1)])
            failures, path = failures + 1, path.partition("?")[0]


@asynccontextmanager
async def watching(
    address: str, published: dict[int, float], *, count: int, join_within: float, seed: int = 1
) -> AsyncIterator[Audience]:
    """``count`` viewers, half of whom block, that join one after another within so many seconds.

    A tenth of them leaves in the same time again, and comes back.
    """
    audience, chance = Audience(published), random.Random(seed)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=TIMEOUT) as session,
        asyncio.TaskGroup() as group,
    ):
        tasks = []
        for number in range(count):
            viewer = Viewer(
                audience, session, address, random.Random(chance.random()), blocks=number % 2 == 0
            )
            audience.viewers.append(viewer)
            join_after, leave_after = (chance.uniform(0, join_within) for _ in range(2))
            leaves = chance.random() < LEAVES
            tasks.append(group.create_task(viewer.run(join_after, leave_after if leaves else None)))
        yield audience
        for task in tasks:
            task.cancel()
