"""The service in a process of its own; for each segment a line of JSON tells when it was listed."""

import asyncio
import json
import sys
import time
from pathlib import Path

from broadcaster.config import load
from broadcaster.events import Event, SegmentPublished, StreamStarted
from broadcaster.service import serve


class Note:
    """Writes down how long after its file was written each segment was published."""

    def __init__(self, path: Path, hls_dir: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._hls_dir = hls_dir
        self._since = time.time()

    def published(self, variant: str, name: str) -> None:
        """It happens now; what was there before this process is left out."""
        written = (self._hls_dir / variant / name).stat().st_mtime
        if written > self._since:
            self._file.write(json.dumps({"name": name, "delay": time.time() - written}) + "\n")


async def main(path: Path) -> None:
    """Serve until killed; the first segments, which wait for their siblings to go live, are left out."""
    settings = load()
    note, live = Note(path, settings.hls_dir), False

    def observe(event: Event) -> None:
        nonlocal live
        match event:
            case StreamStarted():
                live = True
                path.with_suffix(".live").write_text(f"{time.time()}")
            case SegmentPublished(segment=segment) if live:
                note.published(segment.variant, segment.name)

    await serve(settings, on_event=observe)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
