"""The real application with a live channel and a tracker that is on."""

import asyncio
import sys
from pathlib import Path

from broadcaster.http import listening, raise_file_limit
from broadcaster.ipc.messages import Setup, View, view_delta
from broadcaster.tracker.tracker import Tracker, TrackerLimits
from broadcaster.viewer_server.app import ViewerServer
from tests.bench.playlist_server import full_channel


async def main(port: int, places: int) -> None:
    """Serve until killed."""
    setup = Setup(Path("none"), max_connections=raise_file_limit(2 * places), tracker=True)
    server = ViewerServer(setup, tracker=Tracker(TrackerLimits(connections=places)))
    server.handle(view_delta(View(), full_channel().view))
    async with listening(server.app, "127.0.0.1", port, "the bench"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:3])))
