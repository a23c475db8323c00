"""How far the times of a playlist are ahead of the clock."""

from dataclasses import replace
from datetime import datetime, timedelta

from broadcaster.catalog.records import Run
from broadcaster.events import SegmentPublished
from broadcaster.ipc.messages import Listed
from broadcaster.service.viewer_process import message_of
from broadcaster.viewer_server.events import REMEMBERED_RUNS, EncoderClockOffset
from tests.support.fakes.pipeline_parts import START, stored_segment

LENGTH = timedelta(seconds=3)


def published(  # noqa: PLR0913 - the fields of a segment
    number: int,
    ahead: float,
    *,
    run: str = "a",
    late: float = 0.0,
    waited: float = 0.02,
    gap: bool = False,
    time: datetime | None = START,
) -> Listed:
    """A segment with times ``ahead`` of the clock, complete ``late``, listed after ``waited``; seconds."""
    begin = START + number * LENGTH
    completed = begin + LENGTH + timedelta(seconds=late)
    segment = stored_segment(f"{number}.ts", number=number, seconds=3, completed=completed, gap=gap)
    segment = replace(segment, run=Run(0, run, f"{run}#0"), time=time and begin + timedelta(seconds=ahead))
    message = message_of(SegmentPublished(segment, completed + timedelta(seconds=waited)))
    assert isinstance(message, Listed)
    return message


def test_the_offset_is_measured_at_the_finished_file() -> None:
    """What the bucket's outage adds to the way of a segment is none of the encoder's."""
    offsets = EncoderClockOffset()
    assert offsets.note(published(0, 1.6)) == timedelta(seconds=1.6)
    assert offsets.note(published(1, 1.6, waited=300)) == timedelta(seconds=1.6)


def test_a_segment_that_came_late_changes_little() -> None:
    """A hiccup of the camera's uplink is delay that viewers have, and no change of the encoder's clock."""
    offsets = EncoderClockOffset()
    for number in range(5):
        offsets.note(published(number, 1.6))
    assert offsets.note(published(5, 1.6, late=8)) == timedelta(seconds=1.6)
    assert offsets.note(published(6, 1.6, late=5)) == timedelta(seconds=1.6)


def test_each_run_has_its_own() -> None:
    """After a reconnect the times may be shifted; segments of the run before may still be on their way."""
    offsets = EncoderClockOffset()
    for number in range(5):
        offsets.note(published(number, 1.6))
    assert offsets.note(published(5, 40, run="b")) == timedelta(seconds=40)
    assert offsets.note(published(6, 1.6)) == timedelta(seconds=1.6)
    assert offsets.note(published(7, 40, run="b")) == timedelta(seconds=40)


def test_segments_without_times_change_nothing() -> None:
    """A gap has no file, and some writers give no times."""
    offsets = EncoderClockOffset()
    assert offsets.note(published(0, 1.6, gap=True)) is None
    assert offsets.note(published(1, 1.6, time=None)) is None
    offsets.note(published(2, 1.6))
    assert offsets.note(published(3, 9, gap=True)) == timedelta(seconds=1.6)


def test_runs_of_long_ago_are_forgotten() -> None:
    """A service of months does not collect them."""
    offsets = EncoderClockOffset()
    for number in range(REMEMBERED_RUNS + 1):
        offsets.note(published(number, 1.6, run=f"{number}"))
    assert offsets.note(published(99, 1.6, run="0", gap=True)) is None
    assert offsets.note(published(99, 1.6, run="1", gap=True)) == timedelta(seconds=1.6)
