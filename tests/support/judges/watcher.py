"""A strict viewer: polls every playlist, judges each version, and asks for all that is listed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus

import aiohttp

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from tests.support.judges.playlist_rules import last_number, violations
from tests.support.waiting import PATIENCE, changes

MAIN = "/live/playlist.m3u8"
INTERVAL = 0.1  # seconds between polls
LOOKS = 5  # polls of each media playlist for one of the main playlist, which changes a few times in a stream


class Availability:
    """Whether the bucket is up, as the test knows that disturbs it."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.disturbances = 0

    @contextmanager
    def disturbed(self) -> Iterator[None]:
        """Inside, the bucket need not answer."""
        self.disturbances += 1
        self.up.clear()
        try:
            yield
        finally:
            self.up.set()


def named_by(main: str) -> list[tuple[str, str]]:
    """The variants that a main playlist names, and sound with a playlist of its own, each with its path."""
    playlist = parse(main)
    if isinstance(playlist, MediaPlaylist):
        return [("main", MAIN)]
    assert isinstance(playlist, MultivariantPlaylist)
    uris = [variant.uri for variant in playlist.variants]
    uris += [rendition.uri for rendition in playlist.renditions if rendition.uri]
    return [(uri.partition("/")[0], f"/live/{uri}") for uri in uris]


