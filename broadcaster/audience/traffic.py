"""Figures of what is asked of the server. Their labels are bounded, whatever is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aiohttp import hdrs, web

from broadcaster.figures import Distribution, Figure

WAKE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

# What every answer says.
ALWAYS = {hdrs.SERVER: "broadcaster", "X-Content-Type-Options": "nosniff"}


class Traffic:
    """Counts requests by route and status, and how quickly waiting ones are answered."""

    def __init__(self) -> None:
        # A counter of the library's, with its lock, takes as long as all the rest that is done for an answer.
        self._answers: Counter[tuple[str, ...]] = Counter()
        text = "From the publication that a blocked request waits for to its answer"
        self._wake_up = Distribution("wake_up_seconds", text, WAKE_SECONDS)

    def answered(self, request: web.Request, status: int) -> None:
        """Count an answer."""
        resource = request.match_info.route.resource
        self._answers[(resource and resource.name) or "none", str(status)] += 1

    def figures(self) -> Iterator[Figure]:
        """What has been counted."""
        text = "Requests answered, by route and status; everything unknown is route none"
        yield Figure("requests", text, self._answers, labels=("route", "status"), rises=True)
        yield self._wake_up.figure

    def woke_up(self, seconds: float) -> None:
        """Take note of a request that has waited, ``seconds`` after what it waited for was published."""
        self._wake_up.observe(max(seconds, 0))


TRAFFIC = web.AppKey("TRAFFIC", Traffic)
