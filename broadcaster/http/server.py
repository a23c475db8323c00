"""Serves an application on an address, within bounds.

How many files, and so connections, this process may have open.

How late this process is: what it measures is what every client waits in addition.

What guards an operator's listener, which asks for no login: it is no page of others that asks.

How the service is, for whoever watches it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from broadcaster.errors import ConfigError
from broadcaster.http.connections import BACKLOG, CONNECTIONS
from broadcaster.ipc.messages import HealthReport

# cloudflared keeps idle connections for 90 s; the side that closes first must not be ours.
EVERY_ADDRESS = ("", "::")  # hosts that mean all addresses of the machine
NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # all of a kernel's addresses may be IPv4
KEEPALIVE_TIMEOUT = 120.0  # seconds
SHUTDOWN_TIMEOUT = 2.0  # seconds
COMPLAIN_EVERY = 60.0  # seconds
LINGERING_TIME = 1.0  # seconds for a body that nobody wants
# Players' requests are small. What is larger is an attempt to make us hold it.
MAX_LINE_BYTES = 4096
MAX_FIELD_BYTES = 4096


class _OurFaults(logging.Filter):
    """Lets through what is our fault, without the address of whoever met it.

    A request that is none would be logged with a traceback for each: strangers send them all day long.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            return False
        if "%s" in str(record.msg):
            record.msg, record.args = "Error handling a request", ()
        return True


logger = logging.getLogger(__name__)
logger.addFilter(_OurFaults())


class Complaints:
    """Logs what the event loop complains of, each thing once a minute; it says so for every connection."""

    def __init__(self, no_memory: Callable[[], object] | None = None) -> None:
        self._said = dict[str, float]()  # by text, when (monotonic)
        self._no_memory = no_memory

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take one (``loop.set_exception_handler``); call ``no_memory`` if that is what it is."""
        if self._no_memory and isinstance(context.get("exception"), MemoryError):
            self._no_memory()
        text, now = str(context.get("message")), time.monotonic()
        if now - self._said.get(text, -COMPLAIN_EVERY) >= COMPLAIN_EVERY:
            self._said[text] = now
            loop.default_exception_handler(context)


def bound(host: str, port: int, settings: str) -> list[socket.socket]:
    """Sockets that listen on an address; who connects waits until somebody serves them.

    Without a host, and for ``::``, these are all addresses of the machine, of both families. Raises
    ConfigError, which names the ``settings`` of the address, when it cannot be had.
    """
    every = host in EVERY_ADDRESS
    with ExitStack() as stack:
        found: list[socket.socket] = []
        try:
            for family, address in addresses(host, port):
                try:
                    # Where any port will do, it is the same one for all families.
                    there = (address, found[0].getsockname()[1] if found and not port else port)
                    one = socket.create_server(there, family=family, backlog=BACKLOG)
                except OSError as error:
                    if not every or error.errno not in NO_SUCH_FAMILY:
                        raise
                    missing = error
                else:
                    found.append(stack.enter_context(one))
            if not found:
                raise missing
        except OSError as error:
            raise ConfigError(f"{settings}: {host}:{port} cannot be had: {error.strerror}") from None
        stack.pop_all()
        return found


def addresses(host: str, port: int) -> list[tuple[int, str]]:
    """Families and addresses of a host that can be listened on; raises OSError."""
    name = None if host in EVERY_ADDRESS else host
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, str(address[0])) for family, _, _, _, address in found]


def address_of(listening: Sequence[socket.socket]) -> str:
    """Where it is served."""
    name, number = listening[0].getsockname()[:2]
    return f"http://{f'[{name}]' if ':' in name else name}:{number}"


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int, settings: str) -> AsyncIterator[str]:
    """Serve while inside; yields the address.

    Raises ConfigError, which names the ``settings`` of the address, when it cannot be had.
    """
    sockets = bound(host, port, settings)
    async with serving(app, sockets):
        yield address_of(sockets)


@asynccontextmanager
async def serving(app: web.Application, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Serve on sockets that listen, while inside; closes them."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=logger,
        auto_decompress=False,  # nobody sends us much, and a small body can become a large one
        handler_cancellation=True,  # a client that leaves frees its place in the waiting room
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
        handlers.request_handler = connections.in_turn(handlers.request_handler)
        servers = [await connections.serve(handlers, one) for one in sockets]
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
    """Allow this process as many open files as the system lets it; returns for how many clients there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # not everywhere is "unlimited" a number that one may ask for
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - RESERVED_FILES))


EVERY = 0.1  # seconds between two measurements
FADES = 0.9  # what is left of a peak after each, so that whoever asks in between sees it
TOO_LATE, FOR_LONG = 0.25, 1.0  # seconds: by so much, and for so long without being in time once


class Lag:
    """Measures by how much the event loop wakes up too late; ``seconds`` is that, fading."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._late_since: float | None = None  # monotonic

    @property
    def is_overloaded(self) -> bool:
        """Whether it is too late all the time: thousands that wake up together make it late for a moment."""
        return self._late_since is not None and time.monotonic() - self._late_since > FOR_LONG

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            self.note(time.monotonic() - due)

    def note(self, late: float) -> None:
        """Take note of a measurement."""
        self.seconds = max(late, FADES * self.seconds)
        if late <= TOO_LATE:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = time.monotonic() - late


# Nothing of it is for pages of others, neither in a frame nor as what it is not.
CLOSED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def asked_by_name(names: Collection[str]) -> Middleware:
    """Refuse what is asked of another host: a page elsewhere whose name was changed to our address."""
    known = {"localhost", *(name.lower() for name in names)}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_ours(request, known):
            return await handler(request)
        text = "This is asked of a host that is not known here (BROADCASTER_ADMIN_NAMES).\n"
        return web.Response(status=421, text=text)

    return check


def _is_ours(request: web.Request, known: Collection[str]) -> bool:
    try:
        host = urlsplit(f"//{request.headers.get(hdrs.HOST, '')}").hostname or ""
    except ValueError:  # brackets that do not match
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

NOT_TOLD = "/health on the operator's listener says why"

HEALTH: web.AppKey[Callable[[], HealthReport]] = web.AppKey("HEALTH")


def for_the_world(report: Health) -> Health:
    """How the service is, for the world: reasons name the bucket and the account, so they are not told."""

    def told() -> HealthReport:
        now = report()
        return replace(now, reason=now.reason and NOT_TOLD, warning=now.warning and NOT_TOLD)

    return told


async def health(request: web.Request) -> web.Response:
    """200 while ingest and storage work or no stream is on, 503 when one is on and does not get through."""
    report = request.app[HEALTH]()
    body = {
        "status": "failing" if report.reason else "ok",
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
    return web.json_response(
        body, status=503 if report.reason else 200, headers={"Cache-Control": "no-store"}
    )
