"""The playlists in the bucket follow the channel's: in order, not too often, and through every failure."""

import asyncio
import hashlib
import heapq
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from broadcaster.aio import USUAL
from broadcaster.bucket import ObjectStore
from broadcaster.catalog.records import PlaylistState, StreamSnapshot
from broadcaster.errors import NotLeading, StorageError, StorageRefused, StorageUnavailable
from broadcaster.events import Event
from broadcaster.hls import ByteRange, MediaPlaylist, MediaSegment, MultivariantPlaylist, parse
from broadcaster.upload.mirror import MAX_PAUSE, Mirror
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import START, stored_segment, variants_listed

MAIN, FIRST, SECOND = "live/playlist.m3u8", "live/0/playlist.m3u8", "live/1/playlist.m3u8"
GONE = StorageUnavailable("no answer within 5 s")


class Time:
    """A monotonic clock that runs only while the test lets time pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._serials = itertools.count()  # who went to sleep first wakes up first

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._serials), woken))
        await woken.wait()

    async def goes_by(self, seconds: float) -> None:
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.now, _, woken = heapq.heappop(self._sleepers)
            woken.set()
            await settle()
        self.now = end


async def settle() -> None:
    """Let every task go as far as it can without time."""
    for _ in range(50):
        await asyncio.sleep(0)


class FakeBucket:
    """Objects in memory with S3's conditional writes. A write takes ``seconds``.

    Each of ``faults`` is raised by one of the next calls. The next ``swallow`` writes time out on their way,
    and ``land`` lets them arrive.
    """

    def __init__(self, time: Time) -> None:
        self.time = time
        self.seconds = 0.0
        self.objects: dict[str, bytes] = {}
        self.max_ages: dict[str, int] = {}
        self.writes: list[tuple[float, str, bytes]] = []  # attempts: time, key, body
        self.faults: list[StorageError] = []
        self.swallow = 0
        self.late: list[tuple[str, bytes, str | None]] = []
        self.refused = 0  # by a condition
        self.in_flight: set[str] = set()

    def tag(self, key: str) -> str | None:
        body = self.objects.get(key)
        return None if body is None else f'"{hashlib.sha256(body).hexdigest()}"'

    async def etag(self, key: str, *, deadline: float) -> str | None:
        assert deadline > 0
        if self.faults:
            raise self.faults.pop(0)
        return self.tag(key)

    async def replace(  # noqa: PLR0913 - the properties of an object
        self,
        key: str,
        body: bytes,
        *,
        etag: str | None,
        max_age: int,
        deadline: float,
        gzipped: bool = False,
    ) -> str | None:
        assert not gzipped
        assert deadline > 0
        assert key not in self.in_flight
        self.writes.append((self.time.now, key, body))
        self.in_flight.add(key)
        if self.seconds:
            await self.time.sleep(self.seconds)
        self.in_flight.remove(key)
        if self.faults:
            raise self.faults.pop(0)
        if self.swallow:
            self.swallow -= 1
            self.late.append((key, body, etag))
            raise GONE
        self.max_ages[key] = max_age
        return self._write(key, body, etag)

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        assert deadline > 0
        for key in keys:
            self.objects.pop(key, None)

    def land(self) -> None:
        """What timed out arrives after all."""
        for key, body, etag in self.late:
            self._write(key, body, etag)
        self.late.clear()

    def _write(self, key: str, body: bytes, etag: str | None) -> str | None:
        if self.tag(key) != etag:
            self.refused += 1
            return None
        self.objects[key] = body
        return self.tag(key)

    def times(self, key: str) -> list[float]:
        """When somebody tried to write a key."""
        return [time for time, written_key, _ in self.writes if written_key == key]

    def media(self, key: str) -> MediaPlaylist:
        playlist = parse(self.objects[key].decode())
        assert isinstance(playlist, MediaPlaylist)
        return playlist


class Studio:
    """A channel with segments of 2 s, and its mirror."""

    def __init__(self, memory: StreamSnapshot | None = None) -> None:
        self.time = Time()
        self.bucket = FakeBucket(self.time)
        window = timedelta(minutes=3)
        self.channel = Channel(6, lambda: START, self.observe, window=window, memory=memory)
        self.mirror = Mirror(
            cast("ObjectStore", self.bucket),
            lambda: self.channel.view,
            "live",
            wall=lambda: START,
            clock=self.time,
            sleep=self.time.sleep,
        )
        self.number = 0
        self.iframe: ByteRange | None = None  # of all segments

    def observe(self, event: Event) -> None:
        self.mirror(event)

    def describe(self, *variants: str, bandwidth: int = 1000) -> None:
        self.channel.list_variants(variants_listed(*variants, bandwidth=bandwidth))

    def publish(self, *variants: str, run: int = 0) -> None:
        self.number += 1
        for name in variants:
            key = f"live/r{run}/{name}/{self.number}.ts"
            begin = START + 2 * self.number * timedelta(seconds=1)
            segment = stored_segment(key, variant=name, run=run, time=begin, completed=START)
            self.channel.publish(replace(segment, url=f"https://b/{key}", iframe=self.iframe))

    def newest(self, variant: str = "0") -> int:
        version = self.channel.view.playlists.get(variant)
        assert version
        assert isinstance(version.playlist, MediaPlaylist)
        return version.playlist.last


@asynccontextmanager
async def working(stream: Studio) -> AsyncIterator[FakeBucket]:
    task = asyncio.create_task(stream.mirror.run())
    await settle()
    yield stream.bucket
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_written() -> None:
    """The service's own playlists, without what a bucket cannot do, for caches to keep for half a TD."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0", "1")
        stream.publish("0", "1")
        await stream.time.goes_by(0)
        main = parse(bucket.objects[MAIN].decode())
        assert isinstance(main, MultivariantPlaylist)
        assert [variant.uri for variant in main.variants] == ["0/playlist.m3u8", "1/playlist.m3u8"]
        version = stream.channel.view.playlists.get("0")
        assert version
        ours, copy = version.playlist.render().splitlines(), bucket.objects[FIRST].decode().splitlines()
        assert set(ours) ^ set(copy) == {
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,HOLD-BACK=6.000,CAN-SKIP-UNTIL=12.000",
            "#EXT-X-SERVER-CONTROL:HOLD-BACK=6.000",
        }
        assert bucket.max_ages == {MAIN: 1, FIRST: 1, SECOND: 1}
        assert (stream.mirror.writes, stream.mirror.failures, stream.mirror.behind) == (3, 0, 0)


