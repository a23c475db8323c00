"""Whatever happens in whatever order, players see playlists that follow from each other by the rules.

Hypothesis drives the channel with a real journal: segments that come, are lost, are too long; encoder runs
that begin anew, with their clocks set back; ends, new streams, and restarts of the process at any point.
"""

import shutil
import tempfile
from collections import deque
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment, StreamSnapshot
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.ipc.messages import State
from broadcaster.viewer_server.snapshots import Snapshot
from tests.support.fakes.channel import Channel
from tests.support.fakes.encoder_and_players import Encoder, Player
from tests.support.fakes.pipeline_parts import START, variants_listed
from tests.support.fakes.viewers_channel import ViewersChannel
from tests.support.length import seconds

VARIANTS = ("0", "1")
WINDOW = 6
HOUR = timedelta(hours=1)
ROUNDING = timedelta(milliseconds=100)


def names(main: Snapshot | None) -> list[str]:
    """The media playlists that the multivariant playlist leads to; none for one that is a media playlist."""
    lines = main.full.body.decode().splitlines() if main else []
    return [line for line in lines if line.endswith("/playlist.m3u8")]


class Broadcast(RuleBasedStateMachine):
    """The channel and its journal on one side, players on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.now = START
        self.monotonic = 0.0
        self.encoder = Encoder()
        self.waiting: dict[str, deque[Segment]] = {variant: deque() for variant in VARIANTS}
        self.lost: set[str] = set()
        self.players = [Player(variant) for variant in VARIANTS]
        self.catalog = Catalog(self.folder, lambda: self.now)
        self.channel = self.new_channel(None)

    def new_channel(self, memory: StreamSnapshot | None) -> Channel:
        channel = Channel(
            WINDOW,
            lambda: self.now,
            lambda _: None,
            catalog=self.catalog,
            memory=memory,
            show=lambda view: self.shown.follow(view),  # noqa: PLW0108 - another one takes its place
        )
        self.shown = ViewersChannel(channel.view)
        return channel

    def teardown(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.folder)

    @rule(
        seconds=st.sampled_from([2.0, 2.0, 2.0, 0.4, 1.3, 9.0]),
        lost=st.sampled_from(["", "", "", "0", "1", "01"]),
        variants=st.sampled_from(["01", "10"]),
    )
    def encode(self, seconds: float, lost: str, variants: str) -> None:
        """A segment of each variant is finished; some are broken, some too long."""
        for made in self.encoder.encode(seconds, variants, self.now):
            key = f"live/{made.run.id}/{made.variant}/{made.name}"
            segment = replace(made, key=key)
            self.catalog.noticed(segment)
            self.channel.expect(segment.variant)
            self.waiting[segment.variant].append(segment)
            if segment.variant in lost:
                self.lost.add(key)

    @rule(variant=st.sampled_from(VARIANTS), count=st.integers(1, 4))
    def publish(self, variant: str, count: int) -> None:
        """The bucket has confirmed some segments of one variant."""
        for _ in range(min(count, len(self.waiting[variant]))):
            segment = self.waiting[variant].popleft()
            lost = segment.key in self.lost
            segment = replace(
                segment,
                url=f"https://b/{segment.key}",
                fault="is lost" if lost else None,
                size=0 if lost else 1000,
            )
            self.catalog.stored(segment)
            self.channel.publish(segment)
            self.look()

    @rule()
    def catch_up(self) -> None:
        """Everything that waits gets through."""
        for variant in VARIANTS:
            self.publish(variant, len(self.waiting[variant]))

    @rule(
        clock=st.sampled_from([timedelta(seconds=1), timedelta(), HOUR, -HOUR]),
        target_duration=st.sampled_from([2, 2, 4]),
        silent=st.sampled_from([None, None, "0", "1"]),
        extra=st.sampled_from(["", "", "0", "1"]),
    )
    def restart_encoder(self, clock: timedelta, target_duration: int, silent: str | None, extra: str) -> None:
        """A new run; a crash may leave a last segment of the old one in one variant alone."""
        if extra:
            self.encode(1.0, "", extra)
        self.encoder.restart(clock, target_duration, silent)

    @rule(later=st.sampled_from([timedelta(seconds=1), timedelta(seconds=1), HOUR, -HOUR]))
    def pass_time(self, later: timedelta) -> None:
        """Time passes, or the clock of the machine jumps."""
        self.now += later
        self.monotonic += 3
        self.channel.tick(self.monotonic)
        self.look()

    @rule(names=st.sampled_from(["01", "01", "0"]))
    def list_variants(self, names: str) -> None:
        """The multivariant playlist is written."""
        self.channel.list_variants(variants_listed(*names))
        self.look()

    @precondition(lambda self: not any(self.waiting.values()))
    @rule()
    def end(self) -> None:
        """The grace time is over."""
        self.channel.end()
        self.look()

    @rule()
    def restart(self) -> None:
        """The process dies and another goes on where it stood, which no player notices."""
        starting = self.channel.state is State.STARTING
        served = [self.shown.snapshot(variant) for variant in VARIANTS]
        main = self.shown.main
        unpublished = {segment.key for queue in self.waiting.values() for segment in queue}
        self.catalog.close()
        self.catalog = Catalog(self.folder, lambda: self.now)
        memory = self.catalog.load()
        self.channel = self.new_channel(memory.stream)
        for before, after in zip(served, map(self.shown.snapshot, VARIANTS), strict=True):
            assert (before and before.full.body) == (after and after.full.body)
        assert names(main) == names(self.shown.main)
        pending = {segment.key for segment in memory.pending}
        assert pending >= unpublished if starting else pending == unpublished
        self.waiting = {variant: deque() for variant in VARIANTS}
        for waiting in memory.pending:
            self.waiting[waiting.variant].append(waiting)
            self.channel.expect(waiting.variant)

    @rule()
    def settle(self) -> None:
        """When all has got through and some time has passed, nothing is held back for ever."""
        self.catch_up()
        for _ in range(10):
            self.pass_time(timedelta(seconds=1))
        assert self.channel.state is not State.STARTING
        assert not self.catalog.load().pending

    def look(self) -> None:
        """Players poll."""
        for player in self.players:
            if version := self.shown.snapshot(player.variant):
                playlist = parse(version.full.body.decode())
                assert isinstance(playlist, MediaPlaylist)
                player.look(playlist)

    @invariant()
    def variants_agree(self) -> None:
        """TARGETDURATION, and the discontinuity number of each run, are those of the other variant too."""
        playlists = [player.playlist for player in self.players if self.shown.snapshot(player.variant)]
        assert len({playlist.target_duration for playlist in playlists if playlist}) <= 1
        first, other = (player.runs for player in self.players)
        assert all(first[run] == other[run] for run in first.keys() & other.keys())


TestBroadcast = Broadcast.TestCase
TestBroadcast.settings = settings(
    max_examples=seconds(40, 20),
    stateful_step_count=40,
)
