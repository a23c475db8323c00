"""What a recording of hours leaves in memory, and what its playlists take of the bucket; time compressed."""

import gc
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from broadcaster.hls import MediaSegment
from tests.support.fakes.recorder_fixture import RecorderFixture
from tests.support.length import SOAK

HOURS = 12 if SOAK else 0.2
SEGMENT, SIZE = 1.0, 125_000  # seconds, bytes: 1 Mbit/s
ROUND = 15  # segments from one look of the recorder to the next
MIB = 2**20
MOST_OF_MEDIA = 0.03


@pytest.mark.takes(10)
async def test_two_streams_of_hours(tmp_path: Path) -> None:
    """Memory after the last hour is that of the first, and playlists are a small part of the media."""
    memory = list[int]()  # bytes, after each hour
    rig = RecorderFixture(tmp_path)
    rounds = int(HOURS * 3600 / ROUND)
    media = rounds * ROUND * SIZE * 2
    for number in range(1, rounds + 1):
        rig.stream.publish("01", seconds=SEGMENT, count=ROUND, size=SIZE)
        await rig.recorder.write()
        for log in (rig.stream.events, rig.stream.times, rig.stream.published):
            log.clear()
        if number % 20 == 0:  # as the sweeper does
            await rig.stream.catalog.deleted(await rig.stream.catalog.due(1000))
        if number % (3600 // ROUND) == 0:
            gc.collect()
            memory.append(psutil.Process().memory_info().rss)
    kept = sum(isinstance(segment, MediaSegment) for segment in gc.get_objects())
    versions = sum(name.endswith("/0/playlist.m3u8") for name in rig.store.writes)
    print(f"\n{versions} versions, playlists {rig.store.sent / media:.2%} of the media, {kept} segments kept")
    if memory:
        print("MiB after each hour:", *(f"{used / MIB:.1f}" for used in memory))
        assert memory[-1] - memory[0] <= 8 * MIB
    assert kept < 500
    rig.stream.channel.end()
    await rig.recorder.write()
    assert rig.store.sent / media <= MOST_OF_MEDIA
    (recording,) = rig.index()["recordings"]
    for variant in "01":
        playlist = rig.media(f"{recording['id']}/{variant}/playlist.m3u8")
        assert playlist.ended
        assert playlist.duration == timedelta(seconds=rounds * ROUND * SEGMENT)
        names = [int(Path(segment.uri).stem) for segment in playlist.segments]
        assert names == list(range(rounds * ROUND))
    rig.stream.catalog.close()
