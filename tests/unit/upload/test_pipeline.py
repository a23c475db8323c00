"""The way of a segment, with a bucket in memory."""

import asyncio
import errno
import os
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broadcaster.aio import USUAL
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import CatalogSnapshot, Segment, SourceSnapshot, StreamSnapshot
from broadcaster.catalog.rows import Statement
from broadcaster.catalog.writer import Transaction, TransactionWriter
from broadcaster.errors import StorageRefused, StorageUnavailable
from broadcaster.events import (
    Event,
    SegmentLost,
    SegmentPublished,
    SourceEnded,
    SourceFault,
    SourceIdle,
    StreamEnded,
    UploadFailed,
)
from broadcaster.hls import ByteRange, MediaPlaylist, parse
from broadcaster.ipc.messages import State
from broadcaster.stream import Instant, StreamLimits, StreamMachine
from broadcaster.upload import Pipeline, Uploader
from broadcaster.upload.pipeline import FASTER
from broadcaster.upload.scheduler import START
from broadcaster.upload.spool import Spool
from broadcaster.upload.uploader import WarmUploads
from tests.support.fakes import mpegts as packets
from tests.support.fakes.hls_writer import PACKET
from tests.support.fakes.pipeline_parts import FakeEncoder, FakeSource, FakeStore, segment_of, variants_listed
from tests.support.fakes.timed_media import mp4_map_with_flags, mp4_pictures
from tests.support.faults.broken_files import CALLS, broken
from tests.support.waiting import changes, eventually


class CountingWriter(TransactionWriter):
    """Counts the ticks, each of which maintains the catalog; writes nothing while ``free`` is not set."""

    saved = 0
    on_save: Callable[[], None]
    free = threading.Event()
    free.set()

    def transact(self, statements: Sequence[Statement]) -> None:
        assert self.free.wait(60)
        super().transact(statements)

    def maintain(self) -> None:
        super().maintain()
        self.saved += 1
        self.on_save()


class Line:
    """A running pipeline and what it did."""

    def __init__(  # noqa: PLR0913 - what tests differ by
        self,
        folder: Path,
        end_grace: float = 300,
        limit: int = 10**9,
        store: FakeStore | None = None,
        disconnect_grace: float | None = None,
        *,
        recover: bool = False,
    ) -> None:
        self.folder = folder
        self.store = store or FakeStore()
        self.source = FakeSource()
        self.events: list[Event] = []
        self.changed = asyncio.Event()
        self.store.on_arrival = self.changed.set
        self.warm = WarmUploads(self.store, "live")
        self.uploader = Uploader(self.store, self.observe, self.clock, self.warm.take)
        self.spool = Spool(folder / "spool", limit)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("broadcaster.catalog.catalog.TransactionWriter", CountingWriter)
            self.catalog = Catalog(folder / "state", self.clock)
        assert isinstance(self.catalog.writer, CountingWriter)
        self.writer = self.catalog.writer
        self.writer.on_save = self.changed.set
        self.stop = asyncio.Event()
        self.encoder = FakeEncoder()
        limits = StreamLimits(10, end_grace=end_grace, disconnect_grace=disconnect_grace)
        memory = self.catalog.load() if recover else CatalogSnapshot(SourceSnapshot(), StreamSnapshot(), ())
        stream = StreamMachine(limits, Instant(self.clock(), time.monotonic()), memory.stream, memory.pending)
        self.pipeline = Pipeline(
            stream,
            self.uploader,
            self.spool,
            self.catalog,
            self.observe,
            clock=self.clock,
            prefix="live",
            encoder=self.encoder,
        )

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self.changed.set()

    def file(self, name: str, content: bytes = PACKET) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def discover(self, path: Path | None, *, number: int = 0, run: int = 0, encoder: str = "enc") -> None:
        self.source.events.put_nowait(segment_of(path, number=number, run=run, encoder=encoder))

    def know_variants(self, *names: str) -> None:
        self.source.events.put_nowait(variants_listed(*names))

    async def until(self, condition: Callable[[], object]) -> None:
        await changes(self.changed, condition)

    async def until_published(self, count: int) -> None:
        await self.until(lambda: len(self.published()) >= count)

    async def several_ticks(self, count: int = 5) -> None:
        """Wait until the pipeline has looked so often whether the stream is over."""
        last = self.writer.saved
        await self.until(lambda: self.writer.saved >= last + count)

    def spooled(self) -> list[str]:
        return [path.name for path in (self.folder / "spool").rglob("*") if path.is_file()]

    def published(self) -> list[str]:
        return [
            event.segment.url.rpartition("/")[2]
            for event in self.events
            if isinstance(event, SegmentPublished)
        ]

    def playlist(self, variant: str = "0") -> MediaPlaylist:
        version = self.pipeline.view.playlists.get(variant)
        assert version
        playlist = parse(version.playlist.render())
        assert isinstance(playlist, MediaPlaylist)
        return playlist


