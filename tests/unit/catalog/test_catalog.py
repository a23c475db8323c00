"""What outlives the process: what is written comes back, whole or not at all, and bad files are refused."""

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from broadcaster.catalog import Catalog
from broadcaster.catalog import schema as database
from broadcaster.catalog.catalog import MARGIN
from broadcaster.catalog.records import Numbers, PlaylistState, PlaylistUpdate, Run, Segment, SourceFile
from broadcaster.catalog.rows import fact
from broadcaster.catalog.schema import MIGRATIONS, SCHEMA, open_database
from broadcaster.catalog.writer import Transaction
from broadcaster.errors import CatalogError
from broadcaster.hls import ByteRange, MediaSegment, MultivariantPlaylist, Rendition, Variant
from tests.support.fakes.old_catalog import FIRST_SCHEMA, old_journal
from tests.support.fakes.pipeline_parts import START, segment_of, unlisted

SECOND = timedelta(seconds=1)
RUN = Run(3, "20260101T120000Z-3-abc", "abc#0")


class CatalogRig:
    """A journal that can be closed and opened again; its file is ``path``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "journal.db"
        self.now = START
        self.catalog = self.open()

    def open(self) -> Catalog:
        return Catalog(self.folder, lambda: self.now)

    def reopen(self) -> Catalog:
        self.catalog.close()
        self.catalog = self.open()
        return self.catalog

    def remembered(self, variant: str) -> list[str]:
        """The keys of all segments that the file has, pending or published."""
        self.catalog.close()
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(
                "SELECT key FROM segments WHERE variant = ? ORDER BY position", (variant,)
            )
            keys = [key for (key,) in rows]
        self.catalog = self.open()
        return keys

    def limit(self, pages: int) -> int:
        """Let the file have so many pages more and no others, as on a disk that is full."""
        connection = self.catalog.writer.connection
        (used,) = connection.execute("PRAGMA page_count").fetchone()
        (limit,) = connection.execute(f"PRAGMA max_page_count = {used + pages}").fetchone()
        assert isinstance(limit, int)
        return limit


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[CatalogRig]:
    made = CatalogRig(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadcaster.catalog.schema.BUSY_TIMEOUT", 0.0)


def source_segment(number: int, variant: str = "0") -> Segment:
    """One of which no fact has its default."""
    file = SourceFile(f"{number}.m4s", Path(f"/hls/{variant}/{number}.m4s"), 1234, 1_767_268_800_123_456_789)
    return replace(
        segment_of(None, number=number, variant=variant),
        run=RUN,
        name=file.name,
        duration=timedelta(seconds=2, microseconds=2),
        noticed=START + timedelta(microseconds=7),
        file=file,
        fault=None,
        map_file=SourceFile("init.mp4", Path(f"/hls/{variant}/init.mp4"), 77, 99, 5),
        key=f"live/r/{variant}/{number}.ts",
        iframe=ByteRange(9400, 376),
    )


def state(variant: str = "0", first: int = 1, following: int = 2, *, current: bool = True) -> PlaylistState:
    return PlaylistState(
        variant=variant,
        current=current,
        target_duration=4,
        media_sequence=first,
        next_media_sequence=following,
        discontinuity_sequence=2,
        current_discontinuity=3,
        ended=False,
        peak_bandwidth=1_000_000,
    )


def listing(
    number: int, variant: str = "0", *, first: int = 1, map_key: str | None = None, size: int = 0
) -> PlaylistUpdate:
    """What listing segment ``number`` did under that number, after which ``first`` is the first listed."""
    segment = replace(source_segment(number, variant), map_key=map_key, size=size, map_file=None)
    segment = replace(segment, url=f"https://b/{segment.key}")
    listed = MediaSegment(segment.url, 2 * SECOND, program_date_time=START + number * SECOND)
    return PlaylistUpdate(
        segment=segment,
        playlist=state(variant, first, number + 1),
        added=[(number, listed, True)],
        first=first,
        availability=30 * SECOND,
        shift=5 * SECOND,
    )


def test_segments_on_their_way_come_back(rig: CatalogRig) -> None:
    """All facts of pending segments come back, in order; what is published is pending no more."""
    segments = [source_segment(1), source_segment(2), replace(source_segment(3), file=None, fault="is gone")]
    segments.append(replace(source_segment(4), map_file=None, independent=False))
    for segment in segments:
        rig.catalog.noticed(segment)
    rig.catalog.listed([listing(1)])
    memory = rig.reopen().load()
    assert list(memory.pending) == segments[1:]
    assert memory.source.runs == (RUN,)
    position = memory.source.positions["0"]
    assert position.run == RUN
    assert position.known[1] == (segments[0].uri, segments[0].program_date_time)


def test_playlists_come_back(rig: CatalogRig) -> None:
    """Where each playlist stood, what it lists, with gaps and maps, and the shift of its run come back."""
    entries = [
        (
            7,
            MediaSegment(
                "https://b/1.m4s", 2 * SECOND, True, "https://b/init.mp4", START, iframe=ByteRange(9400, 376)
            ),
            True,
        ),
        (8, MediaSegment("https://b/2.m4s", SECOND / 3, gap=True), False),
    ]
    first, second = listing(7), listing(8)
    second = replace(second, segment=replace(second.segment, fault="is gone"))
    for made, entry in zip((first, second), entries, strict=True):
        rig.catalog.listed([replace(made, added=[entry], playlist=state(first=7, following=9))])
    rig.catalog.listed([listing(1, "1")])
    channel = rig.reopen().load().stream
    (shown, listed), (other, _) = sorted(channel.playlists, key=lambda playlist: playlist[0].variant)
    assert shown == state(first=7, following=9)
    assert [(number, segment.uri, segment.gap) for number, segment, _ in listed] == [
        (7, "https://b/1.m4s", False),
        (8, "https://b/2.m4s", True),
    ]
    assert listed[0] == entries[0]
    assert listed[1][1].program_date_time is None
    assert listed[1][2] is False
    assert other == state("1")
    assert channel.shifts == {RUN.number: 5 * SECOND}


def test_variants_come_back(rig: CatalogRig) -> None:
    """The source's multivariant playlist comes back with every attribute, also those that are not there."""
    variants = (Variant("0", 1000, 900, "avc1", (640, 360), 29.97), Variant("1", 2000))
    sound = (Rendition("aac", "English", "sound", "en", default=True), Rendition("aac", "None"))
    described = MultivariantPlaylist(variants, renditions=sound)
    rig.catalog.described(MultivariantPlaylist())
    rig.catalog.described(described)
    assert rig.reopen().load().stream.described == described


