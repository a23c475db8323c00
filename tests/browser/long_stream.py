"""A stream that has been on for a while already: its first minutes are encoded as fast as ffmpeg can."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from broadcaster.demo.encoder import FfmpegEncoder, ffmpeg
from broadcaster.demo.processes import Child
from tests.support.fakes.owncast_transcoder import PUT
from tests.support.fakes.simulated_owncast import FPS, SMALL
from tests.support.servers.owncast_receiver import Receiver

RUN = "long"


@asynccontextmanager
async def long_stream(
    hls_dir: Path, work_dir: Path, *, head_start: int, segment_seconds: int
) -> AsyncIterator[Child]:
    """One encoder run with Owncast's flags, ``head_start`` seconds of it at once, the rest in real time.

    Timestamps are continuous. PROGRAM-DATE-TIME counts media time from the start: it is ahead of the clock.
    """
    for index in range(len(SMALL)):
        (hls_dir / str(index)).mkdir(parents=True)
    receiver = Receiver(hls_dir, 0)
    receiver.start()
    segments = 2 * head_start // segment_seconds  # none leaves the source's playlist before it is followed
    owncast = FfmpegEncoder(receiver.url, SMALL, segment_seconds, segments, FPS, "", PUT, head_start)
    command = [*ffmpeg(), "-readrate_catchup", "1", *owncast.live(RUN)]
    encoder = await Child.start("ffmpeg", command, work_dir / "ffmpeg.log")
    try:
        yield encoder
    finally:
        await encoder.kill()
        await receiver.close()
