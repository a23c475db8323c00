"""Bare aiohttp: what the same work costs without us. The service is held against it in the same run.

``file``: a handler that returns the bytes of a file. ``waiting``: requests that wait until a number is read
from the standard input and so many wait; then all get the same bytes. ``sockets``: WebSockets whose messages
are parsed and passed on, to nobody in particular.
"""

import asyncio
import time
from itertools import cycle
from pathlib import Path

from aiohttp import web

from broadcaster.demo.children import poll
from broadcaster.web import raise_file_limit
from tests.bench.playlist_server import full_channel
from tests.bench.wake_up_server import QUIET, numbers

PATH = "/live/playlist.m3u8"
HEADERS = {"Content-Type": "application/vnd.apple.mpegurl", "Cache-Control": "public, max-age=2"}
BACKLOG = 1024


async def serve(app: web.Application, port: int) -> None:
    """Listen; until the process ends."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()


async def serve_file(port: int, file: str) -> None:
    """The same bytes for every request."""
    body = Path(file).read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=HEADERS)

    app = web.Application()
    app.router.add_get(PATH, answer)
    await serve(app, port)
    await asyncio.Event().wait()


async def serve_waiting(port: int, places: str) -> None:
    """The same bytes for all who wait, at once; says the time (monotonic) of each wake-up."""
    raise_file_limit(int(places) + 100)
    channel = full_channel()
    if channel.main is None:
        raise RuntimeError("the channel did not go live")
    body, waiting, published = channel.main.full.gzipped, 0, asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        nonlocal waiting
        waiting += 1
        await published.wait()
        waiting -= 1
        return web.Response(body=body, headers={**HEADERS, "Content-Encoding": "gzip"})

    app = web.Application()
    app.router.add_get(PATH, answer)
    await serve(app, port)
    async for wanted in numbers():

        async def all_wait(wanted: int = wanted) -> bool:
            return waiting >= wanted

        await poll(all_wait)
        await asyncio.sleep(QUIET)
        print(time.monotonic(), flush=True)
        published.set()
        published = asyncio.Event()


async def serve_sockets(port: int, places: str) -> None:
    """Every announce has a reply, its offers go to the sockets in turn, and answers to whoever is next."""
    raise_file_limit(int(places) + 100)
    sockets: list[web.WebSocketResponse] = []
    turn = cycle(iter(sockets.__iter__, None)) if False else None  # placeholder
    del turn

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sockets.append(socket)
        return socket

    app = web.Application()
    app.router.add_get("/live/tracker", talk)
    await serve(app, port)
    await asyncio.Event().wait()