def test_an_empty_journal_recalls_nothing(rig: CatalogRig) -> None:
    """At the first start there is nothing to go on from."""
    memory = rig.catalog.load()
    assert memory.pending == []
    assert memory.stream.playlists == []
    assert memory.stream.described == MultivariantPlaylist()
    assert memory.source.runs == ()


async def test_what_leaves_the_window_is_to_be_deleted(rig: CatalogRig) -> None:
    """Segments go in the order in which they left, a map after the last one that needs it."""
    for number in (1, 2, 3):
        rig.catalog.listed([listing(number, map_key="live/r/0/a.mp4")])
    rig.catalog.listed([listing(4, first=3, map_key="live/r/0/b.mp4")])
    assert keys(rig) == ["live/r/0/1.ts", "live/r/0/2.ts"]
    rig.now += SECOND
    rig.catalog.listed([listing(5, first=4, map_key="live/r/0/b.mp4")])
    assert keys(rig) == ["live/r/0/1.ts", "live/r/0/2.ts", "live/r/0/3.ts"]
    rig.now += 29 * SECOND
    assert await rig.catalog.due(10) == ["live/r/0/1.ts", "live/r/0/2.ts"]
    assert await rig.catalog.due(1) == ["live/r/0/1.ts"]
    await rig.catalog.deleted(["live/r/0/1.ts"])
    rig.reopen()
    assert keys(rig) == ["live/r/0/2.ts", "live/r/0/3.ts"]
    await rig.catalog.deleted(["live/r/0/2.ts"])
    rig.now += 30 * SECOND
    assert await rig.catalog.due(10) == ["live/r/0/3.ts"]
    await rig.catalog.deleted(["live/r/0/3.ts"])
    assert await rig.catalog.due(10) == ["live/r/0/a.mp4"]
    await rig.catalog.deleted(["live/r/0/a.mp4"])
    assert await rig.catalog.due(10) == []


