"""What the dashboard makes of many values."""

import math

import pytest

from broadcaster.admin.history import Pair, RecentBuckets, percentiles


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (None, None)), ([3], (3, 3)), ([1, 2, 3, 4], (2, 4)), ([*range(99), 60_000], (49, 94))],
)
def test_values(values: list[float], expected: Pair) -> None:
    """One outlier of a hundred is in neither."""
    assert percentiles(values) == expected


def test_buckets() -> None:
    """Percentiles of the last reads are interpolated; above all finite bounds the last of these counts."""
    buckets = RecentBuckets(reads=2)
    assert buckets.read({}) == (None, None)
    assert buckets.read({1.0: 0, 2.0: 100, math.inf: 100}) == (1.5, 1.95)
    assert buckets.read({1.0: 0, 2.0: 100, math.inf: 200}) == (2.0, 2.0)
    assert buckets.read({1.0: 50, 2.0: 150, math.inf: 250}) == (2.0, 2.0)
    assert buckets.read({1.0: 50, 2.0: 150, math.inf: 250}) == (0.5, 0.95)
    assert buckets.read({1.0: 50, 2.0: 150, math.inf: 250}) == (None, None)