class Watcher:
    """Watches one service at ``address``. What it found is in ``violations`` and ``missing``.

    With ``patient`` it takes a service that does not answer, or has no room, for one that soon will. With
    ``bucket`` it asks for a URL again when the bucket was disturbed meanwhile, and waits for no answer.
    """

    def __init__(self, address: str, *, patient: bool = False, bucket: Availability | None = None) -> None:
        self.violations: list[str] = []
        self.missing: list[str] = []
        self.versions: dict[str, list[MediaPlaylist]] = {}
        self.listed: dict[tuple[str, int], str] = {}  # variant and number → URL
        self.changed = asyncio.Event()
        self.is_answered = False  # the latest request was, and not for want of room
        self._address = address
        self._patient = patient
        self._bucket = bucket
        self._questions = asyncio.TaskGroup()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._etags: dict[str, str] = {}
        self._main = ""
        self._named: list[tuple[str, str]] = []  # variants of the main playlist, and their paths
        self._served: set[str] = set()
        self._missed: set[str] = set()  # of those: not there when asked for last

    async def run(self) -> None:
        """Poll until cancelled."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as self._questions:
            while True:
                named = await self._variants(session)
                for _ in range(LOOKS if named else 1):
                    for variant, path in named:
                        await self._look(session, variant, path)
                    await asyncio.sleep(INTERVAL)

    async def until_number(self, variant: str, number: int, *, within: float = PATIENCE) -> None:
        """Wait until a segment of that number is listed."""
        await self.until(lambda: self.last(variant) >= number, within=within)

    async def until_ended(self, variant: str, *, within: float = PATIENCE) -> None:
        """Wait for ENDLIST."""
        await self.until(
            lambda: bool(self.versions.get(variant)) and self.versions[variant][-1].ended, within=within
        )

    async def until(self, condition: Callable[[], bool], *, within: float = PATIENCE) -> None:
        """Wait until ``condition()`` holds after a new version; raises TimeoutError."""
        await changes(self.changed, condition, within=within)

    def last(self, variant: str) -> int:
        """The last number listed, 0 before there is any."""
        versions = self.versions.get(variant)
        return last_number(versions[-1]) if versions else 0

    def segments(self, variant: str) -> Iterable[str]:
        """Every URL that was ever listed, gaps left out, in order."""
        seen: dict[str, None] = {}
        for playlist in self.versions.get(variant, []):
            for segment in playlist.segments:
                if not segment.gap:
                    seen[segment.uri] = None
        return seen

    async def _variants(self, session: aiohttp.ClientSession) -> list[tuple[str, str]]:
        text = await self._get(session, MAIN, conditional=False)
        if text is None:
            self.violations += [f"{MAIN} is gone"] if MAIN in self._missed else []
            return []
        if text != self._main:
            self._main, self._named = text, named_by(text)
        return self._named

    async def _look(self, session: aiohttp.ClientSession, variant: str, path: str) -> None:
        asked = asyncio.get_running_loop().time()
        text = await self._get(session, path, conditional=True)
        if text is None:
            # A new stream may have come since it was named, and have fewer variants.
            if path in self._missed and (variant, path) in await self._variants(session):
                self.violations.append(f"{path} is gone")
            return
        playlist = parse(text)
        assert isinstance(playlist, MediaPlaylist)
        versions = self.versions.setdefault(variant, [])
        found = violations(versions[-1] if versions else None, playlist)
        self.violations += [f"variant {variant}, version {len(versions)}: {violation}" for violation in found]
        for number, segment in enumerate(playlist.segments, playlist.media_sequence):
            known = self.listed.setdefault((variant, number), segment.uri)
            if known != segment.uri:
                self.violations.append(f"variant {variant}: number {number} was {known}, is {segment.uri}")
        playable = [segment for segment in playlist.segments if not segment.gap]
        maps = dict.fromkeys(segment.map_uri for segment in playable if segment.map_uri)
        before = len(self.missing)
        await self._ask_for(session, [*maps, *(segment.uri for segment in playable)])
        if asyncio.get_running_loop().time() - asked > max(playlist.duration.total_seconds(), 5):
            del self.missing[before:]  # a busy machine has asked when they need not be there any more
        versions.append(playlist)
        self.changed.set()

    async def _get(self, session: aiohttp.ClientSession, path: str, *, conditional: bool) -> str | None:
        headers = {"If-None-Match": self._etags[path]} if conditional and path in self._etags else {}
        try:
            async with session.get(self._address + path, headers=headers) as response:
                self.is_answered = response.status != HTTPStatus.SERVICE_UNAVAILABLE
                self._missed.discard(path)
                if response.status == 404 and path in self._served:
                    self._missed.add(path)
                if response.status in (304, 404):
                    return None
                if response.status == HTTPStatus.SERVICE_UNAVAILABLE and self._patient:
                    return None  # all places are taken for the moment, or the process is new
                response.raise_for_status()
                if conditional:
                    self._etags[path] = response.headers["ETag"]
                text = await response.text()
                self._served.add(path)
                return text
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
            self.is_answered = False
            if not self._patient:
                raise
            return None

    async def all_answered(self) -> None:
        """Wait until the bucket has answered for every URL that was listed."""
        await asyncio.gather(*self._asking.values())

    async def _ask_for(self, session: aiohttp.ClientSession, urls: Iterable[str]) -> None:
        if self._bucket is None:
            await asyncio.gather(*(self._ask(session, url) for url in urls))
            return
        for url in urls:
            if url not in self._asking or self._asking[url].done():
                asking = self._ask_until_answered(session, url, self._bucket)
                self._asking[url] = self._questions.create_task(asking)

    async def _ask_until_answered(
        self, session: aiohttp.ClientSession, url: str, bucket: Availability
    ) -> None:
        """A bucket that is down on purpose is asked again once it is back. A 404 always counts."""
        while True:
            await bucket.up.wait()
            before = bucket.disturbances
            status = 0
            try:
                async with asyncio.timeout(PATIENCE), session.head(url) as response:
                    status, answer = response.status, f"{response.status}"
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                answer = type(error).__name__
            if status == 200:
                return
            if 400 <= status < 500 or bucket.disturbances == before:
                self.missing.append(f"{url}: {answer}")
                return

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.head(url) as response:
            if response.status != 200:
                self.missing.append(f"{url}: {response.status}")


@asynccontextmanager
async def watching(
    address: str, *, patient: bool = False, bucket: Availability | None = None
) -> AsyncIterator[Watcher]:
    """A watcher at work. One that dies fails the test: it would have seen nothing."""
    watcher = Watcher(address, patient=patient, bucket=bucket)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watcher.run())
        yield watcher
        task.cancel()
