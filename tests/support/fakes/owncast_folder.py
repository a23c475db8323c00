"""An Owncast's folder lives through a made-up time on a real disk, as careless as a real one, without ffmpeg.

Over 250 lines, because all of it writes into the one folder.

Everything happens at a moment of a clock of its own, in steps between which somebody may look. Files and
folders are dated by that clock, by the kernel's ticks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from io import FileIO
from itertools import accumulate
from pathlib import Path
from random import Random

from tests.support.fakes.timetable import Timetable

PLAYLIST = "stream.m3u8"
START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
PACKET = b"\x47" + bytes(187)
WINDOW = 4  # segments that a playlist lists
TICK = 0.004  # seconds, by which the kernel dates
AHEAD = 1.6  # seconds that PROGRAM-DATE-TIME is ahead of the clock
CLIP = "stream-offline-0.ts"
IDLE = f"""#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:8
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:EVENT
#EXTINF:8.000000,
{CLIP}
#EXT-X-ENDLIST
"""
ENDING = "#EXT-X-DISCONTINUITY\n#EXTINF:8.000000,\noffline.ts\n#EXT-X-ENDLIST\n"


@dataclass(frozen=True, slots=True)
class Made:
    """A segment that an encoder has made."""

    encoder: int  # counts the encoder runs
    variant: str
    number: int
    name: str
    size: int
    seconds: float
    time: float


@dataclass(slots=True)
class Transcoder:
    """One run of ffmpeg. Without ``ids`` its names are those of every other run."""

    number: int
    variants: int
    began: float
    lengths: list[float]
    ids: bool
    alive: bool = True
    made: dict[str, list[Made]] = field(default_factory=dict)

    def name(self, number: int) -> str:
        return f"stream-run-{self.number}-{number}.ts" if self.ids else f"seg{number}.ts"

    def text(self, variant: str) -> str:
        listed = self.made[variant][-WINDOW:]
        lines = [
            "#EXTM3U\n#EXT-X-VERSION:6",
            f"#EXT-X-TARGETDURATION:{max(1, *(round(segment.seconds) for segment in listed))}",
            f"#EXT-X-MEDIA-SEQUENCE:{listed[0].number}\n#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        for segment in listed:
            time = START + timedelta(seconds=segment.time + AHEAD)
            lines.append(f"#EXTINF:{segment.seconds:.6f},")
            lines.append(
                f"#EXT-X-PROGRAM-DATE-TIME:{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}+0000"
            )
            lines.append(segment.name)
        return "\n".join(lines) + "\n"


class OwncastLife(Timetable):
    """The folder ``root`` and who writes into it; ``random`` decides what is left open."""

    def __init__(self, root: Path, random: Random, *, older: bool = False, ids: bool = True) -> None:
        super().__init__()
        self.root = root
        self.random = random
        self.older = older
        self.ids = ids
        self.live: Transcoder | None = None
        self.runs: list[Transcoder] = []
        self.whole: dict[tuple[str, str, int], Made] = {}  # by variant, name and encoder: bytes on disk
        self.listed: set[Made] = set()
        self.idle_since: float | None = None  # when the idle clip was there for good
        self.trace: list[str] = []
        self.changes = 0
        self._open: dict[FileIO, Path] = {}

    def now(self) -> datetime:
        return START + timedelta(seconds=self.time)

    def note(self, what: str) -> None:
        self.trace.append(f"{self.time:9.3f} {what}")
        self.changes += 1

    def _date(self, what: Path | FileIO) -> None:
        stamp = (int(START.timestamp() / TICK) + int(self.time / TICK)) * int(TICK * 1e9)
        os.utime(what if isinstance(what, Path) else what.fileno(), ns=(stamp, stamp))

    def is_written(self, path: Path) -> bool:
        return path in self._open.values()

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir()
            self._date(folder)
            if folder != self.root:
                self._date(self.root)
            self.note(f"mkdir {folder.name}")

    def _remove(self) -> None:
        """Remove the folder; its inode's number may be given to the next one."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.note("folder removed")

    def _put(self, path: Path, data: bytes, delay: float, done: Callable[[], None] = lambda: None) -> None:
        """Write as Owncast's receiver does: the final name is created, and the bytes come by and by."""
        chance = self.random

        def create() -> None:
            if not path.parent.is_dir():
                return
            is_new = not path.exists()
            file = path.open("wb", buffering=0)
            self._open[file] = path
            self._date(file)
            if is_new:
                self._date(path.parent)
            self.note(f"create {path.parent.name}/{path.name}")
            part = chance.choice([0, len(data) // 2 - 1, len(data) - 3])
            self.at(chance.choice([0.0, 0.001, 0.003, 0.02]), lambda: write(file, data[:part], last=False))
            slow = chance.choice([0.0, 0.0, 0.002, 0.01, 0.04, 0.3])
            self.at(0.021 + slow if slow else 0.021, lambda: write(file, data[part:], last=True))

        def write(file: FileIO, bytes_: bytes, *, last: bool) -> None:
            if file not in self._open:
                return
            file.write(bytes_)
            self._date(file)
            self.note(f"{'whole' if last else 'part of'} {path.parent.name}/{path.name}")
            if last:
                is_there = os.fstat(file.fileno()).st_nlink > 0
                del self._open[file]
                file.close()
                if is_there:
                    done()

        self.at(delay, create)

    def _abort(self, keep: str = "") -> None:
        """Whoever receives is killed: what is half stays half."""
        for file, path in list(self._open.items()):
            if not keep or keep not in path.name:
                del self._open[file]
                file.close()
                self.note(f"abort {path.parent.name}/{path.name}")

    def begin(self, variants: int, lengths: list[float]) -> None:
        """An encoder has connected."""
        self.idle_since = None
        transcoder = Transcoder(len(self.runs), variants, self.time, lengths, self.ids)
        transcoder.made = {str(variant): [] for variant in range(variants)}
        self.runs.append(transcoder)
        self.live = transcoder
        self.note(f"transcoder {transcoder.number} with {variants} variants starts")
        delay = 0.0
        if not self.older:
            self._remove()
            delay = self.random.choice([0.0, 0.0, 0.002, 0.3])
        for variant in range(variants):
            self.at(delay * variant, lambda: self._make(self.root))
            self.at(delay * variant, partial(self._make, self.root / str(variant)))
        for number, end in enumerate(accumulate(lengths)):
            self.at(1.2 + end, partial(self._encode, transcoder, number))

    def _encode(self, transcoder: Transcoder, number: int, seconds: float | None = None) -> None:
        if not transcoder.alive:
            return
        chance = self.random
        seconds = transcoder.lengths[number] if seconds is None else seconds
        began = transcoder.began + 1.2 + sum(transcoder.lengths[:number])
        for variant in transcoder.made:
            name = transcoder.name(number)
            size = len(PACKET) * chance.randint(3, 9)
            segment = Made(transcoder.number, variant, number, name, size, seconds, began)
            transcoder.made[variant].append(segment)
            listed = list(transcoder.made[variant][-WINDOW:])
            folder = self.root / variant
            late = chance.choice([0.0, 0.0, 0.001, 0.05])
            order = [0.0, chance.choice([0.0, 0.001, 0.005, 0.03])]
            if chance.random() < 0.2:
                order.reverse()
            self._put(
                folder / name, PACKET * (size // 188), late + order[0], partial(self._is_whole, segment)
            )
            self._put(
                folder / PLAYLIST,
                transcoder.text(variant).encode(),
                late + order[1],
                partial(self.listed.update, listed),
            )
        if number == 0:
            self._put(
                self.root / PLAYLIST,
                _multivariant(transcoder.variants),
                chance.choice([0.0, 0.0, 0.004, 0.06, 3.2]),
            )

    def _is_whole(self, segment: Made) -> None:
        self.whole[segment.variant, segment.name, segment.encoder] = segment

    def end(self, *, orderly: bool, private: bool) -> None:
        """The encoder is gone: its last segment comes, or not, then the playlists are closed."""
        transcoder = self.leave(orderly=orderly)
        if transcoder is None:
            return
        for variant in transcoder.made:
            self.at(0.5, partial(self._close, transcoder, variant, private=private))

    def leave(self, *, orderly: bool) -> Transcoder | None:
        """The encoder is gone, and nobody says so."""
        transcoder = self.live
        if transcoder is None:
            return None
        self.note("the encoder goes " + ("in order" if orderly else "at once"))
        if orderly:
            number = len(next(iter(transcoder.made.values())))
            elapsed = self.time - transcoder.began - 1.2 - sum(transcoder.lengths[:number])
            if 0.1 < elapsed < 12 and number < len(transcoder.lengths):
                self._encode(transcoder, number, round(elapsed, 3))
        else:
            self._abort(keep="offline")
        transcoder.alive = False
        self.live = None
        return transcoder

    def _close(self, transcoder: Transcoder, variant: str, *, private: bool) -> None:
        folder = self.root / variant
        path = folder / PLAYLIST
        if not folder.is_dir() or (self.live and self.live is not transcoder):
            return
        clip = folder / "offline.ts"
        clip.write_bytes(PACKET * 5)
        self._date(clip)
        text = path.read_text() if path.exists() else "#EXTM3U\n#EXT-X-TARGETDURATION:8\n"
        if self.older:
            path.write_text(text + ENDING)
            self._date(path)
        else:
            other = self.root.parent / "closing"
            other.write_text(text + ENDING)
            self._date(other)
            other.chmod(0o600 if private else 0o644)
            other.replace(path)
        self._date(folder)
        self.note(f"{variant} is closed{' to us' if private and not self.older else ''}")

    def close(self) -> None:
        """Let go of what is still being written."""
        self._abort()

    def kill(self) -> None:
        """Owncast is killed, and all its transcoders; the folder stays."""
        self._abort()
        self._queue.clear()
        if self.live:
            self.live.alive = False
            self.live = None
        self.note("Owncast is killed")

    def idle(self, variants: int, takes: float, shown_in: int) -> None:
        """At Owncast's start, or 5 minutes after an end: the idle clip takes so many seconds to transcode."""
        self.idle_since = None
        self._remove()
        self._make(self.root)
        for variant in range(variants):
            self._make(self.root / str(variant))
        self.note(f"the idle clip's transcoder starts, for {takes} s")
        times = [*(self.random.uniform(0, takes) for _ in range(self.random.randint(0, 4))), takes]
        for time in times:
            for variant in range(shown_in):
                folder = self.root / str(variant)
                self._put(folder / CLIP, PACKET * 5, time)
                self._put(folder / PLAYLIST, IDLE.encode(), time + self.random.choice([0.0, 0.005]))
            self._put(self.root / PLAYLIST, _multivariant(shown_in), time + 0.01)
        self.at(takes + 1, self._idle_for_good)

    def _idle_for_good(self) -> None:
        if self.live is None:
            self.idle_since = self.time
            self.note("idle for good")


def _multivariant(variants: int) -> bytes:
    lines = [
        f"#EXT-X-STREAM-INF:BANDWIDTH={9 - segment}000\n{segment}/{PLAYLIST}\n" for segment in range(variants)
    ]
    return ("#EXTM3U\n#EXT-X-VERSION:6\n" + "".join(lines)).encode()
