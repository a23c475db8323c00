"""The process: ``python -m broadcaster.viewer_server FEED LISTENING...``, by the numbers of its open sockets.

It has neither keys nor settings. What it serves it is told on the feed; when that closes, it ends. It may be
killed at any time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from broadcaster import logs
from broadcaster.http.server import LoopErrorHandler, serving
from broadcaster.ipc.messages import Ping, Setup, encode_pong, receive
from broadcaster.printable import show_exceptions
from broadcaster.viewer_server.app import ViewerServer
from broadcaster.viewer_server.sandbox import enter_sandbox, read_only

logger = logging.getLogger(__name__)

EXIT_NO_MEMORY = 12
# Bytes of address space: the process has 60 MiB as it starts. What takes more is no viewer.
MEMORY, MEMORY_OF_A_CONNECTION = 384 * 2**20, 2**15


async def run(feed: socket.socket, listening: list[socket.socket]) -> None:
    """Serve until ingest closes the feed."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopErrorHandler(end_without_memory))
    # Each thread takes address space (a stack, an arena of malloc): a few for each processor are too many.
    loop.set_default_executor(ThreadPoolExecutor(1))
    reader, writer = await asyncio.open_connection(sock=feed)
    setup = await receive(reader)
    if not isinstance(setup, Setup):
        raise TypeError("the first message has to be the setup")
    logs.set_up(*setup.log)
    bound_memory(setup.max_connections)
    audience = ViewerServer(setup)
    # The operator's settings of the page may be elsewhere; what takes their place later is in that folder.
    if not read_only([setup.viewer_dir, (setup.viewer_dir / "config.json").resolve().parent]):
        logger.info("this kernel cannot keep the process that serves viewers from reading files (Landlock)")
    audience.app.middlewares.append(_with_memory)
    first = await receive(reader)  # what there is, before anybody can ask for it
    async with serving(audience.app, listening):
        gc.collect()
        gc.freeze()  # what is there now stays: to look through it again and again would hold up everybody
        message = first
        with suppress(EOFError, ConnectionError):
            while True:
                if isinstance(message, Setup):
                    raise TypeError("only the first message can be the setup")
                audience.take(message)
                if isinstance(message, Ping):
                    writer.write(encode_pong(audience.pong()))
                message = await receive(reader)


def bound_memory(connections: int) -> None:
    """From here on take no more address space than so many connections need (``RLIMIT_AS``)."""
    most = MEMORY + connections * MEMORY_OF_A_CONNECTION
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError) as error:
        logger.info("the memory of the process that serves viewers cannot be bounded (%s)", error)


def end_without_memory() -> None:
    """Another process takes its place: without memory it answers, and nobody gets what they asked for."""
    os._exit(EXIT_NO_MEMORY)


@web.middleware
async def _with_memory(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except MemoryError:
        end_without_memory()
        raise


if __name__ == "__main__":
    show_exceptions()
    enter_sandbox()
    feed_socket, *listening_sockets = (socket.socket(fileno=int(number)) for number in sys.argv[1:])
    with suppress(EOFError, ConnectionError):  # ingest went before it had said anything
        asyncio.run(run(feed_socket, listening_sockets))
