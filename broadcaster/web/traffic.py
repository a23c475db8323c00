"""Prometheus metrics of what is asked of the server. Their labels are bounded, whatever is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from broadcaster.web.waiting import WaitingRoom

WAKE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Traffic(Collector):
    """Counts requests by route and status, and how quickly waiting ones are answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # A counter of the library's, with its lock, takes as long as all the rest that is done for an answer.
        self._answers: Counter[tuple[str, int]] = Counter()
        self._wake_up = Histogram(
            "broadcaster_wake_up_seconds",
            "From the publication that a blocked request waits for to its answer",
            buckets=WAKE_SECONDS,
            registry=registry,
        )
        self._registry = registry
        registry.register(self)

    def answered(self, request: web.Request, response: web.StreamResponse) -> None:
        """Count an answer."""
        resource = request.match_info.route.resource
        self._answers[(resource and resource.name) or "none", response.status] += 1

    def collect(self) -> Iterable[Metric]:
        """What has been counted."""
        family = CounterMetricFamily(
            "broadcaster_requests",
            "Requests answered, by route and status; everything unknown is route none",
            labels=["route", "status"],
        )
        for (route, status), count in self._answers.items():
            family.add_metric([route, str(status)], count)
        yield family

    def woke_up(self, seconds: float) -> None:
        """Take note of a request that has waited, ``seconds`` after what it waited for was published."""
        self._wake_up.observe(max(seconds, 0))

    def watch(self, room: WaitingRoom) -> None:
        """Show how full the waiting room is, at every scrape."""
        waiters = Gauge("broadcaster_waiters", "Blocked requests that wait now", registry=self._registry)
        waiters.set_function(lambda: room.occupied)
        refused = Gauge(
            "broadcaster_waiters_refused",
            "Blocked requests since the start that found no place",
            registry=self._registry,
        )
        refused.set_function(lambda: room.refused)
