"""Reading a bucket 50 ms away: by asyncio and by 50 threads; an export beside ``curl --parallel``."""

import asyncio
import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.download import Fetcher, FetchRequest
from tests.bench.report import Figure, progress
from tests.support.fakes.encoded_recording import EncodedRecording, encoded_recording, times
from tests.support.servers.shared_bucket import client_of

DELAY = 0.05  # seconds
OBJECT = 1_200_000  # bytes: a segment of 4 s and 2.4 Mbit/s
COUNTS = (1, 10, 50)
THREADS = 50  # as the systems had that came before this one
ALONE = 100  # objects of the recording that are read one at a time
ROUNDS = 4
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def measure() -> list[Figure]:
    """All of it, on one bucket."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    # In memory, where that is a folder: what a disk takes for many small files is no part of this.
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        async with SeaweedBucket(folder / "bucket") as bucket, _far_away(bucket) as base:
            return [*await _objects(bucket, base), *await _recording(folder, bucket, base)]


@contextlib.asynccontextmanager
async def _far_away(bucket: SeaweedBucket) -> AsyncIterator[str]:
    """The bucket's address behind a delay, in a process of its own."""
    parts = urlsplit(bucket.public_url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.faults.delay_proxy", str(parts.port), str(DELAY)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        port = int(await process.stdout.readline())
        yield f"http://{parts.hostname}:{port}{parts.path}"
    finally:
        process.stdin.close()
        await process.wait()


async def _objects(bucket: SeaweedBucket, base: str) -> list[Figure]:
    async with client_of(bucket) as client:
        for number in range(max(COUNTS)):
            body = os.urandom(OBJECT)
            await client.put_object(Bucket=bucket.bucket, Key=f"live/{number}.ts", Body=body)
    figures = []
    for count in COUNTS:
        progress(f"fetching: {count} at once")
        urls = [f"{base}/live/{number}.ts" for number in range(count)]
        ours = await _best(partial(_fetched, urls, 8))
        wide = await _best(partial(_fetched, urls, THREADS))
        threads = await _best(partial(asyncio.to_thread, _by_threads, urls))
        name = f"{count} object{'s' if count > 1 else ''} of 1.2 MB, 50 ms away"
        rate = count * OBJECT / 1e6
        figures += [
            Figure(f"{name}, 8 at once", rate / ours, "MB/s"),
            Figure(f"{name}, {THREADS} at once", rate / wide, "MB/s"),
            Figure(f"{name}, {THREADS} threads", rate / threads, "MB/s"),
        ]
    return [*figures, await _cached([f"{base}/live/{number}.ts" for number in range(max(COUNTS))])]


async def _best(work: Callable[[], Awaitable[None]]) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return min(taken)


async def _fetched(urls: list[str], at_once: int) -> None:
    async with aiohttp.ClientSession() as session, Fetcher(session, at_once=at_once, memory=0) as fetcher:
        async for _, body in fetcher.fetch(FetchRequest(url) for url in urls):
            assert len(body) == OBJECT


def _by_threads(urls: list[str]) -> None:
    def get(url: str) -> bytes:
        parts = urlsplit(url)
        with contextlib.closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
            connection.request("GET", parts.path)
            return connection.getresponse().read()

    with ThreadPoolExecutor(THREADS) as pool:
        for body in pool.map(get, urls):
            assert len(body) == OBJECT


async def _cached(urls: list[str]) -> Figure:
    async with aiohttp.ClientSession() as session, Fetcher(session) as fetcher:
        wanted = [FetchRequest(url) for url in urls]
        for url in wanted:
            await fetcher.get(url)
        began = time.perf_counter()
        for url in wanted:
            await fetcher.get(url)
        return Figure(
            "an object that is cached", 1e6 * (time.perf_counter() - began) / len(urls), "us", at_most=1000
        )


async def _recording(folder: Path, bucket: SeaweedBucket, base: str) -> list[Figure]:
    made = encoded_recording(
        folder / "film",
        runs=3,
        segments=600,
        segment_seconds=4,
        fps=2,
        repeated=20,
        kbps=400,
        sample_rate=8000,
    )
    async with client_of(bucket) as client:
        for name in [*made.names, made.playlist.name]:
            body = (made.folder / name).read_bytes()
            await client.put_object(Bucket=bucket.bucket, Key=f"film/{name}", Body=body)
    size = sum((made.folder / name).stat().st_size for name in made.names)
    progress(f"fetching: a recording of two hours, {len(made.names)} segments, {size / 1e6:.0f} MB")
    urls = [f"{base}/film/{name}" for name in made.names]
    began = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        for url in urls[:ALONE]:
            async with session.get(url) as response:
                await response.read()
    alone = (time.perf_counter() - began) * len(urls) / ALONE
    url, file = f"{base}/film/{made.playlist.name}", folder / "out.mp4"
    memory = await _memory_of_export(url, file)
    figures = _judged(made, file)
    exports, curls = [], []
    for _ in range(ROUNDS):
        file.unlink()
        os.sync()  # what was written before is no burden to this
        exports.append(await _exported(url, file))
        os.sync()
        curls.append(await _curl(urls, folder / "curl"))
        progress(f"fetching: export {exports[-1]:.1f} s, curl --parallel {curls[-1]:.1f} s")
    seconds = min(exports)
    return [
        Figure("export of 2 hours, segments of 200 kB", size / 1e6 / seconds, "MB/s"),
        Figure("export: times as fast as one at a time", alone / seconds, at_least=4),
        Figure("export: share of curl --parallel's rate", min(curls) / seconds, at_least=0.7),
        Figure("export: memory", memory / 2**20, "MiB", at_most=150),
        *figures,
    ]


def _judged(made: EncodedRecording, file: Path) -> list[Figure]:
    found = times(file)
    lost = sum(sum(run.values()) for run in made.packets) - sum(found.counts.values())
    jumps = max(b - a for a, b in zip(found.decoding["video"], found.decoding["video"][1:], strict=False))
    off = abs(found.seconds - sum(made.seconds))
    return [
        Figure("export: packets missing", lost, at_most=0),
        Figure("export: duration off, in frames", off / made.frame, at_most=len(made.packets)),
        Figure("export: longest step of decoding times, in frames", jumps / made.frame, at_most=2),
    ]


async def _exported(url: str, target: Path) -> float:
    began = time.perf_counter()
    process = await _exporting(url, target)
    assert await process.wait() == 0
    return time.perf_counter() - began


async def _memory_of_export(url: str, target: Path) -> int:
    """The most bytes that its processes have together, what they share once. To look slows them down."""
    process = await _exporting(url, target)
    first, most = psutil.Process(process.pid), 0
    while process.returncode is None:
        with contextlib.suppress(psutil.Error):
            processes = [first, *first.children()]
            most = max(most, sum(process.memory_full_info().pss for process in processes))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), 0.2)
    assert process.returncode == 0
    return most


async def _exporting(url: str, target: Path) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "broadcaster.cli", "export", url, str(target))
    return await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)


async def _curl(urls: list[str], folder: Path) -> float:
    lines = (f'url = "{url}"\noutput = "{folder}/{number}"\n' for number, url in enumerate(urls))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()  # noqa: ASYNC240 - nothing else runs
    (folder / "config").write_text("".join(lines))
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--no-progress-meter", "--fail", "--parallel", "--config", str(folder / "config")
    )
    assert await process.wait() == 0
    return time.perf_counter() - began
