"""The careless HTTP receiver of the simulated Owncast.

ffmpeg PUTs every file into it; it creates the final name and copies the body into that: no temporary file, no
rename, no fsync. ffmpeg hangs up without waiting for the answer. aiohttp's server gives up what it has not
read of such a request, so the receiver reads from plain streams, which keep it, as Go's server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from io import FileIO
from pathlib import Path

from broadcaster.demo.children import HOST
from broadcaster.demo.encoder import IDLE

REQUEST = re.compile(rb"PUT /((?:\d+/)?[\w-]+\.(?:ts|m3u8)) ")
SEGMENT = re.compile(r"stream-(?P<run>.+)-\d+\.ts")

SegmentKey = tuple[str, str, str]  # run's id, variant, file name


class Receiver:
    """Takes ffmpeg's PUTs, writes them below ``root``, and remembers what came whole.

    With ``pause`` (seconds) every write is held up that long, so that empty and half files can be seen.
    """

    def __init__(self, root: Path, pause: float) -> None:
        self.url = ""
        self.received: dict[SegmentKey, str] = {}
        self.listed: set[SegmentKey] = set()
        self.playlists: dict[tuple[str, str], tuple[str, ...]] = {}
        self._root = root
        self._pause = pause
        self._open = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Finish what has been begun, then listen no more."""
        await self.drain()
        self._server.close()
        await self._server.wait_closed()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, asked after every request, is true."""
        while not condition():
            await self._changed.wait()

    async def drain(self) -> None:
        """Wait until every request that an ffmpeg, by now gone, has ever sent is dealt with."""
        # Connections are accepted in order: when ours is answered, none from before waits in the kernel.
        reader, writer = await asyncio.open_connection(HOST, int(self.url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        await self.until(lambda: self._open == 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            request = REQUEST.match(await reader.readuntil(b"\r\n\r\n"))
            if request:
                await self._put(self._root / request[1].decode(), reader)
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # an ffmpeg that was killed leaves half a request; one that lives has often hung up already
        finally:
            writer.close()
            self._open -= 1
            self._changed.set()
            self._changed = asyncio.Event()

    async def _put(self, path: Path, reader: asyncio.StreamReader) -> None:
        digest = hashlib.sha256()
        with contextlib.closing(_create(path)) as file:
            async for chunk in _body(reader):
                digest.update(chunk)
                for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                    if self._pause:
                        await asyncio.sleep(self._pause)
                    file.write(part)
        self._note(path, digest.hexdigest())

    def _note(self, path: Path, digest: str) -> None:
        names = path.read_text().splitlines() if path.suffix == ".m3u8" else [path.name]
        segments = [(match["run"], name) for name in names if (match := SEGMENT.fullmatch(name))]
        keys = [(run_id, path.parent.name, name) for run_id, name in segments if run_id != IDLE]
        if path.suffix == ".ts":
            self.received.update(dict.fromkeys(keys, digest))
        elif keys:
            self.listed.update(keys)
            self.playlists[keys[-1][:2]] = tuple(name for _, _, name in keys)


def _create(path: Path) -> FileIO:
    # Unbuffered: what has come is on disk for all to see, as it is with Owncast.
    return path.open("wb", buffering=0)


async def _body(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the chunks of a chunked request body; raises IncompleteReadError when it stops short."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
