"""The service in a process of its own; its events become lines of JSON in a file."""

import asyncio
import json
import sys
from pathlib import Path

from broadcaster.config import load
from broadcaster.events import Event, SegmentPublished, SegmentUploaded, StreamStarted
from broadcaster.service import serve


async def main(path: Path) -> None:
    """Serve until killed."""
    with path.open("w", buffering=1) as file:

        def note(event: Event) -> None:
            match event:
                case StreamStarted():
                    file.write(json.dumps({"started": True}) + "\n")
                case SegmentUploaded(key=key, seconds=seconds):
                    file.write(json.dumps({"key": key, "put": seconds}) + "\n")
                case SegmentPublished(segment=segment, delay=delay):
                    file.write(json.dumps({"url": segment.uri, "delay": delay}) + "\n")

        await serve(load(), on_event=note)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
