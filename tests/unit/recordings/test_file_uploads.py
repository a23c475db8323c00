"""A recording's file, from the first part to the end: what was sent is kept, and nothing is left behind."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import Recording
from broadcaster.errors import NotPossible, StorageUnavailable
from broadcaster.recordings.file_uploads import MIB, Uploads, etag_of, part_size
from broadcaster.recordings.rebuild import rebuild
from broadcaster.service.public_recordings import public_recordings
from broadcaster.upload import deleter as strays
from broadcaster.upload.deleter import FileDeleter
from tests.support.fakes.recorder_fixture import RecorderFixture

SIZE = 2 * MIB + 5
BASE = "https://video.example.com/live/recordings/"


class UploadRig(RecorderFixture):
    """A room with an ended recording, and who takes files for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stream.publish("0", count=3)
        self.stream.channel.end()
        self.now = datetime.now(UTC)
        self.open()

    def open(self) -> None:
        catalog = self.stream.catalog
        self.uploads = Uploads(self.store, catalog, "live", self.recorder.write_soon, part=MIB)
        self.deleter = FileDeleter(self.store, catalog, lambda: self.now, prefix="live")

    async def recording(self) -> Recording:
        (name,) = await self.stream.recordings()
        return name

    async def begin(self, size: int = SIZE) -> str:
        """Returns its key."""
        return str((await self.uploads.begin(await self.recording(), "best.mp4", size))["key"])

    def send(self, letter: str = "a", *numbers: int) -> str:
        """Parts, or all three, of the upload that is on; returns the ETag of all three."""
        (name,) = self.store.uploads_
        bodies = {1: letter.encode() * MIB, 2: letter.encode() * MIB, 3: letter.encode() * 5}
        for number in numbers or bodies:
            self.store.put_part(name, number, bodies[number])
        return etag_of({name: (hashlib.md5(body).hexdigest(), len(body)) for name, body in bodies.items()})

    async def bring(self, letter: str = "a") -> str:
        key = await self.begin()
        await self.uploads.complete(await self.recording(), key, self.send(letter))
        return key


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[UploadRig]:
    made = UploadRig(tmp_path / "state")
    yield made
    made.stream.catalog.close()


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 16), (160_000 * MIB, 16), (160_000 * MIB + 1, 17), (5 * 2**40, 525)],
)
def test_the_size_of_parts(size: int, expected: int) -> None:
    """They are of 16 MiB, and larger where there would be more than 10,000."""
    assert part_size(size) == expected * MIB
    assert -(-size // part_size(size)) <= 10_000


async def test_a_file_takes_the_place_of_another(rig: UploadRig) -> None:
    """The index and the page have the newest; the one before is deleted, and so is what is removed."""
    first = await rig.bring("a")
    await rig.recorder.write()
    (entry,) = rig.index()["recordings"]
    assert entry["file"] == {"url": f"../files/{first.rpartition('/')[2]}", "size": SIZE, "type": "video/mp4"}
    second = await rig.bring("b")
    await rig.deleter.sweep()
    assert first in rig.store.objects_  # the index names it
    await rig.recorder.write()
    await rig.deleter.sweep()
    assert first in rig.store.objects_  # it waits in the bin
    rig.stream.now += timedelta(days=1)
    await rig.deleter.sweep()
    assert [key for key in rig.store.objects_ if "/files/" in key] == [second]
    parts = await rig.stream.catalog.recordings.parts()
    (page,) = public_recordings(await rig.stream.recordings(), parts, (), BASE).values()
    assert page.file
    assert (page.file.url, page.file.size) == (f"https://video.example.com/{second}", SIZE)
    await rig.uploads.delete(await rig.recording(), at_once=True)
    await rig.deleter.sweep()
    assert second in rig.store.objects_
    await rig.recorder.write()
    assert rig.index()["recordings"][0]["file"] is None
    await rig.deleter.sweep()
    assert [key for key in rig.store.objects_ if "/files/" in key] == []


async def test_a_file_that_is_being_deleted_does_not_come_back(
    rig: UploadRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its day is over, and the bucket was asked to delete it, no recording gets it from the bin."""
    await rig.bring("a")
    files, delete = rig.stream.catalog.files, rig.store.delete
    await files.delete((await rig.recording()).id)
    await rig.recorder.write()
    (binned,) = await files.bin()
    rig.stream.now += timedelta(days=1)

    async def restored_meanwhile(keys: Sequence[str], *, deadline: float) -> None:
        with pytest.raises(NotPossible, match="not in the bin"):
            await files.restore(binned)
        await delete(keys, deadline=deadline)

    monkeypatch.setattr(rig.store, "delete", restored_meanwhile)
    rig.store.faults.append(StorageUnavailable("no answer, though it may have been deleted"))
    with pytest.raises(StorageUnavailable):
        await rig.deleter.sweep()
    assert await files.bin() == []
    await rig.deleter.sweep()
    assert (await rig.recording()).file is None
    assert await files.removed(rig.now) == []
    assert [key for key in rig.store.objects_ if "/files/" in key] == []


async def test_it_goes_on(rig: UploadRig) -> None:
    """Who begins again with a file of the same size goes on, after a restart as well; others begin anew."""
    key = await rig.begin()
    rig.send("a", 1)
    rig.store.put_part(next(iter(rig.store.uploads_)), 2, b"torn")
    rig.restart()
    rig.open()
    again = await rig.uploads.begin(await rig.recording(), "other name.MP4", SIZE)
    assert (again["key"], again["parts"]) == (key, {1: hashlib.md5(b"a" * MIB).hexdigest()})
    both = await asyncio.gather(rig.begin(SIZE + 1), rig.begin(SIZE + 1))
    assert both[0] == both[1] != key
    with pytest.raises(NotPossible, match="over"):
        await rig.uploads.part_url(await rig.recording(), key, 1)
    await rig.recorder.write()
    await rig.deleter.sweep()
    assert [found[0] for found in rig.store.uploads_.values()] == [both[0]]


async def test_the_bucket_has_given_it_up(rig: UploadRig) -> None:
    """A rule of the bucket may have ended it: then it begins anew."""
    key = await rig.begin()
    rig.store.uploads_.clear()
    recording = await rig.recording()
    assert (await rig.uploads.status(recording))["upload"] is None
    with pytest.raises(NotPossible, match="upload it again"):
        await rig.uploads.complete(recording, key, "0" * 32 + "-3")
    assert await rig.begin() != key


async def test_completing_without_an_answer(rig: UploadRig) -> None:
    """Asked again, the object tells that it was done; and it is done once."""
    key = await rig.begin()
    etag = rig.send()
    rig.store.lost = True
    recording = await rig.recording()
    with pytest.raises(StorageUnavailable):
        await rig.uploads.complete(recording, key, etag)
    assert (await rig.recording()).file is None
    await rig.uploads.complete(recording, key, etag)
    file = (await rig.recording()).file
    assert file
    assert (file.key, file.etag, file.size) == (key, etag, SIZE)
    await rig.uploads.complete(await rig.recording(), key, etag)


async def test_parts_that_are_not_right(rig: UploadRig) -> None:
    """Nothing is made of a file that lacks a part, or has one of another file."""
    key, recording = await rig.begin(), await rig.recording()
    etag = rig.send("a", 1, 3)
    for what in ((), (2,)):
        if what:
            rig.send("b", *what)
        with pytest.raises(NotPossible, match="parts are missing, or other ones"):
            await rig.uploads.complete(recording, key, etag)
    assert rig.store.objects_.keys().isdisjoint({key})
    assert await rig.begin() == key
    await rig.uploads.complete(recording, key, rig.send("a", 2))


async def test_it_goes_with_its_recording(rig: UploadRig) -> None:
    """And with nothing else: a recording that was kept at the last moment keeps its file."""
    key = await rig.bring()
    await rig.begin()
    old = await rig.recording()
    table = rig.stream.catalog.recordings
    table.keep(old.id, None)
    table.remove(old)  # as it was
    await rig.deleter.sweep()
    assert key in rig.store.objects_
    table.remove(await rig.recording())
    rig.store.faults = [StorageUnavailable("not now")]
    with pytest.raises(StorageUnavailable):
        await rig.deleter.sweep()
    await rig.deleter.sweep()
    assert key not in rig.store.objects_
    assert rig.store.uploads_ == {}
    with pytest.raises(NotPossible, match="gone"):
        await rig.uploads.begin(old, "a.mp4", 5)


async def test_an_upload_that_nobody_goes_on_with(rig: UploadRig) -> None:
    """It is given up after seven days, and what is completed that moment is deleted."""
    key = await rig.begin()
    etag = rig.send()
    await rig.recorder.write()
    rig.now += timedelta(days=6, hours=23)
    await rig.deleter.sweep()
    assert len(rig.store.uploads_) == 1
    rig.now += timedelta(hours=2)
    recording = await rig.recording()
    await rig.stream.catalog.files.removed(rig.now - timedelta(days=7))
    with pytest.raises(NotPossible, match="over"):
        await rig.uploads.complete(recording, key, etag)
    await rig.deleter.sweep()
    assert rig.store.uploads_ == {}


async def test_what_others_leave(rig: UploadRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep of strays ends uploads that nobody knows, unless they are new, and none of ours."""
    await rig.bring()
    await rig.begin()
    await rig.recorder.write()
    catalog, before = rig.stream.catalog, dict(rig.store.objects_)
    where = {"media_type": "video/mp4", "disposition": "mp4", "cache_control": "no-store", "deadline": 1}
    stray = await rig.store.begin("live/files/stray.mp4", **where)  # type: ignore[arg-type]

    async def sweep(*, dry_run: bool) -> dict[str, object]:
        return await strays.sweep(rig.store, catalog, "live", (), dry_run=dry_run)

    assert (await sweep(dry_run=False))["uploads"] == 0
    monkeypatch.setattr(strays, "YOUNG", timedelta())
    assert (await sweep(dry_run=True))["uploads"] == 1
    assert stray in rig.store.uploads_
    await sweep(dry_run=False)
    assert stray not in rig.store.uploads_
    assert len(rig.store.uploads_) == 1
    assert rig.store.objects_ == before


async def test_it_comes_back_with_its_recording(rig: UploadRig, tmp_path: Path) -> None:
    """After the state was lost, the recording has its file, which goes as ever."""
    key = await rig.bring()
    rig.upload()
    await rig.recorder.write()
    before = rig.index()
    rig.stream.folder = tmp_path / "another"
    rig.restart()
    rig.open()
    assert (await rebuild(rig.store, rig.stream.catalog, "live"))["recordings"] == 1
    await rig.recorder.write()
    assert rig.index() == before
    assert (await strays.sweep(rig.store, rig.stream.catalog, "live", (), dry_run=True))["objects"] == 0
    rig.stream.catalog.recordings.remove(await rig.recording())
    await rig.deleter.sweep()
    assert key not in rig.store.objects_


async def test_only_when_the_stream_is_over(rig: UploadRig) -> None:
    """What is still being recorded takes no file."""
    rig.stream.publish("0", run=1)
    on, _ = await rig.stream.recordings()
    with pytest.raises(NotPossible, match="still on"):
        await rig.uploads.begin(on, "a.mp4", 5)


async def test_another_prefix(rig: UploadRig) -> None:
    """A file stays where it was put when recordings are written elsewhere, and is found from there."""
    key = await rig.bring()
    rig.stream.catalog.prefixes("live")
    rig.stream.catalog.prefixes("new/place")
    recording = await rig.recording()
    assert recording.file
    assert recording.file.address == f"../../../{key}"
