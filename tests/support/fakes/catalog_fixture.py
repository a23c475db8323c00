"""A channel with its catalog, which records, on a clock that stands still."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Recording, RecordingSegment
from broadcaster.events import Event
from broadcaster.hls import ByteRange
from broadcaster.ipc.messages import State
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import START, stored_segment, variants_listed

WINDOW = 6


class CatalogFixture:
    """A channel with its catalog, to which segments of two seconds come."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = START
        self.count = 0
        self.events: list[Event] = []
        self.encoder_is_ahead = timedelta()
        self.newest = START  # the end of the newest segment
        self.times: list[datetime] = []  # when each time something was published
        self.published: set[str] = set()  # keys of what is no gap
        self.furthest = 0.0  # seconds behind live that a page says it is
        self.wall: Callable[[], datetime] = self.clock
        self.most, self.most_bytes = timedelta(), 2**40  # that is kept for such pages
        self._waited = 0.0  # seconds, for playlists that had ended
        self.open(None)

    def open(self, keep: timedelta | None) -> None:
        self.catalog = Catalog(self.folder, self.clock, recordings=keep, wall=self.look_at_wall)
        self.begin()

    def begin(self) -> None:
        """Begin with what is in the catalog."""
        memory = self.catalog.load()
        catalog, channel = self.catalog, memory.stream
        self.channel = Channel(
            WINDOW,
            self.clock,
            self.events.append,
            dvr=(self.most, self.most_bytes),
            monotonic=self.monotonic,
            catalog=catalog,
            memory=channel,
        )
        for segment in memory.pending:
            self.channel.publish(segment)

    def clock(self) -> datetime:
        return self.now

    def look_at_wall(self) -> datetime:
        return self.wall()

    def monotonic(self) -> float:
        return self.now.timestamp() + self._waited

    def tick(self) -> None:
        """Time passes for the stream."""
        self.channel.behind = self.furthest
        self.channel.tick()

    def restart(self, keep: timedelta | None = None) -> None:
        self.catalog.close()
        self.open(keep)

    def publish(  # noqa: PLR0913 - a segment has that many properties
        self,
        variants: str = "01",
        *,
        run: int = 0,
        seconds: float = 2.0,
        lost: bool = False,
        count: int = 1,
        size: int = 1000,
    ) -> None:
        self.tick()
        listed = variants_listed(*variants)
        for _ in range(count):
            self.channel.list_variants(listed)
            for variant in variants:
                self.channel.expect(variant)
            self.times.append(self.now)
            for variant in variants:
                segment = stored_segment(
                    f"live/r{run}/{variant}/{self.count}.ts",
                    number=self.count,
                    variant=variant,
                    run=run,
                    seconds=seconds,
                    time=self.now + self.encoder_is_ahead,
                    size=size,
                    gap=lost,
                    iframe=None if lost else ByteRange(188 * (self.count + 1), 376),
                )
                self.published |= {segment.key} if segment.size else set()
                self.catalog.noticed(segment)
                self.catalog.stored(segment)
                self.channel.publish(segment)
            self.count += 1
            self.now += timedelta(seconds=seconds)
            self.newest = self.now
        self.tick()
        if self.channel.state is State.STARTING:
            self._waited += 30
            self.tick()

    async def recordings(self) -> list[Recording]:
        return await self.catalog.recordings.all()

    async def segments(self) -> list[list[RecordingSegment]]:
        """Those of each part of the newest recording."""
        table = self.catalog.recordings
        parts = (await table.parts())[(await table.all())[0].id]
        return [await table.segments(part.number) for part in parts]

    async def names(self) -> list[list[str]]:
        return [[segment.key.removeprefix("live/") for segment in part] for part in await self.segments()]
