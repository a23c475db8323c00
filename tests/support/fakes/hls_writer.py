"""Writes an HLS folder by hand, as carelessly as a test wants it."""

import asyncio
import itertools
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

PACKET = b"\x47" + bytes(187)
START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class HlsWriter:
    """One variant's folder: ``segment`` writes a file, ``playlist`` lists the numbers that it is given."""

    def __init__(self, folder: Path, encoder: str = "abc") -> None:
        self.folder = folder
        self.encoder = encoder
        self.seconds = 2.0
        self.start = START
        folder.mkdir(parents=True, exist_ok=True)

    def name(self, number: int) -> str:
        return f"stream-{self.encoder}-{number}.ts"

    def segment(self, number: int, packets: int = 3) -> Path:
        path = self.folder / self.name(number)
        path.write_bytes(PACKET * packets)
        return path

    def text(self, numbers: range, *, extra: str = "", ended: bool = False) -> str:
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:6",
            f"#EXT-X-TARGETDURATION:{round(self.seconds)}",
            f"#EXT-X-MEDIA-SEQUENCE:{numbers.start}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        for number in numbers:
            time = self.start + timedelta(seconds=number * self.seconds)
            lines += [
                f"#EXTINF:{self.seconds:.6f},",
                f"#EXT-X-PROGRAM-DATE-TIME:{time:%Y-%m-%dT%H:%M:%S}.000+0000",
                self.name(number),
            ]
        return "\n".join(lines) + "\n" + extra + ("#EXT-X-ENDLIST\n" if ended else "")

    def playlist(self, numbers: range, *, extra: str = "", ended: bool = False) -> Path:
        path = self.folder / "stream.m3u8"
        path.write_text(self.text(numbers, extra=extra, ended=ended))
        return path

    def write(self, numbers: range) -> None:
        """Segments and their playlist, all in order."""
        for number in numbers:
            self.segment(number)
        self.playlist(numbers)

    async def go_on(self, first: int) -> None:
        """Write at the pace of an encoder until cancelled; a stream that brings nothing new is a failure."""
        for number in itertools.count(first):
            await asyncio.sleep(self.seconds)
            self.segment(number)
            self.playlist(range(max(0, number - 5), number + 1))


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it had been written a while ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
