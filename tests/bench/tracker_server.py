"""The real application with a live channel and a tracker that is on."""

import asyncio
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from broadcaster.tracker import Limits, Tracker
from broadcaster.web import (
    EventStream,
    HealthReport,
    PublicOptions,
    Signaling,
    listening,
    make_public_app,
    raise_file_limit,
)
from tests.bench.playlist_server import full_channel


async def main(port: int, places: int) -> None:
    """Serve until killed."""
    channel = full_channel()
    health = HealthReport("live", 0, None)
    options = PublicOptions(
        Path("none"),
        max_connections=raise_file_limit(places + 100),
        signaling=Signaling(channel, Tracker(Limits(connections=places))),
    )
    app = make_public_app(channel, lambda: health, EventStream(0), CollectorRegistry(), options)
    async with listening(app, "127.0.0.1", port, "the bench"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:3])))
