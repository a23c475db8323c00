"""No room: a full disk costs the safety net, never the stream, and past the spool's limit the oldest go.

And no descriptors: that costs time alone.
"""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.faults.small_disk import SmallDisk, small_disk
from tests.support.judges.playlist_rules import violations
from tests.support.servers.end_to_end import object_keys
from tests.support.servers.service import Service, running_service
from tests.support.suspending import resume, suspend
from tests.support.waiting import eventually

SMALL = 8  # MiB; the journal's write-ahead log alone may take 4
PACKETS = 600  # of a segment: 110 KiB
SEGMENT = PACKETS * len(PACKET)  # bytes
MULTIVARIANT = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small", SMALL) as disk:
        if isinstance(disk, str):
            pytest.skip(disk)
        yield disk


class Show:
    """A stream of one variant, as it is written and as it is served."""

    def __init__(self, hls: Path, service: Service) -> None:
        self.service = service
        self.writer = HlsWriter(hls / "0")
        self.count = 0
        self.seen: MediaPlaylist | None = None

    def write(self, count: int) -> None:
        """Finish so many segments more."""
        for number in range(self.count, self.count + count):
            self.writer.segment(number, PACKETS)
        self.count += count
        self.writer.playlist(range(max(0, self.count - 15), self.count))
        main = self.writer.folder.parent / "stream.m3u8"
        if not main.exists():
            main.write_text(MULTIVARIANT)

    async def until_listed(self) -> MediaPlaylist:
        """Wait until all that was written is listed; the playlist obeys the rules."""

        async def listed() -> bool:
            await self.look()
            last = self.seen.segments[-1].uri if self.seen else ""
            return last.endswith("/" + self.writer.name(self.count - 1))

        await eventually(listed)
        assert self.seen
        return self.seen

    async def look(self) -> None:
        text = await self.get("/live/playlist.m3u8")
        if not text.startswith("#EXTM3U"):
            return
        playlist = parse(text)
        assert isinstance(playlist, MediaPlaylist)
        assert not violations(self.seen, playlist)
        self.seen = playlist

    async def get(self, path: str) -> str:
        url = self.service.address + path
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()

    async def metric(self, name: str) -> float:
        metrics = f"{self.service.admin_address}/metrics"
        async with aiohttp.ClientSession() as session, session.get(metrics) as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.partition("{")[0].split()[0] == name)

    async def until_metric(self, name: str, value: float) -> None:
        await eventually(lambda: self.metric(name), lambda found: found == value)

    def said(self, text: str) -> int:
        """How many lines of the log have it."""
        return sum(text in line for line in self.service.log.read_text().splitlines())

    async def check_bucket(self, bucket: SeaweedBucket, lost: range = range(0)) -> None:
        """Everything that was finished is in the bucket byte for byte, once.

        What was given up may be there: the bucket may have had all of its bytes before. It is deleted later.
        """
        keys = await object_keys(bucket)
        names = [key.rpartition("/")[2] for key in keys]
        given_up = {self.writer.name(number) for number in lost}
        expected = {self.writer.name(number) for number in range(self.count)} - given_up
        assert set(names) - given_up == expected
        assert len(names) == len(set(names))
        async with aiohttp.ClientSession() as session:
            for key in keys:
                async with session.get(f"{bucket.public_url}/{key}") as response:
                    assert await response.read() == PACKET * PACKETS


async def test_a_full_disk(tmp_path: Path, bucket: SeaweedBucket, disk: SmallDisk) -> None:
    """Without room for spool and journal, segments go from the source; with room again all is as before."""
    settings = {"BROADCASTER_STATE_DIR": str(disk.folder / "state"), "BROADCASTER_RETENTION": "keep"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        show = Show(tmp_path / "hls", service)
        show.write(3)
        await show.until_listed()
        assert await show.metric("broadcaster_journal_failing") == 0

        disk.fill()
        for _ in range(12):
            show.write(1)
            playlist = await show.until_listed()
            assert not any(segment.gap for segment in playlist.segments)
        await show.until_metric("broadcaster_journal_failing", 1)

        async def health_of_a_stream() -> dict[str, object]:
            show.write(1)  # one that brings nothing new is a failure
            await show.until_listed()
            return await service.health()

        health = await eventually(health_of_a_stream, lambda health: health["http"] == 200)
        assert "the journal cannot be written: " in str(health["warning"])
        assert show.said("the catalog cannot be written") == 1
        assert show.said("cannot be spooled (No space left on device); it is read from the source")

        disk.make_room()
        await show.until_metric("broadcaster_journal_failing", 0)
        assert show.said("the catalog is written again") == 1
        spooled = show.said("cannot be spooled")
        show.write(3)
        await show.until_listed()
        assert show.said("cannot be spooled") == spooled
        await service.kill()
        show.write(2)
        await service.start()  # what was written late is there: the numbers go on
        await show.until_listed()
        await show.check_bucket(bucket)
        assert "Traceback" not in service.log.read_text()


async def test_started_on_a_full_disk(tmp_path: Path, bucket: SeaweedBucket, disk: SmallDisk) -> None:
    """A service that is stopped or killed and started again on a full disk goes on where it stood."""
    settings = {"BROADCASTER_STATE_DIR": str(disk.folder / "state"), "BROADCASTER_RETENTION": "keep"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        show = Show(tmp_path / "hls", service)
        show.write(3)
        await show.until_listed()
        for end in (service.kill, service.stop):
            await end()
            disk.fill()
            await service.start()
            await show.look()
            show.write(3)
            await show.until_listed()
            disk.make_room()
            await show.until_metric("broadcaster_journal_failing", 0)
        await show.check_bucket(bucket)
        assert "Traceback" not in service.log.read_text()


async def test_past_the_limit_of_the_spool(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """When more waits than may wait, the oldest become gaps in their places, which is said and counted."""
    settings = {"BROADCASTER_SPOOL_LIMIT": str(3 * SEGMENT), "BROADCASTER_RETENTION": "keep"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        show = Show(tmp_path / "hls", service)
        show.write(2)
        await show.until_listed()
        suspend(bucket.child)
        show.write(9)
        await show.until_metric("broadcaster_segments_lost_total", 6)
        assert await show.metric("broadcaster_spool_bytes") <= 3 * SEGMENT
        assert len([name for _, _, names in os.walk(tmp_path / "state/spool") for name in names]) == 3
        resume(bucket.child)
        playlist = await show.until_listed()
        assert [segment.gap for segment in playlist.segments] == [False] + [True] * 6 + [False] * 3
        assert show.said("was given up: the spool is full; it is listed as a gap") == 6
        assert await show.metric("broadcaster_segments_lost_total") == 6
        await show.check_bucket(bucket, lost=range(2, 8))


async def test_no_descriptor_is_left(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """What is finished while the process can open nothing is listed whole later, and that is said once."""
    hls = tmp_path / "hls"
    async with running_service(tmp_path, hls, bucket) as service:
        show = Show(hls, service)
        show.write(6)
        await show.until_listed()
        assert service.child
        files = (service.child.pid, resource.RLIMIT_NOFILE)
        before = resource.prlimit(*files)
        resource.prlimit(*files, (3, before[1]))
        show.write(7)
        await eventually(lambda: show.said("Too many open files"))
        resource.prlimit(*files, before)
        playlist = await show.until_listed()
    assert not any(segment.gap for segment in playlist.segments)
    assert show.said("Too many open files") < 5
    await show.check_bucket(bucket)
