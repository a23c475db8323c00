"""What reaches the service when a caching edge stands between it and its audience.

The original's case is one variant of 6-second segments for 40 minutes, 400 segments, and 600 viewers. Here
the segments are shorter, so that a test sees enough of them. What is counted is requests per segment, all of
them, the start included; 400 times that is the original's case.

That is fair from segments of two seconds on, because both kinds of requests come once per version, whatever
its length: a blocking reload by its number, and a plain playlist because a cache keeps it until the next
version is due. With one-second segments it would be too good: cache lifetimes are whole seconds, nginx counts
whole seconds of the clock, and so it would skip every other version. What does not shrink with the segments
is nginx's own timeouts: ``test_edge_rules.py`` has longer waits.

At full length (``SOAK=1``) it is the original itself, nothing scaled: it takes its 40 minutes.
"""

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support import length
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.judges.hls_viewers import Audience, watching
from tests.support.servers.edge import running_edge
from tests.support.servers.service import Service, running_service
from tests.support.waiting import eventually

VIEWERS = length.seconds(600, 150)
LENGTH = 2400  # seconds of the original
ORIGINAL_SECONDS = 6  # of a segment
SHORT_SEGMENTS = 8
CASES = [(1, ORIGINAL_SECONDS), (3, 2)] if length.SOAK else [(3, 2)]  # variants, seconds of a segment
JITTER = 0.2  # seconds by which a segment comes early or late
LISTED = 10


class Encoder:
    """Writes a folder in real time; ``published`` is when each segment was listed there (the loop's time)."""

    def __init__(self, root: Path, variants: int, seconds: int) -> None:
        self.published: dict[int, float] = {}
        self._root = root
        self._writers = [HlsWriter(root / str(index)) for index in range(variants)]
        for writer in self._writers:
            writer.seconds = seconds
        self._seconds = seconds
        self._begin = 0.0

    async def until(self, segments: int) -> None:
        """Write until there are so many, about one in each segment's duration."""
        loop, chance = asyncio.get_running_loop(), random.Random(segments)
        self._begin = self._begin or loop.time()
        for number in range(len(self.published), segments):
            due = self._begin + number * self._seconds + chance.uniform(-JITTER, JITTER)
            await asyncio.sleep(due - loop.time())
            self.write(number)

    def write(self, number: int) -> None:
        self.published[number] = asyncio.get_running_loop().time()
        for writer in self._writers:
            writer.segment(number)
            writer.playlist(range(max(0, number + 1 - LISTED), number + 1))
        if number == 0:
            lines = [
                f"#EXT-X-STREAM-INF:BANDWIDTH={one + 1}000\n{one}/stream.m3u8\n"
                for one in range(len(self._writers))
            ]
            (self._root / "stream.m3u8").write_text("#EXTM3U\n" + "".join(lines))


@pytest.mark.takes(20)
@pytest.mark.parametrize(("variants", "seconds"), CASES)
async def test_hundreds_of_viewers(
    tmp_path: Path, bucket: SeaweedBucket, variants: int, seconds: int
) -> None:
    """Under 1,000 requests reach the origin in the original's case, and no viewer falls behind."""
    segments = LENGTH // seconds if length.SOAK else SHORT_SEGMENTS
    encoder = Encoder(tmp_path / "hls", variants, seconds)
    async with (
        running_service(tmp_path, tmp_path / "hls", bucket) as service,
        running_edge(tmp_path, service.address) as edge,
    ):
        encoder.write(0)
        await service.until_health(stream="live")
        join_within = segments * seconds / 3
        async with watching(
            edge.address, encoder.published, count=VIEWERS, join_within=join_within
        ) as audience:
            await encoder.until(segments)
            await asyncio.sleep(seconds)  # the last one's time
            reached = await requests(service) + await waiting(service)
            asked = audience.requests
            await audience.until_seen(segments - 1, within=120)
        encoder.write(segments)  # the answer to what the edge still waits for
        await eventually(lambda: waiting(service), lambda found: not found)
        in_all = await requests(service)
        await edge.stop()
    assert sum(one.from_origin for one in edge.log()) == in_all
    assert audience.answers.keys() <= {200, 503}  # for a segment that a busy machine writes too late
    print(
        f"\n{VIEWERS} viewers, {variants} variants, {segments} segments of {seconds} s: {asked} requests, "
        f"{reached} of them at the origin, {reached / segments:.2f} per segment; "
        f"in 40 minutes {LENGTH / seconds * reached / segments:.0f}, with segments of {ORIGINAL_SECONDS} s "
        f"{LENGTH / ORIGINAL_SECONDS * reached / segments:.0f}"
    )
    show_lateness(audience)
    if variants == 1:
        assert LENGTH / ORIGINAL_SECONDS * reached / segments < 1000


def show_lateness(audience: Audience) -> None:
    for blocks, late in audience.late.items():
        late.sort()
        print(
            f"viewers that {'block' if blocks else 'poll'} know of a segment after "
            f"{late[len(late) // 2]:.2f} s (median), {late[len(late) * 99 // 100]:.2f} s (p99)"
        )


async def requests(service: Service) -> int:
    """How many requests for playlists the service has answered."""
    return await metric(service, "broadcaster_requests_total", "_playlist")


async def waiting(service: Service) -> int:
    return await metric(service, "broadcaster_waiters", "")


async def metric(service: Service, name: str, label: str) -> int:
    """The sum of a metric's values with this text among its labels."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.admin_address}/metrics") as response,
    ):
        lines = (await response.text()).splitlines()
    rows = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return int(sum(float(value) for key, _, value in rows if key.partition("{")[0] == name and label in key))
