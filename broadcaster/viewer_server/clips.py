"""Viewers' wishes for clips: who may have one is asked of ingest, which keeps what is in it.

Playlists of recordings and clips in a private bucket: ingest signs them when somebody asks.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import math
import posixpath
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from broadcaster.http.connections import CONNECTIONS
from broadcaster.http.static import ServedFile
from broadcaster.ipc.messages import ClipAnswer, ClipRequest, PublicRecording, SignedPlaylist
from broadcaster.metrics import Metric
from broadcaster.tracker.tracker import TokenBucket, limited_networks
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind

MAX_BYTES = 256  # of a wish
SHORTEST, LONGEST = 5_000, 90_000  # milliseconds
# A goal is wished for by many at once; each costs the bucket some writes.
RATE, BURST = 0.5, 20  # clips per second, of all
SITE_RATE, SITE_BURST = 1 / 30, 3  # of an address
MAX_SITES = 10_000  # that are remembered
AT_ONCE = 20  # wishes that wait
ANSWER_WITHIN = 5.0  # seconds
SHOWN_WITHIN = 5.0  # seconds: the bucket may be slow, and then has it later
FULL_FOR, AWAY_FOR = 3600, 5  # seconds after which it is worth to ask again
TEXTS = {
    "cross-site": (403, "Only this site's own page can make clips."),
    "unreadable": (400, "A clip has a begin and an end, in milliseconds, 5 to 90 seconds apart."),
    "gone": (
        409,
        "No clip can be made of that part: it is not there, or not for everybody.",
    ),
    "often": (429, "That was a clip too many; please wait a moment."),
    "full": (429, "Viewers have made as many clips as they may."),
    "away": (503, "No clip can be made at the moment; please try again."),
}


class _Refused(Exception):  # noqa: N818 - an answer
    def __init__(self, outcome: str, retry_after: int | None = None) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.retry_after = retry_after


class ClipRequests:
    """Takes wishes and waits for what ingest says of them; ``is_shown`` tells whether a path has a page."""

    def __init__(
        self, is_shown: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._is_shown = is_shown
        self._clock = clock
        self._all = TokenBucket.full(RATE, BURST, clock())
        self._sites: OrderedDict[str, TokenBucket] = OrderedDict()  # the latest heard of last
        self._untold: dict[str, ClipRequest] = {}
        self._answers: dict[str, asyncio.Future[ClipAnswer]] = {}
        self._news = asyncio.Event()
        self._outcomes = Counter(dict.fromkeys(("made", *TEXTS), 0))

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.on_shutdown.append(self.close)
        app.router.add_post("/live/clips", self.handle, name="viewers_clips")

    def metrics(self) -> Iterator[Metric]:
        """What was wished for."""
        text = "Clips that viewers asked for, by what became of it"
        yield Metric("viewers_clips", text, self._outcomes, labels=("outcome",), is_counter=True)

    def wishes(self) -> tuple[ClipRequest, ...]:
        """Those that ingest has not been told of; it is told of each once."""
        untold, self._untold = self._untold, {}
        return tuple(untold.values())

    def take(self, answer: ClipAnswer) -> None:
        """Ingest's answer; who wished for it may have gone."""
        waiting = self._answers.get(answer.request)
        if waiting and not waiting.done():
            waiting.set_result(answer)

    def look(self) -> None:
        """There are new pages."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def close(self, _: web.Application | None = None) -> None:
        """Let everybody go: the service stops."""
        for wish in tuple(self._answers):
            self.take(ClipAnswer(wish, refusal="away"))

    async def handle(self, request: web.Request) -> web.Response:
        """201 with the clip's ``path``; what stands in ``TEXTS`` else, and when to ask again."""
        headers = {hdrs.CACHE_CONTROL: "no-store"}
        try:
            path = await self._make(request)
        except _Refused as refused:
            self._outcomes[refused.outcome] += 1
            status, text = TEXTS[refused.outcome]
            if refused.retry_after:
                headers[hdrs.RETRY_AFTER] = str(refused.retry_after)
            return web.json_response({"error": text}, status=status, headers=headers)
        self._outcomes["made"] += 1
        return web.json_response({"path": path}, status=201, headers={**headers, hdrs.LOCATION: path})

    async def _make(self, request: web.Request) -> str:
        if _is_cross_site(request.headers):
            raise _Refused("cross-site")
        if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
            raise _Refused("unreadable")
        try:
            wish = _wish(await request.text())
        except (ValueError, LookupError, TypeError, OverflowError, OSError):
            raise _Refused("unreadable") from None
        self._allow(request.app[ADMISSION].site(request))
        try:
            with request.app[ADMISSION].take(request, RequestKind.CLIPS), self._waiting_for(wish) as answer:
                request.app[CONNECTIONS].complete(request)
                async with asyncio.timeout(ANSWER_WITHIN):
                    found = await answer
                if found.clip is None:
                    outcome = found.refusal or "away"
                    raise _Refused(outcome, {"full": FULL_FOR, "away": AWAY_FOR}.get(outcome))
                await self._shown(path := f"/c/{found.clip}")
        except (NotAdmitted, TimeoutError):
            raise _Refused("away", AWAY_FOR) from None
        return path

    def _allow(self, site: str | None) -> None:
        """Count it against what an address may have, and all together."""
        now = self._clock()
        if len(self._answers) >= AT_ONCE:
            raise _Refused("often", AWAY_FOR)
        buckets = [self._bucket(name, now, times) for name, times in limited_networks(site)] if site else []
        for bucket in [*buckets, self._all]:
            if not bucket.take(now):
                raise _Refused("often", math.ceil((1 - bucket.level) / bucket.rate))

    def _bucket(self, site: str, now: float, times: int = 1) -> TokenBucket:
        bucket = self._sites.pop(site, None) or TokenBucket.full(times * SITE_RATE, times * SITE_BURST, now)
        self._sites[site] = bucket
        if len(self._sites) > MAX_SITES:
            self._sites.popitem(last=False)
        return bucket

    @contextmanager
    def _waiting_for(self, wish: ClipRequest) -> Iterator[asyncio.Future[ClipAnswer]]:
        self._untold[wish.id] = wish
        self._answers[wish.id] = answer = asyncio.get_running_loop().create_future()
        try:
            yield answer
        finally:
            self._untold.pop(wish.id, None)
            del self._answers[wish.id]

    async def _shown(self, path: str) -> None:
        """Wait until the page is there: the clip is sure, and so is its address, if that takes too long."""
        try:
            async with asyncio.timeout(SHOWN_WITHIN):
                while not self._is_shown(path):
                    await self._news.wait()
        except TimeoutError:
            return


