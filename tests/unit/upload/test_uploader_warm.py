"""What a standby uploads in advance is listed after a takeover without another upload, and harms nothing."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broadcaster.bucket import Bucket, ObjectStore
from broadcaster.catalog.records import Segment
from broadcaster.errors import StorageUnavailable
from broadcaster.events import SegmentUploaded, SourceEvent
from broadcaster.service.standby import standby_report
from broadcaster.upload.deleter import WARM_EVERY, YOUNG, FileDeleter, sweep
from broadcaster.upload.uploader import WARM_WAITING, WarmUploads
from tests.support.fakes.hls_writer import PACKET
from tests.support.fakes.pipeline_parts import FakeSource, FakeStore, file_of, segment_of
from tests.support.fakes.recorder_fixture import RecorderFixture
from tests.support.waiting import eventually
from tests.unit.upload.test_pipeline import Line, running

NAME = re.compile(r"live/\.warm/[0-9a-f]{32}\.ts")
NOW = datetime(2026, 11, 26, 20, 0, 0, tzinfo=UTC)


def found(path: Path, number: int = 0) -> Segment:
    """A segment as the scanner finds it, with the inode of its file."""
    file = replace(file_of(path), inode=path.stat().st_ino)
    return replace(segment_of(path, number=number), file=file)


@asynccontextmanager
async def standing_by(warm: WarmUploads, source: FakeSource) -> AsyncIterator[None]:
    """Time in which the other broadcaster leads."""
    uploading = asyncio.create_task(warm.run(source.run))
    yield
    uploading.cancel()
    with suppress(asyncio.CancelledError):
        await uploading


async def uploaded(line: Line, *paths: Path) -> list[str]:
    """Stand by until these are uploaded; returns the keys."""
    source = FakeSource()
    async with standing_by(line.warm, source):
        for path in paths:
            source.events.put_nowait(found(path))
        await eventually(lambda: len(line.store.objects_) >= len(paths))
        await asyncio.sleep(0)
    return list(line.store.objects_)


async def test_what_is_there_is_listed(tmp_path: Path) -> None:
    """After a takeover nothing is sent of what the bucket has; its key is one of the new run, as usual."""
    line = Line(tmp_path)
    first, second = line.file("0.ts"), line.file("1.ts", 2 * PACKET)
    keys = await uploaded(line, first, second)
    assert all(map(NAME.fullmatch, keys))
    async with running(line):
        for number, path in enumerate((first, second, line.file("2.ts", 3 * PACKET))):
            line.source.events.put_nowait(found(path, number))
        await line.until_published(3)
    listed = [segment.uri.removeprefix("https://bucket.example/") for segment in line.playlist().segments]
    assert listed == [f"live/run0/0/{number}.ts" for number in range(3)]
    assert [line.store.objects_[key] for key in listed] == [PACKET, 2 * PACKET, 3 * PACKET]
    assert line.store.puts == [*keys, "live/run0/0/2.ts"]
    assert [event.key for event in line.events if isinstance(event, SegmentUploaded)] == [listed[2]]
    assert next(line.warm.metrics()).value == 0


@pytest.mark.parametrize("why", ["changed", "swept", "refused"])
async def test_what_is_in_doubt(tmp_path: Path, why: str) -> None:
    """Where the file is another one, or the bucket copies no such object, the segment is uploaded."""
    line = Line(tmp_path)
    path = line.file("0.ts")
    await uploaded(line, path)
    if why == "changed":
        line.file("0.ts", 2 * PACKET)
    elif why == "swept":
        line.store.objects_.clear()
    else:
        line.store.failures = [StorageUnavailable("not implemented")]
    async with running(line):
        line.source.events.put_nowait(found(path))
        await line.until_published(1)
    assert line.store.puts[1:] == ["live/run0/0/0.ts"]
    assert line.store.objects_["live/run0/0/0.ts"] == path.read_bytes()


async def test_a_thin_uplink(tmp_path: Path) -> None:
    """The newest segment goes first, what nobody will list is given up, and nothing is uploaded twice."""
    source, gate, sent = FakeSource(), asyncio.Event(), list[int]()

    class Slow(FakeStore):
        async def put(self, key: str, body: bytes) -> str:
            sent.append(len(body))
            await gate.wait()
            return await super().put(key, body)

    warm = WarmUploads(Slow(), "live")
    paths = [tmp_path / f"{number}.ts" for number in range(WARM_WAITING + 10)]
    for size, path in enumerate(paths):
        path.write_bytes(bytes(size + 1))
    async with standing_by(warm, source):
        for path in paths[:3]:
            source.events.put_nowait(found(path))
        await eventually(lambda: len(sent) == 3)
        for path in paths[3:]:
            source.events.put_nowait(found(path))
        await eventually(source.events.empty)
        gate.set()
        await eventually(lambda: next(warm.metrics()).value == WARM_WAITING + 3)
        for path in paths[-2:]:
            source.events.put_nowait(found(path))
        await eventually(source.events.empty)
        await asyncio.sleep(0)
    assert len(sent) == WARM_WAITING + 3
    assert sorted(sent[:3]) == [1, 2, 3]
    assert sent[3] == len(paths)
    assert min(sent[3:]) == len(paths) - WARM_WAITING + 1


async def test_no_harm_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that refuses, a file that is gone and a gap end nothing; /health says what fails."""
    monkeypatch.setattr("broadcaster.upload.uploader.MAX_PAUSE", 0.001)
    line, source = Line(tmp_path), FakeSource()
    line.store.failures = [StorageUnavailable("HTTP 503")] * 3
    path, gone = line.file("0.ts"), line.file("1.ts")
    events: list[SourceEvent] = [found(gone), segment_of(None), found(path), found(path, 2), found(path, 3)]
    gone.unlink()
    async with standing_by(line.warm, source):
        for event in events:
            source.events.put_nowait(event)
        await eventually(lambda: line.warm.fault)
        assert "are not uploaded in advance: HTTP 503" in str(standby_report(None, None, line.warm).warning)
        source.events.put_nowait(found(path, 4))
        await eventually(lambda: line.store.objects_)
    assert line.warm.fault is None
    assert standby_report(None, None, line.warm).warning == standby_report(None, None).warning
    line.catalog.close()