@asynccontextmanager
async def running(line: Line) -> AsyncIterator[Line]:
    line.know_variants("0")
    with closing(line.catalog):
        async with line.catalog.writer:
            task = asyncio.create_task(line.pipeline.run(line.source.run, line.stop, 5))
            try:
                yield line
            finally:
                line.stop.set()
                await task


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadcaster.upload.uploader.MAX_PAUSE", 0.001)
    monkeypatch.setattr("broadcaster.upload.uploader.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("broadcaster.upload.uploader.REFUSED_PAUSE", 0.001)
    monkeypatch.setattr("broadcaster.upload.pipeline.TICK", 0.01)
    monkeypatch.setattr("broadcaster.catalog.writer.CHECKPOINT_EVERY", 0)
    monkeypatch.setattr("broadcaster.upload.pipeline.LATE_TARGET_DURATIONS", 0)
    monkeypatch.setattr("broadcaster.stream.machine.GRACE_TARGET_DURATIONS", 0)
    monkeypatch.setattr("broadcaster.stream.machine.FLUSH", 0.01)


async def test_a_segment_is_stored_and_listed(tmp_path: Path) -> None:
    """What the source finished is in the bucket byte for byte before it is listed."""
    async with running(Line(tmp_path)) as line:
        line.discover(line.file("a.ts", PACKET * 2))
        await line.until_published(1)
        await line.until(lambda: not line.spooled())
    assert line.store.objects_ == {"live/run0/0/a.ts": PACKET * 2}
    assert line.playlist().segments[0].uri == "https://bucket.example/live/run0/0/a.ts"
    assert line.pipeline.backlog == 0


async def test_nothing_is_stored_that_the_journal_does_not_know(tmp_path: Path) -> None:
    """Killed in between, nobody would ever look for it in the bucket, which may have the only copy."""
    async with running(Line(tmp_path)) as line:
        line.writer.free = threading.Event()
        line.discover(line.file("a.ts"))
        await line.until(lambda: line.pipeline.backlog)
        await line.several_ticks()
        stored = list(line.store.puts)
        line.writer.free.set()
        await line.until_published(1)
    assert stored == []


async def test_the_doors_open_once_viewers_see_nothing(tmp_path: Path) -> None:
    """What is shown waits for the disk, and the doors wait for what is shown: no guest sees the rehearsal."""
    async with running(Line(tmp_path)) as line:
        line.discover(line.file("a.ts"))
        await line.until_published(1)
        line.writer.free = threading.Event()
        line.discover(line.file("b.ts"), number=1)
        await line.several_ticks()
        opening = asyncio.create_task(line.pipeline.open_doors(line.clock()))
        await line.several_ticks()
        assert not opening.done()
        assert [*line.pipeline.view.playlists] == ["0"]
        line.writer.free.set()
        await opening
        assert line.pipeline.view.playlists == {}


async def test_nothing_is_shown_that_was_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a transaction fails, ingest ends with its error, and viewers see what was written before."""
    line, failed = Line(tmp_path), list[str]()

    def fail(*_: object, **__: object) -> Transaction:
        failed.append("1.ts")
        line.changed.set()
        return line.catalog.writer.write(("INSERT INTO nothing", {}))

    with pytest.RaisesGroup(sqlite3.OperationalError, flatten_subgroups=True):
        async with running(line):
            line.discover(line.file("0.ts"))
            await line.until(lambda: line.published() and not line.pipeline.backlog)
            monkeypatch.setattr(line.catalog, "listed", fail)
            line.discover(line.file("1.ts"), number=1)
            await line.until(lambda: failed)
    assert line.published() == ["0.ts"]
    assert [segment.uri.rpartition("/")[2] for segment in line.playlist().segments] == ["0.ts"]
    with closing(Catalog(tmp_path / "state", line.clock)) as catalog:
        assert [segment.name for segment in catalog.load().pending] == ["1.ts"]


async def test_a_power_cut_takes_back_nothing_that_is_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is listed stays in the spool as long as the journal may forget that; a full disk cannot wait."""
    monkeypatch.setattr("broadcaster.catalog.writer.CHECKPOINT_EVERY", 3600)
    async with running(Line(tmp_path)) as line:
        line.discover(line.file("first.ts"))  # a new playlist is on the disk before it is shown
        await line.until(lambda: line.published() and not line.spooled())
        line.discover(line.file("a.ts"), number=1)
        await line.until(lambda: len(line.published()) == 2 and not line.pipeline.backlog)
        await line.several_ticks()
        spooled = line.spooled(), line.spool.size
        line.catalog.writer.fault = "the disk is full"
        await line.until(lambda: not line.spooled())
        line.catalog.writer.fault = None
        line.discover(line.file("b.ts"), number=2)
        await line.until(lambda: len(line.published()) == 3 and not line.pipeline.backlog)
        assert line.spooled() == ["b.ts"]
    assert spooled == (["a.ts"], 0)
    assert not line.spooled()  # after a stop in good order


async def test_the_key_frame_is_found_on_the_way(tmp_path: Path) -> None:
    """A published segment has the place of its key frame; without a key frame it is listed all the same."""
    async with running(Line(tmp_path)) as line:
        line.discover(line.file("a.ts", packets.segment()))
        line.discover(line.file("b.ts"), number=1)
        await line.until_published(2)
    found = [segment.iframe for segment in line.pipeline.view.playlists["0"].playlist.segments]
    assert found == [ByteRange(2 * packets.PACKET, 2 * packets.PACKET), None]


async def test_uploads_are_parallel_and_publication_is_in_order(tmp_path: Path) -> None:
    """A slow upload does not hold up the others, but nothing is listed before it."""
    async with running(Line(tmp_path)) as line:
        gate = line.store.gates["0.ts"] = asyncio.Event()
        for number in range(4):
            line.discover(line.file(f"{number}.ts"), number=number)
        await line.until(lambda: len(line.store.objects_) == 3)
        assert line.published() == []
        assert line.pipeline.backlog == 4
        gate.set()
        await line.until_published(4)
    assert line.published() == ["0.ts", "1.ts", "2.ts", "3.ts"]


async def test_a_backlog_is_left_to_who_takes_over(tmp_path: Path) -> None:
    """Asked for the lead, it lists what is being uploaded, and begins no upload that the other one can do."""
    line = Line(tmp_path)
    line.know_variants("0")
    with closing(line.catalog):
        async with line.catalog.writer:
            run = line.pipeline.run(line.source.run, line.stop, 300, hands_over=lambda: True)
            task = asyncio.create_task(run)
            gates = [line.store.gates.setdefault(f"{number}.ts", asyncio.Event()) for number in range(40)]
            for number in range(40):
                line.discover(line.file(f"{number}.ts"), number=number)
            await line.until(lambda: line.pipeline.backlog == 40 and len(line.store.puts) == START)
            line.stop.set()
            await eventually(lambda: line.pipeline.draining)
            for gate in gates:
                gate.set()
            await task
    assert line.published() == [f"{number}.ts" for number in range(START)]
    assert len(line.store.puts) == START


async def test_the_source_may_take_its_files_away(tmp_path: Path) -> None:
    """Once spooled, a segment reaches the bucket although the source has deleted it."""
    async with running(Line(tmp_path)) as line:
        gate = line.store.gates["1.ts"] = asyncio.Event()
        for number in range(2, 40):
            line.discover(line.file(f"{number}.ts"), number=number)
        line.discover(line.file("1.ts"), number=1)
        await line.until(lambda: line.pipeline.backlog == 1 and "live/run0/0/1.ts" in line.store.puts)
        line.discover(line.file("last.ts"), number=50)
        await line.until(lambda: "live/run0/0/last.ts" in line.store.objects_)
        (tmp_path / "last.ts").unlink()
        (tmp_path / "1.ts").unlink()
        gate.set()
        await line.until(lambda: line.pipeline.backlog == 0)
    assert line.published()[-2:] == ["1.ts", "last.ts"]
    assert not [event for event in line.events if isinstance(event, SegmentLost)]


async def test_failures_are_tried_again_without_end(tmp_path: Path) -> None:
    """A bucket that fails many times in many ways loses nothing, and the fault is known meanwhile."""
    line = Line(tmp_path)
    line.store.failures = [StorageUnavailable("busy"), StorageRefused("bad key")] * 10
    faults = []
    line.store.on_put = lambda _: faults.append(line.uploader.fault)
    async with running(line):
        line.discover(line.file("a.ts"))
        await line.until_published(1)
    assert sum(isinstance(event, UploadFailed) for event in line.events) == 20
    assert [fault.permanent for fault in faults if fault] == [False, True] * 10
    assert line.uploader.fault is None
    assert line.store.objects_


async def test_a_permanent_fault_is_reported_while_it_lasts(tmp_path: Path) -> None:
    """With a stream on and a refusing bucket, the reason is known at once; without a stream there is none."""
    line = Line(tmp_path)
    async with running(line):
        assert line.pipeline.problem is None
        line.store.failures = [StorageRefused("there is no such bucket", "check R2_BUCKET")] * 100_000
        line.discover(line.file("a.ts"))
        await line.until(lambda: line.uploader.fault)
        assert line.pipeline.problem
        cause, remedy = line.pipeline.problem
        assert re.fullmatch(r"since \S+: there is no such bucket", cause)
        assert remedy == "check R2_BUCKET"
        line.store.failures.clear()


async def test_while_a_stream_is_live_a_fault_has_no_start_of_its_own(tmp_path: Path) -> None:
    """Health says for how long viewers are frozen: the cause says no other time."""
    line = Line(tmp_path)
    async with running(line):
        line.discover(line.file("a.ts"))
        await line.until_published(1)
        line.store.failures = [StorageRefused("there is no such bucket", "check R2_BUCKET")] * 100_000
        line.discover(line.file("b.ts"))
        await line.until(lambda: line.uploader.fault)
        assert line.pipeline.problem == ("there is no such bucket", "check R2_BUCKET")
        line.store.failures.clear()


async def test_trouble_names_what_the_uplink_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that is late for want of bandwidth is reported with both rates, otherwise as late alone."""
    monkeypatch.setattr("broadcaster.upload.pipeline.LATE", 0)
    monkeypatch.setattr("broadcaster.upload.scheduler.SAMPLES", 10)
    line = Line(tmp_path)
    async with running(line):
        gate = line.store.gates["a.ts"] = asyncio.Event()
        line.discover(line.file("a.ts"))
        await line.until(lambda: line.store.puts)
        assert line.pipeline.problem
        cause, remedy = line.pipeline.problem
        assert re.fullmatch(r"since \S+: an upload takes too long", cause)
        assert remedy == USUAL
        await line.several_ticks(12)
        assert line.pipeline.problem == ("the uplink carries 0.0 Mbit/s, the stream needs 0.0", FASTER)
        gate.set()
        await line.until(lambda: line.published() and not line.pipeline.backlog)
        assert line.pipeline.problem is None


async def test_a_broken_segment_is_a_gap(tmp_path: Path) -> None:
    """What never came whole is listed as a gap in its place, and counted."""
    async with running(Line(tmp_path)) as line:
        line.discover(line.file("0.ts"), number=0)
        line.discover(None, number=1)
        line.discover(line.file("2.ts"), number=2)
        await line.until_published(3)
    assert [segment.gap for segment in line.playlist().segments] == [False, True, False]
    assert [event.reason for event in line.events if isinstance(event, SegmentLost)] == ["is not there"]


async def test_a_file_that_vanishes_before_the_spool_is_a_gap(tmp_path: Path) -> None:
    """A file that is gone before it could be linked is lost, which is said; the stream goes on."""
    async with running(Line(tmp_path)) as line:
        path = line.file("0.ts")
        event = segment_of(path)
        path.unlink()
        line.source.events.put_nowait(event)
        line.discover(line.file("1.ts"), number=1)
        await line.until_published(2)
    assert [segment.gap for segment in line.playlist().segments] == [True, False]


async def test_a_file_that_changes_is_uploaded_again(tmp_path: Path) -> None:
    """When the source writes on after the file was taken, the final bytes are stored before it is listed."""
    line = Line(tmp_path)

    def write_on(_: str) -> None:
        if len(line.store.puts) == 1:
            line.file("a.ts", PACKET * 5)

    line.store.on_put = write_on
    async with running(line):
        line.discover(line.file("a.ts", PACKET))
        await line.until_published(1)
    assert line.store.objects_["live/run0/0/a.ts"] == PACKET * 5
    assert len(line.store.puts) == 2


async def test_reused_names_get_keys_of_their_own(tmp_path: Path) -> None:
    """A writer that cycles through its names never overwrites an object."""
    async with running(Line(tmp_path)) as line:
        for number in range(3):
            line.discover(line.file("same.ts", PACKET * (number + 1)), number=number, encoder="")
            await line.until_published(number + 1)
    assert [len(body) // 188 for body in line.store.objects_.values()] == [1, 2, 3]


async def test_a_name_that_is_used_again_changes_nothing(tmp_path: Path) -> None:
    """What a writer puts under a name while its last segment waits is not uploaded in that one's place."""
    line = Line(tmp_path)
    gate = line.store.gates["7-same.ts"] = asyncio.Event()
    async with running(line):
        line.discover(line.file("same.ts", PACKET), number=7, encoder="")
        await line.until(lambda: line.store.puts)
        line.file("same.ts", PACKET * 3)
        gate.set()
        await line.until_published(1)
    assert line.store.objects_ == {"live/run0/0/7-same.ts": PACKET}
    assert len(line.store.puts) == 1


async def test_an_object_that_is_refused_holds_nobody_up(tmp_path: Path) -> None:
    """While the bucket takes others, one that it refuses for good becomes a gap, also as the first."""
    line = Line(tmp_path)

    def refuse(key: str) -> None:
        if key.endswith("0.ts"):
            raise StorageRefused("AccessDenied")

    line.store.on_put = refuse
    async with running(line):
        for number in range(6):
            line.discover(line.file(f"{number}.ts"), number=number)
        await line.until_published(6)
    assert [segment.gap for segment in line.playlist().segments] == [True] + [False] * 5
    (lost,) = [event for event in line.events if isinstance(event, SegmentLost)]
    assert lost.reason == "is refused while others are taken: AccessDenied"


async def resumed(tmp_path: Path, segment: Segment, store: FakeStore) -> Line:
    """A pipeline whose predecessor was killed when it had kept the segment."""
    with closing(Catalog(tmp_path / "state", lambda: datetime.now(UTC))) as catalog:
        catalog.noticed(segment)
    line = Line(tmp_path, store=store, recover=True)
    line.spool.resume([])
    async with running(line):
        await line.until_published(1)
    return line


@pytest.mark.parametrize(("at_hand", "stored"), [("source", True), ("bucket", True), ("nowhere", False)])
async def test_what_a_power_cut_emptied(tmp_path: Path, at_hand: str, *, stored: bool) -> None:
    """A kept file without its bytes is never uploaded: the source or bucket has them, or it is lost."""
    path = tmp_path / "a.ts"
    path.write_bytes(PACKET * 2)
    segment = replace(segment_of(path), key="live/run0/0/a.ts")
    kept = tmp_path / "spool/live/run0/0/a.ts"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(PACKET)
    store = FakeStore()
    if at_hand != "source":
        path.write_bytes(b"of another run")
    if at_hand == "bucket":
        store.objects_[segment.key] = PACKET * 2
    line = await resumed(tmp_path, segment, store)
    assert [segment.gap for segment in line.playlist().segments] == [not stored]
    assert store.objects_.get(segment.key) == (PACKET * 2 if stored else None)


async def test_a_recovered_run_keeps_its_own_map(tmp_path: Path) -> None:
    """The next run's EXT-X-MAP, under the same name, does not take the place of the last one's."""
    init, path = tmp_path / "init.mp4", tmp_path / "a.m4s"
    init.write_bytes(b"of run 0")
    path.write_bytes(PACKET)
    segment = replace(
        segment_of(path, map_path=init), key="live/run0/0/a.m4s", map_key="live/run0/0/init.mp4"
    )
    init.write_bytes(b"of run 1, longer")
    store = FakeStore()
    store.objects_["live/run0/0/init.mp4"] = b"of run 0"
    line = await resumed(tmp_path, segment, store)
    assert store.objects_["live/run0/0/init.mp4"] == b"of run 0"
    assert [segment.gap for segment in line.playlist().segments] == [False]


async def test_a_map_that_the_next_run_overwrites_is_kept(tmp_path: Path) -> None:
    """Names of segments have the encoder's ID, and that of their EXT-X-MAP is the same in each run.

    The next run writes into that file, while the map of the last one waits for the bucket.
    """
    line = Line(tmp_path)
    line.store.failures = [StorageUnavailable("busy")] * 100_000
    async with running(line):
        map_path = line.file("init.mp4", b"of run 0")
        line.source.events.put_nowait(segment_of(line.file("0.m4s", PACKET), map_path=map_path))
        await line.until(lambda: len(line.store.failures) < 99_990)
        map_path.write_bytes(b"of run 1, longer")
        path = line.file("1.m4s", PACKET)
        line.source.events.put_nowait(segment_of(path, run=1, map_path=map_path))
        line.store.failures.clear()
        await line.until_published(2)
    assert [segment.gap for segment in line.playlist().segments] == [False, False]
    assert line.store.objects_["live/run0/0/init.mp4"] == b"of run 0"
    assert line.store.objects_["live/run1/0/init.mp4"] == b"of run 1, longer"


async def test_a_map_is_uploaded_once_and_before_its_segments(tmp_path: Path) -> None:
    """It is in the bucket before the first segment that needs it is listed, and tells key frames."""
    async with running(Line(tmp_path)) as line:
        map_path = line.file("init.mp4", mp4_map_with_flags())
        for number in range(3):
            file = line.file(f"{number}.m4s", mp4_pictures())
            line.source.events.put_nowait(segment_of(file, number=number, map_path=map_path))
        await line.until_published(3)
    assert line.store.puts.count("live/run0/0/init.mp4") == 1
    segments = line.pipeline.view.playlists["0"].playlist.segments
    assert [segment.iframe for segment in segments] == 3 * [ByteRange(172, 0)]
    assert {segment.map_uri for segment in line.playlist().segments} == {
        "https://bucket.example/live/run0/0/init.mp4"
    }


class SigningStore(FakeStore):
    """A private bucket: no two URLs are the same, apart from lasting ones."""

    def __init__(self) -> None:
        super().__init__()
        self.signed: list[str] = []

    async def url(self, key: str) -> str:
        self.signed.append(key)
        return f"https://bucket.example/{key}?signature={len(self.signed)}"

    async def long_lived_url(self, key: str) -> str:
        return f"https://bucket.example/{key}?signature=lasting"


async def test_a_signed_url_is_made_once_and_after_the_upload(tmp_path: Path) -> None:
    """Its life begins with the upload, and it stays the same; maps have lasting ones."""
    store = SigningStore()
    store.on_put = lambda key: store.signed.append(f"upload of {key}")
    async with running(Line(tmp_path, store=store)) as line:
        map_path = line.file("init.mp4", b"init")
        for number in range(3):
            path = line.file(f"{number}.m4s", b"x")
            line.source.events.put_nowait(segment_of(path, number=number, map_path=map_path))
            await line.until_published(number + 1)
    listed = line.playlist().segments
    assert store.signed.count("live/run0/0/1.m4s") == 1
    assert store.signed.index("upload of live/run0/0/1.m4s") < store.signed.index("live/run0/0/1.m4s")
    assert len({segment.uri for segment in listed}) == 3
    assert {segment.map_uri for segment in listed} == {
        "https://bucket.example/live/run0/0/init.mp4?signature=lasting"
    }


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("calls", [("open",), CALLS], ids=["unreadable", "not even spooled"])
async def test_what_cannot_be_read_now_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, calls: tuple[str, ...]
) -> None:
    """A fault of the machine costs no segment, and is known as long as it lasts."""
    monkeypatch.setattr("broadcaster.upload.pipeline.LATE", 0)
    async with running(Line(tmp_path)) as line:
        segment = segment_of(line.file("a.ts"))
        with broken(tmp_path, number, calls=calls) as failed:
            line.source.events.put_nowait(segment)
            await line.until(lambda: len(failed) > 20)
            assert os.strerror(number) in str(line.pipeline.problem)
        await line.until_published(1)
    assert [segment.gap for segment in line.playlist().segments] == [False]
    assert line.pipeline.problem is None