def _wish(text: str) -> ClipRequest:
    """What a page sends; raises ValueError, LookupError, TypeError, OverflowError, OSError."""
    told = json.loads(text)
    begin, end = told["begin"], told["end"]
    if not SHORTEST <= end - begin <= LONGEST:
        raise ValueError("too short or too long")
    times = (datetime.fromtimestamp(one / 1000, UTC) for one in (begin, end))
    return ClipRequest(secrets.token_hex(8), *times)


def _is_cross_site(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site asks: browsers say so, older ones by the page's origin alone."""
    if said := headers.get("Sec-Fetch-Site"):
        return said not in {"same-origin", "none"}
    if (origin := headers.get(hdrs.ORIGIN)) is None:
        return False
    try:  # a proxy may leave the port out
        return urlsplit(origin).hostname != urlsplit(f"//{headers.get(hdrs.HOST, '')}").hostname
    except ValueError:
        return True


PATIENCE = 30.0  # seconds until somebody is told to come again
MOST = 16  # that are asked of ingest at a time
SIGNED_MAX_BYTES, MAX_FILES = 2**26, 1000  # of all that are remembered
NAMED = re.compile(r'[^"\n]+\.m3u8')  # by a multivariant playlist
PAGES = {"recordings": "watch", "clips": "c"}
MISSING = partial(web.Response, status=404, text="There is no such recording.\n")


class SignedPlaylists:
    """Remembers each as long as it holds; ``find`` gives the recording or clip of a page, by its path."""

    def __init__(self, find: Callable[[str], PublicRecording | None]) -> None:
        self._find = find
        # By path: the file, None where there is none, and until when (monotonic).
        self._files: OrderedDict[str, tuple[ServedFile | None, float]] = OrderedDict()
        self._waiting: dict[str, asyncio.Event] = {}

    @property
    def wanted(self) -> tuple[str, ...]:
        """Paths of what viewers wait for."""
        return tuple(self._waiting)

    def take(self, message: SignedPlaylist) -> None:
        """Take note of one."""
        file = None
        if message.gzipped is not None:
            packed = base64.b64decode(message.gzipped)
            file = ServedFile(gzip.decompress(packed), message.path, {"gzip": packed})
            file.cache_control = f"public, max-age={message.max_age}"
        self._files.pop(message.path, None)
        self._files[message.path] = file, time.monotonic() + message.max_age
        while len(self._files) > 1 and (self._size() > SIGNED_MAX_BYTES or len(self._files) > MAX_FILES):
            self._files.popitem(last=False)
        if waiting := self._waiting.pop(message.path, None):
            waiting.set()

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(
            r"/{kind:recordings|clips}/{id}/{name:.+\.m3u8}", self.answer, name="signed_playlist"
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The playlist; 404 for what there is none of, 503 where it takes too long to sign it."""
        kind, name = request.match_info["kind"], request.match_info["id"]
        found = self._find(f"/{PAGES[kind]}/{name}")
        if found is None:
            return MISSING()
        try:
            file = await self._file_of(request, found)
        except (NotAdmitted, TimeoutError):
            return web.Response(status=503, text="Come again.\n", headers={hdrs.RETRY_AFTER: "1"})
        return await file.answer(request) if file else MISSING()

    async def _file_of(self, request: web.Request, found: PublicRecording) -> ServedFile | None:
        """A multivariant playlist, or one that such a one names: nothing else is looked for."""
        path = request.path
        if path in found.playlists:
            return await self._signed(request, path)
        folder = posixpath.dirname(posixpath.dirname(path))
        if (main := f"{folder}/playlist.m3u8") not in found.playlists:
            return None
        above = await self._signed(request, main)
        named = NAMED.findall(above.body.decode()) if above else []
        return await self._signed(request, path) if path.removeprefix(f"{folder}/") in named else None

    async def _signed(self, request: web.Request, path: str) -> ServedFile | None:
        """Raises NotAdmitted, or TimeoutError."""
        path = path.removeprefix("/")
        if path not in self._files or self._files[path][1] <= time.monotonic():
            with request.app[ADMISSION].take(request, RequestKind.WAITERS):
                request.app[CONNECTIONS].complete(request)
                await self._until_signed(path)
        return self._files.get(path, (None, 0))[0]

    async def _until_signed(self, path: str) -> None:
        if path not in self._waiting and len(self._waiting) >= MOST:
            raise TimeoutError
        signed = self._waiting.setdefault(path, asyncio.Event())
        try:
            async with asyncio.timeout(PATIENCE):
                await signed.wait()
        except TimeoutError:
            self._waiting.pop(path, None)  # whoever comes next asks again
            raise

    def _size(self) -> int:
        return sum(len(file.body) for file, _ in self._files.values() if file)