async def test_what_the_bucket_holds_is_added_up(rig: CatalogRig) -> None:
    """Listed, waiting to be deleted or kept for ever: each object counts once, until it is deleted."""
    gap = MediaSegment("https://b/2.ts", SECOND, gap=True)
    long = replace(listing(3, size=50), added=[(2, gap, True), (3, gap, True)])
    rig.catalog.listed([listing(1, size=100), long])
    assert rig.reopen().stored_bytes == 150
    rig.catalog.listed([listing(4, first=4, size=7)])
    assert rig.reopen().stored_bytes == 157
    await rig.catalog.deleted(["live/r/0/3.ts"])
    assert await rig.catalog.due(10) == []
    assert rig.catalog.stored_bytes == rig.reopen().stored_bytes == 107


def test_a_playlist_that_is_retired_lists_nothing(rig: CatalogRig) -> None:
    """Of a variant that a new stream has not, all is deleted, and its numbers are remembered."""
    rig.catalog.listed([listing(1)])
    rig.catalog.listed([], [state(current=False)], SECOND)
    ((playlist, listed),) = rig.reopen().load().stream.playlists
    assert listed == []
    assert playlist == state(current=False)
    assert keys(rig) == ["live/r/0/1.ts"]


def keys(rig: CatalogRig) -> list[str]:
    return unlisted(rig.catalog)


def test_a_publication_is_remembered_whole_or_not_at_all(rig: CatalogRig) -> None:
    """When one of its statements fails, nothing of a publication is in the journal, and others can follow."""
    rig.catalog.noticed(source_segment(1))
    rig.catalog.noticed(source_segment(2))
    twice = replace(listing(2), added=[*listing(2).added, *listing(2).added])
    with pytest.raises(sqlite3.IntegrityError):
        rig.catalog.listed([listing(1), twice])
    connection = rig.catalog.writer.connection
    assert not connection.in_transaction
    memory = rig.catalog.load()
    assert memory.stream.playlists == []
    assert len(memory.pending) == 2