@pytest.mark.parametrize(("variants", "key"), [("0", "live/iframes.m3u8"), ("01", "live/0/iframes.m3u8")])
async def test_the_i_frame_playlist(variants: str, key: str) -> None:
    """The playlist is there before viewers know of it, follows, and goes when they no longer do."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe(*variants)
        stream.iframe = ByteRange(940, 376)
        for _ in range(2):
            stream.publish(*variants)
            await stream.time.goes_by(1)
        text = bucket.objects[key].decode()
        assert text.count("#EXT-X-BYTERANGE:940@376\n") == 2
        assert "#EXT-X-SERVER-CONTROL" not in text
        written = [written_key for _, written_key, _ in bucket.writes]
        assert (b'URI="0/iframes.m3u8"' in bucket.objects[MAIN]) is (len(variants) > 1)
        assert written.index(key) < written.index(MAIN) or len(variants) == 1
        assert (
            len([written_key for written_key in bucket.objects if written_key.endswith("/iframes.m3u8")]) == 1
        )
        stream.iframe = None
        stream.channel.end()
        stream.publish(*variants)
        await stream.time.goes_by(3)
        assert key not in bucket.objects
        assert stream.mirror.behind == 0


async def test_one_write_a_second_and_newest_wins() -> None:
    """Versions that come faster than once a second are passed over; the last one always gets there."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0", "1")
        for _ in range(40):
            stream.publish("0", "1")
            await stream.time.goes_by(0.13)
        await stream.time.goes_by(1)
        assert bucket.media(FIRST).last == stream.newest() == 40
        for key in (FIRST, SECOND):
            times = bucket.times(key)
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            assert min(gaps) >= 1
            assert 5 <= len(times) <= 7
        assert len(bucket.times(MAIN)) <= 2  # it changed no more than once


