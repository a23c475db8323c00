"""100,000 segments through the pipeline, time compressed: what a stream of days leaves behind in the service.

The bucket swallows everything at once; the journal, the spool (whose files are links to one and the same) and
the deletion of what left the window are the real ones.
"""

import asyncio
import gc
import hashlib
import statistics
import tempfile
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from broadcaster.bucket import ObjectStore
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Run, Segment
from broadcaster.events import Event, SegmentPublished, SourceEvent
from broadcaster.service.serve import Metrics, process_registry
from broadcaster.stream import Instant, StreamLimits, StreamMachine
from broadcaster.upload import Pipeline, Uploader
from broadcaster.upload.deleter import RetentionDeleter
from broadcaster.upload.spool import Spool
from tests.bench.report import Figure, progress
from tests.support.fakes.hls_writer import PACKET
from tests.support.fakes.pipeline_parts import START, file_of, variants_listed

VARIANTS = ("0", "1", "2")
ROUNDS = 33_334  # of one segment of each variant
WARM_ROUNDS = 3_334
SEGMENT = timedelta(seconds=2)
SWEEP_EVERY = 100  # rounds


class Hole(ObjectStore):
    """A bucket that takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.sent = 0

    async def put(self, key: str, body: bytes) -> str:  # noqa: ARG002 - it keeps nothing
        """Store an object."""
        return hashlib.sha256(body).hexdigest()

    async def size(self, key: str, *, deadline: float) -> int | None:
        """It was never there."""

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete objects."""

    async def url(self, key: str) -> str:
        return f"https://video.example.com/{key}"

    async def long_lived_url(self, key: str) -> str:
        return await self.url(key)


class Marathon:
    """An encoder that makes the next segments once the last ones are published, and takes the times."""

    def __init__(self, folder: Path, pipeline: Pipeline, deleter: RetentionDeleter) -> None:
        self.seconds = array("d", bytes(8 * ROUNDS))  # per publication
        self.memory = {0: 0, WARM_ROUNDS: 0, ROUNDS: 0}  # bytes, after so many rounds
        self.finished = asyncio.Event()
        self.published = 0
        self.round = 0
        self._round_done = asyncio.Event()
        self._pipeline = pipeline
        self._deleter = deleter
        path = folder / "segment.ts"
        path.write_bytes(PACKET)
        self._file = file_of(path)

    def clock(self) -> datetime:
        return START + self.round * SEGMENT

    def observe(self, event: Event) -> None:
        if isinstance(event, SegmentPublished):
            self.published += 1
            if self.published % len(VARIANTS) == 0:
                self._round_done.set()

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """All rounds, one after another."""
        await handle(variants_listed(*VARIANTS, bandwidth=1_000_000))
        process = psutil.Process()
        for self.round in range(ROUNDS):
            self._round_done.clear()
            started = time.perf_counter()
            for variant in VARIANTS:
                await handle(self._segment(variant))
            await self._round_done.wait()
            self.seconds[self.round] = (time.perf_counter() - started) / len(VARIANTS)
            if self.round % SWEEP_EVERY == 0:
                await self._deleter.sweep()
            if self.round + 1 in self.memory:
                gc.collect()
                self.memory[self.round + 1] = process.memory_info().rss
            if self.round % (ROUNDS // 10) == 0:
                progress(f"long run: {self.round * len(VARIANTS)} segments")
        self.finished.set()

    def _segment(self, variant: str) -> Segment:
        name = f"stream-abcdef-{self.round}.ts"
        return Segment(
            variant=variant,
            run=Run(0, "20260101T120000Z-0-abcdef", "abcdef#0"),
            sequence=self.round,
            uri=name,
            name=name,
            duration=SEGMENT,
            program_date_time=self.clock(),
            target_duration=2,
            independent=True,
            noticed=self.clock(),
            file=self._file,
        )


def measure() -> list[Figure]:
    """Run them all in this process."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Figure]:
    metrics = Metrics(process_registry())
    marathons: list[Marathon] = []

    def observe(event: Event) -> None:
        metrics(event)
        marathons[0].observe(event)

    def clock() -> datetime:
        return marathons[0].clock() if marathons else START

    catalog = Catalog(folder / "state", clock)
    bucket = Hole()
    pipeline = Pipeline(
        StreamMachine(StreamLimits(10), Instant(clock(), time.monotonic())),
        Uploader(bucket, observe, clock),
        Spool(folder / "spool", 2**30),
        catalog,
        observe,
        clock=clock,
        prefix="live",
    )
    deleter = RetentionDeleter(bucket, catalog, prefix="live")
    marathon = Marathon(folder, pipeline, deleter)
    marathons.append(marathon)
    async with catalog.writer:
        await pipeline.run(marathon.run, marathon.finished, drain=10)
    size = sum(path.stat().st_size for path in (folder / "state").glob("journal.db*"))
    catalog.close()
    return _figures(marathon, size, deleter.deleted)


def _figures(marathon: Marathon, journal_size: int, deleted: int) -> list[Figure]:
    if marathon.published != ROUNDS * len(VARIANTS):
        raise RuntimeError(f"only {marathon.published} segments were published")
    tenth = ROUNDS // 10
    first = statistics.median(marathon.seconds[:tenth])
    last = statistics.median(marathon.seconds[-tenth:])
    grown = marathon.memory[ROUNDS] - marathon.memory[WARM_ROUNDS]
    return [
        Figure("long run: segments published", marathon.published),
        Figure("long run: objects deleted meanwhile", deleted, at_least=0.99 * marathon.published),
        Figure("long run: time per publication, first tenth", first * 1e6, "µs"),
        Figure("long run: last tenth, by comparison", last / first, at_most=1.5),
        # All that is kept per segment is bounded, and full after 10,000: a leak of 100 bytes would show.
        Figure("long run: memory grown from 10,000 segments on", grown / 2**20, "MiB", at_most=10),
        # 2,200 segments of each variant and their indexes, and a write-ahead log of 1,000 pages.
        Figure("long run: journal at the end", journal_size / 2**20, "MiB", at_most=12),
    ]
