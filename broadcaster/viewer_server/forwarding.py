"""A standby's answers to viewers: their requests are passed on to the broadcaster that leads.

Equal requests under way are one request there, as through a cache; nothing is kept. What the leader does not
answer is 503, and so is all of it while ingest has not seen it answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from broadcaster.aio import EventLoopLag
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.http.server import HEALTH
from broadcaster.http.static import send
from broadcaster.ipc.messages import HealthReport, Ping, Pong, Setup, State, Update
from broadcaster.metrics import Metric
from broadcaster.tracker.protocol import MAX_MESSAGE_BYTES
from broadcaster.viewer_server.admission import (
    ADMISSION,
    FORWARDED,
    AdmissionControl,
    NotAdmitted,
    RequestKind,
)
from broadcaster.viewer_server.app import MAX_BODY_BYTES, READS, health_and_address, on_answer, sent_metric
from broadcaster.viewer_server.playlists import REQUEST_METRICS, RequestMetrics, refuse
from broadcaster.viewer_server.tracker_socket import MAX_UNSENT, new_socket

Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse

CONNECT = 2.0  # seconds for a connection to the leader
WITHIN = 95.0  # seconds for an answer: the leader holds a request for 90 at most
SILENT = 25.0  # seconds without an event; the leader sends one every ten
MOST = 1000  # requests to the leader at a time
LARGEST, MOST_BYTES = 2**25, 2**26  # of an answer, and of all that are received or sent now
EVENTS, TRACKER = "/live/events", "/live/tracker"  # end paths of an answer without an end, and of sockets
# Headers that are passed on: those that the leader reads. A viewer's own X-Forwarded-For is none of them.
TO_LEADER = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Host", "If-None-Match", "Origin"),
    *("Content-Type", "Sec-Fetch-Dest", "Sec-Fetch-Site", "X-Forwarded-Proto"),
)
# Headers of an answer that are made anew (RFC 9110, 7.6.1, and the length).
OWN = {
    *("connection", "content-length", "date", "keep-alive", "server", "te", "trailer"),
    *("transfer-encoding", "upgrade"),
}
NO_AUTOMATIC = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LeaderAnswer:
    """A complete answer of the leader."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


@dataclass(frozen=True, slots=True)
class LeaderRequest:
    """What the leader's answer depends on: equal requests have one answer."""

    method: str
    url: URL
    headers: tuple[tuple[str, str], ...]