async def test_a_slow_write_is_waited_for() -> None:
    """While a write is under way no other begins; then comes the newest, and a second's rest before it."""
    stream = Studio()
    stream.bucket.seconds = 3.0
    async with working(stream) as bucket:
        stream.describe("0")
        stream.publish("0")
        await stream.time.goes_by(0.1)
        for _ in range(4):
            stream.publish("0")
            await stream.time.goes_by(0.5)
        assert len(bucket.times(FIRST)) == 1
        await stream.time.goes_by(5)
        first, second = bucket.times(FIRST)
        assert second - first == pytest.approx(4)
        assert bucket.media(FIRST).last == 5


@pytest.mark.parametrize("when", ["after", "before"])
async def test_a_late_write_never_replaces_a_newer_one(when: str) -> None:
    """A write that was given up and arrives before or after the next one leaves the newest in place."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0")
        stream.publish("0")
        await stream.time.goes_by(1)
        bucket.swallow = 2  # of both keys
        stream.publish("0")
        await stream.time.goes_by(1)
        assert len(bucket.late) == 2
        assert bucket.media(FIRST).last == 1
        stream.publish("0")
        if when == "before":
            bucket.land()
            assert bucket.media(FIRST).last == 2
        await stream.time.goes_by(3)
        assert bucket.media(FIRST).last == 3
        bucket.land()
        assert bucket.media(FIRST).last == bucket.media(MAIN).last == 3
        assert bucket.refused == (2 if when == "after" else 0)


async def test_overtaken_between_look_and_write() -> None:
    """When the object changes after we have looked (412), we look again and write the newest."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0")
        stream.publish("0")
        await stream.time.goes_by(1)
        bucket.swallow = 2
        stream.publish("0")
        await stream.time.goes_by(1)
        bucket.seconds = 0.5
        await stream.time.goes_by(1.1)  # the next write is under way, its condition is set
        assert len(bucket.in_flight) == 2
        bucket.land()
        stream.publish("0")
        bucket.seconds = 0.0
        await stream.time.goes_by(6)
        assert bucket.refused == 2
        assert bucket.media(FIRST).last == bucket.media(MAIN).last == 3


async def test_who_does_not_lead_has_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Another broadcaster leads: nothing counts or is logged as a failure, and the newest version follows."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0")
        bucket.faults = [NotLeading("another broadcaster leads")] * 20
        for _ in range(60):
            stream.publish("0")
            await stream.time.goes_by(2)
        assert bucket.faults == []
        assert (stream.mirror.failures, stream.mirror.fault, stream.mirror.behind) == (0, None, 0)
        assert bucket.media(FIRST).last == 60
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_failures_are_tried_again_with_the_newest(caplog: pytest.LogCaptureFixture) -> None:
    """An outage: logged once, counted, tried again at growing intervals, and over with the newest version."""
    stream = Studio()
    with caplog.at_level(logging.INFO):
        async with working(stream) as bucket:
            stream.describe("0", "1")
            stream.publish("0", "1")
            await stream.time.goes_by(2)
            bucket.faults = [GONE] * 20
            for _ in range(60):
                stream.publish("0", "1")
                await stream.time.goes_by(2)
            assert bucket.faults == []
            assert stream.mirror.failures == 20
            assert stream.mirror.fault is None
            assert bucket.media(FIRST).last == bucket.media(SECOND).last == 61
            times = bucket.times(FIRST)
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            assert min(gaps) >= 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "no answer within 5 s" in caplog.text


async def test_a_bucket_that_refuses() -> None:
    """As long as it lasts the mirror says why, asks now and then, and publication goes on."""
    stream = Studio()
    async with working(stream) as bucket:
        bucket.faults = [StorageRefused("check R2_ACCESS_KEY_ID")] * 10_000
        stream.describe("0")
        for _ in range(300):
            stream.publish("0")
            await stream.time.goes_by(2)
        assert stream.mirror.fault == ("check R2_ACCESS_KEY_ID", USUAL)
        assert stream.mirror.behind == 2
        assert stream.newest() == 300
        assert stream.mirror.failures == pytest.approx(2 * 600 / MAX_PAUSE, rel=0.1)


