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


class Office(RecorderFixture):
    """A room with an ended recording, and who takes files for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.studio.publish("0", count=3)
        self.studio.channel.end()
        self.now = datetime.now(UTC)
        self.open()

    def open(self) -> None:
        catalog = self.studio.catalog
        self.uploads = Uploads(self.store, catalog, "live", self.recorder.write_soon, part=MIB)
        self.deleter = FileDeleter(self.store, catalog, lambda: self.now, prefix="live")

    async def recording(self) -> Recording:
        (name,) = await self.studio.recordings()
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
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "state")
    yield made
    made.studio.catalog.close()


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 16), (160_000 * MIB, 16), (160_000 * MIB + 1, 17), (5 * 2**40, 525)],
)
def test_the_size_of_parts(size: int, expected: int) -> None:
    """They are of 16 MiB, and larger where there would be more than 10,000."""
    assert part_size(size) == expected * MIB
    assert -(-size // part_size(size)) <= 10_000


async def test_a_file_takes_the_place_of_another(office: Office) -> None:
    """The index and the page have the newest; the one before is deleted, and so is what is removed."""
    first = await office.bring("a")
    await office.recorder.write()
    (entry,) = office.index()["recordings"]
    assert entry["file"] == {"url": f"../files/{first.rpartition('/')[2]}", "size": SIZE, "type": "video/mp4"}
    second = await office.bring("b")
    await office.deleter.sweep()
    assert first in office.store.objects_  # the index names it
    await office.recorder.write()
    await office.deleter.sweep()
    assert first in office.store.objects_  # it waits in the bin
    office.studio.now += timedelta(days=1)
    await office.deleter.sweep()
    assert [key for key in office.store.objects_ if "/files/" in key] == [second]
    parts = await office.studio.catalog.recordings.parts()
    (page,) = public_recordings(await office.studio.recordings(), parts, (), BASE).values()
    assert page.file
    assert (page.file.url, page.file.size) == (f"https://video.example.com/{second}", SIZE)
    await office.uploads.delete(await office.recording(), at_once=True)
    await office.deleter.sweep()
    assert second in office.store.objects_
    await office.recorder.write()
    assert office.index()["recordings"][0]["file"] is None
    await office.deleter.sweep()
    assert [key for key in office.store.objects_ if "/files/" in key] == []


async def test_a_file_that_is_being_deleted_does_not_come_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its day is over, and the bucket was asked to delete it, no recording gets it from the bin."""
    await office.bring("a")
    files, delete = office.studio.catalog.files, office.store.delete
    await files.delete((await office.recording()).id)
    await office.recorder.write()
    (binned,) = await files.bin()
    office.studio.now += timedelta(days=1)

    async def restored_meanwhile(keys: Sequence[str], *, deadline: float) -> None:
        with pytest.raises(NotPossible, match="not in the bin"):
            await files.restore(binned)
        await delete(keys, deadline=deadline)

    monkeypatch.setattr(office.store, "delete", restored_meanwhile)
    office.store.faults.append(StorageUnavailable("no answer, though it may have been deleted"))
    with pytest.raises(StorageUnavailable):
        await office.deleter.sweep()
    assert await files.bin() == []
    await office.deleter.sweep()
    assert (await office.recording()).file is None
    assert await files.removed(office.now) == []
    assert [key for key in office.store.objects_ if "/files/" in key] == []


async def test_it_goes_on(office: Office) -> None:
    """Who begins again with a file of the same size goes on, after a restart as well; others begin anew."""
    key = await office.begin()
    office.send("a", 1)
    office.store.put_part(next(iter(office.store.uploads_)), 2, b"torn")
    office.restart()
    office.open()
    again = await office.uploads.begin(await office.recording(), "other name.MP4", SIZE)
    assert (again["key"], again["parts"]) == (key, {1: hashlib.md5(b"a" * MIB).hexdigest()})
    both = await asyncio.gather(office.begin(SIZE + 1), office.begin(SIZE + 1))
    assert both[0] == both[1] != key
    with pytest.raises(NotPossible, match="over"):
        await office.uploads.part_url(await office.recording(), key, 1)
    await office.recorder.write()
    await office.deleter.sweep()
    assert [found[0] for found in office.store.uploads_.values()] == [both[0]]


async def test_the_bucket_has_given_it_up(office: Office) -> None:
    """A rule of the bucket may have ended it: then it begins anew."""
    key = await office.begin()
    office.store.uploads_.clear()
    recording = await office.recording()
    assert (await office.uploads.status(recording))["upload"] is None
    with pytest.raises(NotPossible, match="upload it again"):
        await office.uploads.complete(recording, key, "0" * 32 + "-3")
    assert await office.begin() != key


