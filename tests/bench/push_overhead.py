"""CPU and publish delay of a segment that is pushed, beside one that an encoder writes into the folder.

A bare handler of aiohttp that stores what is pushed shows how much of it the requests cost by themselves.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median

import aiohttp
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, free_ports, is_free, poll
from tests.bench.report import Figure, progress
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.servers.service import push_settings, push_url, running_service

SEGMENTS, FIRST = 100, 5  # FIRST segments are not measured
PACKETS = 11_000  # of a segment: 2 MB
CHUNK, WINDOW = 32_768, 0.4  # bytes, as ffmpeg sends them; seconds for which a segment is measured
MOST, MOST_DELAY = 1.2, 1.1  # times what a segment costs in the folder, and how late it is listed there
BEGIN, END = range(2)  # of sending a segment: its end is the answer, or the last byte in the folder


@dataclass
class Target:
    """A process that gets segments, into its folder or at its ``url``."""

    pid: int
    writer: HlsWriter
    url: str = ""
    viewers: str = ""  # the address of its viewer server
    spent: list[float] = field(default_factory=list)  # ms of CPU for a segment and its playlist
    sent: dict[int, list[float]] = field(default_factory=dict)  # Unix ms of BEGIN and END, by number
    listed: dict[int, float] = field(default_factory=dict)  # Unix ms

    async def take(self, session: aiohttp.ClientSession, number: int) -> None:
        """Give it a segment and its playlist, and note what that takes."""
        packet = b"\x47\x40\x11" + os.urandom(185)
        text = self.writer.text(range(max(0, number - 9), number + 1))
        before = _cpu_ms(self.pid)
        times = await self._put(session, self.writer.name(number), packet * PACKETS)
        await self._put(session, "stream.m3u8", text.encode())
        await asyncio.sleep(WINDOW)
        if number >= FIRST:
            self.spent.append(_cpu_ms(self.pid) - before)
            self.sent[number] = times
        if self.viewers:
            async with session.get(f"{self.viewers}/live/segments/now") as answer:
                for segment in (await answer.json())["segments"]:
                    name = URL(segment["url"]).name
                    self.listed[int(name.rpartition("-")[2].removesuffix(".ts"))] = segment["published"]

    def delay(self, since: int) -> float:
        """Milliseconds until a segment is listed, median."""
        return median(self.listed[number] - times[since] for number, times in self.sent.items())

    def sending(self) -> float:
        """Milliseconds that sending a segment takes, median."""
        return median(times[END] - times[BEGIN] for times in self.sent.values())

    async def _put(self, session: aiohttp.ClientSession, name: str, body: bytes) -> list[float]:
        begin = _now()
        if self.url:
            async with session.put(f"{self.url}/{name}", data=_chunks(body)) as answer:
                answer.raise_for_status()
        else:
            (self.writer.folder / name).write_bytes(body)
        return [begin, _now()]


def measure() -> list[Figure]:
    """All get segments in turns, with one bucket on the same machine."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bucket = await stack.enter_async_context(SeaweedBucket(root / "bucket"))
        targets = [
            await stack.enter_async_context(_service(root / "folder", bucket, is_pushed=False)),
            await stack.enter_async_context(_service(root / "push", bucket, is_pushed=True)),
            await stack.enter_async_context(_bare(root / "bare")),
        ]
        progress(f"push: {SEGMENTS} segments")
        async with aiohttp.ClientSession() as session:
            for number in range(FIRST + SEGMENTS):
                for target in targets:
                    await target.take(session, number)
    folder, push, bare = (fmean(target.spent) for target in targets)
    in_folder, pushed, stored = targets
    return [
        *_delays(pushed, in_folder),
        Figure("from a pushed segment's first byte to the answer", pushed.sending(), "ms"),
        Figure("the same of a bare handler, which only stores it", stored.sending(), "ms"),
        Figure("CPU of a segment of 2 MB that is pushed", push, "ms"),
        Figure("the same in the folder", folder, "ms"),
        Figure("the same of a bare handler, which only stores it", bare, "ms"),
        Figure("CPU of a segment that is pushed: ratio to the folder", push / folder, at_most=MOST),
    ]


@asynccontextmanager
async def _service(folder: Path, bucket: SeaweedBucket, *, is_pushed: bool) -> AsyncIterator[Target]:
    """A service with one source or the other."""
    (port,), writer = free_ports(1), _writer(folder)
    settings = push_settings(port) if is_pushed else {}
    async with running_service(folder, writer.folder, bucket, **settings) as service:
        if not service.child:
            raise RuntimeError("the service is not started")
        yield Target(service.child.pid, writer, push_url(port) if is_pushed else "", service.address)


@asynccontextmanager
async def _bare(folder: Path) -> AsyncIterator[Target]:
    (port,), writer = free_ports(1), _writer(folder)
    command = [sys.executable, "-m", "tests.bench.bare_server", "storing", str(port), str(writer.folder)]
    child = await Child.start("bare server", command, folder / "server.log")

    async def listens() -> bool:
        return not is_free(port)

    try:
        await child.until(poll(listens), within=60)
        yield Target(child.pid, writer, push_url(port))
    finally:
        await child.kill()


def _writer(folder: Path) -> HlsWriter:
    writer = HlsWriter(folder / "hls")
    writer.start = datetime.now(UTC)
    return writer


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


def _delays(pushed: Target, in_folder: Target) -> Iterator[Figure]:
    # What a client and its connection take is no delay of ours.
    for since, name, at_most in ((BEGIN, "first byte", None), (END, "answer", MOST_DELAY)):
        first, second = pushed.delay(since), in_folder.delay(since)
        yield Figure(f"publish delay of a pushed segment, from its {name}", first, "ms")
        yield Figure("the same in the folder", second, "ms")
        yield Figure(f"publish delay from the {name}: ratio to the folder", first / second, at_most=at_most)


def _now() -> float:
    return 1000 * time.time()


def _cpu_ms(pid: int) -> float:
    """CPU of a process's threads so far; without its child, the viewer server."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6