async def test_remembered_segments_are_bounded(rig: CatalogRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest that are deleted are forgotten; what is pending never is, nor what another variant has."""
    monkeypatch.setattr("broadcaster.catalog.catalog.REMEMBERED", 20)
    monkeypatch.setattr("broadcaster.catalog.catalog.FORGET_EVERY", 5)
    rig.catalog.noticed(source_segment(0))
    rig.catalog.noticed(source_segment(1, "1"))
    rig.catalog.listed([listing(1, "1")])
    for number in range(1, 101):
        rig.catalog.noticed(source_segment(number))
        rig.catalog.listed([listing(number, first=max(1, number - 5))])
        await rig.catalog.deleted(keys(rig))
    remembered = rig.remembered("0")
    assert 20 <= len(remembered) <= 26
    assert remembered[0] == "live/r/0/0.ts"
    assert remembered[-1] == "live/r/0/100.ts"
    assert rig.remembered("1") == ["live/r/1/1.ts"]
    assert [segment.key for segment in rig.catalog.load().pending] == ["live/r/0/0.ts"]


async def test_a_full_disk_stops_nothing(rig: CatalogRig, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written waits in order, is said once, and is written once there is room."""
    rig.catalog.noticed(source_segment(0))
    rig.catalog.listed([listing(1), listing(1, "1")])
    limit = rig.limit(pages=2)
    for number in range(2, 200):
        rig.catalog.noticed(source_segment(number))
        rig.catalog.listed([listing(number, first=max(1, number - 5), size=10)])
    assert rig.catalog.writer.fault == "database or disk is full"
    assert await rig.catalog.due(10) == []  # nobody could cross them out
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "cannot be written" in caplog.text
    rig.catalog.writer.maintain()
    assert rig.catalog.writer.fault
    rig.limit(pages=limit + 10_000)
    with caplog.at_level(logging.INFO):
        rig.catalog.writer.maintain()
    assert rig.catalog.writer.fault is None
    assert caplog.messages[-1] == "the catalog is written again"
    assert rig.remembered("0") == ["live/r/0/0.ts", *(f"live/r/0/{number}.ts" for number in range(1, 200))]
    assert [segment.key for segment in rig.catalog.load().pending] == ["live/r/0/0.ts"]
    assert len(keys(rig)) == 193
    assert rig.reopen().stored_bytes == 1980


def test_what_waits_is_written_at_the_end(rig: CatalogRig) -> None:
    """A journal that is closed writes what it could not write before."""
    limit = rig.limit(pages=0)
    for number in range(1, 100):
        rig.catalog.noticed(source_segment(number))
    assert rig.catalog.writer.fault
    rig.limit(pages=limit + 10_000)
    assert len(rig.reopen().load().pending) == 99


async def show(written: Transaction, then: Callable[[], None]) -> None:
    """What an owner does: it shows what it has decided once that is written."""
    await written
    then()


@asynccontextmanager
async def hanging_disk(rig: CatalogRig) -> AsyncIterator[threading.Event]:
    """The catalog writes in a thread, and its disk hangs until the event is set, or at the end."""
    disk, hangs, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()

    def hang() -> None:
        loop.call_soon_threadsafe(hangs.set)
        disk.wait()

    async with rig.catalog.writer:
        hanging = asyncio.create_task(rig.catalog.writer.read(hang))
        await hangs.wait()  # what is queued earlier would be written before
        try:
            yield disk
        finally:
            disk.set()
            await hanging


async def test_what_is_decided_is_shown_once_it_is_written(rig: CatalogRig) -> None:
    """A disk that hangs holds back what viewers would see, in order, and nothing else."""
    shown = list[int]()
    async with hanging_disk(rig) as disk:
        showing = [
            asyncio.create_task(show(rig.catalog.listed([listing(number)]), partial(shown.append, number)))
            for number in (1, 2, 3)
        ]
        await asyncio.sleep(0)
        assert shown == []
        disk.set()
        await asyncio.gather(*showing)
        assert shown == [1, 2, 3]
    ((_, listed),) = rig.reopen().load().stream.playlists
    assert [number for number, _, _ in listed] == [1, 2, 3]


def twice(number: int) -> list[PlaylistUpdate]:
    """What cannot be written: it has the same number of the playlist two times."""
    return [replace(listing(number), added=2 * list(listing(number).added))]


async def test_each_caller_has_the_outcome_of_its_own_transaction(rig: CatalogRig) -> None:
    """Of three that wait together the one in the middle fails: it alone raises, and it alone is not shown."""
    shown = list[int]()
    async with hanging_disk(rig) as disk:
        first, second, third = (
            asyncio.create_task(show(rig.catalog.listed(listings), partial(shown.append, number)))
            for number, listings in ((1, [listing(1)]), (2, twice(2)), (3, [listing(3)]))
        )
        disk.set()
        await third
        await first
        assert shown == [1, 3]
        with pytest.raises(sqlite3.IntegrityError):
            await second
        await rig.catalog.writer.flush()
        rig.catalog.writer.maintain()
    ((_, listed),) = rig.reopen().load().stream.playlists
    assert [number for number, _, _ in listed] == [1, 3]


async def test_a_full_disk_is_no_error_of_a_transaction(
    rig: CatalogRig, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits in memory is shown, and raises nothing; what cannot be written later is said in the log."""
    limit, shown = rig.limit(pages=0), list[int]()
    async with rig.catalog.writer:
        for number in range(1, 40):
            await show(rig.catalog.listed([listing(number)]), partial(shown.append, number))
        await show(rig.catalog.listed(twice(40)), partial(shown.append, 40))
        assert rig.catalog.writer.fault == "database or disk is full"
        assert shown == list(range(1, 41))
    rig.limit(pages=limit + 10_000)
    rig.catalog.writer.maintain()
    assert rig.catalog.writer.fault is None
    assert "a transaction cannot be written: IntegrityError" in caplog.text


async def test_a_waiter_that_leaves_takes_nothing_along(rig: CatalogRig) -> None:
    """A caller that is cancelled while it waits changes nothing: its transaction is written."""
    async with hanging_disk(rig) as disk:
        written = rig.catalog.listed([listing(1)])
        waiter = asyncio.ensure_future(written)
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        disk.set()
        await written
    ((_, listed),) = rig.reopen().load().stream.playlists
    assert [number for number, _, _ in listed] == [1]


async def test_the_event_loop_never_has_the_connection(rig: CatalogRig) -> None:
    """While a thread writes, no other thread uses the file, and what the loop asks for needs none."""
    assert rig.catalog.prefixes("live") == ("live",)
    async with hanging_disk(rig):
        with pytest.raises(RuntimeError, match="outside the thread"):
            rig.catalog.writer.connection.execute("SELECT 1")
        assert rig.catalog.prefixes("other") == ("live", "other")
    assert rig.reopen().prefixes("other") == ("live", "other")


def test_an_id_that_is_taken_is_drawn_again(rig: CatalogRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two streams of one minute that draw the same letters are two recordings."""
    monkeypatch.setattr("broadcaster.catalog.records.secrets.choice", lambda letters: letters[0])
    catalog = Catalog(rig.folder / "recorded", lambda: rig.now, recordings=None)
    with closing(catalog):
        for number in (1, 2, 3):
            catalog.listed([listing(number)])
            catalog.listed([], over=True)
        found = catalog.writer.connection.execute("SELECT count(DISTINCT id) FROM recordings").fetchone()[0]
    assert found == 3


@pytest.mark.parametrize(
    ("boot", "in_order", "margin"), [("two", False, MARGIN), ("one", False, 0), ("two", True, 0)]
)
def test_numbers_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, margin: int, *, in_order: bool
) -> None:
    """Where the file may be behind the playlists, no number is used for another URL."""
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one\n")
    monkeypatch.setattr("broadcaster.catalog.catalog.BOOT_ID", boot_id)
    catalog = Catalog(tmp_path, lambda: START)
    catalog.load()
    catalog.listed([listing(1), listing(2)])
    if in_order:
        catalog.close()
    else:
        catalog.writer._connection.close()  # noqa: SLF001 - a power cut
    boot_id.write_text(f"{boot}\n")
    for _ in range(2):
        with closing(Catalog(tmp_path, lambda: START)) as catalog:
            ((playlist, listed),) = catalog.load().stream.playlists
            assert playlist == state(first=1 + margin, following=3 + margin)
            assert [number for number, _, _ in listed] == [1 + margin, 2 + margin]


async def test_another_broadcaster_has_led(rig: CatalogRig) -> None:
    """What was listed goes, what waited is given up, and runs and playlists begin after its numbers."""
    rig.catalog.listed([listing(1), listing(2)])
    rig.catalog.stored(source_segment(3))
    rig.catalog.noticed(source_segment(4))
    rig.catalog.begin_after(Numbers(10_002, 10_003))
    for _ in range(2):
        memory = rig.reopen().load()
        assert (memory.stream.playlists, memory.pending) == ([], [])
        assert (memory.source.runs, memory.source.positions, memory.source.next_run) == ((), {}, 10_004)
        assert memory.stream.first == Numbers(10_002, 10_003)
    assert await rig.catalog.due(9) == ["live/r/0/3.ts"]
    rig.now += 41 * SECOND  # 10 target durations, and time for the last readers
    assert await rig.catalog.due(9) == [f"live/r/0/{number}.ts" for number in (3, 1, 2)]
    run = replace(RUN, number=10_004, id="later")
    rig.catalog.listed([replace(listing(5), segment=replace(source_segment(5), run=run))])
    assert rig.reopen().load().source.runs == (run,)


def test_odd_names(rig: CatalogRig) -> None:
    """Quotes, emoji and paths that are not UTF-8 break nothing."""
    odd = Path(b"/hls/n\xffme/'; DROP TABLE segments; --\xf0\x9f\x8e\xa5.ts".decode(errors="surrogateescape"))
    segment = replace(source_segment(1), file=SourceFile("\U0001f3a5 '\".ts", odd, 1, 1))
    segment = replace(segment, name="\U0001f3a5 '\".ts", uri="%F0%9F%8E%A5%20'%22.ts")
    segment = replace(segment, key="live/r/0/\U0001f3a5 '\".ts")
    rig.catalog.noticed(segment)
    (pending,) = rig.reopen().load().pending
    assert pending.key == segment.key
    assert pending.uri == segment.uri
    assert pending.file
    assert pending.file.name == "\U0001f3a5 '\".ts"


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (id INTEGER)")


def text(path: Path) -> None:
    path.write_text("These are my notes, and they are longer than the header of a database.\n" * 20)


def newer(path: Path) -> None:
    with closing(open_database(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 2}")


def filled(path: Path) -> None:
    catalog = Catalog(path.parent, lambda: START)
    for number in range(1, 300):
        catalog.noticed(source_segment(number))
    catalog.close()


def truncated(path: Path) -> None:
    filled(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


def overwritten(path: Path) -> None:
    filled(path)
    data = bytearray(path.read_bytes())
    data[4096 : 4 * 4096] = b"\xa5" * (3 * 4096)
    path.write_bytes(data)


def headless(path: Path) -> None:
    filled(path)
    path.write_bytes(bytes(100) + path.read_bytes()[100:])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (foreign, "is a database of something else"),
        (text, "is not a catalog, or is broken"),
        (newer, "was written by a newer version"),
        (truncated, "is not a catalog, or is broken"),
        (overwritten, "is not a catalog, or is broken"),
        (headless, "is not a catalog, or is broken"),
    ],
)
def test_a_bad_file_is_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    """A file that is not a catalog of ours is named in one line, with what to do, and not touched."""
    path = tmp_path / "journal.db"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(CatalogError, match=complaint) as caught:
        Catalog(tmp_path, lambda: START)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_large_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Years of recordings do not hold up a start; what is damaged outside of their segments is found."""
    monkeypatch.setattr(database, "LARGE", 0)
    filled(tmp_path / "journal.db")
    with closing(Catalog(tmp_path, lambda: START)) as catalog:
        assert len(catalog.load().pending) == 299
    overwritten(tmp_path / "journal.db")
    with pytest.raises(CatalogError, match="is not a catalog, or is broken"):
        Catalog(tmp_path, lambda: START)


def test_a_journal_in_use_is_refused(rig: CatalogRig) -> None:
    """The second process on a state folder ends with an error; the first goes on."""
    with pytest.raises(CatalogError, match="in use: another broadcaster runs on this state folder"):
        rig.open()
    rig.catalog.noticed(source_segment(1))
    assert rig.catalog.writer.fault is None


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """What is no file at all is refused in one line too."""
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(CatalogError, match="cannot be opened"):
        Catalog(tmp_path, lambda: START)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO facts VALUES ('variants', 'not JSON')",
        "INSERT INTO facts VALUES ('variants', '[1]')",
        """INSERT INTO facts VALUES ('variants', '[1, [{"width": 1}]]')""",
        "INSERT INTO facts VALUES ('variants', '[99999999999999999999, []]')",
        "UPDATE segments SET run = 17",
        "UPDATE segments SET program_date_time = 9000000000000000000",
        "DROP TABLE runs",
    ],
)
def test_content_that_makes_no_sense_is_refused(tmp_path: Path, statement: str) -> None:
    """A whole database with impossible content is named in one line."""
    filled(tmp_path / "journal.db")
    with closing(open_database(tmp_path / "journal.db")) as connection:
        connection.execute(statement)
    with closing(Catalog(tmp_path, lambda: START)) as catalog:
        with pytest.raises(CatalogError, match="does not make sense") as caught:
            catalog.load()
        assert "\n" not in str(caught.value)


def test_an_older_schema_is_migrated(tmp_path: Path) -> None:
    """Scripts that a file has not seen yet are applied once, in order, and its content is kept."""
    path = tmp_path / "journal.db"
    first = "CREATE TABLE one (a TEXT) STRICT; INSERT INTO one VALUES ('kept');"
    open_database(path, first, ()).close()
    script = "ALTER TABLE one ADD COLUMN b INTEGER NOT NULL DEFAULT 7;"
    for _ in range(2):
        with closing(open_database(path, first, [script])) as connection:
            assert connection.execute("SELECT * FROM one").fetchall() == [("kept", 7)]
            assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A script is applied whole or not at all; the next start finds the old schema."""
    path = tmp_path / "journal.db"
    first = "CREATE TABLE one (a TEXT) STRICT;"
    open_database(path, first, ()).close()
    with pytest.raises(CatalogError, match="cannot be opened"):
        open_database(path, first, ["CREATE TABLE two (a TEXT) STRICT; DROP TABLE three;"])
    with closing(open_database(path, first, ())) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("one",)]


