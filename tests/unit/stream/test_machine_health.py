"""What the machine knows of the source, when it ends a stream, and of what viewers get."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broadcaster.catalog.records import Segment
from broadcaster.events import SourceEnded, SourceFault, SourceIdle, SourceRefused
from broadcaster.ipc.messages import State
from broadcaster.stream import Effect, EncoderStatus, Event, Instant, StreamLimits, StreamMachine, Tick, model
from broadcaster.stream.machine import FLUSH, MANY
from tests.support.fakes.pipeline_parts import stored_segment, variants_listed

GRACE = 10.0
ZERO = datetime(2026, 1, 1, tzinfo=UTC)


class Case:
    """A machine, and a clock that starts at 100 s."""

    def __init__(self, disconnect_grace: float | None = None) -> None:
        self.now = 100.0
        self.stream = StreamMachine(StreamLimits(6, disconnect_grace=disconnect_grace), self._instant())
        self._count = 0

    def _instant(self) -> Instant:
        return Instant(ZERO + timedelta(seconds=self.now), self.now)

    def hear(self, event: Event) -> tuple[Effect, ...]:
        return self.stream.handle(event, self._instant())

    def find(self, variant: str = "0", *, gap: bool = False) -> Segment:
        """The source finishes a segment."""
        self._count += 1
        segment = stored_segment(f"{self._count}.ts", number=self._count, variant=variant, gap=gap)
        self.hear(model.SegmentFound(segment))
        self.hear(model.SegmentSpooled(segment.key))
        return segment

    def list(self, variant: str = "0", *, gap: bool = False) -> None:
        """The same, and it gets through, or is lost."""
        segment = self.find(variant, gap=gap)
        if gap:  # an earlier process would have reported it
            self.stream.gaps.lost(variant, segment.fault or "")
        self.hear(model.SegmentFinished(segment))
        self.hear(model.SegmentReleased(segment.key))

    def go_live(self, *variants: str) -> None:
        self.hear(variants_listed(*variants))
        for variant in variants:
            self.list(variant)
        assert self.stream.state is State.LIVE


def test_silence_is_counted_to_the_latest_look() -> None:
    """Each variant is silent since its own last segment, or since the start; all are since the newest."""
    case = Case()
    case.now = 108.0
    case.find("0")
    case.now = 130.0
    case.find("1")
    source = case.stream.source
    assert source.silence(131.0) == 1
    assert source.silence(129.0) == 0  # a look before it
    assert [source.silence(131.0, name) for name in "012"] == [23, 1, 31]


def test_what_the_source_cannot_read() -> None:
    """Its faults are known until they have passed."""
    case = Case()
    for message in ("no rights", None):
        case.hear(SourceFault(message))
        case.hear(SourceRefused(message))
        assert case.stream.source.fault == case.stream.source.refused == message


@pytest.mark.parametrize("event", [SourceEnded("0"), SourceIdle()])
def test_the_source_says_when_it_is_over(event: SourceEnded | SourceIdle) -> None:
    """Until it brings a segment again."""
    case = Case()
    assert not case.stream.source.ended
    effects = case.hear(event)
    assert case.stream.source.ended
    assert (model.AskEncoder() in effects) is isinstance(event, SourceEnded)
    case.find()
    assert not case.stream.source.ended


@pytest.mark.parametrize("how", ["0", "1", "ended"])
def test_nothing_but_gaps(how: str) -> None:
    """Losses in a row are trouble with a reason, until one is listed whole or the stream is over."""
    case = Case()
    case.go_live("0", "1")
    for _ in range(MANY - 1):
        case.list(gap=True)
    assert case.stream.gaps.problem is None
    case.list(gap=True)
    assert case.stream.gaps.problem == f"the last {MANY} segments were lost: is lost"
    if how == "ended":
        case.hear(SourceIdle())
        case.hear(Tick())
    else:
        case.list(how)
    assert case.stream.gaps.problem is None
    case.stream.gaps.lost("0", "is lost")
    assert case.stream.gaps.problem is None


def test_one_loss_of_each_variant_is_none_of_all() -> None:
    """A moment that is lost in every variant is one gap for each viewer."""
    case = Case()
    case.go_live("0", "1", "2")
    for variant in "012":
        case.list(variant, gap=True)
    assert case.stream.gaps.problem is None


def test_how_long_viewers_look_at_the_same_picture() -> None:
    """Since a segment was listed that can be played, or since their stream began; a gap is none."""
    case = Case()
    assert case.stream.gaps.since == 100
    case.now = 107.0
    case.go_live("0")
    assert case.stream.gaps.since == 107
    case.now = 109.0
    case.list(gap=True)
    assert case.stream.gaps.since == 107
    case.list()
    assert case.stream.gaps.since == 109


def ends(case: Case, encoder: EncoderStatus | None, after: float) -> bool:
    """Whether the stream is over when so much time has passed since its last segment."""
    case.go_live("0")
    case.now += after
    case.hear(Tick(encoder))
    return case.stream.state is State.ENDED


@pytest.mark.parametrize(("grace", "since", "after"), [(GRACE, 2.0, 2 + GRACE), (0, 2.0, 2 + FLUSH)])
def test_gone_for_long_enough(grace: float, since: float, after: float) -> None:
    """A stream ends once its encoder has been gone for longer than the grace time, its last segments come."""
    gone = EncoderStatus(connected=False, disconnected_since=100.0 + since)
    assert not ends(Case(grace), gone, after)
    assert ends(Case(grace), gone, after + 0.1)


def test_the_last_segments_are_awaited() -> None:
    """What is found after the encoder has gone begins the time anew."""
    gone = EncoderStatus(connected=False, disconnected_since=99.0)
    assert not ends(Case(0), gone, FLUSH)
    assert ends(Case(0), gone, FLUSH + 0.1)


@pytest.mark.parametrize(
    ("encoder", "grace"),
    [
        (None, GRACE),
        (EncoderStatus(connected=False, disconnected_since=100.0), None),
        (EncoderStatus(connected=True, disconnected_since=100.0), GRACE),
        (EncoderStatus(connected=None, disconnected_since=100.0), GRACE),
        (EncoderStatus(connected=False), GRACE),
    ],
)
def test_nothing_is_known(encoder: EncoderStatus | None, grace: float | None) -> None:
    """Without a grace time, or a word that counts, the encoder has never gone."""
    assert not ends(Case(grace), encoder, 100)


def test_segments_that_go_on() -> None:
    """What sends segments has not gone, whatever is said of it, however long that was ago."""
    gone = EncoderStatus(connected=False, disconnected_since=100.0 - 2 * FLUSH - 0.1)
    assert not ends(Case(0), gone, 200)


def test_what_waits_of_each_variant() -> None:
    """On the way, or held until the stream is complete; also what an earlier process had found."""
    case = Case()
    recovered = replace(case.find("1"), key="earlier.ts")
    case.stream = StreamMachine(StreamLimits(6), Instant(ZERO, case.now), pending=[recovered])
    case.stream.resume(Instant(ZERO, case.now))
    case.hear(variants_listed("0", "1"))
    case.list("0")
    case.find("0")
    assert case.stream.waiting == {"0": 2, "1": 1}
    case.hear(model.SegmentFinished(recovered))
    case.hear(model.SegmentReleased(recovered.key))
    assert case.stream.waiting == {"0": 1}


def test_nothing_ends_while_a_segment_is_on_its_way() -> None:
    """Not even after the grace time: what is in the spool is shown first."""
    case = Case()
    case.go_live("0")
    segment = case.find()
    case.now += 1000
    case.hear(Tick())
    assert case.stream.view.state is State.LIVE
    case.hear(model.SegmentFinished(segment))
    case.hear(model.SegmentReleased(segment.key))
    case.hear(Tick())
    assert case.stream.state is State.ENDED
