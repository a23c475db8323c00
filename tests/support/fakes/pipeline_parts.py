"""Stand-ins for the neighbours of the pipeline: real classes with the real interfaces."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.bucket import ObjectStore
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Run, Segment, SourceFile
from broadcaster.errors import ObjectNotFound, StorageError
from broadcaster.events import SourceEvent, VariantsListed
from broadcaster.hls import ByteRange, MultivariantPlaylist, Variant
from broadcaster.owncast import OwncastStatus

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class FakeStore(ObjectStore):
    """A bucket in memory. Its next failures are listed in ``failures``; ``gate`` holds uploads back."""

    def __init__(self) -> None:
        self.objects_: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.sent = 0
        self.failures: list[StorageError] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.on_arrival: Callable[[], None] = lambda: None
        self.on_put: Callable[[str], None] = lambda _: None

    async def put(self, key: str, body: bytes) -> str:
        self.puts.append(key)
        self.on_arrival()
        if gate := self.gates.get(key.rpartition("/")[2]):
            await gate.wait()
        self.on_put(key)
        if self.failures:
            raise self.failures.pop(0)
        self.objects_[key] = body
        self.sent += len(body)
        return hashlib.sha256(body).hexdigest()

    async def copy(self, source: str, key: str, *, deadline: float) -> None:
        assert deadline > 0
        if self.failures:
            raise self.failures.pop(0)
        if source not in self.objects_:
            raise ObjectNotFound(f"PUT of {key}: the object to copy is gone")
        self.objects_[key] = self.objects_[source]

    async def size(self, key: str, *, deadline: float) -> int | None:
        assert deadline > 0
        return len(self.objects_[key]) if key in self.objects_ else None

    async def url(self, key: str) -> str:
        return f"https://bucket.example/{key}"

    async def long_lived_url(self, key: str) -> str:
        return await self.url(key)


class FakeSource:
    """Events that a test puts in."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[SourceEvent] = asyncio.Queue()

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        while True:
            await handle(await self.events.get())


class FakeEncoder(OwncastStatus):
    """An encoder that is said to be connected, or to have gone."""

    def __init__(self) -> None:
        self.connected: bool | None = True
        self.disconnected_since: float | None = None

    def ask(self) -> None:
        """It is known."""


def segment_of(  # noqa: PLR0913 - a segment has that many properties
    path: Path | None,
    *,
    number: int = 0,
    variant: str = "0",
    run: int = 0,
    seconds: float = 2.0,
    target_duration: int = 2,
    map_path: Path | None = None,
    encoder: str = "enc",
) -> Segment:
    """What a source says about a file; without a file, about a broken segment."""
    return Segment(
        variant=variant,
        run=Run(run, f"run{run}", f"{encoder}#{run}"),
        sequence=number,
        uri=path.name if path else f"{number}.ts",
        name=path.name if path else f"{number}.ts",
        duration=timedelta(seconds=seconds),
        program_date_time=START + number * timedelta(seconds=seconds),
        target_duration=target_duration,
        independent=True,
        noticed=START,
        file=file_of(path) if path else None,
        fault=None if path else "is not there",
        map_file=file_of(map_path) if map_path else None,
    )


def variants_listed(*names: str, bandwidth: int = 1000) -> VariantsListed:
    """The multivariant playlist names these, and the folder has a place for them."""
    variants = tuple(Variant(name, bandwidth) for name in names)
    return VariantsListed(MultivariantPlaylist(variants), frozenset(names))


def file_of(path: Path) -> SourceFile:
    status = path.stat()
    return SourceFile(path.name, path, status.st_size, status.st_mtime_ns)


def stored_segment(  # noqa: PLR0913 - a segment has that many properties
    url: str,
    *,
    number: int = 0,
    variant: str = "0",
    run: int = 0,
    seconds: float = 2.0,
    target_duration: int = 2,
    time: datetime = START,
    completed: datetime | None = None,
    size: int = 1000,
    gap: bool = False,
    iframe: ByteRange | None = None,
    sha256: str | None = None,
) -> Segment:
    """A segment that the bucket has, or never will; complete when it begins, unless that is given."""
    made = int((completed or time).timestamp() * 1_000_000) * 1000
    return Segment(
        variant=variant,
        run=Run(run, f"r{run}", f"#{run}"),
        sequence=number,
        uri=url,
        name=url,
        duration=timedelta(seconds=seconds),
        program_date_time=time,
        target_duration=target_duration,
        independent=True,
        noticed=START,
        file=SourceFile(url, Path(url), size, made),
        fault="is lost" if gap else None,
        key=url,
        url=url,
        size=0 if gap else size,
        sha256=sha256,
        iframe=iframe,
    )


def unlisted(catalog: Catalog) -> list[str]:
    """The keys of what is to be deleted, oldest first."""
    query = "SELECT key FROM segments WHERE step = 'unlisted' ORDER BY delete_at, position"
    return [key for (key,) in map(tuple, catalog.writer._connection.execute(query))]  # noqa: SLF001 - nobody else asks