def test_the_journal_before_a_migration_is_kept(tmp_path: Path) -> None:
    """The release before can have it back, with what its log still held; the next migration keeps its own."""
    path = tmp_path / "journal.db"
    first, *later = [f"CREATE TABLE t{number} (a TEXT) STRICT;" for number in range(4)]
    with closing(open_database(path, first, ())) as connection:
        connection.execute("INSERT INTO t0 VALUES ('x')")
    for number in (1, 3):
        open_database(path, first, later[:number]).close()
        open_database(path, first, later[:number]).close()
        (kept,) = tmp_path.glob("journal.db?*")
        assert kept.name == f"journal.db.schema{1 if number == 1 else 2}"
        with closing(open_database(kept, first, later[: int(kept.name[-1]) - 1])) as copy:
            assert copy.execute("SELECT a FROM t0").fetchall() == [("x",)]


def test_a_new_journal_is_as_one_that_was_migrated(tmp_path: Path) -> None:
    """However old a file is, in the end it has the tables and indexes of a new one."""
    made = {}
    for name, schema in (("new", SCHEMA), ("old", FIRST_SCHEMA)):
        path = tmp_path / name
        open_database(path, schema, MIGRATIONS if schema == SCHEMA else ()).close()
        with closing(open_database(path)) as connection:
            parts = connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
            made[name] = {
                part: connection.execute(f"PRAGMA table_info({part})").fetchall() for (part,) in parts
            }
    assert made["new"] == made["old"]


