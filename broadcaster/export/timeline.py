"""Where each run lies in the file: right behind the one before, with what is missing between them as time.

Pure: no I/O. Times are in ticks of each track, or exact fractions of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

STEP = Fraction(1, 1000)  # seconds; by which a time goes on where the encoder's went back


@dataclass(slots=True)
class Track:
    """What is known of a picture or a sound."""

    tick: Fraction  # seconds
    shift: int = 0  # ticks, in this run
    last: int | None = None  # decoding time of the last packet, in ticks
    end: int | None = None  # presentation time of its end, in ticks


@dataclass(frozen=True, slots=True)
class First:
    """The first packet of a track in a run: its times as the encoder wrote them."""

    tick: Fraction  # seconds
    pts: int
    dts: int


class Timeline:
    """Gives each packet its time. All tracks of a run are moved by the same: they stay together."""

    def __init__(self) -> None:
        self._tracks: dict[int, Track] = {}

    @property
    def has_begun(self) -> bool:
        """Whether there is anything in the file."""
        return bool(self._tracks)

    def begin(self, firsts: Mapping[int, First], gap: float) -> None:
        """A run begins, with these packets, by track, and ``gap`` seconds after the one before.

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
        """The times of a packet in the file. Decoding times rise, whatever the encoder wrote."""
        track = self._tracks[number]
        pts, dts = pts + track.shift, dts + track.shift
        if track.last is not None and dts <= track.last:
            behind = track.last + max(1, round(STEP / track.tick)) - dts
            pts, dts = pts + behind, dts + behind
        track.last = dts
        track.end = max(track.end or 0, pts + duration)
        return pts, dts
