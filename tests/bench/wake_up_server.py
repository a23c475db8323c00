"""The real application with a live channel. A number on its standard input: publish once so many wait."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from broadcaster.demo.processes import poll
from broadcaster.http import listening, raise_file_limit
from broadcaster.ipc.messages import Setup, View, view_delta
from broadcaster.viewer_server.app import ViewerServer
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import stored_segment

SECONDS = 6
RUN = "20260101T000000Z-0-abcdef"
QUIET = 0.3  # seconds from the last request that waits to the publication


class Show:
    """A channel of one variant with a full window."""

    def __init__(self, setup: Setup) -> None:
        self.server = ViewerServer(setup)
        self.channel = Channel(10, lambda: datetime.now(UTC), lambda _: None, show=self._show)
        self._number = 0
        for number in range(20):
            self.publish()
            self.channel.tick(number * 10.0)

    def publish(self) -> None:
        """List one more segment."""
        url = f"https://video.example.com/live/{RUN}/0/stream-abcdef-{self._number}.ts"
        time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=SECONDS * self._number)
        self._number += 1
        self.channel.publish(
            stored_segment(url, seconds=SECONDS, target_duration=SECONDS, time=time, size=500_000)
        )

    def _show(self, view: View) -> None:
        self.server.handle(view_delta(self.server.stream.view, view))

    async def wait(self, wanted: int) -> bool:
        """Whether so many requests wait."""
        return any(metric.name == "waiters" and metric.value == wanted for metric in self.server.metrics())


async def numbers() -> AsyncIterator[int]:
    """Those that come over the standard input, a line each."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        yield int(line)


async def main(port: int, places: int) -> None:
    """Serve until the standard input ends; says the time (monotonic) of each publication."""
    show = Show(Setup(Path("none"), max_waiters=places, max_connections=raise_file_limit(2 * places)))
    async with listening(show.server.app, "127.0.0.1", port, "the bench"):
        async for wanted in numbers():
            await poll(partial(show.wait, wanted))
            await asyncio.sleep(QUIET)
            published = time.monotonic()
            show.publish()
            print(published, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:3])))
