"""Posters of recordings and clips: of which frames they are made, moved and deleted with their recording."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from broadcaster.catalog.records import Recording
from broadcaster.errors import StorageUnavailable
from broadcaster.recordings.posters import KeyFrameFolder, RecordingPosters
from broadcaster.recordings.rebuild import rebuild
from broadcaster.service.public_recordings import SIGNED, public_recordings
from tests.support.fakes.ffmpeg import FakeFfmpeg
from tests.support.fakes.pipeline_parts import START
from tests.support.fakes.recorder_fixture import RecorderFixture
from tests.support.waiting import eventually

SECOND = timedelta(seconds=1)


class Place:
    """A room with an album."""

    def __init__(self, folder: Path) -> None:
        self.rig = RecorderFixture(folder)
        self.frames = KeyFrameFolder(folder / "pictures")
        self.ffmpeg = FakeFfmpeg()
        self.now = 0.0
        self.new_album()

    def new_album(self) -> None:
        self.posters = RecordingPosters(
            self.rig.store,
            self.rig.stream.catalog,
            self.ffmpeg,
            self.frames,
            "live",
            lock=self.rig.recorder.lock,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def record(self, *, frames: bool = True, count: int = 30, run: int = 0) -> None:
        """A minute of segments, and their pictures."""
        begin = self.rig.stream.now
        self.rig.stream.publish(count=count, run=run)
        self.rig.upload()
        if frames:
            for second in range(0, 2 * count, 10):
                self.keep(begin + second * SECOND)

    def keep(self, time: datetime) -> None:
        self.frames.keep(time, f"{time:%H:%M:%S}".encode())

    async def work(self) -> None:
        await self.rig.recorder.write()
        await self.posters.work()
        await self.rig.recorder.write()

    async def recording(self) -> Recording:
        return (await self.rig.stream.recordings())[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.rig.stream.catalog.close()


async def test_a_recording_gets_its_pictures(place: Place) -> None:
    """A poster while the stream runs, another after its end, no thumbnails; nothing is made twice."""
    place.record()
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    assert (recording["poster"], recording["thumbnails"]) == (f"{recording['id']}/poster.jpg", None)
    assert place.rig.text(recording["poster"]) == "12:00:20"
    place.record(run=1)
    place.rig.stream.channel.end()
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    assert place.rig.text(recording["poster"]) == "12:00:40"
    assert recording["thumbnails"] is None
    assert [name for name in place.rig.names if name.endswith((".jpg", ".vtt"))] == [recording["poster"]]
    assert place.frames.times() == []
    place.rig.store.writes.clear()
    await place.work()
    assert place.rig.store.writes == []


async def test_posters_for_viewers(place: Place) -> None:
    """The list, and each page, have the poster's whole address; of a bucket that is private now, none."""
    place.record()
    place.rig.stream.channel.end()
    await place.work()
    clip = await place.rig.stream.catalog.clips.make("", START + 5 * SECOND, START + 20 * SECOND)
    await place.work()
    catalog = place.rig.stream.catalog
    recordings, parts = await catalog.recordings.all(), await catalog.recordings.parts()
    found = public_recordings(
        recordings, parts, await catalog.clips.all(), "https://v.example/live/recordings/"
    )
    assert found[f"/c/{clip.id}"].poster == f"https://v.example/live/clips/{clip.id}/poster.jpg"
    name = recordings[0].id
    assert found[f"/watch/{name}"].poster == f"https://v.example/live/recordings/{name}/poster.jpg"
    private = public_recordings(recordings, parts, await catalog.clips.all(), SIGNED)
    assert {recording.poster for recording in private.values()} == {None}


async def test_frames_of_another_stream(place: Place) -> None:
    """A frame from outside the recording is not its poster, though it is kept at the same time."""
    place.keep(START - SECOND)
    place.record(frames=False)
    place.keep(place.rig.stream.now + SECOND)
    place.rig.stream.channel.end()
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    assert place.rig.text(recording["poster"]) == "1000 bytes at None"


async def test_without_what_was_kept(place: Place) -> None:
    """A recording of before has a poster all the same: of a segment a third into it."""
    place.record(frames=False)
    place.rig.stream.channel.end()
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    assert (place.rig.text(recording["poster"]), recording["thumbnails"]) == ("1000 bytes at None", None)


