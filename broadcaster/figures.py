"""Figures: plain numbers that a component gives, and the one collector that makes metrics of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number by the values of its labels; one that only rises is a counter."""

    name: str  # without the prefix that all share
    text: str
    value: float | Mapping[str, float] | Mapping[Labels, float]
    labels: Labels = ()
    rises: bool = False


class Figures(Collector):
    """Asks each source for its figures when it is scraped."""

    def __init__(self, *sources: Callable[[], Iterable[Figure]]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """The figures of now (prometheus_client's protocol)."""
        for source in self._sources:
            for figure in source():
                kind = CounterMetricFamily if figure.rises else GaugeMetricFamily
                family = kind(f"broadcaster_{figure.name}", figure.text, labels=figure.labels)
                values = figure.value if isinstance(figure.value, Mapping) else {(): figure.value}
                for labels, value in values.items():
                    family.add_metric([labels] if isinstance(labels, str) else list(labels), value)
                yield family