async def test_the_leader_deletes_what_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the leader's sweep takes warm objects, each half hour or when it is asked, and no others."""
    rig, now = RecorderFixture(tmp_path), 0.0
    monkeypatch.setattr("broadcaster.upload.deleter.time.monotonic", lambda: now)
    rig.stream.publish(count=3)
    rig.upload()
    listed = set(rig.store.objects_)
    young, old, other = (f"live/.warm/{letter}.ts" for letter in "abc")
    rig.store.objects_ |= dict.fromkeys((young, old, other), b"x")
    deleter = FileDeleter(rig.store, rig.stream.catalog, lambda: rig.stream.now, prefix="live")
    rig.store.old = {old}
    report = await sweep(rig.store, rig.stream.catalog, "live", (), dry_run=True)
    assert (report["keys"], report["bytes"]) == ([old], 1)
    now = WARM_EVERY - 1
    await deleter.sweep()
    assert rig.store.objects_.keys() == listed | {young, old, other}
    now = WARM_EVERY
    await deleter.sweep()
    assert rig.store.objects_.keys() == listed | {young, other}
    rig.store.old = {old, other}
    await deleter.sweep()
    assert other in rig.store.objects_
    now = 2 * WARM_EVERY
    await deleter.sweep()
    assert rig.store.objects_.keys() == listed | {young}
    rig.stream.catalog.close()


class Listing:
    """A client whose bucket has three objects, and a clock that is an hour behind this machine's."""

    def __init__(self) -> None:
        self.answers: Callable[[dict[str, Any]], object] = lambda _: None
        self.copied: dict[str, Any] = {}

    async def list_objects_v2(self, **_: object) -> dict[str, Any]:
        date = (NOW - timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        self.answers({"ResponseMetadata": {"HTTPHeaders": {"date": date}}})
        ages = {
            "a": timedelta(minutes=1),
            "b": YOUNG - timedelta(minutes=1),
            "c": YOUNG + timedelta(minutes=1),
        }
        entries = [
            {"Key": key, "Size": 1, "LastModified": NOW - timedelta(hours=1) - age}
            for key, age in ages.items()
        ]
        return {"Contents": entries, "IsTruncated": False}

    async def copy_object(self, **request: object) -> dict[str, Any]:
        self.copied = request
        return {"CopyObjectResult": {"ETag": '"tag"'} if request["Key"] == "d.ts" else {}}


async def test_the_age_is_by_the_bucket() -> None:
    """What is old is said by the bucket's own clock; without one nothing is old."""
    client: Any = Listing()
    store = ObjectStore(client, Bucket("http://127.0.0.1:9", "b", "k", "s", None), lambda: NOW)
    assert [key async for key, _ in store.older("", YOUNG, deadline=1)] == []
    client.answers = store.note_answer
    assert [key async for key, _ in store.older("", YOUNG, deadline=1)] == ["c"]
    assert [key async for key, _ in store.objects("", deadline=1)] == ["a", "b", "c"]


async def test_a_copy_is_as_what_is_put() -> None:
    """It has the media type and the cache rule of a segment; an answer that is no bucket's is none."""
    client: Any = Listing()
    store = ObjectStore(client, Bucket("http://127.0.0.1:9", "b", "k", "s", None), lambda: NOW)
    await store.copy("c.ts", "d.ts", deadline=1)
    assert client.copied["CopySource"] == {"Bucket": "b", "Key": "c.ts"}
    assert (client.copied["ContentType"], client.copied["MetadataDirective"]) == ("video/mp2t", "REPLACE")
    assert "immutable" in client.copied["CacheControl"]
    with pytest.raises(StorageUnavailable, match="not from a bucket"):
        await store.copy("c.ts", "e.ts", deadline=1)
