"""Simulated pages: they ask an address for all that the viewers' page asks for, but for video.

They open the page with its files, look at the playlist, reload it as hls.js 1.7 does with what it has by
default (base-playlist-controller.ts, low-latency mode), hold requests for events (``events.js``) and report
(``beacon.js``). What they would play is reckoned from the playlists, so that they know of stalls.

Six hundred of them take a tenth of a core or so: what all read is parsed once.
"""

import asyncio
import contextlib
import gzip
import json
import math
import random
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import aiohttp

from tests.support.servers.built_page import worker
from tests.support.servers.counted_origin import route_of
from tests.support.waiting import PATIENCE, changes

MAIN, NOW, BEACON = "/live/playlist.m3u8", "/live/events/now", "/live/beacon"
FILES = re.compile(r'(?:src|href)="(?:\./)?(assets/[^"]+)"')
VARIANT = re.compile(r"^(?!#)(.+\.m3u8)$", re.MULTILINE)
NUMBER = re.compile(r"#EXT-X-MEDIA-SEQUENCE:(\d+)")
SKIPPED = re.compile(r"#EXT-X-SKIP:SKIPPED-SEGMENTS=(\d+)")
DURATION = re.compile(r"#EXTINF:([0-9.]+)")
NAME_NUMBER = re.compile(r"-(\d+)\.(?:ts|m4s)(?:\?\S*)?$", re.MULTILINE)
TARGET_DURATION = re.compile(r"#EXT-X-TARGETDURATION:(\d+)")
DIGITS = re.compile(r"\d+")
TOKEN = re.compile(r"^/t/[^/]+")
RETRY = (1.0, 2.0, 4.0, 8.0)  # seconds: hls.js', as engine.js sets it up
LOOK_AGAIN = 3.0  # seconds until a page looks for a stream again
HICCUP = 0.5  # seconds without a picture that are no stall
QUICK, QUICK_FREE, QUICK_AT_MOST = 1.0, 2, 4  # seconds; answers in a row; in a minute: events.js
LOOK, ENTERS, REPORT_SECONDS = 5.0, 60.0, 25.0  # seconds: beacon.js
TIMEOUT = aiohttp.ClientTimeout(total=PATIENCE)
HEADERS = {"Accept-Encoding": "gzip, deflate, br, zstd", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}


