"""CPU and publish delay of a segment that is pushed, beside one that an encoder writes into the folder.

Encoders push a whole segment at once (the loopback brings it in 3 ms), or over a link, or in small pieces as
these are encoded. A bare handler of aiohttp that stores what is pushed shows how much of it the requests cost
by themselves. The publish delay begins with the finished file, or when the client's kernel has the last byte
of the upload. What a target leaves to the disk is written before the next begins: its fsync would pay for it.
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
from http import HTTPStatus
from pathlib import Path
from random import Random
from statistics import median

import aiohttp
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child, free_ports, is_free, poll
from tests.bench.report import Figure, progress
from tests.support.fakes.encoded_recording import encoded_recording
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.servers.service import push_settings, push_url, running_service

SEGMENTS, FIRST = 60, 5  # FIRST segments are not measured
SECONDS, KBPS = 4, 4000  # of a segment, and of its video: 2.2 MB
WINDOW = 0.7  # seconds for which a segment is measured
MOST, MOST_DELAY = 1.2, 1.1  # times what a segment costs in the folder, and how late it is listed there
BEGIN, LAST, END = range(3)  # of sending a segment: its last byte, and the answer


@dataclass(frozen=True)
class Pace:
    """How a client sends a segment."""

    name: str
    chunk: int = 32_768  # bytes, as ffmpeg sends them
    seconds: float = 0  # for the whole segment


AT_ONCE = Pace("at once")
OVER_A_LINK = Pace("over 1 Gbit/s", seconds=0.018)
IN_PIECES = Pace("in pieces", 8192, 0.3)  # as they are encoded


@dataclass
class Target:
    """A process that gets segments, into its folder or at its ``url``."""

    pid: int
    writer: HlsWriter
    url: str = ""
    viewers: str = ""  # the address of its viewer server
    pace: Pace = AT_ONCE
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None  # to the url, kept alive
    spent: list[float] = field(default_factory=list)  # ms of CPU for a segment and its playlist
    sent: dict[int, list[float]] = field(default_factory=dict)  # Unix ms of BEGIN, LAST and END, by number
    listed: dict[int, float] = field(default_factory=dict)  # Unix ms

    async def take(self, session: aiohttp.ClientSession, number: int, media: bytes) -> None:
        """Give it a segment and its playlist, and note what that takes."""
        text = self.writer.text(range(max(0, number - 9), number + 1))
        before, end = _cpu_ms(self.pid), asyncio.get_running_loop().time() + WINDOW
        times = await self._put(self.writer.name(number), media, self.pace)
        await self._put("stream.m3u8", text.encode(), AT_ONCE)
        await asyncio.sleep(end - asyncio.get_running_loop().time())
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

    @property
    def cpu(self) -> float:
        """Milliseconds of CPU for a segment, median."""
        return median(self.spent)

    def sending(self, since: int) -> float:
        """Milliseconds until a segment is answered, median."""
        return median(times[END] - times[since] for times in self.sent.values())

    async def _put(self, name: str, body: bytes, pace: Pace) -> list[float]:
        if self.url:
            url = URL(f"{self.url}/{name}")
            if self.connection is None:
                self.connection = await asyncio.open_connection(url.host, url.port)
            return await put(*self.connection, url, body, pace)
        begin = _now()
        (self.writer.folder / name).write_bytes(body)
        return [begin, _now(), _now()]


async def put(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: URL, body: bytes, pace: Pace
) -> list[float]:
    """PUT in chunks; returns the Unix ms of BEGIN, LAST and END. The answers have no body."""
    loop = asyncio.get_running_loop()
    writer.transport.set_write_buffer_limits(0)  # what was drained is in the kernel
    begin, start = _now(), loop.time()
    writer.write(f"PUT {url.raw_path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for offset in range(0, len(body), pace.chunk):
        await asyncio.sleep(start + pace.seconds * offset / len(body) - loop.time())
        piece = body[offset : offset + pace.chunk]
        end = b"0\r\n\r\n" if offset + pace.chunk >= len(body) else b""
        writer.write(b"%x\r\n%b\r\n%b" % (len(piece), piece, end))
        await writer.drain()
    last = _now()
    answer = await reader.readuntil(b"\r\n\r\n")
    if int(answer.split()[1]) >= HTTPStatus.BAD_REQUEST:
        raise RuntimeError(f"{url.name}: {answer.decode()}")
    return [begin, last, _now()]


def measure() -> list[Figure]:
    """All get segments in turns, with one bucket on the same machine."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress("push: encoding")
        film = encoded_recording(
            root / "film",
            runs=1,
            segments=FIRST + SEGMENTS,
            segment_seconds=SECONDS,
            fps=25,
            repeated=13,
            kbps=KBPS,
            size="1280x720",
        )
        bucket = await stack.enter_async_context(SeaweedBucket(root / "bucket"))
        targets = [
            await stack.enter_async_context(_service(root / "folder", bucket, None)),
            await stack.enter_async_context(_service(root / "push", bucket, AT_ONCE)),
            await stack.enter_async_context(_service(root / "link", bucket, OVER_A_LINK)),
            await stack.enter_async_context(_service(root / "pieces", bucket, IN_PIECES)),
            await stack.enter_async_context(_bare(root / "bare")),
        ]
        progress(f"push: {SEGMENTS} segments")
        chance = Random(1)
        async with aiohttp.ClientSession() as session:
            for number, name in enumerate(film.names):
                media = (film.folder / name).read_bytes()
                for target in chance.sample(targets, len(targets)):
                    await asyncio.to_thread(os.sync)
                    await target.take(session, number, media)
    in_folder, *pushed, stored = targets
    figures = [
        Figure("publish delay of a segment in the folder, from its first byte", in_folder.delay(BEGIN), "ms"),
        Figure("publish delay of a segment in the folder", in_folder.delay(LAST), "ms"),
        Figure("CPU of a segment of 2 MB in the folder", in_folder.cpu, "ms"),
        Figure("CPU of a bare handler, which only stores it", stored.cpu, "ms"),
        Figure("from the last byte to the answer of the bare handler", stored.sending(LAST), "ms"),
    ]
    for target in pushed:
        figures += _delays(target, in_folder)
        figures += [
            Figure(
                f"pushed {target.pace.name}: from its last byte to the answer", target.sending(LAST), "ms"
            ),
            Figure(f"pushed {target.pace.name}: CPU", target.cpu, "ms"),
            Figure(
                f"pushed {target.pace.name}: CPU, ratio to the folder",
                target.cpu / in_folder.cpu,
                at_most=MOST,
            ),
        ]
    return figures


