"""Serves an application on listening sockets, within limits; guards of the admin listener; ``/health``."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from broadcaster.aio import LogLimiter
from broadcaster.errors import ConfigError
from broadcaster.http.connections import BACKLOG, CONNECTIONS, Handle
from broadcaster.ipc.messages import HealthReport

EVERY_ADDRESS = ("", "::")  # hosts that mean all addresses of the machine
NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # of a kernel without IPv6
# cloudflared keeps idle connections for 90 s, and must be the side that closes them.
KEEPALIVE_TIMEOUT = 120.0  # seconds
SHUTDOWN_TIMEOUT = 2.0  # seconds
LINGERING_TIME = 1.0  # seconds for the rest of a refused body
MAX_LINE_BYTES = MAX_FIELD_BYTES = 4096  # requests of players are small


class _OwnErrors(logging.Filter):
    """Drops tracebacks of malformed requests, and client addresses of all other errors."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            return False
        if "%s" in str(record.msg):
            record.msg, record.args = "Error handling a request", ()
        return True


logger = logging.getLogger(__name__)
logger.addFilter(_OwnErrors())


class LoopErrorHandler:
    """Logs errors of the event loop, each text once a minute; calls ``no_memory`` on a MemoryError."""

    def __init__(self, no_memory: Callable[[], object] = lambda: None) -> None:
        self._log = LogLimiter()
        self._no_memory = no_memory

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error (``loop.set_exception_handler``)."""
        if isinstance(context.get("exception"), MemoryError):
            self._no_memory()
        if self._log.allows(str(context.get("message"))):
            loop.default_exception_handler(context)


def listening_sockets(host: str, port: int, settings: str) -> list[socket.socket]:
    """Sockets that listen on an address; connections wait until they are served.

    Without a host, and for ``::``, these are all addresses of the machine, IPv4 and IPv6. Raises ConfigError,
    which names the ``settings`` of the address.
    """
    every = host in EVERY_ADDRESS
    with ExitStack() as stack:
        found: list[socket.socket] = []
        try:
            for family, name in addresses(host, port):
                # With port 0, all families get the same port.
                address = (name, found[0].getsockname()[1] if found and not port else port)
                try:
                    opened = socket.create_server(address, family=family, backlog=BACKLOG)
                except OSError as error:
                    if not every or error.errno not in NO_SUCH_FAMILY:
                        raise
                    missing = error
                else:
                    found.append(stack.enter_context(opened))
            if not found:
                raise missing
        except OSError as error:
            raise ConfigError(f"{settings}: {host}:{port} cannot be had: {error.strerror}") from None
        stack.pop_all()
        return found


def addresses(host: str, port: int) -> list[tuple[int, str]]:
    """Address families and addresses of a host to listen on; raises OSError."""
    name = None if host in EVERY_ADDRESS else host
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, str(address[0])) for family, _, _, _, address in found]


def address_of(listening: Sequence[socket.socket]) -> str:
    """The URL of listening sockets."""
    name, number = listening[0].getsockname()[:2]
    return f"http://{f'[{name}]' if ':' in name else name}:{number}"


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int, settings: str) -> AsyncIterator[str]:
    """Serve on an address while inside, and yield its URL.

    Raises ConfigError, which names the ``settings`` of the address.
    """
    sockets = listening_sockets(host, port, settings)
    async with serving(app, sockets):
        yield address_of(sockets)


GATE: web.AppKey[Callable[[Handle], Handle]] = web.AppKey("GATE")  # a step before all others


@asynccontextmanager
async def serving(app: web.Application, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Serve on listening sockets while inside; closes them."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=logger,
        auto_decompress=False,  # a small body can become a large one
        handler_cancellation=True,  # a client that leaves ends its blocked request
        keepalive_timeout=KEEPALIVE_TIMEOUT,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
        lingering_time=LINGERING_TIME,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
    )
    await runner.setup()
    try:
        connections, handlers = app[CONNECTIONS], runner.server
        if handlers is None:
            raise RuntimeError("the runner is not set up")
        gate = app.get(GATE) or (lambda handle: handle)
        handlers.request_handler = connections.in_turn(gate(handlers.request_handler))
        servers = [await connections.serve(handlers, listener) for listener in sockets]
        try:
            async with asyncio.TaskGroup() as group:
                sweeping = group.create_task(connections.sweep(), name="slow connections")
                yield
                sweeping.cancel()
        finally:
            for server in servers:
                server.close()
    finally:
        await runner.cleanup()


RESERVED_FILES = 64  # for the process itself


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files as far as possible; returns for how many of ``wanted`` clients it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # some systems refuse "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - RESERVED_FILES))


# No page of another origin may frame or read the admin listener.
ADMIN_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def allow_hosts(names: Collection[str]) -> Middleware:
    """Refuse requests for other host names: a foreign page whose name was changed to our address."""
    known = {"localhost", *(name.lower() for name in names)}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_own_host(request, known):
            return await handler(request)
        text = "This host name is not allowed (BROADCASTER_ADMIN_NAMES).\n"
        return web.Response(status=421, text=text)

    return check


def _is_own_host(request: web.Request, known: Collection[str]) -> bool:
    try:
        host = urlsplit(f"//{request.headers.get(hdrs.HOST, '')}").hostname or ""
    except ValueError:  # unmatched brackets
        return False
    if host in known:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    own = request.transport.get_extra_info("sockname")[0] if request.transport else ""
    return address.is_loopback or host == own


Health = Callable[[], HealthReport]

NOT_PUBLIC = "/health on the operator's listener says why"

HEALTH: web.AppKey[Health] = web.AppKey("HEALTH")


def public_health(report: Health) -> Health:
    """The health without reasons: they name the bucket and the account."""

    def public() -> HealthReport:
        now = report()
        reason, warning = now.reason and NOT_PUBLIC, now.warning and NOT_PUBLIC
        return replace(now, reason=reason, warning=warning, faults=())

    return public


def health_fields(report: HealthReport) -> dict[str, object]:
    """The body of ``/health``."""
    return {
        "status": "standby" if report.standby else "failing" if report.reason else "ok",
        "stream": report.stream,
        "reason": report.reason,
        "warning": report.warning,
        "chunks": report.published,
        "manifestChunks": report.listed,
        "backlog": report.backlog,
        "peers": report.peers,
        "torrents": report.torrents,
        "signaling": report.signaling,
    }


async def health(request: web.Request) -> web.Response:
    """503 while a running stream does not reach viewers, else 200."""
    report = request.app[HEALTH]()
    return web.json_response(
        health_fields(report), status=503 if report.reason else 200, headers={"Cache-Control": "no-store"}
    )