def test_the_first_schema_is_still_migrated(tmp_path: Path) -> None:
    """A journal of the first version goes on: its playlists come back."""
    old_journal(tmp_path / "journal.db", 1)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.execute("INSERT INTO playlists VALUES ('0', 1, 4, 1, 2, 2, 3, 0)")
    with closing(Catalog(tmp_path, lambda: START)) as catalog:
        ((playlist, _),) = catalog.load().stream.playlists
    assert playlist == replace(state(), peak_bandwidth=0)


OLD_STATE = """
INSERT INTO runs VALUES (0, 'run0', 'abc#0', 0), (1, 'run1', 'abd#0', 2000000);
INSERT INTO segments VALUES
    (1, 'p/run0/0/a.m4s', '0', 0, 1, 'a.m4s', 'a.m4s', 2000000, 1000000, 2, 1, 5, '/h/a.m4s', 376, 9, NULL,
        'i.mp4', '/h/i.mp4', 7, 8, 'published'),
    (2, 'p/run0/0/b.m4s', '0', 0, 2, 'b.m4s', 'b.m4s', 2000000, 3000000, 2, 1, 5, '/h/b.m4s', 376, 9, NULL,
        'i.mp4', '/h/i.mp4', 7, 8, 'published'),
    (3, 'p/run1/0/c.m4s', '0', 1, 3, 'c.m4s', 'c.m4s', 2000000, 5000000, 2, 1, 5, '/h/c.m4s', 376, 9, NULL,
        'i.mp4', '/h/i.mp4', 7, 8, 'published'),
    (4, 'p/run1/0/d.m4s', '0', 1, 4, 'd.m4s', 'd.m4s', 2000000, 7000000, 2, 1, 5, '/h/d.m4s', 376, 9, NULL,
        'i.mp4', '/h/i.mp4', 7, 8, 'pending');
INSERT INTO playlists VALUES ('0', 1, 2, 2, 5, 0, 1, 0, 1504, 9000000);
INSERT INTO entries VALUES
    ('0', 2, 'p/run0/0/b.m4s', 'p/run0/0/i.mp4', 'u/b', 2000000, 3000000, 0, 'u/i', 0, 1, 376),
    ('0', 3, 'p/run1/0/c.m4s', 'p/run1/0/i.mp4', 'u/c', 1000000, 7000000, 1, 'u/j', 1, 1, 376),
    ('0', 4, 'p/run1/0/c.m4s', 'p/run1/0/i.mp4', 'u/c', 1000000, 8000000, 0, 'u/j', 1, 1, 0);
INSERT INTO removals (key, availability, removed, size) VALUES
    ('p/run0/0/a.m4s', 30000000, 1000000, 376), ('p/old/0/i.mp4', 30000000, 1000000, 7);
INSERT INTO facts VALUES ('variants', '[17, [{"uri": "0", "bandwidth": 1000, "resolution": null}]]');
"""


