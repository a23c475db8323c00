"""The public and the operator's listener with a window of hours and a new segment every other second.

A process of its own, for tests and benches that need its memory and its core to themselves.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.live import Channel
from broadcaster.metrics import process_registry
from broadcaster.web import (
    EventStream,
    HealthReport,
    PublicOptions,
    listening,
    make_operator_app,
    make_public_app,
    raise_file_limit,
)
from tests.support.fakes import stored_segment

HOST = "127.0.0.1"
SECONDS = 2
RUN = "20260101T000000Z-0-abcdef"


class LongChannel:
    """A channel of one variant that lists so many segments."""

    def __init__(self, segments: int) -> None:
        window = timedelta(seconds=SECONDS * segments)
        self.channel = Channel(10, lambda: datetime.now(UTC), lambda _: None, window=window)
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
    registry, long = process_registry(), LongChannel(segments)
    options = PublicOptions(Path("none"), max_connections=raise_file_limit(places))
    health = HealthReport("live", 0, None)
    public = make_public_app(long.channel, lambda: health, EventStream(0), registry, options)
    operator = make_operator_app(long.channel, lambda: health, registry)
    async with listening(public, HOST, port, "port"), listening(operator, HOST, admin_port, "admin port"):
        print(json.dumps({"segments": segments}), flush=True)
        while True:
            await asyncio.sleep(SECONDS)
            long.publish()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:5])))