async def test_what_can_never_be_read_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When others are read all the time, and one is not, its fault is its own: a gap."""
    monkeypatch.setattr("broadcaster.upload.uploader.MAX_PAUSE", 60)
    monkeypatch.setattr("broadcaster.upload.uploader.OWN_FAULT_AFTER", 0)
    async with running(Line(tmp_path)) as line:
        with broken(tmp_path / "spool/live/run0/0/0.ts", errno.EIO, calls=("open",)):
            line.discover(line.file("0.ts"), number=0)
            await line.until(lambda: line.uploader.fault)
            line.discover(line.file("1.ts"), number=1)
            await line.until_published(2)
    assert [segment.gap for segment in line.playlist().segments] == [True, False]


async def test_a_spool_that_nothing_can_be_removed_from(tmp_path: Path) -> None:
    """Its disk has become read-only: the stream goes on."""
    async with running(Line(tmp_path)) as line:
        gate = line.store.gates["0.ts"] = asyncio.Event()
        line.discover(line.file("0.ts"), number=0)
        await line.until(lambda: line.store.puts)
        with broken(tmp_path / "spool", errno.EROFS, calls=("link", "unlink")) as failed:
            gate.set()
            await line.until_published(1)
            line.discover(line.file("1.ts"), number=1)
            await line.until_published(2)
    assert failed
    assert [segment.gap for segment in line.playlist().segments] == [False, False]


async def test_a_folder_that_cannot_be_read_is_trouble(tmp_path: Path) -> None:
    """Whether a stream is on is not known then, so that nobody may take it for well."""
    async with running(Line(tmp_path)) as line:
        line.source.events.put_nowait(SourceFault("the folder cannot be read"))
        await line.until(lambda: line.pipeline.problem == ("the folder cannot be read", ""))
        line.source.events.put_nowait(SourceFault(None))
        await line.until(lambda: line.pipeline.problem is None)


async def test_the_stream_ends_after_the_grace_time(tmp_path: Path) -> None:
    """Without a new segment for the grace time, the playlist ends; a new run begins a new playlist."""
    async with running(Line(tmp_path, end_grace=0.05)) as line:
        line.discover(line.file("0.ts"), number=0)
        await line.until(lambda: any(isinstance(event, StreamEnded) for event in line.events))
        assert line.playlist().ended
        line.discover(line.file("1.ts"), number=1, run=1)
        await line.until_published(2)
    playlist = line.playlist()
    assert playlist.media_sequence == 2
    assert [segment.discontinuity for segment in playlist.segments] == [True]


async def test_an_encoder_that_has_gone_ends_the_stream(tmp_path: Path) -> None:
    """Where the operator wants it, that ends the stream before the grace time, after what is on its way."""
    async with running(Line(tmp_path, disconnect_grace=0)) as line:
        line.discover(line.file("0.ts"), number=0)
        await line.until_published(1)
        gate = line.store.gates["1.ts"] = asyncio.Event()
        line.discover(line.file("1.ts"), number=1)
        await line.until(lambda: "live/run0/0/1.ts" in line.store.puts)
        line.encoder.connected, line.encoder.disconnected_since = False, time.monotonic()
        await line.several_ticks()
        assert line.pipeline.view.state is State.LIVE
        gate.set()
        await line.until(lambda: any(isinstance(event, StreamEnded) for event in line.events))
    assert line.published() == ["0.ts", "1.ts"]
    assert line.playlist().ended


async def test_an_encoder_that_has_gone_may_come_back(tmp_path: Path) -> None:
    """Unless a time is set for it, the word that the encoder has gone ends nothing before the grace time."""
    async with running(Line(tmp_path)) as line:
        line.discover(line.file("0.ts"), number=0)
        await line.until_published(1)
        line.encoder.connected, line.encoder.disconnected_since = False, time.monotonic()
        await line.several_ticks()
        assert line.pipeline.view.state is State.LIVE


async def test_an_idle_owncast_ends_the_stream(tmp_path: Path) -> None:
    """When the idle clip has been alone for long, the stream is over; ENDLIST alone does not mean that."""
    async with running(Line(tmp_path)) as line:
        line.discover(line.file("0.ts"), number=0)
        await line.until_published(1)
        line.source.events.put_nowait(SourceEnded("0"))
        line.discover(line.file("1.ts"), number=1, run=1)
        await line.until_published(2)
        assert line.pipeline.view.state is State.LIVE
        line.source.events.put_nowait(SourceIdle())
        await line.until(lambda: any(isinstance(event, StreamEnded) for event in line.events))
    assert line.playlist().ended


async def test_killed_before_a_stream_went_live(tmp_path: Path) -> None:
    """Segments that were stored, but not listed when the process died, are listed by the next one."""
    line = Line(tmp_path)
    async with running(line):
        line.know_variants("0", "1")
        line.discover(line.file("a.ts"))
        await line.until(lambda: line.store.puts)
    assert line.pipeline.view.state is State.STARTING
    (tmp_path / "a.ts").unlink()
    again = Line(tmp_path, recover=True)
    again.store.objects_ = line.store.objects_
    async with running(again):
        await again.until_published(1)
    assert [segment.gap for segment in again.playlist().segments] == [False]
    assert again.store.puts == []
