"""Remuxes segments into one file without transcoding. It blocks, and runs in a process of its own.

``FileTimeline`` shifts each run's timestamps to the end of the run before, with gaps kept. Its times are in
ticks of each track, or exact fractions of a second; it does no I/O.
"""

from __future__ import annotations

import errno
import heapq
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error

from broadcaster.errors import ExportError
from broadcaster.export.plan import ExportPlan, ExportRun, Item, Kind

STEP = Fraction(1, 1000)  # seconds; by which a time goes on where the encoder's went back


@dataclass(slots=True)
class Track:
    """The time base and kind of a video or audio track."""

    tick: Fraction  # seconds
    shift: int = 0  # ticks, in this run
    last: int | None = None  # decoding time of the last packet, in ticks
    end: int | None = None  # presentation time of its end, in ticks


@dataclass(frozen=True, slots=True)
class First:
    """The first packet of a track in a run, with the encoder's timestamps."""

    tick: Fraction  # seconds
    pts: int
    dts: int


class FileTimeline:
    """Maps packet timestamps to times in the file. All tracks of a run get the same shift."""

    def __init__(self) -> None:
        self._tracks: dict[int, Track] = {}

    @property
    def has_begun(self) -> bool:
        """Whether the file has any packet."""
        return bool(self._tracks)

    def begin(self, firsts: Mapping[int, First], gap: float) -> None:
        """Begin a run with its first packet of each track, ``gap`` seconds after the run before.

        None of its tracks may begin before that track has ended; the first run begins at 0.
        """
        shifts = []
        for number, first in firsts.items():
            track = self._tracks.get(number)
            if track and track.end is not None and track.last is not None:
                shifts.append(track.end * track.tick - first.pts * first.tick)
                shifts.append((track.last + 1) * track.tick - first.dts * first.tick)
        if shifts:
            shift = max(shifts) + Fraction(gap).limit_denominator(1_000_000)
        else:
            shift = -min(first.pts * first.tick for first in firsts.values())
        for number, first in firsts.items():
            track = self._tracks.setdefault(number, Track(first.tick))
            if track.tick != first.tick:
                for name in ("last", "end"):
                    ticks = getattr(track, name)
                    setattr(track, name, None if ticks is None else round(ticks * track.tick / first.tick))
                track.tick = first.tick
            track.shift = round(shift / track.tick)

    def moved(self, number: int, pts: int, dts: int, duration: int) -> tuple[int, int]:
        """The packet's timestamps in the file. DTS always increases."""
        track = self._tracks[number]
        pts, dts = pts + track.shift, dts + track.shift
        if track.last is not None and dts <= track.last:
            behind = track.last + max(1, round(STEP / track.tick)) - dts
            pts, dts = pts + behind, dts + behind
        track.last = dts
        track.end = max(track.end or 0, pts + duration)
        return pts, dts


if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet as AnyPacket
    from av.stream import Stream

    from broadcaster.download import Place

    Packet = AnyPacket[Stream]

FORMATS = {"mp4": "mp4", "m4a": "ipod", "ts": "mpegts"}
FASTSTART, FRAGMENTS = "faststart", "frag_keyframe+default_base_moof"
PEEK, PEEK_BYTES = 2000, 2**25  # packets in which each track has its first one, and bytes of them
BUFFER = 2**18  # bytes
START_CODE = b"\0\0"  # how settings begin that are among the pictures, too (ITU-T H.264, annex B)

# Segments as RFC 8216 has them (section 3), by the names of libavformat's demuxers. All other formats are
# refused, as some open the files and addresses that are named in what they read; and so are all protocols.
SEGMENTS = {
    "format_whitelist": "mpegts,mov,mp4,m4a,3gp,3g2,mj2,aac,mp3,ac3,eac3",
    "protocol_whitelist": "none",
}

Pull = Callable[[int], "Place"]  # where the next object of a rendition is
Timed = tuple[float, int, Fraction, "Packet"]  # seconds as the encoder counts, number of the track, its tick


class Feed(io.RawIOBase):
    """The bytes of a piece, object after object. Raises ExportError if an object has changed."""

    def __init__(self, items: tuple[Item, ...], pull: Callable[[], Place]) -> None:
        super().__init__()
        self._left = len(items)
        self._pull = pull
        self._file: io.FileIO | None = None
        self._rest = 0  # bytes of the object in the file

    def close(self) -> None:
        """Close the current object's file."""
        if self._file:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""
        while not self._rest and self._left:
            self._left -= 1
            self._open(*self._pull())
        if not (self._file and self._rest):
            return b""
        found: bytes = self._file.read(min(self._rest, BUFFER if size < 0 else size))
        if not found:
            raise ExportError(f"{self._file.name} was changed by somebody else; the same command goes on")
        self._rest -= len(found)
        return found

    def _open(self, path: Path, at: int, size: int) -> None:
        if self._file:
            self._file.close()
        try:
            self._file = path.open("rb", buffering=0)
            self._file.seek(at)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror}; the same command goes on") from None
        self._rest = size

    def drain(self) -> None:
        """Skip the objects that were not read."""
        while self._left:
            self._left -= 1
            self._pull()


