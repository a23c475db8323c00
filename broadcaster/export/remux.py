"""Remuxes segments into one file without transcoding, in a process of its own (``python -m``).

The arguments of the process are socket descriptors, one for each rendition. The first message on the first
socket is the plan; further messages are objects. Errors are written to standard output.
"""

from __future__ import annotations

import errno
import heapq
import io
import os
import pickle
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import av
import av.error

from broadcaster.errors import ExportError
from broadcaster.export.plan import ExportPlan, ExportRun, Item, Kind

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet as AnyPacket
    from av.stream import Stream

    from broadcaster.download import StoredObject

    Packet = AnyPacket[Stream]

STEP = Fraction(1, 1000)  # seconds between two packets whose encoder timestamps do not increase
FORMATS = {"mp4": "mp4", "m4a": "ipod", "ts": "mpegts"}
FASTSTART, FRAGMENTS = "faststart", "frag_keyframe+default_base_moof"
PEEK, PEEK_BYTES = 2000, 2**25  # packets, and their bytes, among which each track has its first packet
BUFFER = 2**18  # bytes
START_CODE = b"\0\0"  # at the beginning of settings that the frames have as well (ITU-T H.264, annex B)
# A backstop: a crafted segment can make a library allocate much memory.
LIMITS = {resource.RLIMIT_DATA: 2**29, resource.RLIMIT_CORE: 0}
# Segments as in RFC 8216, section 3, by the names of libavformat's demuxers. Other formats and all protocols
# are refused: some open files and addresses that a segment names.
SEGMENTS = {
    "format_whitelist": "mpegts,mov,mp4,m4a,3gp,3g2,mj2,aac,mp3,ac3,eac3",
    "protocol_whitelist": "none",
}

Pull = Callable[[int], "StoredObject"]  # returns the next object of a rendition
Timed = tuple[float, int, Fraction, "Packet"]  # the encoder's time in seconds, the track and its tick


@dataclass(slots=True)
class Track:
    """A video or audio track of the file."""

    tick: Fraction  # seconds
    shift: int = 0  # ticks, of this run
    last: int | None = None  # decoding time of the latest packet, in ticks
    end: int | None = None  # presentation time at the end of the track, in ticks


@dataclass(frozen=True, slots=True)
class First:
    """The first packet of a track in a run, with the encoder's timestamps."""

    tick: Fraction  # seconds
    pts: int
    dts: int


