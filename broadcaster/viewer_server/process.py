"""The process of the viewer server.

Ingest sends setup, view and changes through the socket; at its end the process ends. It may be killed at any
time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from broadcaster import logs
from broadcaster.http.server import LoopErrorHandler, serving
from broadcaster.ipc.messages import Ping, Setup, encode_pong, receive
from broadcaster.viewer_server.app import ViewerServer
from broadcaster.viewer_server.forwarding import Forwarder
from broadcaster.viewer_server.sandbox import enter_sandbox, read_only

logger = logging.getLogger(__name__)

EXIT_NO_MEMORY = 12
BASE_MEMORY, CONNECTION_MEMORY = 384 * 2**20, 2**15  # bytes of address space; it starts with 60 MiB


async def run(channel: socket.socket, listeners: list[socket.socket]) -> None:
    """Serve until ingest closes the channel."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(LoopErrorHandler(end_without_memory))
    # Each thread takes address space (a stack, an arena of malloc), so there is one.
    loop.set_default_executor(ThreadPoolExecutor(1))
    reader, writer = await asyncio.open_connection(sock=channel)
    setup = await receive(reader)
    if not isinstance(setup, Setup):
        raise TypeError("the first message has to be the setup")
    logs.set_up(*setup.log)
    bound_memory(setup.max_connections)
    server = Forwarder(setup) if setup.leader else ViewerServer(setup)
    port = URL(setup.leader).port if setup.leader else None
    # config.json of the page may be a link: its replacement is in the folder of its target.
    if not read_only([setup.viewer_dir, (setup.viewer_dir / "config.json").resolve().parent], port):
        logger.info("this kernel cannot keep the viewer server from reading files (no Landlock)")
    server.app.middlewares.append(_with_memory)
    message = await receive(reader)  # the view, before viewers are served
    async with serving(server.app, listeners):
        gc.collect()
        gc.enable()
        gc.freeze()  # no later collection has to traverse what exists now
        with suppress(EOFError, ConnectionError):
            while True:
                if isinstance(message, Setup):
                    raise TypeError("only the first message can be the setup")
                server.handle(message)
                if isinstance(message, Ping):
                    writer.write(encode_pong(server.pong()))
                message = await receive(reader)


def bound_memory(connections: int) -> None:
    """Limit the address space of this process to the need of so many connections (``RLIMIT_AS``)."""
    most = BASE_MEMORY + connections * CONNECTION_MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError) as error:
        logger.info("the memory of the viewer server cannot be limited (%s)", error)


def end_without_memory() -> None:
    """End the process, so that ingest replaces it: without memory, all its answers are errors."""
    os._exit(EXIT_NO_MEMORY)


@web.middleware
async def _with_memory(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except MemoryError:
        end_without_memory()
        raise


def main(descriptors: list[str]) -> None:
    """Serve viewers; ``descriptors`` are the channel to ingest and the listening sockets."""
    enter_sandbox()
    channel, *listeners = (socket.socket(fileno=int(number)) for number in descriptors)
    with suppress(EOFError, ConnectionError):  # ingest ended before the first message
        asyncio.run(run(channel, listeners))
