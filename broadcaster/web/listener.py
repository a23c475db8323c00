"""Serves an application on an address, within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from broadcaster.errors import ConfigError
from broadcaster.web.connections import CONNECTIONS

# cloudflared keeps idle connections for 90 s; the side that closes first must not be ours.
KEEPALIVE_TIMEOUT = 120.0  # seconds
SHUTDOWN_TIMEOUT = 2.0  # seconds
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


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int, settings: str) -> AsyncIterator[str]:
    """Serve while inside; yields the address.

    Raises ConfigError, which names the ``settings`` of the address, when it cannot be had.
    """
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
        try:
            server = await connections.serve(handlers, host, port)
        except OSError as error:
            raise ConfigError(f"{settings}: {host}:{port} cannot be had: {error.strerror}") from None
        try:
            async with asyncio.TaskGroup() as group:
                sweeping = group.create_task(connections.sweep(), name="slow connections")
                name, number = server.sockets[0].getsockname()[:2]
                yield f"http://{name}:{number}"
                sweeping.cancel()
        finally:
            server.close()
    finally:
        await runner.cleanup()