def test_a_state_of_the_fourth_schema_goes_on(tmp_path: Path) -> None:
    """All that an older version left is there: what is listed, on its way, to be deleted, and known."""
    old_journal(tmp_path / "journal.db", 4)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.executescript(OLD_STATE)
    with closing(Catalog(tmp_path, lambda: START)) as catalog:
        memory = catalog.load()
        assert unlisted(catalog) == ["p/run0/0/a.m4s", "p/old/0/i.mp4"]
        assert catalog.stored_bytes == 376 + 376 + 376 + 7
    (pending,) = memory.pending
    assert (pending.key, pending.map_key) == ("p/run1/0/d.m4s", "p/run1/0/i.mp4")
    assert pending.run == Run(1, "run1", "abd#0")
    assert pending.file == SourceFile("d.m4s", Path("/h/d.m4s"), 376, 9)
    ((playlist, listed),) = memory.stream.playlists
    assert (playlist.media_sequence, playlist.next_media_sequence, playlist.ended) == (2, 5, False)
    assert [
        (number, segment.uri, segment.discontinuity, segment.gap, segment.map_uri)
        for number, segment, _ in listed
    ] == [
        (2, "u/b", False, False, "u/i"),
        (3, "u/c", True, True, "u/j"),
        (4, "u/c", False, True, "u/j"),
    ]
    assert memory.stream.shifts == {0: timedelta(), 1: 2 * SECOND}
    assert memory.stream.described.variants == (Variant("0", 1000),)
    assert sorted(memory.source.positions["0"].known) == [1, 2, 3, 4]


