"""Figures: plain numbers that a component gives, and the one collector that makes metrics of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from broadcaster import __version__

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number by the values of its labels; one that only rises is a counter.

    With a ``total`` it is a histogram: the sum of what was observed, and how much of that was at most each
    upper bound, which is the last of each key; what comes before it is of ``labels``.
    """

    name: str  # without the prefix that all share
    text: str
    value: float | Mapping[str, float] | Mapping[Labels, float]
    labels: Labels = ()
    rises: bool = False
    total: Mapping[Labels, float] | None = None

    @property
    def samples(self) -> dict[Labels, float]:
        """Each number by the values of its labels."""
        if not isinstance(self.value, Mapping):
            return {(): self.value}
        return {(key,) if isinstance(key, str) else key: value for key, value in self.value.items()}


def build_info() -> Iterator[Figure]:
    """The version that runs, as a label of a metric that is always 1."""
    yield Figure("build_info", "The version that runs", {__version__: 1}, labels=("version",))


class Distribution:
    """What was observed, as a histogram with these upper bounds; one for each set of ``labels``."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self._name, self._text, self._bounds, self._labels = name, text, bounds, labels
        self._counts: dict[Labels, list[int]] = {}
        self._total: dict[Labels, float] = {}
        if not labels:
            self._counts[()], self._total[()] = [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float, *labels: str) -> None:
        """Take note of a value."""
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += 1
        self._total[labels] = self._total.get(labels, 0.0) + value

    @property
    def figure(self) -> Figure:
        """All of it."""
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        value = {
            (*labels, bound): count
            for labels, counts in self._counts.items()
            for bound, count in zip(bounds, accumulate(counts), strict=True)
        }
        return Figure(self._name, self._text, value, self._labels, rises=True, total=dict(self._total))


class Figures(Collector):
    """Asks each source for its figures when it is scraped."""

    def __init__(self, *sources: Callable[[], Iterable[Figure]]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """The figures of now (prometheus_client's protocol)."""
        for source in self._sources:
            for figure in source():
                name = f"broadcaster_{figure.name}"
                if figure.total is not None:
                    yield _histogram(name, figure, figure.total)
                    continue
                kind = CounterMetricFamily if figure.rises else GaugeMetricFamily
                family = kind(name, figure.text, labels=figure.labels)
                for labels, value in figure.samples.items():
                    family.add_metric(labels, value)
                yield family


def _histogram(name: str, figure: Figure, totals: Mapping[Labels, float]) -> Metric:
    family = HistogramMetricFamily(name, figure.text, labels=figure.labels)
    for labels, total in totals.items():
        buckets = [(key[-1], value) for key, value in figure.samples.items() if key[:-1] == labels]
        family.add_metric(labels, buckets, total)
    return family