@asynccontextmanager
async def _service(folder: Path, bucket: SeaweedBucket, pace: Pace | None) -> AsyncIterator[Target]:
    """A service to which segments are pushed, or with a folder where there is no pace."""
    (port,), writer = free_ports(1), _writer(folder)
    settings = push_settings(port) if pace else {}
    async with running_service(folder, writer.folder, bucket, **settings) as service:
        if not service.child:
            raise RuntimeError("the service is not started")
        url = push_url(port) if pace else ""
        yield Target(service.child.pid, writer, url, service.address, pace or AT_ONCE)


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
    writer.seconds, writer.start = SECONDS, datetime.now(UTC)
    return writer


def _delays(pushed: Target, in_folder: Target) -> Iterator[Figure]:
    name = f"pushed {pushed.pace.name}: publish delay"
    delay = pushed.delay(LAST)
    yield Figure(name, delay, "ms")
    yield Figure(f"{name}, ratio to the folder", delay / in_folder.delay(LAST), at_most=MOST_DELAY)
    yield Figure(f"{name} from the first byte", pushed.delay(BEGIN), "ms")
    yield Figure(f"{name} from the answer", pushed.delay(END), "ms")


def _now() -> float:
    return 1000 * time.time()


def _cpu_ms(pid: int) -> float:
    """CPU of a process's threads so far; without its child, the viewer server."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6