async def test_completing_without_an_answer(office: Office) -> None:
    """Asked again, the object tells that it was done; and it is done once."""
    key = await office.begin()
    etag = office.send()
    office.store.lost = True
    recording = await office.recording()
    with pytest.raises(StorageUnavailable):
        await office.uploads.complete(recording, key, etag)
    assert (await office.recording()).file is None
    await office.uploads.complete(recording, key, etag)
    file = (await office.recording()).file
    assert file
    assert (file.key, file.etag, file.size) == (key, etag, SIZE)
    await office.uploads.complete(await office.recording(), key, etag)


async def test_parts_that_are_not_right(office: Office) -> None:
    """Nothing is made of a file that lacks a part, or has one of another file."""
    key, recording = await office.begin(), await office.recording()
    etag = office.send("a", 1, 3)
    for what in ((), (2,)):
        if what:
            office.send("b", *what)
        with pytest.raises(NotPossible, match="parts are missing, or other ones"):
            await office.uploads.complete(recording, key, etag)
    assert office.store.objects_.keys().isdisjoint({key})
    assert await office.begin() == key
    await office.uploads.complete(recording, key, office.send("a", 2))


async def test_it_goes_with_its_recording(office: Office) -> None:
    """And with nothing else: a recording that was kept at the last moment keeps its file."""
    key = await office.bring()
    await office.begin()
    old = await office.recording()
    book = office.studio.catalog.recordings
    book.keep(old.id, None)
    book.remove(old)  # as it was
    await office.deleter.sweep()
    assert key in office.store.objects_
    book.remove(await office.recording())
    office.store.faults = [StorageUnavailable("not now")]
    with pytest.raises(StorageUnavailable):
        await office.deleter.sweep()
    await office.deleter.sweep()
    assert key not in office.store.objects_
    assert office.store.uploads_ == {}
    with pytest.raises(NotPossible, match="gone"):
        await office.uploads.begin(old, "a.mp4", 5)


async def test_an_upload_that_nobody_goes_on_with(office: Office) -> None:
    """It is given up after seven days, and what is completed that moment is deleted."""
    key = await office.begin()
    etag = office.send()
    await office.recorder.write()
    office.now += timedelta(days=6, hours=23)
    await office.deleter.sweep()
    assert len(office.store.uploads_) == 1
    office.now += timedelta(hours=2)
    recording = await office.recording()
    await office.studio.catalog.files.removed(office.now - timedelta(days=7))
    with pytest.raises(NotPossible, match="over"):
        await office.uploads.complete(recording, key, etag)
    await office.deleter.sweep()
    assert office.store.uploads_ == {}


async def test_what_others_leave(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep of strays ends uploads that nobody knows, unless they are new, and none of ours."""
    await office.bring()
    await office.begin()
    await office.recorder.write()
    catalog, before = office.studio.catalog, dict(office.store.objects_)
    where = {"media_type": "video/mp4", "disposition": "mp4", "cache_control": "no-store", "deadline": 1}
    stray = await office.store.begin("live/files/stray.mp4", **where)  # type: ignore[arg-type]

    async def sweep(*, dry_run: bool) -> dict[str, object]:
        return await strays.sweep(office.store, catalog, "live", (), dry_run=dry_run)

    assert (await sweep(dry_run=False))["uploads"] == 0
    monkeypatch.setattr(strays, "YOUNG", timedelta())
    assert (await sweep(dry_run=True))["uploads"] == 1
    assert stray in office.store.uploads_
    await sweep(dry_run=False)
    assert stray not in office.store.uploads_
    assert len(office.store.uploads_) == 1
    assert office.store.objects_ == before


async def test_it_comes_back_with_its_recording(office: Office, tmp_path: Path) -> None:
    """After the state was lost, the recording has its file, which goes as ever."""
    key = await office.bring()
    office.upload()
    await office.recorder.write()
    before = office.index()
    office.studio.folder = tmp_path / "another"
    office.restart()
    office.open()
    assert (await rebuild(office.store, office.studio.catalog, "live"))["recordings"] == 1
    await office.recorder.write()
    assert office.index() == before
    assert (await strays.sweep(office.store, office.studio.catalog, "live", (), dry_run=True))["objects"] == 0
    office.studio.catalog.recordings.remove(await office.recording())
    await office.deleter.sweep()
    assert key not in office.store.objects_


async def test_only_when_the_stream_is_over(office: Office) -> None:
    """What is still being recorded takes no file."""
    office.studio.publish("0", run=1)
    on, _ = await office.studio.recordings()
    with pytest.raises(NotPossible, match="still on"):
        await office.uploads.begin(on, "a.mp4", 5)


async def test_another_prefix(office: Office) -> None:
    """A file stays where it was put when recordings are written elsewhere, and is found from there."""
    key = await office.bring()
    office.studio.catalog.prefixes("live")
    office.studio.catalog.prefixes("new/place")
    recording = await office.recording()
    assert recording.file
    assert recording.file.address == f"../../../{key}"