@dataclass(frozen=True)
class Version:
    """What a player reads from a media playlist."""

    target_duration: int  # seconds
    first: int  # the media sequence number of the first segment, those that are skipped included
    durations: tuple[float, ...]  # of the segments that are not skipped
    skipped: int
    newest: int | None  # the number in the name of the last segment
    can_block: bool
    can_skip: bool
    ended: bool

    @property
    def last(self) -> int:
        return self.first + self.skipped + len(self.durations) - 1

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for what is no media playlist."""
        names = NAME_NUMBER.findall(text)
        first, target, skipped = NUMBER.search(text), TARGET_DURATION.search(text), SKIPPED.search(text)
        if not first or not target:
            return None
        return cls(
            target_duration=int(target[1]),
            first=int(first[1]),
            durations=tuple(float(duration) for duration in DURATION.findall(text)),
            skipped=int(skipped[1]) if skipped else 0,
            newest=int(names[-1]) if names else None,
            can_block="CAN-BLOCK-RELOAD=YES" in text,
            can_skip="CAN-SKIP-UNTIL=" in text,
            ended="#EXT-X-ENDLIST" in text,
        )

    def after(self, number: int) -> float:
        """Seconds of video after the segment with this number."""
        new = min(self.last - number, len(self.durations))
        return sum(self.durations[len(self.durations) - new :]) if new > 0 else 0.0


@lru_cache(maxsize=64)
def text_of(body: bytes, encoding: str) -> str:
    return (gzip.decompress(body) if encoding == "gzip" else body).decode()


@lru_cache(maxsize=64)
def version_of(text: str) -> Version | None:
    return Version.parse(text)


@lru_cache(maxsize=64)
def json_of(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def kind_of(path: str) -> str:
    """A path without what differs from one request to the next."""
    return DIGITS.sub("N", path)


@dataclass
class Figures:
    """What all pages have met."""

    asked: Counter[str] = field(default_factory=Counter)  # by kind of path
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)  # by route and status; 0: no answer
    bytes: Counter[str] = field(default_factory=Counter)  # bodies, by route
    stalls: int = 0
    fell: list[tuple[str, int, int]] = field(default_factory=list)  # playlists that were older than before

    def requests(self, route: str | None = None) -> int:
        """How many requests there were, of a route or in all."""
        return sum(count for (name, _), count in self.answers.items() if route in (None, name))

    def refused(self) -> dict[tuple[str, int], int]:
        """The answers that were no success."""
        return {key: count for key, count in self.answers.items() if not 200 <= key[1] < 400}


class SimulatedPage:
    """One page of ``pages``; its viewer's address is made of its ``number``."""

    def __init__(self, pages: "SimulatedPages", number: int, chance: random.Random) -> None:
        self.last = -1  # the number of the newest segment that it knows of
        self.serial = 0  # of the latest event
        self._pages = pages
        self._chance = chance
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self._headers = {**HEADERS, "CF-Connecting-IP": address}
        self._base = f"/t/{pages.tokens[number - 1]}" if pages.tokens else ""
        self._cached: set[str] = set()  # what the browser has of earlier visits
        self._begin()

    def _begin(self) -> None:
        self._name = f"{self._chance.getrandbits(64):016x}"
        self._draw = int(self._name[:8], 16) / 2**32
        self._variant = self._quality = ""
        self._seen: dict[str, int] = {}  # the last number, by path
        self._began: float | None = None  # when it began to play, by the loop's time
        self._ahead = 0.0  # seconds of video from there to the end of the playlist
        self._stalled = 0.0  # seconds
        self._stalls = 0
        self._reported = self._reported_stalls = 0.0
        self._counted = False
        self._share, self._every = 1.0, REPORT_SECONDS

    @property
    def is_settled(self) -> bool:
        """Whether it plays and, if it is in the sample, has reported."""
        return self.last >= 0 and (self._counted or self._draw >= self._share)

    async def run(self, join_after: float, leave_after: float | None) -> None:
        """Watch from then on; leave after so many seconds, and come back after as many."""
        await asyncio.sleep(join_after)
        if leave_after is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(leave_after):
                    await self._visit()
            if self._counted:
                await self._send(self._report(over=True))
            await asyncio.sleep(leave_after)
        await self._visit()

    async def _visit(self) -> None:
        self._begin()
        await self._open()
        self._pages.watching += 1
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._play())
                group.create_task(self._listen())
                group.create_task(self._tell())
        finally:
            self._pages.watching -= 1

    async def _open(self) -> None:
        """Load the page; its files are in the browser's cache at a second visit."""
        _, text = await self._get("/")
        files = {worker(), *(f"/{file}" for file in FILES.findall(text))} - self._cached
        self._cached |= files
        await asyncio.gather(*(self._get(file, read=False) for file in files))

    # The playlists.

    async def _play(self) -> None:
        paths, text = [MAIN], await self._until_got(MAIN)
        if "#EXT-X-STREAM-INF" in text:
            paths, text = [f"/live/{uri}" for uri in VARIANT.findall(text)], ""
        path, self._quality = paths[0], self._chance.choice(paths)
        while True:
            version = version_of(text or await self._until_got(path))
            assert version
            path, text = await self._follow(path, version, paths), ""

    async def _follow(self, path: str, version: Version, paths: list[str]) -> str:
        """Reload a playlist until the quality changes; returns the path of the new one."""
        loop = asyncio.get_running_loop()
        self._variant = path.rpartition("/playlist")[0].removeprefix("/live/") or "0"
        advanced = self._note(path, version)
        while True:
            asked = loop.time()
            if self._chance.random() * self._pages.changes_every < version.target_duration:
                self._quality = self._chance.choice(paths)
            if path != self._quality:
                return self._quality
            directives = []
            if advanced and version.can_block:
                directives.append(f"_HLS_msn={version.last + 1}")
            else:
                await asyncio.sleep(version.target_duration / (1 if advanced else 2))
            if version.can_skip and loop.time() - asked < 3 * version.target_duration:
                directives.append("_HLS_skip=YES")
            query = "?" + "&".join(directives) if directives else ""
            found = version_of(await self._until_got(path + query))
            assert found
            version, advanced = found, self._note(path, found)

    def _note(self, path: str, version: Version) -> bool:
        """Whether a version has brought something new; and what that means for the picture."""
        now, before = asyncio.get_running_loop().time(), self._seen.get(path, -1)
        if version.last < before:
            self._pages.figures.fell.append((path, before, version.last))
        self._seen[path] = version.last
        if self._began is None:
            segment = version.durations[-1]
            self._began = now
            self._ahead = min(1.5 * segment + 1.5, 3 * version.target_duration)
        else:
            missing = now - self._began - self._stalled - self._ahead
            if missing > HICCUP:
                self._stalled += missing
                self._stalls += 1
                self._pages.figures.stalls += 1
            self._ahead += version.after(self.last)
        if before >= 0 and version.newest is not None:
            self._pages.learned(
                range(version.newest - max(version.last - self.last, 0) + 1, version.newest + 1)
            )
        self.last = max(self.last, version.last)
        return version.last > before

    async def _until_got(self, path: str) -> str:
        """The playlist; asked for again, without directives, until it comes."""
        failures = 0
        while True:
            status, text = await self._get(path)
            if status == 200:
                return text
            await asyncio.sleep(RETRY[min(failures, len(RETRY) - 1)])
            failures, path = failures + 1, path.partition("?")[0]

    # Events.

    async def _listen(self) -> None:
        """Hold requests, each for what comes after the serial of the last answer."""
        loop, key = asyncio.get_running_loop(), "now"
        failures = quick = 0
        begun = deque[float](maxlen=QUICK_AT_MOST)  # of those that are limited
        while True:
            began = loop.time()
            status, text = await self._get(f"/live/events/{key}")
            answer, was_held = json_of(text) if status == 200 else {}, loop.time() - began >= QUICK
            is_sound = key == "now" or answer.get("serial", 0) > int(key)
            if "serial" in answer and is_sound:
                self._share, self._every = answer.get("share", 1.0), answer.get("every", REPORT_SECONDS)
                self.serial = answer["serial"]
                key = str(self.serial)
                quick = 0 if was_held else quick + 1
                failures = 0 if was_held else failures
                if quick <= QUICK_FREE:
                    continue
            else:
                key = "now"
            begun.append(began)
            pause = min(60.0, 2.0 * 3**failures) * self._chance.uniform(0.8, 1.2)
            failures += 1
            if len(begun) == QUICK_AT_MOST:
                pause = max(pause, begun[0] + 60 - loop.time())
            await asyncio.sleep(pause)

    # Reports.

    async def _tell(self) -> None:
        """Look every five seconds; report while this page is in the sample."""
        loop = asyncio.get_running_loop()
        look = loop.time() + self._chance.uniform(0, LOOK)
        quiet, was_inside, since, spread = 0.0, True, -math.inf, 1.0
        while True:
            await asyncio.sleep(look - loop.time())
            look += LOOK  # whatever the delay: pages that are late together must not stay together
            now, inside = loop.time(), self._draw < self._share
            if inside and not was_inside:
                quiet, since = now + self._chance.uniform(0, ENTERS), -math.inf
                self._reported, self._reported_stalls = self._played, self._stalls
            was_inside = inside
            due = since + REPORT_SECONDS + (self._every - REPORT_SECONDS) * spread
            if inside and self._began is not None and now >= max(quiet, due):
                await self._send(self._report())
                since, spread = now, self._chance.uniform(0.5, 1.5)

    @property
    def _played(self) -> float:
        now = asyncio.get_running_loop().time()
        return 0.0 if self._began is None else now - self._began - self._stalled

    def _report(self, *, over: bool = False) -> str:
        played = self._played
        seconds, stalls = round(played - self._reported), self._stalls - self._reported_stalls
        report: dict[str, object] = {
            "viewer": self._name,
            "over": over,
            "behind": 0,
            "httpBytes": int(seconds * self._pages.bytes_per_second),
            "p2pBytes": 0,
            "uploadedBytes": 0,
            "seconds": seconds,
            "stalls": stalls,
            "errors": 0,
            "stalled": 0,
            "variant": self._variant,
            "latency": 4.217,
        }
        if not self._counted and not over:
            report["startup"] = 0.871
        self._counted = not over
        self._reported, self._reported_stalls = played, self._stalls
        return json.dumps(report, separators=(",", ":"))

    async def _send(self, report: str) -> None:
        headers = {**self._headers, "Content-Type": "text/plain;charset=UTF-8"}
        await self._pages.request("POST", self._base + BEACON, headers, data=report)

    async def _get(self, path: str, *, read: bool = True) -> tuple[int, str]:
        status, body, encoding = await self._pages.request("GET", self._base + path, self._headers)
        return status, text_of(body, encoding) if read and status == 200 else ""