class Remuxer:
    """Writes the file of a plan; ``pull`` returns the next object of a rendition, by its number."""

    def __init__(self, path: Path, plan: ExportPlan, pull: Pull, *, in_fragments: bool) -> None:
        self._path = path
        self._plan = plan
        self._pull = pull
        self._flags = FRAGMENTS if in_fragments else FASTSTART
        self._timeline = FileTimeline()
        self._kind: Kind = plan.request.kind
        self._tracks: dict[tuple[int, str, int], Stream] = {}

    def run(self) -> None:
        """Write the whole file. Raises ExportError, and the exceptions of ``pull``."""
        options = {} if self._kind == "ts" else {"movflags": self._flags}
        try:
            with av.open(str(self._path), "w", format=FORMATS[self._kind], options=options) as output:
                renditions = self._plan.renditions
                for number in range(max(len(one.runs) for one in renditions)):
                    runs = [one.runs[number] if number < len(one.runs) else None for one in renditions]
                    self._add(output, runs)
                if not self._tracks:
                    raise ExportError("there is nothing in it that this kind of file can have")
        except av.error.FFmpegError as error:
            room = ": make room, and the same command goes on" if error.errno == errno.ENOSPC else ""
            raise ExportError(f"{self._path.parent}: {error.strerror or error}{room}") from error

    def _add(self, output: OutputContainer, runs: list[ExportRun | None]) -> None:
        """One run, of all renditions at once: their times belong together."""
        sources = [self._packets(output, number, run) for number, run in enumerate(runs) if run]
        packets = heapq.merge(*sources, key=lambda timed: timed[0])
        begun: list[Timed] = []
        size = 0  # bytes of them
        firsts: dict[int, First] = {}
        for timed in packets:
            begun.append(timed)
            _, track, tick, packet = timed
            size += packet.size
            if track not in firsts:
                firsts[track] = First(tick, _pts(packet), packet.dts or 0)
            if len(firsts) == len(self._tracks) or len(begun) == PEEK or size > PEEK_BYTES:
                break
        if not firsts:
            return
        self._timeline.begin(firsts, max(run.gap for run in runs if run))
        streams = {stream.index: stream for stream in self._tracks.values()}
        for _, track, _, packet in chain(begun, packets):
            packet.pts, packet.dts = self._timeline.moved(
                track, _pts(packet), packet.dts or 0, packet.duration or 0
            )
            packet.stream = streams[track]
            output.mux_one(packet)

    def _packets(self, output: OutputContainer, number: int, run: ExportRun) -> Iterator[Timed]:
        """Those of a rendition in a run."""
        for piece in run.pieces:
            with ExitStack() as stack:
                feed = stack.enter_context(Feed(piece, lambda: self._pull(number)))
                try:
                    source = stack.enter_context(av.open(feed, "r", options=SEGMENTS, buffer_size=BUFFER))
                except (av.error.InvalidDataError, av.error.ArgumentError):  # no media, or of no such format
                    feed.drain()
                    continue  # nothing in it is a picture or a sound
                tracks = self._tracks_of(output, number, source, piece)
                places = {
                    stream.index: (float(tick), track.index, tick)
                    for stream, track in tracks.items()
                    if (tick := stream.time_base)
                }
                for packet in source.demux(list(tracks)):
                    if packet.dts is not None and packet.size:
                        seconds, track, tick = places[packet.stream_index]
                        yield packet.dts * seconds, track, tick, packet
                feed.drain()

    def _tracks_of(
        self, output: OutputContainer, number: int, source: InputContainer, piece: tuple[Item, ...]
    ) -> dict[Stream, Stream]:
        """Into which track of the file each one of the source goes; the first run says which there are."""
        found: dict[Stream, Stream] = {}
        places = {"video": count(), "audio": count()}
        for stream in source.streams:
            if stream.type not in places or not self._is_wanted(number, stream):
                continue
            key = (number, stream.type, next(places[stream.type]))
            if key not in self._tracks and not self._timeline.has_begun:
                self._tracks[key] = output.add_stream_from_template(stream, opaque=True)
            if (track := self._tracks.get(key)) is None:
                continue  # a track that the beginning does not have has no place in the file
            if difference := self._difference(track, stream):
                raise ExportError(
                    f"from {piece[-1].wanted.where} on {difference}, which cannot go on in the same file:"
                    " export it by itself, with --from and --to"
                )
            found[stream] = track
        return found

    def _is_wanted(self, number: int, stream: Stream) -> bool:
        renditions = self._plan.renditions
        if stream.type == "video":
            return self._kind != "m4a" and not renditions[number].sound
        # Where the sound has a playlist of its own, what else there is of it is the same in other words.
        return renditions[number].sound or not any(one.sound for one in renditions)

    def _difference(self, track: Stream, stream: Stream) -> str | None:
        """Why a track cannot go on with what a source has, if it cannot."""
        one, other = track.codec_context, stream.codec_context
        if one.name != other.name:
            return f"the codec is {other.name} and not {one.name}"
        if self._kind == "ts":
            return None  # what it needs to know is told again and again
        for name in ("width", "height", "sample_rate", "channels"):
            if getattr(one, name, None) != getattr(other, name, None):
                return f"{name} is {getattr(other, name)} and not {getattr(one, name)}"
        if not (other.extradata or START_CODE).startswith(START_CODE) and one.extradata != other.extradata:
            return "the encoder's settings are others"
        return None


def _pts(packet: Packet) -> int:
    return (packet.dts or 0) if packet.pts is None else packet.pts