class Forwarder(AbstractResolver):
    """A viewer server that passes requests on to ``setup.leader``; ``handle`` takes only pings.

    It resolves no names: pings have the addresses of the leader.
    """

    def __init__(self, setup: Setup) -> None:
        if setup.leader is None:
            raise ValueError("there is no leader")
        self.report = HealthReport(State.OFFLINE, 0, "the leader has not answered yet", standby=True)
        self._leader = URL(setup.leader)
        self._addresses: tuple[str, ...] = ()
        self._session: aiohttp.ClientSession | None = None
        self._shared: dict[LeaderRequest, asyncio.Task[LeaderAnswer]] = {}
        self._under_way = 0  # requests to the leader
        self.bytes_held = 0  # of answers that are received or sent
        self.lag = EventLoopLag()
        self.app = self._make_app(setup)

    def handle(self, message: Update) -> None:
        """Take the health of ingest, and the addresses of the leader; other messages say nothing."""
        if isinstance(message, Ping):
            self.report, self._addresses = message.report, message.others

    def pong(self) -> Pong:
        """The answer to a ping."""
        return Pong(tuple(map(sent_metric, self.metrics())))

    def metrics(self) -> Iterator[Metric]:
        """The metrics of all parts."""
        for name in (REQUEST_METRICS, CONNECTIONS, ADMISSION):
            yield from self.app[name].metrics()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of the leader (``AbstractResolver``). Raises OSError."""
        if not self._addresses:
            raise OSError("the leader's name is not known")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET)
        ]

    async def close(self) -> None:
        """Nothing (``AbstractResolver``)."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on; 503 if it has no answer."""
        try:
            found = await self._answer(request)
        except NotAdmitted as reason:
            return refuse(503, str(reason))
        except aiohttp.WSServerHandshakeError as refused:
            return refuse(refused.status, "The broadcaster that leads opens no socket")
        except (aiohttp.ClientError, OSError):  # TimeoutError is one
            return refuse(503, "The broadcaster that leads does not answer")
        if isinstance(found, web.StreamResponse):
            return found
        if request.method == hdrs.METH_HEAD:
            return web.Response(status=found.status, headers=found.headers)
        return await send(request, found.body, found.headers, found.status)

    async def _answer(self, request: web.Request) -> LeaderAnswer | web.StreamResponse:
        """The leader's answer, or what was passed on. Raises NotAdmitted, aiohttp.ClientError, OSError."""
        is_socket = hdrs.UPGRADE in request.headers
        is_trackers = request.path.endswith(TRACKER) and hdrs.SEC_WEBSOCKET_PROTOCOL not in request.headers
        if self.report.reason or (is_socket and not is_trackers):
            raise aiohttp.ClientConnectionError("the leader is not there, or has no such socket")
        streams = request.path.endswith(EVENTS)
        kind = RequestKind.EVENTS if streams else RequestKind.TRACKER if is_socket else RequestKind.WAITERS
        with request.app[ADMISSION].take(request, kind):
            if is_socket:
                return await self._converse(request)
            body = await request.read() if request.can_read_body else b""
            request.app[CONNECTIONS].complete(request)
            if streams:
                return await self._stream(request)
            return await (self._share(request) if request.method in READS else self._ask(request, body))

    async def health(self, request: web.Request) -> web.Response:
        """That a broadcaster stands by, and nothing of its private event."""
        answer = await health_and_address(request)
        answer.text = json.dumps({"status": "standby"})
        return answer

    def _to_leader(self, request: web.Request) -> LeaderRequest:
        given = request.headers
        headers = tuple((name, ", ".join(given.getall(name))) for name in TO_LEADER if name in given)
        url = URL.build(
            scheme=self._leader.scheme,
            authority=self._leader.raw_authority,
            path=request.rel_url.raw_path,
            query_string=request.rel_url.raw_query_string,
            encoded=True,
        )
        return LeaderRequest(request.method, url, headers)

    async def _share(self, request: web.Request) -> LeaderAnswer:
        """The answer that all equal requests under way get; it is asked for without a viewer's address."""
        wanted = self._to_leader(request)
        task = self._shared.get(wanted)
        if task is None:
            receiving = self._receive(wanted, CIMultiDict(wanted.headers))
            task = self._shared[wanted] = asyncio.create_task(receiving)
            task.add_done_callback(lambda done: self._forget(wanted, done))
        return await asyncio.shield(task)  # others may wait for it, when this viewer leaves

    def _forget(self, wanted: LeaderRequest, done: asyncio.Task[LeaderAnswer]) -> None:
        del self._shared[wanted]
        if not done.cancelled():
            done.exception()  # is nobody's if all viewers have left

    async def _ask(self, request: web.Request, body: bytes) -> LeaderAnswer:
        """The answer to any other request; the leader's limits hold for its viewer."""
        wanted = self._to_leader(request)
        return await self._receive(wanted, _with_address(request, wanted), body)

    async def _receive(
        self, wanted: LeaderRequest, headers: CIMultiDict[str], body: bytes = b""
    ) -> LeaderAnswer:
        found = bytearray()
        try:
            async with self._request(wanted, headers, body) as response:
                async for piece in response.content.iter_any():
                    found += piece
                    self.bytes_held += len(piece)
                    if len(found) > LARGEST or self.bytes_held > MOST_BYTES:
                        raise aiohttp.ClientPayloadError("too large")
                answer = LeaderAnswer(response.status, _passed_on(response, wanted.method), bytes(found))
        except BaseException:
            self._release(len(found))
            raise
        weakref.finalize(answer, self._release, len(found))
        return answer

    def _release(self, size: int) -> None:
        self.bytes_held -= size

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Pass on an answer without an end, as fast as the viewer reads."""
        wanted = self._to_leader(request)
        async with self._request(wanted, CIMultiDict(wanted.headers), within=None) as found:
            response = web.StreamResponse(status=found.status, headers=_passed_on(found, wanted.method))
            await response.prepare(request)
            with suppress(aiohttp.ClientError, OSError):  # the leader or the viewer is gone
                async for piece in found.content.iter_any():
                    await request.app[CONNECTIONS].drained(request)
                    await response.write(piece)
                await response.write_eof()
            return response

    async def _converse(self, request: web.Request) -> web.StreamResponse:
        """Pass on a socket of the tracker, frame by frame, until either side closes it."""
        wanted = self._to_leader(request)
        ours = new_socket()
        with self._counted() as session:
            async with asyncio.timeout(SILENT):
                theirs = await session.ws_connect(
                    wanted.url,
                    headers=_with_address(request, wanted),
                    autoping=False,  # the leader's pings are answered by the viewer
                    max_msg_size=2 * MAX_MESSAGE_BYTES,
                )
            async with theirs:
                await ours.prepare(request)
                request.app[CONNECTIONS].upgrade(request)
                pumps = [
                    asyncio.create_task(_pump(ours, theirs)),
                    asyncio.create_task(_pump(theirs, ours, request.transport)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
                code = theirs.close_code
                await ours.close(
                    code=code if code == WSCloseCode.POLICY_VIOLATION else WSCloseCode.GOING_AWAY
                )
        return ours

    @contextmanager
    def _counted(self) -> Iterator[aiohttp.ClientSession]:
        """Count a request to the leader. Raises aiohttp.ClientError."""
        if self._session is None or self._under_way >= MOST:
            raise aiohttp.ClientConnectionError("too many requests, or the standby ends")
        self._under_way += 1
        try:
            yield self._session
        finally:
            self._under_way -= 1

    @asynccontextmanager
    async def _request(
        self,
        wanted: LeaderRequest,
        headers: CIMultiDict[str],
        body: bytes = b"",
        *,
        within: float | None = WITHIN,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The beginning of an answer. Raises aiohttp.ClientError, OSError."""
        silent = None if within else SILENT
        timeout = aiohttp.ClientTimeout(total=within, sock_connect=CONNECT, sock_read=silent)
        with self._counted() as session:
            async with session.request(
                wanted.method,
                wanted.url,
                headers=headers,
                data=body or None,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                yield response

    async def _run_tasks(self, _: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, resolver=self, use_dns_cache=False)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=NO_AUTOMATIC,
        ) as self._session:
            lag = asyncio.create_task(self.lag.run())
            yield
            lag.cancel()

    async def stop(self, _: web.Application) -> None:
        """End all requests to the leader: viewers are answered 503, and ask again."""
        session, self._session = self._session, None
        if session:
            await session.close()

    def _make_app(self, setup: Setup) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app[REQUEST_METRICS], app[CONNECTIONS] = RequestMetrics(), Connections(setup.max_connections)
        app[ADMISSION] = AdmissionControl(setup.max_connections, self.lag, setup.trusted_header)
        app[HEALTH] = lambda: self.report
        app.cleanup_ctx.append(self._run_tasks)
        app.on_response_prepare.append(on_answer)
        app.on_shutdown.append(self.stop)
        own = health_and_address if setup.access == "public" else self.health
        app.router.add_get("/health", own, name="health")
        app.router.add_route("*", "/{path:.*}", self.answer, name="leader")
        return app


def _with_address(request: web.Request, wanted: LeaderRequest) -> CIMultiDict[str]:
    """The headers of a request with its viewer's address, for which the leader's limits hold."""
    headers, address = CIMultiDict(wanted.headers), request.app[ADMISSION].address(request)
    if address:
        headers[FORWARDED] = str(address)
    return headers


async def _pump(source: Socket, target: Socket, transport: asyncio.Transport | None = None) -> None:
    """Pass frames on until the source ends, or too many bytes are unread at the target's ``transport``."""
    async for message in source:
        data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        if transport and transport.get_write_buffer_size() > MAX_UNSENT:
            transport.abort()
            return
        with suppress(ConnectionResetError):  # the source notices
            await target.send_frame(data, message.type)


def _passed_on(response: aiohttp.ClientResponse, method: str) -> CIMultiDict[str]:
    """The headers of the leader's answer that are the viewer's as well."""
    found = CIMultiDict(item for item in response.headers.items() if item[0].lower() not in OWN)
    if method == hdrs.METH_HEAD and hdrs.CONTENT_LENGTH in response.headers:
        found[hdrs.CONTENT_LENGTH] = response.headers[hdrs.CONTENT_LENGTH]
    return found