async def test_the_multivariant_playlist_comes_last() -> None:
    """A playlist is not named before the bucket has it: a cache might remember that it was not there."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0", "1")
        bucket.swallow = 1
        stream.publish("0", "1")
        await stream.time.goes_by(0.5)
        assert set(bucket.objects) == {SECOND}
        await stream.time.goes_by(3)
        assert set(bucket.objects) == {FIRST, SECOND, MAIN}
        assert bucket.writes[-1][1] == MAIN


async def test_a_variant_that_joins_is_not_named_too_early() -> None:
    """Nor when it joins while the multivariant playlist waits for its second to pass."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0", "1")
        stream.publish("0", "1")
        await stream.time.goes_by(0.2)
        stream.describe("0", "1", bandwidth=2000)
        stream.publish("0", "1")
        await stream.time.goes_by(0.3)
        bucket.swallow = 1
        stream.describe("0", "1", "2", bandwidth=2000)
        stream.publish("2")
        await stream.time.goes_by(1)
        assert bucket.swallow == 0
        assert b"2/playlist.m3u8" not in bucket.objects[MAIN]
        await stream.time.goes_by(3)
        assert b"2/playlist.m3u8" in bucket.objects[MAIN]


async def test_the_end_and_the_next_stream() -> None:
    """The finished playlists stay; those that the next stream does not have go, once nothing names them."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0", "1")
        stream.publish("0", "1")
        await stream.time.goes_by(1)
        stream.channel.end()
        await stream.time.goes_by(1)
        assert bucket.media(FIRST).ended
        assert bucket.media(SECOND).ended
        await stream.time.goes_by(1000)
        assert set(bucket.objects) == {FIRST, SECOND, MAIN}

        bucket.seconds = 0.5
        stream.describe("0")
        stream.publish("0", run=1)
        await stream.time.goes_by(0.3)
        assert SECOND in bucket.objects
        await stream.time.goes_by(0.5)
        assert set(bucket.objects) == {FIRST, MAIN}
        assert bucket.objects[MAIN] == bucket.objects[FIRST]
        assert not bucket.media(FIRST).ended

        bucket.seconds = 0.0
        stream.channel.end()
        stream.describe("0", "1")
        stream.publish("0", "1", run=2)
        await stream.time.goes_by(3)
        assert set(bucket.objects) == {FIRST, SECOND, MAIN}
        assert bucket.media(SECOND).last == 2


async def test_a_restart_takes_up_what_is_there() -> None:
    """At the start the restored playlists are written, over what an earlier process left, at once."""
    segment = MediaSegment("https://b/7.ts", timedelta(seconds=2), program_date_time=START)
    state = PlaylistState(
        variant="0",
        current=True,
        target_duration=2,
        media_sequence=7,
        next_media_sequence=8,
        discontinuity_sequence=0,
        current_discontinuity=0,
        ended=False,
        peak_bandwidth=1000,
    )
    stream = Studio(StreamSnapshot([(state, [(7, segment, True)])]))
    stream.bucket.objects = {FIRST: b"older", MAIN: b"older"}
    async with working(stream) as bucket:
        await stream.time.goes_by(0)
        assert bucket.media(FIRST).last == bucket.media(MAIN).last == 7
        assert bucket.refused == 0


async def test_another_writer_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """Who else writes our playlists is overwritten, and the log says so."""
    stream = Studio()
    async with working(stream) as bucket:
        stream.describe("0")
        stream.publish("0")
        await stream.time.goes_by(1)
        bucket.objects[FIRST] = b"foreign"
        stream.publish("0")
        await stream.time.goes_by(5)
        assert bucket.media(FIRST).last == 2
    assert f"{FIRST} has been changed by another writer" in caplog.text


async def test_flush(caplog: pytest.LogCaptureFixture) -> None:
    """The end waits for the newest versions, but not for a bucket that is away."""
    stream = Studio()
    async with working(stream) as bucket:
        await stream.mirror.flush(0.001)  # nothing is served
        stream.describe("0")
        stream.publish("0")
        await stream.time.goes_by(0.5)
        stream.publish("0")
        flushing = asyncio.create_task(stream.mirror.flush(30))
        await settle()
        assert not flushing.done()
        await stream.time.goes_by(0.5)
        await flushing
        assert bucket.media(FIRST).last == bucket.media(MAIN).last == 2
        assert caplog.text == ""
        bucket.faults = [GONE] * 100
        stream.publish("0")
        await stream.mirror.flush(0.01)
        assert "2 playlists in the bucket are out of date" in caplog.text
