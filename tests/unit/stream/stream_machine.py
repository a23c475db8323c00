"""Hypothesis drives the pure machine; after each step players see what the rules of a live playlist allow.

The owner of its effects executes them one by one, and may die between any two. Its catalog is a model: what
was written is all that the next process knows.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broadcaster.catalog.records import NumberedSegment, PlaylistState, Segment, StreamSnapshot
from broadcaster.events import SourceIdle, StreamEnded, StreamStarted
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from broadcaster.ipc.messages import State, View
from broadcaster.stream import Effect, Event, Instant, StreamLimits, StreamMachine, Tick, model
from tests.support.fakes.encoder_and_players import Encoder, Player
from tests.support.fakes.pipeline_parts import START, variants_listed

VARIANTS = ("0", "1")
WINDOW = 6
HOUR = timedelta(hours=1)
LIMITS = StreamLimits(WINDOW, dvr=timedelta(minutes=1), dvr_size=2**40, end_grace=30)
LONGEST = timedelta(seconds=60)  # a segment above that is listed as gaps


class Rows:
    """What was written: a catalog in memory."""

    def __init__(self) -> None:
        self.pending: dict[str, Segment] = {}
        self.described = MultivariantPlaylist()
        self.states: dict[str, PlaylistState] = {}
        self.listed: defaultdict[str, dict[int, NumberedSegment]] = defaultdict(dict)  # by variant
        self.shifts: dict[int, timedelta] = {}
        self.runs: list[str] = []

    def write(self, rows: model.WritePlaylists) -> None:
        """All of it, or it is a defect: each number of a variant is given once."""
        for listing in rows.listings:
            segment, lines = listing.segment, self.listed[listing.segment.variant]
            del self.pending[segment.key]
            for line in listing.added:
                assert line[0] not in lines, f"number {line[0]} is given twice"
                lines[line[0]] = line
            self.states[segment.variant] = listing.playlist
            self.shifts[segment.run.number] = listing.shift
            if segment.run.id not in self.runs:
                self.runs.append(segment.run.id)
            self._unlist(segment.variant, listing.first)
        for state in rows.retired:
            self.states[state.variant] = state
            if not state.current:
                self.listed[state.variant].clear()
        for variant, first in rows.trimmed.items():
            self._unlist(variant, first)

    def window(self, variant: str) -> list[NumberedSegment]:
        """The lines of the playlist itself."""
        first = self.states[variant].media_sequence
        return [line for number, line in sorted(self.listed[variant].items()) if number >= first]

    def memory(self) -> StreamSnapshot:
        """What another process finds."""
        return StreamSnapshot(
            [(state, self.window(variant)) for variant, state in self.states.items()],
            self.described,
            dict(self.shifts),
            self.runs[-10:],
            {
                variant: [line for number, line in sorted(lines.items()) if number < state.media_sequence]
                for variant, lines in self.listed.items()
                if (state := self.states.get(variant))
            },
        )

    def _unlist(self, variant: str, first: int) -> None:
        for number in [segment for segment in self.listed[variant] if segment < first]:
            del self.listed[variant][number]


class Broadcast(RuleBasedStateMachine):
    """The machine and its owner on one side, a source on the other, and players who poll."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Instant(START, 0.0)
        self.encoder = Encoder()
        self.rows = Rows()
        self.lost: set[str] = set()  # keys of segments that will be gaps
        self.found: defaultdict[str, list[Segment]] = defaultdict(list)  # by variant, in order
        self.listed: defaultdict[str, list[Segment]] = defaultdict(list)  # the same, as listed
        self.players = [Player(variant) for variant in VARIANTS]
        self.shown = View()
        self.ended_at: float | None = None  # viewers see ENDLIST, and new playlists are to follow
        self.begin(())

    # The owner.

    def begin(self, pending: Iterable[Segment]) -> None:
        """A process starts, with what is written."""
        self.todo: deque[Effect] = deque()
        self.uploading: dict[str, Segment] = {}
        self.stream = StreamMachine(LIMITS, self.now, self.rows.memory(), pending)
        self.todo += self.stream.resume(self.now)

    def hear(self, event: Event) -> None:
        effects = self.stream.handle(event, self.now)
        for effect in effects:
            if isinstance(effect, model.Notify):
                self.judge_decision(effect.event)
        self.todo += effects

    def do(self, effect: Effect) -> None:
        """What is written counts, what is shown is seen."""
        match effect:
            case model.WriteFound(segment) | model.WriteStored(segment):
                self.rows.pending[segment.key] = segment
            case model.WriteVariants(described):
                self.rows.described = described
            case model.WritePlaylists():
                self.rows.write(effect)
                for listing in effect.listings:
                    self.judge_segment(listing.segment)
                    self.listed[listing.segment.variant].append(listing.segment)
            case model.ShowView(view):
                self.shown = view
                self.judge_view(view)
                self.poll()
            case model.Upload(segment):
                assert segment.key in self.rows.pending, "nobody would look for its object after a kill"
                self.uploading[segment.key] = segment
            case model.Release(segment):
                self.hear(model.SegmentReleased(segment.key))
            case model.Notify(StreamEnded()):
                assert all(playlist.playlist.ended for playlist in self.shown.playlists.values()), (
                    "no ENDLIST"
                )

    def drain(self) -> None:
        while self.todo:
            self.do(self.todo.popleft())

    # Judges.

    def judge_segment(self, segment: Segment) -> None:
        """In its turn; a gap when it is lost, or longer than any TARGETDURATION that players could follow."""
        assert all(earlier.sequence < segment.sequence for earlier in self.listed[segment.variant][-1:]), (
            "out of turn"
        )
        assert segment.gap is (segment.key in self.lost or segment.duration > LONGEST), segment

    def judge_decision(self, event: object) -> None:
        """A stream begins whole, and not before those who poll have seen the end of the one before."""
        if isinstance(event, StreamStarted):
            waiting = {segment.variant for segment in self.stream.on_the_way}
            assert waiting <= {*event.variants}, "it began without a variant whose segments were coming"
            if self.ended_at is not None:
                assert self.now.monotonic - self.ended_at >= 3, "who polls has not seen ENDLIST"
                self.ended_at = None
        if isinstance(event, StreamEnded):
            self.ended_at = self.now.monotonic if event.going_on else None

    def judge_view(self, view: View) -> None:
        """What viewers see was written before, all of it; and no more is listed than was asked for."""
        for variant, version in view.playlists.items():
            assert variant in self.rows.states, "not written"
            playlist, state = version.playlist, self.rows.states[variant]
            first = playlist.media_sequence
            lines = [(number, segment) for number, segment in enumerate(playlist.segments, first)]
            assert lines == [(number, segment) for number, segment, _ in self.rows.window(variant)], (
                "not written"
            )
            assert (first, playlist.ended) == (state.media_sequence, state.ended)
            without = sum((segment.duration for segment in playlist.segments[1:]), timedelta())
            least = timedelta(seconds=3 * playlist.target_duration)
            assert len(lines) <= WINDOW or without < least, "the window is longer than it has to be"
            assert version.kept, "the longer playlist is missing"
            assert version.kept.segments[-len(lines) :] == playlist.segments
        numbers = {playlist.playlist.target_duration for playlist in view.playlists.values()}
        assert len(numbers) <= 1, "variants have TARGETDURATIONs of their own"

    def poll(self) -> None:
        """Players see it as text."""
        for player in self.players:
            if version := self.shown.playlists.get(player.variant):
                playlist = parse(version.playlist.render())
                assert isinstance(playlist, MediaPlaylist)
                player.look(playlist)

    # Events.

    @rule(
        seconds=st.sampled_from([2.0, 2.0, 2.0, 0.4, 1.3, 9.0, 70.0]),
        lost=st.sampled_from(["", "", "", "0", "1", "01"]),
        variants=st.sampled_from(["01", "10"]),
        crash=st.sampled_from([False, False, False, False, True]),
    )
    def encode(self, seconds: float, lost: str, variants: str, *, crash: bool) -> None:
        """A segment of each variant is finished; some are broken, some too long, some not yet spooled."""
        for made in self.encoder.encode(seconds, variants, self.now.wall):
            segment = made.keyed("live")
            self.found[segment.variant].append(segment)
            if segment.variant in lost:
                self.lost.add(segment.key)
            self.hear(model.SegmentFound(segment))
            self.hear(model.SegmentSpooled(segment.key))
        if crash:
            self.restart()

    @rule(lengths=st.lists(st.sampled_from([2.0, 2.0, 2.0, 1.3, 4.0, 9.0]), min_size=1, max_size=12))
    def go_on(self, lengths: list[float]) -> None:
        """A while without trouble."""
        self.list_variants("01")
        for length in lengths:
            self.encode(length, "", "01", crash=False)
            self.catch_up()
            self.pass_time(timedelta(seconds=length), 0.0, length)

    @rule(count=st.integers(1, 6))
    def work(self, count: int) -> None:
        """The owner executes some effects."""
        for _ in range(min(count, len(self.todo))):
            self.do(self.todo.popleft())

    @rule(which=st.integers(0, 30), count=st.integers(1, 3))
    def upload(self, which: int, count: int) -> None:
        """The bucket has confirmed or refused some segments, in any order."""
        self.drain()
        for _ in range(min(count, len(self.uploading))):
            key = list(self.uploading)[which % len(self.uploading)]
            segment = self.uploading.pop(key)
            if not segment.url:
                lost = key in self.lost
                size = 0 if lost else 1000
                segment = replace(
                    segment, url=f"https://b/{key}", fault="is lost" if lost else None, size=size
                )
            self.hear(model.SegmentFinished(segment))

    @rule()
    def catch_up(self) -> None:
        """Everything gets through."""
        self.drain()
        while self.uploading:
            self.upload(0, 3)
        self.drain()

    @rule(
        clock=st.sampled_from([timedelta(seconds=1), timedelta(), HOUR, -HOUR]),
        target_duration=st.sampled_from([2, 2, 4]),
        silent=st.sampled_from([None, None, "0", "1"]),
        extra=st.sampled_from(["", "", "0", "1"]),
    )
    def restart_encoder(self, clock: timedelta, target_duration: int, silent: str | None, extra: str) -> None:
        """A new run; a crash may leave a last segment of the old one in one variant alone."""
        if extra:
            self.encode(1.0, "", extra, crash=False)
        self.encoder.restart(clock, target_duration, silent)

    @rule(
        wall=st.sampled_from([timedelta(seconds=1), timedelta(seconds=1), HOUR, -HOUR]),
        behind=st.sampled_from([0.0, 0.0, 20.0, 1e9]),
    )
    def pass_time(self, wall: timedelta, behind: float, seconds: float = 1.0) -> None:
        """Time passes, or the clock of the machine jumps; somebody is paused."""
        self.now = Instant(self.now.wall + wall, self.now.monotonic + seconds)
        self.hear(Tick(behind=behind))

    @rule(names=st.sampled_from(["01", "01", "0"]))
    def list_variants(self, names: str) -> None:
        """The multivariant playlist is written."""
        self.hear(variants_listed(*names))

    @rule(idle=st.booleans())
    def end(self, *, idle: bool) -> None:
        """The source is idle, or the grace time is over; nothing ends while a segment is on its way."""
        self.drain()
        busy, before = bool(self.stream.on_the_way), self.stream.state
        if idle:
            self.hear(SourceIdle())
        else:
            grace = max(30, 3 * (self.stream.target_duration or 0))
            self.now = Instant(self.now.wall, self.now.monotonic + grace + 1)
        for later in (0, 90):  # finished playlists stay for a while before the next can begin, and end
            self.now = Instant(self.now.wall, self.now.monotonic + later)
            self.hear(Tick())
        after = self.stream.state
        over = {State.OFFLINE: State.OFFLINE, State.ENDED: State.ENDED}.get(before, State.ENDED)
        assert after is over or (busy and after is not State.ENDED)

    @rule()
    def restart(self) -> None:
        """The process dies between two effects, and another goes on where it stood."""
        found = {
            segment.key for segments in self.listed.values() for segment in segments
        } | self.rows.pending.keys()
        for variant, segments in self.found.items():
            # What was not written yet the source brings again.
            self.found[variant] = [segment for segment in segments if segment.key in found]
        again = [segment for segment in self.rows.pending.values() if segment.key in found]
        self.begin(again)
        self.ended_at = None
        self.shown = self.stream.view
        self.judge_view(self.shown)
        self.poll()

    @precondition(lambda self: self.found)
    @rule()
    def settle(self) -> None:
        """When all has got through and some time has passed, all is listed: in order, each segment once."""
        self.catch_up()
        for _ in range(12):
            self.pass_time(timedelta(seconds=1), 0.0, 15.0)
            self.drain()
        assert self.stream.state is not State.STARTING
        assert not self.stream.on_the_way
        for variant, segments in self.found.items():
            assert [segment.key for segment in self.listed[variant]] == [segment.key for segment in segments]

    @invariant()
    def variants_agree(self) -> None:
        """The discontinuity number of a run is the same in each variant."""
        first, other = (player.runs for player in self.players)
        assert all(first[run] == other[run] for run in first.keys() & other.keys())
