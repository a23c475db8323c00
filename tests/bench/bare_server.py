"""Bare aiohttp: what the same work costs without us. The service is held against it in the same run.

``file``: a handler that returns the bytes of a file. ``waiting``: requests that wait until a number is read
from the standard input and so many wait; then all get the same bytes. ``sockets``: WebSockets whose messages
parsed and passed on, as a tracker's are, without bounds or checks. ``storing``: each body that is PUT is
written to the disk.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import web

from broadcaster.demo.processes import poll
from broadcaster.http import raise_file_limit
from tests.bench.playlist_server import full_channel
from tests.bench.wake_up_server import QUIET, numbers
from tests.support.fakes.viewers_channel import ViewersChannel

PATH = "/live/playlist.m3u8"
HEADERS = {"Content-Type": "application/vnd.apple.mpegurl", "Cache-Control": "public, max-age=2"}
BACKLOG = 1024
MAX_MESSAGE_BYTES = 2**20


async def serve(app: web.Application, port: int) -> None:
    """Listen; until the process ends."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()


async def serve_file(port: int, file: str) -> None:
    """The same bytes for every request."""
    body = await asyncio.to_thread(Path(file).read_bytes)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=HEADERS)

    app = web.Application()
    app.router.add_get(PATH, answer)
    await serve(app, port)
    await asyncio.Event().wait()


async def serve_waiting(port: int, places: str) -> None:
    """The same bytes for all who wait, at once; says the time (monotonic) of each wake-up."""
    raise_file_limit(int(places) + 100)
    main = ViewersChannel(full_channel().view).main
    if main is None:
        raise RuntimeError("the channel did not go live")
    body, waiting, published = main.full.gzipped, 0, asyncio.Event()

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
    """Every announce has a reply, each of its offers goes to somebody, each answer to who made the offer."""
    raise_file_limit(int(places) + 100)
    peers: dict[str, web.WebSocketResponse] = {}
    chance = Random(1)

    async def pass_on(socket: web.WebSocketResponse, fields: dict[str, Any]) -> None:
        name, about = fields["peer_id"], {"action": "announce", "info_hash": fields["info_hash"]}
        if "answer" in fields:
            message = {**about, "answer": fields["answer"], "offer_id": fields["offer_id"], "peer_id": name}
            await peers[fields["to_peer_id"]].send_str(json.dumps(message))
            return
        peers[name] = socket
        await socket.send_str(json.dumps({**about, "interval": 20, "incomplete": len(peers)}))
        for field in fields["offers"]:
            message = {**about, "offer": field["offer"], "offer_id": field["offer_id"], "peer_id": name}
            await chance.choice(list(peers.values())).send_str(json.dumps(message))

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        async for message in socket:
            with suppress(ConnectionResetError):  # at the end all leave
                await pass_on(socket, json.loads(message.data))
        return socket

    app = web.Application()
    app.router.add_get("/live/tracker", talk)
    await serve(app, port)
    await asyncio.Event().wait()


def store(path: Path, body: bytes) -> None:
    """Write a file under a temporary name, and give it its name."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb", buffering=0) as file:
        file.write(body)
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def serve_storing(port: int, folder: str) -> None:
    """Each body becomes a file of the folder before it is answered."""

    async def put(request: web.Request) -> web.Response:
        body = await request.content.read()
        await asyncio.to_thread(store, Path(folder, request.match_info["name"]), body)
        return web.Response(status=201)

    app = web.Application()
    app.router.add_put("/{folder:.*}/{name}", put)
    await serve(app, port)
    await asyncio.Event().wait()


SERVERS: dict[str, Callable[[int, str], Coroutine[Any, Any, None]]] = {
    "file": serve_file,
    "waiting": serve_waiting,
    "sockets": serve_sockets,
    "storing": serve_storing,
}

if __name__ == "__main__":
    asyncio.run(SERVERS[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