async def test_a_clip_begins_with_its_poster(place: Place) -> None:
    """It shows the very moment, not the segment's first picture."""
    place.record()
    clip = await place.rig.stream.catalog.clips.make("", START + 7 * SECOND, START + 20 * SECOND)
    await place.work()
    record = json.loads(place.rig.text(f"{clip.id}/clip.json", "clips"))
    assert record["poster"] == f"../clips/{clip.id}/poster.jpg"
    assert place.rig.text(f"{clip.id}/poster.jpg", "clips") == "1000 bytes at 0:00:01"
    place.rig.stream.catalog.clips.delete(clip.id)
    await place.work()
    assert f"live/clips/{clip.id}/poster.jpg" not in place.rig.store.objects_


async def test_without_ffmpeg(place: Place) -> None:
    """What cannot be made is left out, and not tried for ever."""
    place.ffmpeg.broken = True
    place.record(frames=False)
    place.rig.stream.channel.end()
    clip = await place.rig.stream.catalog.clips.make("", START, START + 20 * SECOND)
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    assert (recording["poster"], recording["thumbnails"]) == (None, None)
    assert json.loads(place.rig.text(f"{clip.id}/clip.json", "clips"))["poster"] is None
    assert (await place.recording()).pictured


async def test_the_bucket_is_away(place: Place) -> None:
    """It is tried again later, by and by; what was kept is kept."""
    place.record()
    place.rig.stream.channel.end()
    await place.rig.recorder.write()
    place.rig.store.faults = [StorageUnavailable("away")]
    await place.posters.work()
    await place.posters.work()
    assert not (await place.recording()).pictured
    assert len(place.frames.times()) == 6
    place.now += 15
    await place.posters.work()
    assert (await place.recording()).pictured
    assert place.rig.text(f"{(await place.recording()).folder}/poster.jpg") == "12:00:20"


async def test_a_restart_in_the_middle(place: Place, tmp_path: Path) -> None:
    """Pictures of before and after the restart are in one recording; a half one is none."""
    place.record()
    (tmp_path / "pictures" / "unfinished").write_bytes(b"half")
    place.rig.restart(None)
    place.frames = KeyFrameFolder(tmp_path / "pictures")
    place.new_album()
    place.record()
    place.rig.stream.channel.end()
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    assert place.rig.text(recording["poster"]) == "12:00:40"
    assert place.frames.times() == []


async def test_hidden_and_shown(place: Place) -> None:
    """The poster, and the sprites and thumbnails of version 0.1.0, move with a recording and go with it."""
    place.record()
    place.rig.stream.channel.end()
    await place.work()
    before = await place.recording()
    for name in ("sprite-1.jpg", "thumbnails.vtt"):
        place.rig.store.objects_[f"live/recordings/{before.folder}/{name}"] = b"of 0.1.0"
    table = place.rig.stream.catalog.recordings
    table.change(before.id, thumbnails=True)
    await place.work()
    assert place.rig.index()["recordings"][0]["thumbnails"] == [f"{before.folder}/thumbnails.vtt"]
    table.change(before.id, visibility="hidden")
    await place.work()
    folder = (await place.recording()).folder
    names = [name for name in place.rig.names if name.endswith((".jpg", ".vtt"))]
    assert names == [f"{folder}/{name}" for name in ("poster.jpg", "sprite-1.jpg", "thumbnails.vtt")]
    table.change(before.id, visibility="listed")
    await place.work()
    assert [name for name in place.rig.names if "-" + before.secret in name] == []
    assert place.rig.text(place.rig.index()["recordings"][0]["poster"]) == "12:00:20"
    assert place.rig.text(place.rig.index()["recordings"][0]["thumbnails"][0]) == "of 0.1.0"
    await table.delete(before.id, at_once=True)
    await place.work()
    assert [name for name in place.rig.names if name.endswith((".jpg", ".vtt"))] == []


async def test_what_is_deleted_meanwhile(place: Place) -> None:
    """Nothing is left of pictures that were on their way."""
    place.record()
    place.rig.stream.channel.end()
    await place.rig.recorder.write()
    recording = await place.recording()

    def deleted() -> None:
        place.rig.stream.catalog.recordings.remove(recording)

    place.rig.store.meanwhile = deleted
    await place.posters.work()
    assert [name for name in place.rig.names if name.endswith(".jpg")] == []