def test_variants_of_the_fourth_schema_are_migrated(tmp_path: Path) -> None:
    """The multivariant playlist goes on without the time that stood beside it."""
    old_journal(tmp_path / "journal.db", 4)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        described = {"uri": "0", "bandwidth": 1000, "resolution": [640, 360]}
        connection.execute("INSERT INTO facts VALUES ('variants', ?)", (json.dumps([17, [described]]),))
    with closing(Catalog(tmp_path, lambda: START)) as catalog:
        assert catalog.load().stream.described.variants == (Variant("0", 1000, resolution=(640, 360)),)


def test_removals_of_the_fifth_schema_are_migrated(tmp_path: Path) -> None:
    """What left the window before it was written down when it goes, goes after its availability time."""
    old_journal(tmp_path / "journal.db", 5)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.execute("INSERT INTO removals VALUES (1, 'live/a', 30000000, 1000000, 7)")
    with closing(Catalog(tmp_path, lambda: START)) as catalog:
        assert unlisted(catalog) == ["live/a"]
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("SELECT delete_at FROM segments").fetchall() == [(31_000_000,)]


async def test_what_no_row_can_hold(tmp_path: Path) -> None:
    """It is refused, and what comes after it is written."""
    with closing(Catalog(tmp_path, lambda: START)) as catalog:
        with pytest.raises((sqlite3.Error, ValueError, OverflowError)):
            catalog.writer.write(fact("a", "\ud800"))
        catalog.writer.write(fact("b", "c"))
        assert (catalog.writer.fault, await catalog.writer.read(lambda: "answer")) == (None, "answer")
