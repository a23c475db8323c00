"""The simulated Owncast's HTTP receiver of ffmpeg's PUT requests.

It writes each body to the final name: no temporary file, no rename, no fsync. ffmpeg disconnects without
waiting for the answer; aiohttp's server would then drop the unread rest, so the receiver reads the sockets
itself, as Go's server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from io import FileIO
from pathlib import Path

from broadcaster.aio import Signal
from tests.support.fakes.owncast_transcoder import FILE_MODE, IDLE, PLAYLIST
from tests.support.servers.tcp import TcpConnection, TcpServer, connected

REQUEST = re.compile(rb"PUT /((?:\d+/)?[\w-]+\.(?:ts|m4s|mp4|m3u8)) ")
SEGMENT = re.compile(r"stream-(?P<run>.+)-(?P<number>\d+)\.(ts|m4s)")
TICK = 0.01  # seconds: two of the kernel's ticks at 250 Hz, by which files are dated
PATIENCE = 2.0  # seconds that a file waits for another file

SegmentKey = tuple[str, str, str]  # run's id, variant, file name


class Receiver:
    """Receives ffmpeg's PUT requests, writes the files below ``root``, and notes complete files.

    Every write is delayed by ``pause`` seconds, so that empty and incomplete files can be observed.
    """

    def __init__(self, root: Path, pause: float) -> None:
        self.url = ""
        self.received: dict[SegmentKey, str] = {}
        self.listed: set[SegmentKey] = set()
        self.playlists: dict[tuple[str, str], tuple[str, ...]] = {}
        self._multivariant_first = False
        self._root = root
        self._pause = pause
        self._requests: dict[asyncio.Task[None], str] = {}  # the paths that are being written
        self._multivariant_due = False  # that of a run, not the idle clip's
        self._changed = Signal()
        self._server = TcpServer(self._serve)

    @property
    def finished(self) -> dict[SegmentKey, str]:
        """SHA-256 of each segment that was complete and listed."""
        return {key: sha for key, sha in self.received.items() if key in self.listed}

    def start(self) -> None:
        """Listen on a free loopback port."""
        self._server = TcpServer(self._serve)
        self._server.listen()
        self.url = self._server.url

    async def close(self) -> None:
        """Finish the current requests, then stop listening. Does nothing after ``abort``."""
        if self._server.is_serving:
            await self.drain()
        await self.abort()

    async def abort(self) -> None:
        """Stop as a killed process: partly written files stay."""
        await self._server.close()

    def begin_run(self, *, multivariant_first: bool) -> None:
        """Prepare for a new run.

        ``multivariant_first`` says whether the multivariant playlist gets its date a tick before the last of
        the first segments or after it: ffmpeg does not wait for one PUT before it sends the next.
        """
        self._multivariant_first = multivariant_first
        self._multivariant_due = True

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, evaluated after each request, is true."""
        while not condition():
            await self._changed.next().wait()

    async def until_finished(self, run_id: str, variants: int, count: int) -> None:
        """Wait until each of the run's variants has ``count`` finished segments."""

        def enough() -> bool:
            finished = [variant for run, variant, _ in self.finished if run == run_id]
            return all(finished.count(str(index)) >= count for index in range(variants))

        await self.until(enough)

    async def drain(self) -> None:
        """Wait until all requests of an ffmpeg that has ended are handled."""
        # Connections are accepted in order: when ours is answered, none from before waits in the kernel.
        async with connected(self._server.port) as ours:
            await ours.write(b"GET / HTTP/1.1\r\n\r\n")
            await ours.read_all()
        await self.until(lambda: not self._requests)

    async def _serve(self, client: TcpConnection) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._requests[task] = ""
        try:
            request = REQUEST.match(await client.read_until(b"\r\n\r\n"))
            status = b"400 Bad Request"
            if request:
                self._requests[task] = request[1].decode()
                status = await self._put(request[1].decode(), client)
            await client.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        except (OSError, EOFError):
            pass  # an ffmpeg that was killed leaves half a request; one that lives has often hung up already
        finally:
            del self._requests[task]
            self._changed.notify()

    async def _put(self, name: str, client: TcpConnection) -> bytes:
        """Write one file; returns the status of the answer."""
        path = self._root / name
        try:
            file = _create(path)
        except FileNotFoundError:  # the folder is gone, or has fewer variants than this ffmpeg
            async for _ in _body(client):
                pass
            return b"500 Internal Server Error"
        digest, last, text = hashlib.sha256(), b"", b""
        with contextlib.closing(file):
            async for chunk in _body(client):
                digest.update(chunk)
                text += chunk if path.suffix == ".m3u8" else b""
                for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                    await self._write(file, last)
                    last = part
            await self._take_turn(name)
            await self._write(file, last)
            is_there = os.fstat(file.fileno()).st_nlink > 0  # unless the folder was made anew meanwhile
        self._multivariant_due &= name != PLAYLIST
        if is_there and path.suffix == ".m3u8":
            self._note_playlist(path, text.decode())
        elif is_there:
            self._note_segment(path, digest.hexdigest())
        return b"200 OK"

    async def _write(self, file: FileIO, part: bytes) -> None:
        if part:
            if self._pause:
                await asyncio.sleep(self._pause)
            file.write(part)

    async def _take_turn(self, name: str) -> None:
        """Complete the last of the first segments and the multivariant playlist in the set order."""
        segment = SEGMENT.fullmatch(name.rpartition("/")[2])
        if not self._multivariant_due:
            return
        if name == PLAYLIST and not self._multivariant_first:
            turn = self.until(
                lambda: not any(path.endswith(("-0.ts", "-0.m4s")) for path in self._requests.values())
            )
        elif segment and segment["number"] == "0" and segment["run"] != IDLE and self._multivariant_first:
            turn = self.until(lambda: not self._multivariant_due)
        else:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(turn, PATIENCE)
        await asyncio.sleep(TICK)

    def _note_segment(self, path: Path, digest: str) -> None:
        self.received.update(dict.fromkeys(_keys(path.parent.name, [path.name]), digest))

    def _note_playlist(self, path: Path, text: str) -> None:
        if keys := _keys(path.parent.name, text.splitlines()):
            self.listed.update(keys)
            self.playlists[keys[-1][:2]] = tuple(name for _, _, name in keys)


def _keys(variant: str, lines: list[str]) -> list[SegmentKey]:
    """Return the keys of the live segments among ``lines``."""
    segments = [(match["run"], name) for name in lines if (match := SEGMENT.fullmatch(name))]
    return [(run_id, variant, name) for run_id, name in segments if run_id != IDLE]


def _create(path: Path) -> FileIO:
    # Unbuffered: what has come is on disk for all to see, as it is with Owncast. A file that is there keeps
    # its mode: the idle clip's playlist over a closing one is for its owner's eyes alone too.
    is_new = not path.exists()
    file = path.open("wb", buffering=0)
    if is_new:
        path.chmod(FILE_MODE)  # whatever the umask
    return file


async def _body(client: TcpConnection) -> AsyncIterator[bytes]:
    """Yield the chunks of a chunked request body; raises EOFError when it stops short."""
    while size := int(await client.read_until(b"\r\n"), 16):
        yield await client.read_exactly(size)
        await client.read_exactly(2)
    await client.read_until(b"\r\n")
