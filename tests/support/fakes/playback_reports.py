"""Reports as pages send them, and what takes them."""

import json
from collections.abc import Callable, Collection
from contextlib import suppress

from prometheus_client import CollectorRegistry, generate_latest

from broadcaster.metrics import MetricsCollector
from broadcaster.viewer_server.reports import (
    ImplausibleReport,
    PlaybackReports,
    QoEMetrics,
    ReportSampling,
    ViewerCounter,
)


def beacon_of(bandwidth: Callable[[], float], clock: Callable[[], float]) -> PlaybackReports:
    """Reports of an audience of which all pages report."""
    viewers = ViewerCounter(ReportSampling(1000, clock), clock)
    return PlaybackReports(bandwidth, viewers, QoEMetrics(tuple), clock)


def name_of(number: int) -> str:
    """A page's name for itself."""
    return f"{number:016x}"


class Gate:
    """The beacon with all that it counts, on a clock that stands still: ``now``."""

    def __init__(self, *variants: str, per_second: float = 1000) -> None:
        self.now = 1000.0
        self.sampling = ReportSampling(per_second, lambda: self.now)
        self.served: Collection[str] = variants
        self.viewers = ViewerCounter(self.sampling, lambda: self.now)
        self.experience = QoEMetrics(lambda: self.served)
        self.beacon = PlaybackReports(lambda: 8e6, self.viewers, self.experience, lambda: self.now)
        self._registry = CollectorRegistry()
        sources = (self.beacon.metrics, self.viewers.metrics, self.experience.metrics)
        self._registry.register(MetricsCollector(*sources))

    def send(self, number: int, site: str | None = "a", **said: object) -> bool:
        """What a page says; whether it was let in."""
        if not self.beacon.has_room(site):
            return False
        with suppress(ImplausibleReport):
            self.beacon.add(json.dumps({"seconds": 0, "viewer": name_of(number), **said}), site)
        return True

    @property
    def metrics(self) -> dict[str, float]:
        """Each sample by its name and labels."""
        lines = generate_latest(self._registry).decode().splitlines()
        return {
            name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
        }
