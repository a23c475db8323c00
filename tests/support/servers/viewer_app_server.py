"""The public and the operator's listener with a window of hours and a new segment every other second.

A process of its own, for tests and benches that need its memory and its core to themselves.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.admin import make_operator_app
from broadcaster.http import listening, raise_file_limit
from broadcaster.ipc.messages import Setup, View, view_delta
from broadcaster.metrics import MetricsCollector
from broadcaster.service.serve import process_registry
from broadcaster.viewer_server.app import ViewerServer
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import stored_segment

HOST = "127.0.0.1"
SECONDS = 2
RUN = "20260101T000000Z-0-abcdef"


class LongChannel:
    """A channel of one variant that lists so many segments."""

    def __init__(self, segments: int, show: Callable[[View], None] = lambda _: None) -> None:
        window = timedelta(seconds=SECONDS * segments)
        self.channel = Channel(10, lambda: datetime.now(UTC), lambda _: None, window=window, show=show)
        self._start = datetime.now(UTC) - window
        self._number = 0
        for number in range(segments):
            self.publish()
            self.channel.tick(number * 10.0)

    def publish(self) -> None:
        """List one more."""
        url = f"https://video.example.com/live/{RUN}/0/stream-abcdef-{self._number}.ts"
        time = self._start + timedelta(seconds=SECONDS * self._number)
        self._number += 1
        self.channel.publish(
            stored_segment(url, seconds=SECONDS, target_duration=SECONDS, time=time, size=500_000)
        )


async def main(port: int, admin_port: int, segments: int, places: int) -> None:
    """Serve ``places`` connections until killed."""
    registry = process_registry()
    server = ViewerServer(Setup(Path("none"), max_connections=raise_file_limit(places)))
    long = LongChannel(segments, lambda view: server.handle(view_delta(server.stream.view, view)))
    registry.register(MetricsCollector(server.metrics))
    public, operator = server.app, make_operator_app(lambda: server.report, registry)
    async with listening(public, HOST, port, "port"), listening(operator, HOST, admin_port, "admin port"):
        print(json.dumps({"segments": segments}), flush=True)
        while True:
            await asyncio.sleep(SECONDS)
            long.publish()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:5])))