class FileTimeline:
    """Maps packet timestamps to times in the file.

    Each run is shifted to the end of the run before, all its tracks by the same time; gaps are kept. Times
    are in ticks of each track, or exact fractions of a second.
    """

    def __init__(self) -> None:
        self._tracks: dict[int, Track] = {}

    @property
    def has_begun(self) -> bool:
        """Whether the file has any packet."""
        return bool(self._tracks)

    def begin(self, firsts: Mapping[int, First], gap: float) -> None:
        """Begin a run with its first packet of each track, ``gap`` seconds after the run before.

        No track begins before its end in the run before; the first run begins at 0.
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


class PieceReader(io.RawIOBase):
    """The bytes of a piece, one object after the other. Raises ExportError if an object has changed."""

    def __init__(self, items: tuple[Item, ...], pull: Callable[[], StoredObject]) -> None:
        super().__init__()
        self._left = len(items)
        self._pull = pull
        self._file: io.FileIO | None = None
        self._rest = 0  # bytes of the current object

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
            raise ExportError(f"{self._file.name} was changed; the same command goes on")
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
        """Skip the remaining objects."""
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
                for runs in zip_longest(*(rendition.runs for rendition in self._plan.renditions)):
                    self._add(output, runs)
                if not self._tracks:
                    raise ExportError("the playlist has nothing that this kind of file can contain")
        except av.error.FFmpegError as error:
            room = ": make room, and the same command goes on" if error.errno == errno.ENOSPC else ""
            raise ExportError(f"{self._path.parent}: {error.strerror or error}{room}") from error

    def _add(self, output: OutputContainer, runs: Sequence[ExportRun | None]) -> None:
        """Add a run of all renditions, whose times belong together."""
        sources = [self._packets(output, number, run) for number, run in enumerate(runs) if run]
        packets = heapq.merge(*sources, key=lambda timed: timed[0])
        begun: list[Timed] = []
        size = 0  # bytes
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
        """The packets of a rendition in a run."""
        for piece in run.pieces:
            with ExitStack() as stack:
                feed = stack.enter_context(PieceReader(piece, lambda: self._pull(number)))
                try:
                    source = stack.enter_context(av.open(feed, "r", options=SEGMENTS, buffer_size=BUFFER))
                except (av.error.InvalidDataError, av.error.ArgumentError):  # no media of these formats
                    feed.drain()
                    continue
                tracks = self._tracks_of(output, number, source, piece)
                targets = {
                    stream.index: (float(tick), track.index, tick)
                    for stream, track in tracks.items()
                    if (tick := stream.time_base)
                }
                for packet in source.demux(list(tracks)):
                    if packet.dts is not None and packet.size:
                        seconds, track, tick = targets[packet.stream_index]
                        yield packet.dts * seconds, track, tick, packet
                feed.drain()

    def _tracks_of(
        self, output: OutputContainer, number: int, source: InputContainer, piece: tuple[Item, ...]
    ) -> dict[Stream, Stream]:
        """The track of the file for each track of the source; the first run defines the tracks."""
        found: dict[Stream, Stream] = {}
        numbers = {"video": count(), "audio": count()}
        for stream in source.streams:
            if stream.type not in numbers or not self._is_wanted(number, stream):
                continue
            key = (number, stream.type, next(numbers[stream.type]))
            if key not in self._tracks and not self._timeline.has_begun:
                self._tracks[key] = output.add_stream_from_template(stream, opaque=True)
            if (track := self._tracks.get(key)) is None:  # the first run has no such track
                continue
            if difference := self._difference(track, stream):
                raise ExportError(
                    f"{difference} from {piece[-1].request.safe_url} on, and cannot change within a file:"
                    " export each part by itself, with --from and --to"
                )
            found[stream] = track
        return found

    def _is_wanted(self, number: int, stream: Stream) -> bool:
        renditions = self._plan.renditions
        if stream.type == "video":
            return self._kind != "m4a" and not renditions[number].sound
        # Audio beside an audio playlist is the same sound in another encoding.
        return renditions[number].sound or not any(rendition.sound for rendition in renditions)

    def _difference(self, track: Stream, stream: Stream) -> str | None:
        """Why the track cannot continue with a source's stream; None if it can."""
        ours, theirs = track.codec_context, stream.codec_context
        if ours.name != theirs.name:
            return f"the codec is {theirs.name} and not {ours.name}"
        if self._kind == "ts":
            return None  # MPEG-TS repeats the settings
        for name in ("width", "height", "sample_rate", "channels"):
            if getattr(ours, name, None) != getattr(theirs, name, None):
                return f"{name} is {getattr(theirs, name)} and not {getattr(ours, name)}"
        if not (theirs.extradata or START_CODE).startswith(START_CODE) and ours.extradata != theirs.extradata:
            return "the encoder's settings differ"
        return None


def _pts(packet: Packet) -> int:
    return (packet.dts or 0) if packet.pts is None else packet.pts


def main(descriptors: list[int]) -> int:
    """Write the file and return the exit status."""
    for limit, most in LIMITS.items():
        _, hard = resource.getrlimit(limit)
        lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (lowest, lowest))
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    streams = [cast(BinaryIO, connection.makefile("rb", BUFFER)) for connection in sockets]
    path, plan, in_fragments = _next(streams[0])
    try:
        Remuxer(path, plan, lambda number: _next(streams[number]), in_fragments=in_fragments).run()
    except ExportError as error:
        sys.stdout.write(str(error))
        return 1
    except MemoryError:
        sys.stdout.write("a segment needs more memory than the limit of this process")
        return 1
    return 0


def _next(stream: BinaryIO) -> Any:  # noqa: ANN401 - the sent object
    """The next message. At the end of the stream the parent is gone, and the process exits."""
    try:
        return pickle.load(stream)  # noqa: S301 - from the parent
    except (EOFError, pickle.UnpicklingError):
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main([int(argument) for argument in sys.argv[1:]]))
