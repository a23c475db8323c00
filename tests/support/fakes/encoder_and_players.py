"""An encoder whose clock nobody can trust, and players that forget nothing: both sides of a stream."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from broadcaster.catalog.records import Run, Segment, SourceFile
from broadcaster.hls import MediaPlaylist, MediaSegment
from tests.support.fakes.pipeline_parts import START
from tests.support.judges.playlist_rules import last_number, violations

ROUNDING = timedelta(milliseconds=100)


@dataclass(frozen=True)
class Known:
    """What players know of one number of one variant, for ever."""

    uri: str
    duration: timedelta
    time: datetime
    gap: bool


class Encoder:
    """Makes segments of two variants, as an encoder does whose clock nobody can trust."""

    def __init__(self) -> None:
        self.run = Run(0, "run0", "#0")
        self.target_duration = 2
        self.silent: str | None = None  # the variant that brings nothing in this run
        self.count = 0
        self._time = START

    def restart(self, clock: timedelta, target_duration: int, silent: str | None) -> None:
        number = self.run.number + 1
        self.run = Run(number, f"run{number}", f"#{number}")
        self._time += clock
        self.target_duration, self.silent = target_duration, silent

    def encode(self, seconds: float, variants: str, noticed: datetime) -> list[Segment]:
        self.count += 1
        made = [self._segment(variant, seconds, noticed) for variant in variants if variant != self.silent]
        self._time += timedelta(seconds=seconds)
        return made

    def _segment(self, variant: str, seconds: float, noticed: datetime) -> Segment:
        name = f"{self.count}.ts"
        return Segment(
            variant=variant,
            run=self.run,
            sequence=self.count,
            uri=name,
            name=name,
            duration=timedelta(seconds=seconds),
            program_date_time=self._time,
            target_duration=self.target_duration,
            independent=True,
            noticed=noticed,
            file=SourceFile(name, Path(name), 1000, 0),
        )


class Player:
    """Polls one variant and forgets nothing."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.playlist: MediaPlaylist | None = None
        self.known: dict[int, Known] = {}
        self.runs: dict[int, int] = {}  # number of a run → its discontinuity number
        self._last = 0
        self._first = 1  # of this stream

    def look(self, playlist: MediaPlaylist) -> None:
        """Poll the playlist, as it is served now."""
        assert not violations(self.playlist, playlist)
        assert last_number(playlist) >= self._last
        if self.playlist and self.playlist.ended and playlist != self.playlist:
            self._first = playlist.media_sequence
        self.playlist, self._last = playlist, last_number(playlist)
        discontinuity = playlist.discontinuity_sequence
        for number, segment in enumerate(playlist.segments, playlist.media_sequence):
            discontinuity += segment.discontinuity
            self._learn(number, segment)
            if not segment.gap:
                run = int(segment.uri.split("/")[-3].removeprefix("run"))
                assert self.runs.setdefault(run, discontinuity) == discontinuity

    def _learn(self, number: int, segment: MediaSegment) -> None:
        assert segment.program_date_time
        learned = Known(segment.uri, segment.duration, segment.program_date_time, segment.gap)
        assert self.known.setdefault(number, learned) == learned
        before = self.known.get(number - 1) if number > self._first else None
        assert before is None or learned.time >= before.time - ROUNDING, (number, before, learned)