class SimulatedPages:
    """An audience at ``address``; ``published`` is when each segment was made, by the loop's time.

    ``late`` is how many seconds after that each page knew of each. A page reports to have received
    ``bytes_per_second`` of video, and changes the quality every ``changes_every`` seconds or so. Of a private
    event, each has one of the ``tokens``.
    """

    def __init__(
        self,
        address: str,
        published: dict[int, float] | None = None,
        *,
        bytes_per_second: float = 10_000,
        changes_every: float = math.inf,
        tokens: Sequence[str] = (),
    ) -> None:
        self.figures = Figures()
        self.late: list[float] = []
        self.pages: list[SimulatedPage] = []
        self.watching = 0
        self.bytes_per_second = bytes_per_second
        self.changes_every = changes_every
        self.tokens = tokens
        self._address = address
        self._published = published if published is not None else {}
        self._changed = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    async def until(self, is_so: Callable[[], object], *, within: float = PATIENCE) -> None:
        """Wait until something is so that can change when a page learns of a segment."""
        await changes(self._changed, is_so, within=within)

    def learned(self, numbers: range) -> None:
        """A page knows of these segments now."""
        now = asyncio.get_running_loop().time()
        self.late += [now - self._published[number] for number in numbers if number in self._published]
        self._changed.set()

    async def request(
        self, method: str, path: str, headers: dict[str, str], data: str | None = None
    ) -> tuple[int, bytes, str]:
        """Status, body and coding of an answer; the status is 0 where none came."""
        assert self._session
        shown = TOKEN.sub("", path)
        route = route_of(shown)
        self.figures.asked[kind_of(shown)] += 1
        try:
            async with self._session.request(
                method, self._address + path, headers=headers, data=data
            ) as response:
                body = await response.read()
                self.figures.answers[route, response.status] += 1
                self.figures.bytes[route] += len(body)
                return response.status, body, response.headers.get("Content-Encoding", "")
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            self.figures.answers[route, 0] += 1
            return 0, b"", ""

    @asynccontextmanager
    async def open(
        self, count: int, *, join_within: float, leave: float = 0.0, seed: int = 1
    ) -> AsyncIterator[Self]:
        """So many pages join one after another within these seconds; a part of them leaves and comes back."""
        chance = random.Random(seed)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=TIMEOUT, auto_decompress=False
            ) as self._session,
            asyncio.TaskGroup() as group,
        ):
            tasks = []
            for number in range(1, count + 1):
                page = SimulatedPage(self, number, random.Random(chance.random()))
                self.pages.append(page)
                join_after, leave_after = (chance.uniform(0, join_within) for _ in range(2))
                leaves = chance.random() < leave
                tasks.append(group.create_task(page.run(join_after, leave_after if leaves else None)))
            yield self
            for task in tasks:
                task.cancel()
