"""The live poster, and what is kept for a recording: which segments they are of, and where they go."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.errors import EncoderError, StorageUnavailable
from broadcaster.events import SegmentPublished, StreamEnded
from broadcaster.hls import MultivariantPlaylist, Variant
from broadcaster.ipc.messages import Version, View
from broadcaster.recordings.posters import KeyFrameFolder, LivePoster
from broadcaster.upload.spool import Spool
from tests.support.fakes.ffmpeg import FakeFfmpeg
from tests.support.fakes.pipeline_parts import START, file_of, stored_segment
from tests.support.fakes.recorder_fixture import FakeObjectStore
from tests.support.waiting import eventually

SECOND = timedelta(seconds=1)
URL = "https://v.example/live/poster.jpg"
JPEG = b"\xff\xd8 Owncast's"
SIZES = MultivariantPlaylist(
    (
        Variant("big/playlist.m3u8", 2, resolution=(1280, 720)),
        Variant("small/playlist.m3u8", 1, resolution=(640, 360)),
    ),
    independent_segments=True,
)


def published(key: str, second: int, variant: str = "small") -> SegmentPublished:
    """A segment is listed."""
    time = START + second * SECOND
    return SegmentPublished(replace(stored_segment(key, variant=variant, time=time), time=time), START)


class Place:
    """Pictures of a stream with two variants, of a recording and without Owncast by default."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FakeObjectStore()
        self.spool = Spool(folder / "spool", 10**9)
        self.frames = KeyFrameFolder(folder / "pictures")
        self.ffmpeg = FakeFfmpeg()
        self.theirs: bytes | None = None
        self.now = 0.0
        self.hidden = False
        self.view = View(main=Version(SIZES, START, 2))
        self.pictures = self.made()

    def made(
        self, *, recording: bool = True, owncast: bool = False, ffmpeg: bool = True, names: bytes = b""
    ) -> LivePoster:
        return LivePoster(
            self.store,
            self.spool,
            self.ffmpeg if ffmpeg else None,
            self.frames if recording else None,
            prefix="live",
            url="https://v.example",
            names=names,
            view=lambda: self.view,
            hidden=lambda: self.hidden,
            owncast_picture=self.ask if owncast else None,
            clock=lambda: self.now,
        )

    async def ask(self) -> bytes:
        if self.theirs is None:
            raise EncoderError("it refuses connections")
        return self.theirs

    async def publish(self, second: int, variant: str = "small", *, in_spool: bool = True) -> None:
        """A segment of as many bytes as its second, plus one."""
        key = f"live/r0/{variant}/{second}.ts"
        file = self.folder / "segment.ts"
        file.write_bytes(bytes(second + 1))
        kept = await self.spool.add(file_of(file), key, copy=True) if in_spool else None
        self.now = float(second)
        self.pictures(published(key, second, variant))
        if kept:
            self.spool.discard(kept)
        await self.pictures.work()

    @property
    def poster(self) -> bytes | None:
        posters = [found for key, found in self.store.objects_.items() if key.endswith("poster.jpg")]
        return posters[0] if posters else None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_one_each_ten_seconds(place: Place) -> None:
    """Every second one of them is the live poster, of the smallest variant that will do."""
    posters: list[tuple[int, bytes | None]] = []
    for second in range(0, 60, 2):
        await place.publish(second, "big")
        await place.publish(second)
        if not posters or posters[-1][1] != place.poster:
            posters.append((second, place.poster))
    assert place.frames.times() == [START + second * SECOND for second in range(0, 60, 10)]
    assert posters == [(second, b"%d bytes at None" % (second + 1)) for second in (0, 20, 40)]
    assert place.pictures.poster == URL
    assert place.pictures.picture == place.poster
    assert place.pictures.pictured == START + 40 * SECOND


async def test_there_is_none_after_the_end(place: Place) -> None:
    """The page of a stream that is over does not show its last moment as if it were on."""
    await place.publish(0)
    place.pictures(StreamEnded(START, going_on=True))
    assert place.pictures.poster == URL
    place.pictures(StreamEnded(START))
    assert [*filter(None, (place.pictures.poster, place.pictures.picture))] == []
    await place.publish(20)
    assert place.pictures.poster == URL


