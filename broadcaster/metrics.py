"""Metrics of components as plain numbers, and the collector that exposes them to Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import Metric as MetricFamily
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from broadcaster import __version__

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter, a gauge or a histogram: numbers by the values of the labels.

    A histogram has a ``total``, the sum of all observed values by label values. Its ``value`` counts the
    observations up to each upper bound; the bound is the last item of each key.
    """

    name: str  # without the prefix "broadcaster_"
    text: str
    value: float | Mapping[str, float] | Mapping[Labels, float]
    labels: Labels = ()
    is_counter: bool = False
    total: Mapping[Labels, float] | None = None

    @property
    def samples(self) -> dict[Labels, float]:
        """The numbers by the values of the labels."""
        if not isinstance(self.value, Mapping):
            return {(): self.value}
        return {(key,) if isinstance(key, str) else key: value for key, value in self.value.items()}


def build_info() -> Iterator[Metric]:
    """The running version, as a label of a metric that is always 1."""
    yield Metric("build_info", "The version that runs", {__version__: 1}, labels=("version",))


class Histogram:
    """Counts observed values by upper bound, separately for each combination of label values."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self._name, self._text, self._bounds, self._labels = name, text, bounds, labels
        self._counts: dict[Labels, list[int]] = {}
        self._total: dict[Labels, float] = {}
        if not labels:
            self._counts[()], self._total[()] = [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += 1
        self._total[labels] = self._total.get(labels, 0.0) + value

    @property
    def metric(self) -> Metric:
        """All counts and sums as one metric."""
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        value = {
            (*labels, bound): count
            for labels, counts in self._counts.items()
            for bound, count in zip(bounds, accumulate(counts), strict=True)
        }
        return Metric(self._name, self._text, value, self._labels, is_counter=True, total=dict(self._total))


class MetricsCollector(Collector):
    """Reads the metrics of each source when Prometheus scrapes."""

    def __init__(self, *sources: Callable[[], Iterable[Metric]]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[MetricFamily]:
        """The current metrics in prometheus_client's classes."""
        for source in self._sources:
            for metric in source():
                name = f"broadcaster_{metric.name}"
                if metric.total is not None:
                    yield _histogram(name, metric, metric.total)
                    continue
                kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
                family = kind(name, metric.text, labels=metric.labels)
                for labels, value in metric.samples.items():
                    family.add_metric(labels, value)
                yield family


def _histogram(name: str, metric: Metric, totals: Mapping[Labels, float]) -> MetricFamily:
    family = HistogramMetricFamily(name, metric.text, labels=metric.labels)
    for labels, total in totals.items():
        buckets = [(key[-1], value) for key, value in metric.samples.items() if key[:-1] == labels]
        family.add_metric(labels, buckets, total)
    return family
