"""What waits for the bucket is kept, whatever happens to the source folder."""
# ruff: noqa: ASYNC240 - nothing else runs in these tests that could be held up

import asyncio
import errno
import os
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import SourceFile
from broadcaster.events import Event, SegmentLost, SegmentPublished, SourceEvent
from broadcaster.stream import Instant, StreamLimits, StreamMachine
from broadcaster.upload import Pipeline, Uploader
from broadcaster.upload.spool import Spool
from tests.support.fakes.pipeline_parts import START, FakeStore, file_of, segment_of, variants_listed


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 1000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.ts"
    path.write_bytes(b"segment")
    return path


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path, to: Path, **__: object) -> NoReturn:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(to))

    monkeypatch.setattr(os, "link", refuse)


def contents(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "spool"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


async def test_a_file_is_linked(tmp_path: Path, spool: Spool, file: Path) -> None:
    """A kept file is the source's own, without a copy, and outlives its deletion there."""
    kept = await spool.add(file_of(file), "live/run/0/a.ts")
    assert kept.samefile(file)
    assert spool.size == 7
    file.unlink()
    assert contents(tmp_path) == {"live/run/0/a.ts": b"segment"}


@pytest.mark.usefixtures("other_file_system")
async def test_a_file_of_another_file_system_is_copied(tmp_path: Path, spool: Spool, file: Path) -> None:
    """Where it cannot be linked it is copied whole, with its time."""
    kept = await spool.add(file_of(file), "live/run/0/a.ts")
    assert not kept.samefile(file)
    assert kept.stat().st_mtime_ns == file.stat().st_mtime_ns
    assert contents(tmp_path) == {"live/run/0/a.ts": b"segment"}


async def test_a_copier_dates_a_file_after_it_has_written_it(spool: Spool, file: Path) -> None:
    """A file whose time is set back to that of its original is the file that was noticed (rsync, scp -p)."""
    noticed = file_of(file)
    os.utime(file, ns=(0, noticed.modified_ns - 10**9))
    kept = await spool.add(noticed, "live/run/0/a.ts", copy=True)
    assert kept.read_bytes() == noticed.read() == b"segment"


async def test_a_file_that_is_written_again_is_another(spool: Spool, file: Path) -> None:
    """What was written into the same file since is not what was noticed, though it has the same size."""
    noticed = file_of(file)
    os.utime(file, ns=(0, noticed.modified_ns + 1))
    with pytest.raises(FileNotFoundError):
        await spool.add(noticed, "live/run/0/a.ts", copy=True)


async def test_a_file_that_is_written_again_while_its_copy_waits_for_the_disk(
    spool: Spool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been copied by then is what was noticed."""
    sync, noticed = os.fsync, file_of(file)

    def overwrite_and_sync(descriptor: int) -> None:
        file.write_bytes(b"another")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", overwrite_and_sync)
    kept = await spool.add(noticed, "live/run/0/a.ts", copy=True)
    assert kept.read_bytes() == b"segment"


async def test_content_that_was_read_is_kept(tmp_path: Path, spool: Spool, file: Path) -> None:
    """A map has its content since it was noticed: its file may be another's by now."""
    noticed = replace(file_of(file), content=file.read_bytes())
    file.unlink()
    kept = await spool.add(noticed, "live/run/0/init.mp4")
    assert spool.size == 7
    assert kept.stat().st_mtime_ns == noticed.modified_ns
    assert contents(tmp_path) == {"live/run/0/init.mp4": b"segment"}


@pytest.mark.usefixtures("other_file_system")
async def test_a_copy_is_on_the_disk_before_it_counts(
    spool: Spool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are synced before it has its name, and then its folder is."""
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes")
        sync(descriptor)

    def note_replace(path: Path, to: Path) -> Path:
        steps.append("name")
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    await spool.add(file_of(file), "live/run/0/a.ts")
    assert steps == ["bytes", "name", "folder"]


@pytest.mark.usefixtures("other_file_system")
async def test_the_last_of_a_folder_goes_while_the_next_one_comes(
    tmp_path: Path, spool: Spool, file: Path
) -> None:
    """A segment that is let go of takes nothing from under the one that is copied beside it."""
    spool.discard(await spool.add(file_of(file), "live/run/0/a.ts"))
    assert (await spool.add(file_of(file), "live/run/0/b.ts")).read_bytes() == b"segment"
    assert contents(tmp_path) == {"live/run/0/b.ts": b"segment"}


@pytest.mark.usefixtures("other_file_system")
async def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, spool: Spool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that fails is reported as what it is, and nothing stays behind or is counted."""

    def fill(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(OSError, match="No space left"):
        await spool.add(file_of(file), "live/run/0/a.ts")
    assert contents(tmp_path) == {}
    assert spool.size == 0


async def test_a_file_that_is_gone(tmp_path: Path, spool: Spool) -> None:
    """What is not there cannot be kept, and leaves nothing behind."""
    with pytest.raises(FileNotFoundError):
        await spool.add(SourceFile("gone.ts", tmp_path / "gone.ts", 7, 1), "live/run/0/gone.ts")
    assert contents(tmp_path) == {}
    assert spool.size == 0


async def test_kept_again(spool: Spool, tmp_path: Path, file: Path) -> None:
    """A file that was replaced takes the place of what was kept under its key, and is counted once."""
    await spool.add(file_of(file), "live/run/0/a.ts")
    file.unlink()
    file.write_bytes(b"longer than before")
    await spool.add(file_of(file), "live/run/0/a.ts")
    assert spool.size == 18
    assert contents(tmp_path) == {"live/run/0/a.ts": b"longer than before"}


async def test_dropped(spool: Spool, tmp_path: Path, file: Path) -> None:
    """What is let go of frees its room, once."""
    first = await spool.add(file_of(file), "live/run/0/a.ts")
    second = await spool.add(file_of(file), "live/run/0/b.ts")
    for _ in range(2):
        spool.discard(first)
        assert spool.size == 7
    spool.discard(second)
    await spool.done()
    assert spool.size == 0
    assert contents(tmp_path) == {}
    assert file.read_bytes() == b"segment"


async def test_let_go_of(spool: Spool, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays until what tells of it is on the disk, unless it comes again, or room is short."""
    for number, name in enumerate("abc", 1):
        spool.release(await spool.add(file_of(file), f"live/run/0/{name}.ts"), number)
    again = await spool.add(file_of(file), "live/run/0/a.ts")
    spool.release_durable(2)
    await spool.done()
    assert contents(tmp_path).keys() == {"live/run/0/a.ts", "live/run/0/c.ts"}
    assert (spool.size, spool.find("live/run/0/a.ts"), spool.find("live/run/0/c.ts")) == (7, again, None)
    spool.limit = 20
    await spool.add(file_of(file), "live/run/0/b.ts")
    await spool.done()
    assert contents(tmp_path).keys() == {"live/run/0/a.ts", "live/run/0/b.ts"}
    monkeypatch.setattr("broadcaster.upload.spool.LITTLE_SPACE", 2**60)
    spool.release(again, 9)
    await spool.done()
    assert contents(tmp_path).keys() == {"live/run/0/b.ts"}
    assert spool.size == 7


async def test_resumed(tmp_path: Path, spool: Spool, file: Path) -> None:
    """The next process takes over what is on its way; half copies and empty folders go, others are logged."""
    await spool.add(file_of(file), "live/run/0/a.ts")
    await spool.add(file_of(file), "live/run/1/listed-already.ts")
    (tmp_path / "spool/live/run/2").mkdir()
    (tmp_path / "spool/live/run/0/empty.ts").touch()
    (tmp_path / "spool/live/run/0/b.ts.part").write_bytes(b"half")
    (tmp_path / "spool/link").symlink_to(tmp_path)
    again = Spool(tmp_path / "spool", 1000)
    assert again.resume(["live/run/0/a.ts", "live/run/0/gone.ts"]) == ["live/run/1/listed-already.ts"]
    again.discard(tmp_path / "spool/live/run/1/listed-already.ts")
    await again.done()
    kept = again.find("live/run/0/a.ts")
    assert kept == tmp_path / "spool/live/run/0/a.ts"
    assert again.find("live/run/0/gone.ts") is None
    assert again.size == 7
    assert contents(tmp_path) == {"live/run/0/a.ts": b"segment"}
    assert not (tmp_path / "spool/live/run/2").exists()
    assert not (tmp_path / "spool/link").is_symlink()
    assert file.exists()
    again.discard(kept)
    assert again.size == 0


class Burst:
    """A source that finds one segment after the other, each one step of the event loop after the last."""

    def __init__(self, files: list[Path], done: asyncio.Event) -> None:
        self._files = files
        self._done = done

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        for number, file in enumerate(self._files):
            await handle(segment_of(file, number=number))
            await asyncio.sleep(0)
        self._done.set()
        await asyncio.Event().wait()


async def test_given_up_before_its_upload_began(tmp_path: Path) -> None:
    """A segment that is given up the moment its turn comes is a gap, and what follows is not held up."""
    files = [tmp_path / f"{number}.ts" for number in range(10)]
    for path in files:
        path.write_bytes(b"segment")
    events: list[Event] = []
    store = FakeStore()
    found, done = asyncio.Event(), asyncio.Event()
    store.gates = {event.name: found for event in files}  # no upload ends before all are found

    def observe(event: Event) -> None:
        events.append(event)
        if sum(isinstance(event, SegmentPublished) for event in events) == 10:
            done.set()

    catalog = Catalog(tmp_path / "state", lambda: START)
    stream = StreamMachine(StreamLimits(20), Instant(START, time.monotonic()))
    pipeline = Pipeline(
        stream,
        Uploader(store, observe, lambda: START),
        Spool(tmp_path / "spool", limit=len(b"segment")),
        catalog,
        observe,
        clock=lambda: START,
        prefix="live",
    )
    stream.handle(variants_listed("0"), Instant(START, time.monotonic()))
    async with asyncio.timeout(60):
        await pipeline.run(Burst(files, found).run, done, drain=5)
    catalog.close()
    lost = [event.reason for event in events if isinstance(event, SegmentLost)]
    assert lost == ["was given up: the spool is full"] * 9
    assert len(store.objects_) == 10 - len(lost)
    assert pipeline.backlog == 0
