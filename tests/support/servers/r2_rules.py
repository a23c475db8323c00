"""R2's rules for uploads in parts, in front of SeaweedFS, which takes what R2 refuses.

Status, code and message are R2's (developers.cloudflare.com/r2/api/error-codes). It passes on the Host header
that the client has signed, so that the bucket's check of the signature (SigV4) still holds.
"""

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from xml.etree import ElementTree as ET

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import HOST, free_ports

MIB = 2**20
SMALLEST, LARGEST, MOST = 5 * MIB, 5 * 2**30, 10_000  # of parts: bytes, bytes, and how many
UNEQUAL = "All non-trailing parts must have the same length."
OF_ONE_HOP = {hdrs.CONTENT_LENGTH, hdrs.EXPECT}
OF_THE_WAY = {hdrs.TRANSFER_ENCODING, hdrs.CONTENT_LENGTH, hdrs.CONNECTION, hdrs.DATE, hdrs.SERVER}


class Fault(Enum):
    """What becomes of a request."""

    ERROR = auto()  # 500
    HANG = auto()  # no answer
    OTHER_BYTES = auto()  # a byte is another one, and so the ETag
    LOST = auto()  # it is done, and its answer does not come


class Refused(Exception):  # noqa: N818 - what it says
    """R2 would not take it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def answer(self) -> web.Response:
        error = f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>{error}'
        return web.Response(status=self.status, text=body, content_type="application/xml")


@dataclass
class Gate:
    """Holds the requests for an object until it is ``open``; ``reached`` is set when all of one has come."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)


class StrictFront:
    """Listens on ``url`` while it is open. ``arrived`` counts how often each part came whole.

    ``faults`` are of parts by their number, one for each time, ``faults[0]`` of completing. An object whose
    key ends in one of ``gates`` is passed on only once that gate is open.
    """

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://{HOST}:{self.port}"
        self.arrived: Counter[int] = Counter()
        self.faults: dict[int, list[Fault]] = {}
        self.news = asyncio.Condition()
        self.gates: dict[str, Gate] = {}
        self._upstream = upstream
        self._session = session
        self._parts: dict[str, dict[int, tuple[str, int]]] = {}  # by upload: ETag and size of each

    async def until(self, parts: int) -> None:
        """Wait until so many parts have come."""
        async with self.news:
            await self.news.wait_for(lambda: self.arrived.total() >= parts)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """As R2 would."""
        try:
            if request.headers.get("x-amz-content-sha256", "").endswith("-TRAILER"):
                raise Refused(501, "NotImplemented", "STREAMING-UNSIGNED-PAYLOAD-TRAILER not implemented")
            body = await request.read()
            for gate in [gate for end, gate in self.gates.items() if request.path.endswith(end)]:
                gate.reached.set()
                await gate.open.wait()
            upload, number = request.query.get("uploadId"), request.query.get("partNumber")
            if request.method == "PUT" and upload and number:
                return await self._take_part(request, upload, number, body)
            if request.method == "POST" and upload:
                return await self._complete(request, upload, body)
            return await self._pass(request, body)
        except Refused as refused:
            return refused.answer()

    async def _take_part(
        self, request: web.Request, upload: str, text: str, body: bytes
    ) -> web.StreamResponse:
        if not text.isdecimal() or not 1 <= (number := int(text)) <= MOST:
            raise Refused(400, "InvalidArgument", f"Part number must be from 1 to {MOST}.")
        if len(body) > LARGEST:
            raise Refused(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
        fault = await self._fault(number)
        if fault is Fault.OTHER_BYTES:
            body = bytes([body[0] ^ 1]) + body[1:]
        answer = await self._pass(request, body)
        if answer.status == HTTPStatus.OK:
            self._parts.setdefault(upload, {})[number] = answer.headers[hdrs.ETAG].strip('"'), len(body)
            async with self.news:
                self.arrived[number] += 1
                self.news.notify_all()
        return answer

    async def _complete(self, request: web.Request, upload: str, body: bytes) -> web.StreamResponse:
        known = self._parts.get(upload, {})
        check(list(_named(body)), known)
        fault = await self._fault(0)
        answer = await self._pass(request, body)
        if fault is Fault.LOST and request.transport:
            request.transport.abort()
        return answer

    async def _fault(self, number: int) -> Fault | None:
        fault = left.pop(0) if (left := self.faults.get(number)) else None
        if fault is Fault.ERROR:
            raise Refused(500, "InternalError", "We encountered an internal error. Please try again.")
        if fault is Fault.HANG:
            await asyncio.Event().wait()  # until the client has had enough
        return fault

    async def _pass(self, request: web.Request, body: bytes) -> web.Response:
        async with self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers={name: value for name, value in request.headers.items() if name not in OF_ONE_HOP},
            data=io.BytesIO(body) if body else None,
            allow_redirects=False,
            skip_auto_headers=(hdrs.CONTENT_TYPE, hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING),
        ) as answer:
            headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_WAY}
            if request.method == "HEAD":
                headers[hdrs.CONTENT_LENGTH] = answer.headers.get(hdrs.CONTENT_LENGTH, "0")
            text, upload = await answer.read(), request.query.get("uploadId", "")
            if request.method == "GET" and upload and answer.status == HTTPStatus.OK:
                text = _newest(text, self._parts.get(upload, {}))
            return web.Response(status=answer.status, body=text, headers=headers)


def check(named: list[tuple[int, str]], known: dict[int, tuple[str, int]]) -> None:
    """Whether an object can be made of these parts, of those that are ``known``: ETag and size by number.

    It is only then that R2 looks at their sizes. Raises Refused.
    """
    if not named:
        raise Refused(400, "MalformedXML", "The XML you provided was not well formed.")
    numbers = [number for number, _ in named]
    if numbers != sorted(set(numbers)):
        raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    if any(number not in known or known[number][0] != etag for number, etag in named):
        raise Refused(400, "InvalidPart", "One or more of the specified parts could not be found.")
    *others, last = (known[number][1] for number in numbers)
    if any(size < SMALLEST for size in others):
        raise Refused(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size.")
    if others and (len(set(others)) > 1 or last > others[0]):
        raise Refused(400, "InvalidPart", UNEQUAL)


def _newest(listed: bytes, known: dict[int, tuple[str, int]]) -> bytes:
    """SeaweedFS lists a part that was sent again with other bytes twice; R2 has the newer one alone."""
    tree = ET.fromstring(listed)
    for part in tree.findall("{*}Part"):
        etag, _ = known[int(part.findtext("{*}PartNumber") or "")]
        if (part.findtext("{*}ETag") or "").strip('"') != etag:
            tree.remove(part)
    return bytes(ET.tostring(tree))


def _named(body: bytes) -> Iterator[tuple[int, str]]:
    try:
        for part in ET.fromstring(body).iterfind("{*}Part"):
            yield int(part.findtext("{*}PartNumber") or ""), (part.findtext("{*}ETag") or "").strip('"')
    except (ET.ParseError, ValueError):
        raise Refused(400, "MalformedXML", "The XML you provided was not well formed.") from None


@asynccontextmanager
async def strict_front(bucket: SeaweedBucket) -> AsyncIterator[StrictFront]:
    """In front of this bucket."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        front = StrictFront(bucket.endpoint_url, session)
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{path:.*}", front.answer)
        runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, front.port).start()
            yield front
        finally:
            await runner.cleanup()
