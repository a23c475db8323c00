"""Prometheus metrics of what is asked of the server. Their labels are bounded, whatever is asked."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from broadcaster.web.waiting import WaitingRoom

WAKE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Traffic:
    """Counts requests by route and status, and how quickly waiting ones are answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "broadcaster_requests",
            "Requests answered, by route and status; everything unknown is route none",
            ["route", "status"],
            registry=registry,
        )
        self._wake_up = Histogram(
            "broadcaster_wake_up_seconds",
            "From the publication that a blocked request waits for to its answer",
            buckets=WAKE_SECONDS,
            registry=registry,
        )
        self._registry = registry
        self._counters: dict[tuple[str | None, int], Counter] = {}

    def answered(self, request: web.Request, response: web.StreamResponse) -> None:
        """Count an answer."""
        resource = request.match_info.route.resource
        key = (resource.name if resource else None, response.status)
        counter = self._counters.get(key)
        if counter is None:  # finding it by its labels takes longer than all the rest
            counter = self._counters[key] = self._requests.labels(key[0] or "none", response.status)
        counter.inc()

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
