"""When an encoder has left for good."""

import pytest

from broadcaster.upload.departure import FLUSH, has_left
from tests.support.fakes.pipeline_parts import FakeEncoder

GRACE = 10.0
SINCE = 100.0


def gone(*, connected: bool | None = False, since: float | None = SINCE) -> FakeEncoder:
    encoder = FakeEncoder()
    encoder.connected, encoder.disconnected_since = connected, since
    return encoder


def test_gone_for_long_enough() -> None:
    """It has left once it has been gone for longer than the grace time, and not before."""
    assert not has_left(gone(), GRACE, SINCE - 2, SINCE + GRACE)
    assert has_left(gone(), GRACE, SINCE - 2, SINCE + GRACE + 0.1)


def test_the_last_segments_are_awaited() -> None:
    """Even without a grace time the end waits for what its encoder has finished in leaving."""
    assert not has_left(gone(), 0, SINCE - 2, SINCE + FLUSH)
    assert has_left(gone(), 0, SINCE - 2, SINCE + FLUSH + 0.1)
    assert not has_left(gone(), 0, SINCE + 1, SINCE + 1 + FLUSH)
    assert has_left(gone(), 0, SINCE + 1, SINCE + 1 + FLUSH + 0.1)


@pytest.mark.parametrize(
    ("encoder", "grace"),
    [
        (None, GRACE),
        (gone(), None),
        (gone(connected=True), GRACE),
        (gone(connected=None), GRACE),
        (gone(since=None), GRACE),
    ],
)
def test_nothing_is_known(encoder: FakeEncoder | None, grace: float | None) -> None:
    """Without a grace time, or a word that counts, it never has."""
    assert not has_left(encoder, grace, SINCE, SINCE + 10**6)


def test_segments_that_go_on() -> None:
    """What sends segments has not gone, whatever is said of it, however long that was ago."""
    assert not has_left(gone(), 0, SINCE + 2 * FLUSH + 0.1, SINCE + 10**6)
