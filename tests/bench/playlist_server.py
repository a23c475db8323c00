"""The real application with a full window; also writes the same bytes where nginx finds them."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.http import listening
from broadcaster.ipc.messages import Setup, View, view_delta
from broadcaster.viewer_server.app import ViewerServer
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import stored_segment
from tests.support.fakes.viewers_channel import ViewersChannel


def full_channel() -> Channel:
    """A live channel of one variant."""
    start = datetime.now(UTC)
    channel = Channel(10, lambda: start, lambda _: None)
    run = "20260101T000000Z-0-abcdef"
    for number in range(20):
        url = f"https://video.example.com/live/{run}/0/stream-abcdef-{number}.ts"
        time = start + timedelta(seconds=2 * number)
        channel.publish(stored_segment(url, time=time, size=500_000))
        channel.tick(number * 10.0)
    return channel


async def serve(channel: Channel, port: int) -> None:
    """Serve until killed."""
    server = ViewerServer(Setup(Path("none")))
    server.handle(view_delta(View(), channel.view))
    async with listening(server.app, "127.0.0.1", port, "the bench"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    full = full_channel()
    main = ViewersChannel(full.view).main
    if main is None:
        raise RuntimeError("the channel did not go live")
    Path(sys.argv[2]).write_bytes(main.full.body)
    asyncio.run(serve(full, int(sys.argv[1])))