async def test_it_waits_for_who_removes(place: Place) -> None:
    """What was removed while a picture was written is found to be gone."""
    place.record()
    place.rig.stream.channel.end()
    await place.rig.recorder.write()
    async with place.rig.recorder.lock:
        task = asyncio.create_task(place.posters.work())
        await eventually(lambda: [name for name in place.rig.names if name.endswith(".jpg")])
        place.rig.stream.catalog.recordings.remove(await place.recording())
    await task
    assert [name for name in place.rig.names if name.endswith(".jpg")] == []


async def test_they_are_there_after_a_rebuild(place: Place, tmp_path: Path) -> None:
    """The state folder was lost: the bucket says which pictures it has."""
    place.record()
    clip = await place.rig.stream.catalog.clips.make("", START, START + 20 * SECOND)
    place.rig.stream.channel.end()
    await place.work()
    before = place.rig.index()
    place.rig.stream.catalog.close()
    (tmp_path / "journal.db").unlink()
    place.rig.stream.open(None)
    place.rig.new_recorder()
    place.new_album()
    await rebuild(place.rig.store, place.rig.stream.catalog, "live")
    await place.work()
    assert place.rig.index() == before
    assert (await place.recording()).pictured
    assert (await place.rig.stream.catalog.clips.all())[0].poster
    assert place.rig.text(f"{clip.id}/poster.jpg", "clips")


def test_frames_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that never ends fills no disk."""
    monkeypatch.setattr("broadcaster.recordings.posters.MOST", 3)
    frames = KeyFrameFolder(tmp_path)
    for count in range(5):
        frames.keep(START + count * SECOND, b"")
    assert frames.times() == [START + count * SECOND for count in (2, 3, 4)]
    assert KeyFrameFolder(tmp_path / "nowhere").times() == []


async def test_those_of_before_one_by_one(place: Place) -> None:
    """Recordings that were made without pictures get theirs by and by: what is on comes first."""
    for run in range(2):
        place.record(frames=False, run=run, count=5)
        place.rig.stream.channel.end()
    await place.work()
    assert [recording.pictured for recording in await place.rig.stream.recordings()] == [True, False]
    await place.work()
    assert [recording.pictured for recording in await place.rig.stream.recordings()] == [True, True]


async def test_what_another_one_still_needs(place: Place) -> None:
    """Two have ended while the bucket was away: the newer one leaves the older one its pictures."""
    for run in range(2):
        place.record(run=run)
        place.rig.stream.channel.end()
    await place.work()
    await place.work()
    assert [place.rig.text(recording["poster"]) for recording in place.rig.index()["recordings"]] == [
        "12:01:20",
        "12:00:20",
    ]
    assert place.frames.times() == []


async def test_what_is_in_the_bin_keeps_what_its_pictures_are_made_of(place: Place) -> None:
    """Deleted before it had any, and restored after the next stream, it gets all of them."""
    place.record()
    place.rig.stream.channel.end()
    first = await place.recording()
    table = place.rig.stream.catalog.recordings
    await table.delete(first.id)
    place.record(run=1)
    place.rig.stream.channel.end()
    await place.work()
    assert [item.pictured for item in await table.all()] == [True]
    await table.restore(first.id)
    await place.work()
    assert [item.pictured for item in await table.all()] == [True, True]
    assert place.rig.text(f"{(await table.all())[-1].folder}/poster.jpg") == "12:00:20"
    assert place.frames.times() == []


async def test_kept_at_the_last_moment(place: Place) -> None:
    """One that is kept after all, when its pictures were deleted already, gets others."""
    place.record()
    place.rig.stream.channel.end()
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    table = place.rig.stream.catalog.recordings
    table.keep(recording["id"], 1)
    place.rig.stream.now += 2 * timedelta(days=1)
    place.rig.store.meanwhile = lambda: table.keep(recording["id"], None)
    await place.rig.recorder.write()
    await place.rig.recorder.write()
    (recording,) = place.rig.index()["recordings"]
    assert (recording["poster"], recording["thumbnails"]) == (None, None)
    await place.work()
    (recording,) = place.rig.index()["recordings"]
    assert recording["poster"] in place.rig.names


async def test_shown_while_it_is_on(place: Place) -> None:
    """The poster of a stream that was hidden moves at once, and nothing stays at the secret address."""
    place.record()
    await place.work()
    before = await place.recording()
    table = place.rig.stream.catalog.recordings
    for visibility in ("hidden", "listed"):
        table.change(before.id, visibility=visibility)
        await place.work()
    assert [name for name in place.rig.names if before.secret in name] == []
    assert place.rig.index()["recordings"][0]["poster"] in place.rig.names
