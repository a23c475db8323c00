"""What viewers ask of ingest: clips, and signed playlists of recordings in a private bucket."""

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
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from broadcaster.aio import Signal
from broadcaster.http.connections import CONNECTIONS
from broadcaster.http.static import ServedFile
from broadcaster.ipc.messages import ClipAnswer, ClipRequest, PublicRecording, SignedPlaylist
from broadcaster.metrics import Metric
from broadcaster.tracker.tracker import TokenBucket, limited_networks
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind
from broadcaster.viewer_server.pages import missing_recording

MAX_BYTES = 256  # of a request
SHORTEST, LONGEST = 5_000, 90_000  # milliseconds
# Many viewers request a clip of a goal; each clip costs some writes in the bucket.
RATE, BURST = 0.5, 20  # clips per second, of all viewers
NETWORK_RATE, NETWORK_BURST = 1 / 30, 3  # of a client network
MAX_NETWORKS = 10_000  # client networks that are remembered
AT_ONCE = 20  # waiting requests
ANSWER_WITHIN = 5.0  # seconds
SHOWN_WITHIN = 5.0  # seconds: with a slow bucket, the page appears later
FULL_FOR, AWAY_FOR = 3600, 5  # seconds until another request is worthwhile
TEXTS = {
    "cross-site": (403, "Only this site's own page can make clips."),
    "unreadable": (400, "A clip has a begin and an end, in milliseconds, 5 to 90 seconds apart."),
    "gone": (409, "No clip can be made of that part: it is not there, or not for everybody."),
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
    """Passes clip requests to ingest, and waits for answers; ``is_shown`` says whether a path has a page."""

    def __init__(
        self, is_shown: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._is_shown = is_shown
        self._clock = clock
        self._all = TokenBucket.full(RATE, BURST, clock())
        self._networks: OrderedDict[str, TokenBucket] = OrderedDict()  # the latest last
        self._unsent: dict[str, ClipRequest] = {}
        self._answers: dict[str, asyncio.Future[ClipAnswer]] = {}
        self._recordings_changed = Signal()
        self._outcomes = Counter(dict.fromkeys(("made", *TEXTS), 0))

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.on_shutdown.append(self.close)
        app.router.add_post("/live/clips", self.handle, name="viewers_clips")

    def metrics(self) -> Iterator[Metric]:
        """Requests by outcome."""
        text = "Clips that viewers requested, by outcome"
        yield Metric("viewers_clips", text, self._outcomes, labels=("outcome",), is_counter=True)

    def take_unsent(self) -> tuple[ClipRequest, ...]:
        """The requests that were not sent to ingest before."""
        unsent, self._unsent = self._unsent, {}
        return tuple(unsent.values())

    def handle_answer(self, answer: ClipAnswer) -> None:
        """Pass ingest's answer to the waiting request, if it still waits."""
        waiting = self._answers.get(answer.request)
        if waiting and not waiting.done():
            waiting.set_result(answer)

    def note_recordings(self) -> None:
        """Note that the list of recordings has changed."""
        self._recordings_changed.notify()

    async def close(self, _: web.Application | None = None) -> None:
        """Refuse all waiting requests: the service stops."""
        for request in tuple(self._answers):
            self.handle_answer(ClipAnswer(request, refusal="away"))

    async def handle(self, request: web.Request) -> web.Response:
        """201 with the clip's ``path``, or a refusal of ``TEXTS``."""
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
            clip = _clip_request(await request.text())
        except (ValueError, LookupError, TypeError, OverflowError, OSError):
            raise _Refused("unreadable") from None
        self._allow(request.app[ADMISSION].network(request))
        try:
            with request.app[ADMISSION].take(request, RequestKind.CLIPS), self._waiting_for(clip) as answer:
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

    def _allow(self, network: str | None) -> None:
        """Count a request toward the limits of its client network and of all viewers."""
        now = self._clock()
        if len(self._answers) >= AT_ONCE:
            raise _Refused("often", AWAY_FOR)
        buckets = [self._bucket(*limited, now) for limited in limited_networks(network)] if network else []
        for bucket in [*buckets, self._all]:
            if not bucket.take(now):
                raise _Refused("often", math.ceil((1 - bucket.level) / bucket.rate))

    def _bucket(self, name: str, times: int, now: float) -> TokenBucket:
        bucket = self._networks.pop(name, None) or TokenBucket.full(
            times * NETWORK_RATE, times * NETWORK_BURST, now
        )
        self._networks[name] = bucket
        if len(self._networks) > MAX_NETWORKS:
            self._networks.popitem(last=False)
        return bucket

    @contextmanager
    def _waiting_for(self, request: ClipRequest) -> Iterator[asyncio.Future[ClipAnswer]]:
        self._unsent[request.id] = request
        self._answers[request.id] = answer = asyncio.get_running_loop().create_future()
        try:
            yield answer
        finally:
            self._unsent.pop(request.id, None)
            del self._answers[request.id]

    async def _shown(self, path: str) -> None:
        """Wait until the page is there. The clip exists, so its path is valid after a timeout, too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SHOWN_WITHIN):
                while not self._is_shown(path):
                    await self._recordings_changed.next().wait()


def _clip_request(text: str) -> ClipRequest:
    """The request of a page; raises ValueError, LookupError, TypeError, OverflowError, OSError."""
    fields = json.loads(text)
    begin, end = fields["begin"], fields["end"]
    if not SHORTEST <= end - begin <= LONGEST:
        raise ValueError("too short or too long")
    times = (datetime.fromtimestamp(time / 1000, UTC) for time in (begin, end))
    return ClipRequest(secrets.token_hex(8), *times)


def _is_cross_site(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site sent the request (Sec-Fetch-Site; in older browsers Origin)."""
    if site := headers.get("Sec-Fetch-Site"):
        return site not in {"same-origin", "none"}
    if (origin := headers.get(hdrs.ORIGIN)) is None:
        return False
    try:  # a proxy may leave the port out
        return urlsplit(origin).hostname != urlsplit(f"//{headers.get(hdrs.HOST, '')}").hostname
    except ValueError:
        return True


PATIENCE = 30.0  # seconds for a signed playlist, then 503
MOST = 16  # playlists that are requested of ingest at a time
SIGNED_MAX_BYTES, MAX_FILES = 2**26, 1000  # of all remembered playlists
NAMED = re.compile(r'[^"\n]+\.m3u8')  # in a multivariant playlist
PAGES = {"recordings": "watch", "clips": "c"}


class SignedPlaylists:
    """The signed playlists that are valid; ``find`` returns the recording or clip of a page, by its path."""

    def __init__(self, find: Callable[[str], PublicRecording | None]) -> None:
        self._find = find
        # By path: the playlist, or None if there is none; and the end of its validity (monotonic).
        self._files: OrderedDict[str, tuple[ServedFile | None, float]] = OrderedDict()
        self._waiting: dict[str, asyncio.Event] = {}

    @property
    def to_sign(self) -> tuple[str, ...]:
        """Paths of the playlists that viewers wait for."""
        return tuple(self._waiting)

    def add(self, message: SignedPlaylist) -> None:
        """Add a playlist from ingest."""
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
        """The playlist; 404 if there is none, 503 if it is not signed in time."""
        kind, name = request.match_info["kind"], request.match_info["id"]
        found = self._find(f"/{PAGES[kind]}/{name}")
        if found is None:
            return missing_recording()
        try:
            file = await self._file_of(request, found)
        except (NotAdmitted, TimeoutError):
            return web.Response(status=503, text="Come again.\n", headers={hdrs.RETRY_AFTER: "1"})
        return await file.answer(request) if file else missing_recording()

    async def _file_of(self, request: web.Request, found: PublicRecording) -> ServedFile | None:
        """A playlist of the recording, or a playlist named by its multivariant playlist; no other."""
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
            self._waiting.pop(path, None)  # the next request asks ingest again
            raise

    def _size(self) -> int:
        return sum(len(file.body) for file, _ in self._files.values() if file)