async def test_none_is_of_a_rehearsal(place: Place) -> None:
    """While the stream is hidden the picture of before stays; recordings get theirs all the same."""
    await place.publish(0)
    place.hidden = True
    await place.publish(20)
    assert place.poster == b"1 bytes at None"
    assert place.pictures.picture == b"21 bytes at None"  # the operator's
    place.hidden = False
    await place.pictures.work()
    assert place.poster == b"1 bytes at None"
    await place.publish(40)
    assert place.poster == b"41 bytes at None"
    assert len(place.frames.times()) == 3


async def test_owncasts_own_is_of_before(place: Place) -> None:
    """For a minute after a rehearsal, or the begin of a private event, a segment is decoded instead."""
    place.pictures = place.made(owncast=True, names=b"secret")
    place.theirs = JPEG
    await place.publish(0)
    assert place.poster == b"1 bytes at None"
    await place.publish(70)
    assert place.poster == JPEG
    place.hidden = True
    await place.publish(100)
    place.hidden = False
    for second in (120, 140, 160):
        await place.publish(second)
        assert place.poster == b"%d bytes at None" % (second + 1)
    await place.publish(180)
    assert place.poster == JPEG


async def test_owncasts_own_comes_first(place: Place) -> None:
    """Where it is there, nothing is decoded; where it is not, or is no picture, a segment is."""
    place.pictures = place.made(recording=False, owncast=True)
    place.theirs = JPEG
    await place.publish(0)
    assert place.poster == JPEG
    assert place.ffmpeg.asked == 0
    place.ffmpeg.broken = True
    place.pictures = place.made(owncast=True)
    await place.publish(10)
    assert place.ffmpeg.asked == 1
    assert place.poster == JPEG
    place.ffmpeg.broken = False
    place.theirs = b"<html>"
    await place.publish(20)
    assert place.poster == JPEG
    await place.publish(30)
    assert place.poster == b"31 bytes at None"
    place.theirs = None
    await place.publish(50)
    assert place.poster == b"51 bytes at None"


async def test_owncasts_own_without_ffmpeg(place: Place) -> None:
    """It needs nothing of this machine."""
    place.pictures = place.made(owncast=True, ffmpeg=False)
    place.theirs = JPEG
    await place.publish(0, in_spool=False)
    assert place.poster == JPEG
    assert place.frames.times() == []


async def test_what_the_spool_does_not_have(place: Place) -> None:
    """The next segment is taken in its place; a gap has no picture."""
    await place.publish(0, in_spool=False)
    place.pictures(SegmentPublished(stored_segment("gap", gap=True), START))
    assert place.poster is None
    await place.publish(2)
    assert place.poster == b"3 bytes at None"


async def test_the_map_goes_before_it(place: Place) -> None:
    """The bucket has the EXT-X-MAP already; it is read once."""
    place.store.objects_["map"] = bytes(1000)
    for second in (0, 10):
        key, file = f"live/r0/small/{second}.m4s", place.folder / "segment"
        file.write_bytes(b"x")
        await place.spool.add(file_of(file), key, copy=True)
        place.pictures(SegmentPublished(replace(published(key, second).segment, map_key="map"), START))
        await place.pictures.work()
        place.store.objects_.pop("map", None)
    assert place.poster == b"1001 bytes at None"
    assert len(place.frames.times()) == 2


async def test_faults_are_said_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a broken ffmpeg nor an absent bucket ends it: the next picture is there again."""
    place.ffmpeg.broken = True
    await place.publish(0)
    task = asyncio.create_task(place.pictures.run())
    for second in (20, 40):
        await publish_and_wait(place, second)
    assert caplog.text.count("has no poster now") == 1
    place.ffmpeg.broken = False
    place.store.faults = [StorageUnavailable("away")]
    await publish_and_wait(place, 60)
    await eventually(lambda: not place.store.faults)
    await publish_and_wait(place, 80)
    await eventually(lambda: place.poster == b"1 bytes at None")
    task.cancel()


async def publish_and_wait(place: Place, second: int) -> None:
    """Let the task do it."""
    key, file = f"live/r0/small/{second}.ts", place.folder / "segment.ts"
    file.write_bytes(b"x")
    await place.spool.add(file_of(file), key, copy=True)
    place.now, before = float(second), place.ffmpeg.asked
    place.pictures(published(key, second))
    await eventually(lambda: place.ffmpeg.asked > before)
