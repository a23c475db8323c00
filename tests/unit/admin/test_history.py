"""What the dashboard makes of many values."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from broadcaster.admin.history import History, Pair, RecentBuckets, percentiles
from broadcaster.events import SegmentUploaded
from broadcaster.metrics import Histogram, Metric, MetricsCollector


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


def test_after_an_outage_the_newest_reports_count() -> None:
    """What pages have reported while viewers were frozen is in no row after the outage."""
    latency = Histogram("viewer_latency_seconds", "", (10, 100), ("variant",))
    frozen = 0.0

    def metrics() -> Iterator[Metric]:
        yield latency.metric
        yield Metric("frozen_seconds", "", frozen)

    registry = CollectorRegistry()
    registry.register(MetricsCollector(metrics))
    history = History(registry, lambda: datetime(2026, 7, 1, tzinfo=UTC))

    def row(*reports: float) -> list[float | None]:
        for seconds in reports:
            latency.observe(seconds, "0")
        history.sample()
        newest = history.since(0)[-1]
        return [newest[name] for name in ("frozen", "latency50", "uploadTime50")]

    history(SegmentUploaded("0", "key", 1000, 0.2))
    assert row(5) == [0, 5, 0.2]
    frozen = 40.0
    assert row(40, 40, 40) == [40, None, None]
    frozen = 0.0
    assert row() == [0, None, None]
    assert row(5) == [0, 5, None]
    assert [row() for _ in range(6)][-1] == [0, None, None], "a page reports twice a minute"
