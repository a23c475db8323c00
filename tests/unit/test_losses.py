"""A stream of which viewers get nothing but gaps is not healthy."""

import pytest

from broadcaster.events import SegmentLost, SegmentPublished, StreamEnded, StreamStarted
from broadcaster.service.losses import MANY, Losses
from tests.support.fakes.pipeline_parts import START, stored_segment


def lost(variant: str = "0") -> SegmentLost:
    return SegmentLost(variant, "a.ts", "has 5 bytes")


def published(variant: str = "0", *, gap: bool = False) -> SegmentPublished:
    return SegmentPublished(stored_segment("a.ts", variant=variant, gap=gap), START)


@pytest.mark.parametrize("good", [published("0"), published("1"), StreamEnded(START)])
def test_nothing_but_gaps(good: SegmentPublished | StreamEnded) -> None:
    """Losses in a row are trouble with a reason, until one is listed whole or the stream is over."""
    losses = Losses()
    for _ in range(MANY - 1):
        losses(lost())
        losses(published(gap=True))
    assert losses.trouble is None
    losses(lost())
    losses(published(gap=True))
    assert losses.trouble == "the last 3 segments were lost: has 5 bytes"
    losses(good)
    assert losses.trouble is None
    losses(lost())
    assert losses.trouble is None


def test_one_loss_of_each_variant_is_none_of_all() -> None:
    """A moment that is lost in every variant is one gap for each viewer."""
    losses = Losses()
    for variant in "012":
        losses(lost(variant))
        losses(published(variant, gap=True))
    assert losses.trouble is None


def test_how_long_viewers_look_at_the_same_picture() -> None:
    """Since a segment was listed that can be played, or since their stream began; a gap is none."""
    now = 100.0
    losses = Losses(lambda: now)
    now = 107.0
    assert losses.frozen == 7
    losses(published())
    now = 109.0
    losses(published(gap=True))
    assert losses.frozen == 2
    losses(StreamStarted(("0",), 4, "run", START))
    assert losses.frozen == 0
