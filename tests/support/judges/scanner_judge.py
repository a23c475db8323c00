"""Scans the folder of an ``OwncastLife`` at any moment, and holds the scanner to what it is there for."""

from __future__ import annotations

import stat

from broadcaster.catalog.records import Segment, SourcePosition, SourceSnapshot
from broadcaster.events import SourceEvent, SourceIdle, VariantsListed
from broadcaster.source.scanner import Scanner
from tests.support.fakes.owncast_folder import AHEAD, START, Made, OwncastLife, Transcoder

ON = 1000.0  # what the monotonic clock says at the beginning


def positions(reported: list[Segment]) -> dict[str, SourcePosition]:
    """What the journal remembers of the source."""
    found: dict[str, SourcePosition] = {}
    oldest: dict[str, int] = {}
    for segment in reversed(reported):
        position = found.setdefault(
            segment.variant, SourcePosition(segment.run, {}, segment.target_duration, segment.independent)
        )
        if segment.sequence < oldest.get(segment.variant, segment.sequence + 1):
            oldest[segment.variant] = segment.sequence
            position.known[segment.sequence] = (segment.uri, segment.program_date_time)
        else:
            oldest[segment.variant] = -1
    return found


class ScanWatcher:
    """Scans at any moment, and holds the scanner to what it is there for."""

    def __init__(self, life: OwncastLife, keen: float, poll: float, meddle: float) -> None:
        self.life = life
        self.keen, self.poll, self.meddle = keen, poll, meddle
        self.reported: list[Segment] = []
        self.seen: dict[tuple[str, str, int], Made] = {}  # has to be reported
        self.met: set[tuple[int, str]] = set()  # encoder runs whose playlists have been seen, by variant
        self.present: frozenset[str] = frozenset()
        self.scanner: Scanner | None = None
        self.started = 0.0
        self.idle_reported = False
        self.scanning = False
        self.meddled = False
        self._last_segment = -100.0
        self._at: list[float] = []
        self._changes_before = -1
        self.start()

    def start(self) -> None:
        runs = {segment.run.number: segment.run for segment in self.reported}
        memory = SourceSnapshot(tuple(runs[number] for number in sorted(runs)), positions(self.reported))
        self.scanner = Scanner(self.life.root, self.life.now, memory)
        self.started = self.life.time
        self.idle_reported = False
        self.met &= {(self.encoder_of(segment), segment.variant) for segment in self.reported}
        self.say("OUR PROCESS STARTS")

    def say(self, what: str) -> None:
        self.life.trace.append(f"{self.life.time:9.3f} {what}")

    def stop(self) -> None:
        self.scanner = None
        self.say("OUR PROCESS ENDS")

    def forget_what_is_gone(self) -> None:
        """What a process has seen but not reported, and the next one cannot see, is nobody's fault."""
        self.seen = {
            key: made_segment for key, made_segment in self.seen.items() if self.is_there(made_segment)
        }

    def is_there(self, segment: Made) -> bool:
        path = self.life.root / segment.variant / segment.name
        return path.exists() and not (not self.life.ids and self.life.runs[-1].number != segment.encoder)

    def live(self, until: float) -> None:
        """Let time pass."""
        life = self.life
        next_scan = life.time + life.random.uniform(0, self.poll)
        while True:
            if self.scanner is not None and next_scan < min(life.next_at, until):
                life.time = next_scan
                self.scan()
                next_scan = life.time + max(0.02, self.scanner.pause or self.poll)
            elif life.next_at <= until:
                before = life.changes
                life.step()
                if life.changes != before and life.random.random() < self.keen:
                    next_scan = min(next_scan, life.time + life.random.choice([0.0, 0.001, 0.002]))
            else:
                break
        life.time = until

    def interrupt(self) -> None:
        """In the middle of a scan something may happen."""
        life = self.life
        if self.scanning and life.random.random() < self.meddle and life.next_at < life.time + 0.03:
            self.scanning = False
            self.meddled = True
            self.say("(in the middle of a scan:)")
            life.step()
            self.scanning = True

    def scan(self, *, cut: bool = False) -> None:
        life = self.life
        assert self.scanner
        if self._changes_before != life.changes:
            self.say("scan")
        due = self.due()
        quiet = self._changes_before == life.changes
        self.scanning, self.meddled = True, False
        events = self.scanner.scan(ON + life.time)
        self.scanning = False
        self._changes_before = life.changes if not self.meddled else -1
        if cut and events:
            events = events[: life.random.randrange(len(events))]
        for event in events:
            self.take(event)
        if not cut and not self.meddled:
            self.seen.update(due)
        for key in due:
            if key in {self.key_of(segment) for segment in self.reported}:
                self.seen.pop(key, None)
        if not cut:
            self.check_idle()
            if quiet and not self.meddled and self.scanner.pause is None:
                self.check_present()

    def due(self) -> dict[tuple[str, str, int], Made]:
        """What is finished and not reported: a scan that sees it has to see to it."""
        done = {self.key_of(segment) for segment in self.reported}
        found = {}
        for transcoder in self.life.runs[-1:]:
            for variant, made in transcoder.made.items():
                if not self.is_met(transcoder, variant):
                    continue
                for segment in made:
                    key = (variant, segment.name, segment.encoder)
                    if key in done:
                        continue
                    if (
                        key not in self.life.whole
                        or segment not in self.life.listed
                        or not self.is_there(segment)
                    ):
                        if self.is_there(segment) or key not in self.life.whole:
                            break
                        continue
                    found[key] = segment
        return found

    def is_met(self, transcoder: Transcoder, variant: str) -> bool:
        """Whether the scanner knows of the run: a stream that is over when it is first met is none."""
        path = self.life.root / variant / "stream.m3u8"
        if self.life.is_written(path) or not path.exists():
            return False
        key, text = (transcoder.number, variant), path.read_text()
        follows = any(segment.variant == variant for segment in self.reported)
        private = stat.S_IMODE(path.stat().st_mode) == 0o600
        ours = any(segment.name in text for segment in transcoder.made[variant])
        if ours and (("ENDLIST" not in text and "\0" not in text) or (follows and not private)):
            self.met.add(key)
        return key in self.met

    def key_of(self, segment: Segment) -> tuple[str, str, int]:
        return (segment.variant, segment.name, self.encoder_of(segment))

    def encoder_of(self, segment: Segment) -> int:
        if self.life.ids:
            return int(segment.name.split("-")[2])
        began = (segment.program_date_time - START).total_seconds() - AHEAD + 0.6
        return max((run.number for run in self.life.runs if run.began <= began), default=0)

    def take(self, event: SourceEvent) -> None:
        life = self.life
        if isinstance(event, VariantsListed):
            self.present = event.present
            self.say(f"  > present {sorted(event.present)}, named {sorted(event.playlist.uris)}")
        elif isinstance(event, SourceIdle):
            self.say("  > idle")
            assert life.time - self._last_segment > 30 - 1e-6, "idle although a segment has just come"
            assert not self.idle_reported or life.idle_since is None, "idle reported twice"
            assert life.live is None or not any(life.live.made.values()), "idle although a stream is on"
            self.idle_reported = True
        elif isinstance(event, Segment):
            self.say(f"  > {event.variant}/{event.name} {event.run.identity} {event.fault or ''}")
            self.idle_reported = False
            self._last_segment = life.time
            self.check_segment(event)
            self.reported.append(event)

    def check_segment(self, event: Segment) -> None:
        assert "offline" not in event.name, "the idle clip is reported"
        encoder = self.encoder_of(event)
        key = self.key_of(event)
        same = [segment for segment in self.reported if segment.variant == event.variant]
        assert key not in {self.key_of(segment) for segment in same}, "twice"
        if same:
            assert same[-1].run.number <= event.run.number, "runs fall"
            if self.encoder_of(same[-1]) == encoder:
                assert same[-1].sequence < event.sequence, "order"
        for segment in self.reported:
            if self.encoder_of(segment) == encoder and segment.sequence == event.sequence:
                assert segment.run == event.run, "another run than in the other variant"
            if self.life.ids:
                assert (segment.run == event.run) == (self.encoder_of(segment) == encoder), (
                    "another run than its encoder's"
                )
            if self.encoder_of(segment) > encoder:
                assert segment.run.number > event.run.number, "numbers do not rise"
        if key in self.seen:
            assert event.file, f"lost: {key}"
            assert event.file.size == self.seen[key].size
        self.seen.pop(key, None)

    def check_idle(self) -> None:
        life = self.life
        self.idle_reported &= life.idle_since is not None
        if life.idle_since is not None and not self.idle_reported:
            waited = life.time - max(life.idle_since, self.started)
            assert waited < 31 + self.poll, "the idle clip lasts and nothing is said of it"

    def check_present(self) -> None:
        life = self.life
        if life.live is None or life.older or not life.root.is_dir():
            return
        folders = {path.name for path in life.root.iterdir() if path.is_dir()}
        if len(folders) == life.live.variants:
            assert self.present == folders, f"present is {set(self.present)}"

    def check_end(self) -> None:
        assert not self.seen, f"never reported: {list(self.seen)}"
