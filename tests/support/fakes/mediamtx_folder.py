"""A folder into which MediaMTX writes, on a real disk and by a clock of its own, as the facts say of it.

A segment's file grows in steps of 4 KiB while it is written; its playlist is written in place, and lists it
when it is whole. When the publisher goes, all segments vanish at once, with the tail that was not listed; the
playlists stay, and name what is gone. With a slate (``alwaysAvailable``) the muxer goes on under its ID when
a publisher comes or goes: the segment of that moment is longer or shorter.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

from tests.support.fakes.timetable import Timetable

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
STEP, PACKET = 4096, b"\x47" + bytes(187)
SECONDS, WINDOW = 2, 7  # of a segment; segments that a playlist lists
MULTIVARIANT = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-INDEPENDENT-SEGMENTS

#EXT-X-STREAM-INF:BANDWIDTH=857280,CODECS="avc1.42c00c,mp4a.40.2",RESOLUTION=320x180
main_stream.m3u8
"""


class MediaMtxLife(Timetable):
    """The folder ``root`` of one path; ``random`` decides what is left open."""

    def __init__(self, root: Path, random: Random, *, slate: bool = False) -> None:
        super().__init__()
        self.folder = root
        self.listed: dict[str, bytes] = {}  # whole segments that a whole playlist has named
        self.torn = 0
        self.publishers: list[str] = []
        self._random = random
        self._slate = slate
        self._seconds = float(SECONDS)  # of the segment that is written
        self._publisher = ""
        self._whole: list[tuple[str, float, float]] = []  # of this publisher: name, begin and length

    def now(self) -> datetime:
        return START + timedelta(seconds=self.time)

    def publish(self, seconds: float) -> None:
        """A publisher connects, and goes after so many seconds."""
        if self._slate and self._publisher:
            self._seconds = self._random.choice([1.25, 2.75])
            return
        self._publisher = publisher = f"{self._random.randrange(16**12):012x}"
        self.publishers.append(publisher)
        self._whole = []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.at(0, partial(self._begin, publisher, 0))
        if not self._slate:
            self.at(seconds, partial(self.leave, publisher))

    def _begin(self, publisher: str, number: int) -> None:
        if publisher != self._publisher:
            return
        lasts, self._seconds = self._seconds, float(SECONDS)
        name = f"{publisher}_main_seg{number}.ts"
        packets = self._random.randint(60, 120)
        body = PACKET * packets
        path, pieces = self.folder / name, [body[at : at + STEP] for at in range(0, len(body), STEP)]
        path.write_bytes(b"")
        self._date(path)
        for count, piece in enumerate(pieces, 1):
            self.at(lasts * count / (len(pieces) + 1), partial(self._grow, publisher, path, piece))
        self.at(lasts, partial(self._finish, publisher, name, self.time, lasts))
        self.at(lasts, partial(self._begin, publisher, number + 1))

    def _grow(self, publisher: str, path: Path, piece: bytes) -> None:
        if publisher == self._publisher:
            with path.open("ab") as file:
                file.write(piece)
            self._date(path)

    def _finish(self, publisher: str, name: str, began: float, lasts: float) -> None:
        if publisher != self._publisher:
            return
        self._whole.append((name, began, lasts))
        for gone, *_ in self._whole[:-WINDOW]:
            (self.folder / gone).unlink(missing_ok=True)
        if len(self._whole) == 1:
            (self.folder / "index.m3u8").write_text(MULTIVARIANT)
            self._date(self.folder / "index.m3u8")
        text, path = self._text(), self.folder / "main_stream.m3u8"
        torn = self._random.randrange(len(text)) if self._random.random() < 0.4 else len(text)
        self.torn += torn < len(text)
        path.write_text(text[:torn])  # written in place: whoever reads now sees a part
        self._date(path)
        if torn < len(text):
            self.at(0.003, partial(self._write_whole, publisher, path, text))
        else:
            self._note()

    def _write_whole(self, publisher: str, path: Path, text: str) -> None:
        if publisher == self._publisher:
            path.write_text(text)
            self._date(path)
            self._note()

    def _note(self) -> None:
        for name, *_ in self._whole[-WINDOW:]:
            self.listed.setdefault(name, (self.folder / name).read_bytes())

    def _text(self) -> str:
        listed = self._whole[-WINDOW:]
        lines = [
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-ALLOW-CACHE:NO",
            f"#EXT-X-TARGETDURATION:{max(round(lasts) for *_, lasts in listed)}",
            f"#EXT-X-MEDIA-SEQUENCE:{len(self._whole) - len(listed)}",
        ]
        for name, began, lasts in listed:
            time = START + timedelta(seconds=began)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z")
            lines.append(f"#EXTINF:{lasts:.5f},\n{name}")
        return "\n".join(lines) + "\n"

    def leave(self, publisher: str) -> None:
        """The publisher is gone, and with it all segments."""
        if publisher == self._publisher:
            self._publisher = ""
            for path in self.folder.glob("*.ts"):
                path.unlink()
            self._date(self.folder)

    def restart(self) -> None:
        """MediaMTX starts again, and empties its folder."""
        self._queue.clear()
        self._publisher = ""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _date(self, path: Path) -> None:
        stamp = int((START + timedelta(seconds=self.time)).timestamp() * 1e9)
        os.utime(path, ns=(stamp, stamp))
