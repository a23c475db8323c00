"""A small HLS server of two variants that is right by default, and takes a seeded fault.

Its segments are short, so that all that takes a few of them is soon over.
"""

import asyncio
import gzip
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from broadcaster.demo.processes import HOST
from tests.conformance.subject import State
from tests.support.fakes import mpegts as packets

TARGET_DURATION = 1  # seconds
SEGMENT = 0.5  # seconds
FIRST_NUMBER = 100  # that is the last one at the start
ENCODER_RUN = 2  # segments; then there is a DISCONTINUITY
START = datetime(2026, 1, 1, tzinfo=UTC)
VARIANTS = ("0", "1")
MULTIVARIANT = "#EXTM3U\n" + "".join(
    f"#EXT-X-STREAM-INF:BANDWIDTH=1000000\n{name}/playlist.m3u8\n" for name in VARIANTS
)
MULTIVARIANT += '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=500,URI="0/iframes.m3u8"\n'
IFRAME = "#EXT-X-BYTERANGE:376@376"  # in packets.segment()
CACHE_CONTROL = {
    "plain": "public, max-age=1",
    "blocking": "public, max-age=6",
    "malformed": "public, max-age=4",
    "too far ahead": "no-store",
    "timed out": "no-store",
    "missing": "public, max-age=1",
    "offline": "no-store",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered, before it has its headers. ``last`` is the number at which the stream stands."""

    kind: str  # of CACHE_CONTROL
    status: int
    text: str = "Refused\n"
    variant: str = ""
    last: int = 0
    skip: bool = False


def as_it_is(reply: Reply) -> str:
    """The text unchanged."""
    return reply.text


def as_they_are(_: web.Request, __: web.Response) -> None:
    """The headers unchanged."""


@dataclass(frozen=True)
class Behaviour:
    """The right way; a fault is another one.

    ``text`` may rewrite what is answered, ``headers`` the whole response at last. The others are what a
    server has to decide.
    """

    text: Callable[[Reply], str] = as_it_is
    headers: Callable[[web.Request, web.Response], None] = as_they_are
    cache_control: Mapping[str, str] = field(default_factory=dict)  # instead of CACHE_CONTROL
    waits: Callable[[int], bool] = lambda ahead: ahead > 0  # so many numbers ahead of the last one
    refuses: Callable[[int], bool] = lambda ahead: ahead > 2
    patience: float = 3 * TARGET_DURATION  # seconds
    wake_up: float = 0  # seconds from a segment to the answers that wait for it
    refusal: float = 0  # seconds until a 400
    vain: Reply | None = Reply("timed out", 503)  # when nothing came; else what there is
    checks_part: bool = True
    checks_number: bool = True
    parameters: str = ".*"  # what the names of parameters have to match
    heeds_end: bool = True
    window: int = 30  # segments
    skip_boundary: float = 6 * TARGET_DURATION  # seconds
    keeps: float = 6 * TARGET_DURATION  # seconds that a delta update really has
    skips: Callable[[str, str], bool] = lambda value, _: value == "YES"  # _HLS_skip, kind of answer
    matches: Callable[[str, str], bool] = lambda condition, etag: etag in condition
    accepts_gzip: Callable[[str], bool] = lambda value: value == "gzip"
    etag: Callable[[bytes, bytes], bytes] = lambda body, _: body  # of what is sent and what it says
    has_segment: Callable[[int, int], bool] = lambda number, last: number <= last


RIGHT = Behaviour()


class FaultyServer:
    """One stream in one state, as ``behaviour`` says."""

    def __init__(self, behaviour: Behaviour, state: State) -> None:
        self._is = behaviour
        self._state = state
        self._last = FIRST_NUMBER
        self._modified = datetime.now(UTC)
        self._grown = asyncio.Condition()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/live.m3u8", self._main)
        app.router.add_get("/{variant}/playlist.m3u8", self._media)
        app.router.add_get("/{variant}/iframes.m3u8", self._iframes)
        app.router.add_get("/{variant}/{number}.ts", self._segment)
        return app

    async def grow(self) -> None:
        """Add a segment at a time, until cancelled."""
        while self._state is State.LIVE:
            await asyncio.sleep(SEGMENT)
            self._last, self._modified = self._last + 1, datetime.now(UTC)
            async with self._grown:
                self._grown.notify_all()

    async def _main(self, request: web.Request) -> web.Response:
        if self._state is State.OFFLINE:
            return self._send(request, Reply("offline", 404))
        return self._send(request, Reply("plain", 200, MULTIVARIANT))

    async def _media(self, request: web.Request) -> web.Response:
        variant, query = request.match_info["variant"], request.query
        if variant not in VARIANTS:
            return self._send(request, Reply("missing", 404))
        if self._state is State.ENDED and self._is.heeds_end:
            return self._send(request, Reply("plain", 200, self._render(skip=False)))
        if refusal := self._objection(query) or await self._wait(query.get("_HLS_msn", "")):
            return self._send(request, refusal)
        kind = "blocking" if "_HLS_msn" in query else "plain"
        skip = self._is.skips(query.get("_HLS_skip", ""), kind)
        return self._send(request, Reply(kind, 200, self._render(skip=skip), variant, self._last, skip))

    def _objection(self, query: Mapping[str, str]) -> Reply | None:
        number, behaviour = query.get("_HLS_msn"), self._is
        if (
            not all(re.fullmatch(behaviour.parameters, name) for name in query)
            or (behaviour.checks_part and "_HLS_part" in query and number is None)
            or (behaviour.checks_number and number is not None and not number.isdecimal())
        ):
            return Reply("malformed", 400)
        return None

    async def _wait(self, number: str) -> Reply | None:
        if not number.isdecimal():
            return None
        ahead = int(number) - self._last
        if self._is.refuses(ahead):
            await asyncio.sleep(self._is.refusal)
            return Reply("too far ahead", 400)
        if not self._is.waits(ahead):
            return None
        enough = max(int(number), self._last + 1)
        try:
            async with asyncio.timeout(self._is.patience), self._grown:
                await self._grown.wait_for(lambda: self._last >= enough)
        except TimeoutError:
            return self._is.vain
        await asyncio.sleep(self._is.wake_up)
        return None

    async def _segment(self, request: web.Request) -> web.Response:
        there = self._is.has_segment(int(request.match_info["number"]), self._last)
        if not there:
            return web.Response(status=404)
        status = 206 if "Range" in request.headers else 200
        return web.Response(status=status, body=packets.segment()[request.http_range])

    async def _iframes(self, request: web.Request) -> web.Response:
        return self._send(request, Reply("plain", 200, self._render(skip=False, iframes=True)))

    def _render(self, *, skip: bool, iframes: bool = False) -> str:
        first = self._last - self._is.window + 1
        shown = max(first, self._last + 1 - round(self._is.keeps / SEGMENT)) if skip else first
        boundary = f",CAN-SKIP-UNTIL={self._is.skip_boundary}" if self._is.skip_boundary else ""
        lines = [
            "#EXTM3U",
            f"#EXT-X-VERSION:{9 if skip else 3}",
            f"#EXT-X-TARGETDURATION:{TARGET_DURATION}",
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK={3 * TARGET_DURATION}{boundary}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{(first - 1) // ENCODER_RUN}",
        ]
        if iframes:
            lines[1], lines[3] = "#EXT-X-VERSION:4", "#EXT-X-I-FRAMES-ONLY"
        if shown > first:
            lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={shown - first}")
        for number in range(shown, self._last + 1):
            if number % ENCODER_RUN == 0:
                lines.append("#EXT-X-DISCONTINUITY")
            time = START + timedelta(seconds=number * SEGMENT)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{time.isoformat(timespec='milliseconds')}")
            lines += [f"#EXTINF:{SEGMENT},", *([IFRAME] if iframes else []), f"{number}.ts"]
        if self._state is State.ENDED:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def _send(self, request: web.Request, reply: Reply) -> web.Response:
        plain = self._is.text(reply).encode()
        zipped = self._is.accepts_gzip(request.headers.get("Accept-Encoding", ""))
        body = gzip.compress(plain, mtime=0) if zipped else plain
        response = web.Response(status=reply.status, body=body)
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = "Age, Date, ETag"
        response.headers["Cache-Control"] = {**CACHE_CONTROL, **self._is.cache_control}[reply.kind]
        if zipped:
            response.headers["Content-Encoding"] = "gzip"
        if reply.status == 200:
            etag = f'"{hashlib.sha256(self._is.etag(body, plain)).hexdigest()[:16]}"'
            response.headers["Content-Type"] = "application/vnd.apple.mpegurl"
            response.headers["ETag"] = etag
            response.headers["Last-Modified"] = format_datetime(self._modified, usegmt=True)
            response.headers["Vary"] = "Accept-Encoding"
            if self._is.matches(request.headers.get("If-None-Match", ""), etag):
                response.set_status(304)
                response.body = None
        self._is.headers(request, response)
        return response


@asynccontextmanager
async def faulty_server(behaviour: Behaviour, state: State) -> AsyncIterator[str]:
    """A server that runs; the URL of its multivariant playlist."""
    server = FaultyServer(behaviour, state)
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    growing = asyncio.create_task(server.grow())
    try:
        _, port = runner.addresses[0][:2]
        yield f"http://{HOST}:{port}/live.m3u8"
    finally:
        growing.cancel()
        await asyncio.gather(growing, return_exceptions=True)
        await runner.cleanup()
