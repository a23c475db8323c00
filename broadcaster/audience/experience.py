"""How viewers fare, as their pages say: added up by variant. Nothing that is said can bend it far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping

from broadcaster.figures import Distribution, Figure

STARTUP_SECONDS = (0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 60)
LATENCY_SECONDS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 60, 300)
# What a report is taken to say at most: more is said by who has been away, or is not true.
LONGEST_STARTUP, LONGEST_LATENCY, LONGEST_STALLS = 120.0, 3600.0, 60.0  # seconds
MOST_STALLS, MOST_ERRORS = 10.0, 50.0
MOST_VARIANTS = 50  # that there are labels for
UNKNOWN = "unknown"


class Experience:
    """``variants`` are those that are served now: no other name becomes a label."""

    def __init__(self, variants: Callable[[], Collection[str]]) -> None:
        self._variants = variants
        self._known: set[str] = set()
        self._stalls: defaultdict[str, float] = defaultdict(float)
        self._stalled: defaultdict[str, float] = defaultdict(float)
        self._errors: defaultdict[str, float] = defaultdict(float)
        text = "From the opening of the page, or a click, to the first picture"
        self._startup = Distribution("viewer_startup_seconds", text, STARTUP_SECONDS, ("variant",))
        text = "How far behind the end of the playlist viewers are, at each report"
        self._latency = Distribution("viewer_latency_seconds", text, LATENCY_SECONDS, ("variant",))

    def label(self, variant: object) -> str:
        """The variant, where it is one."""
        if isinstance(variant, str) and variant in self._variants() and len(self._known) < MOST_VARIANTS:
            self._known.add(variant)
        return variant if isinstance(variant, str) and variant in self._known else UNKNOWN

    def add(self, variant: str, report: Mapping[str, float]) -> None:
        """Add what a page has said; ``variant`` is a label."""
        self._stalls[variant] += min(report.get("stalls", 0), MOST_STALLS)
        self._stalled[variant] += min(report.get("stalled", 0), LONGEST_STALLS)
        self._errors[variant] += min(report.get("errors", 0), MOST_ERRORS)
        if "startup" in report:
            self._startup.observe(min(report["startup"], LONGEST_STARTUP), variant)
        if "latency" in report:
            self._latency.observe(min(report["latency"], LONGEST_LATENCY), variant)

    def figures(self) -> Iterator[Figure]:
        """All that was said."""
        yield self._startup.figure
        yield self._latency.figure
        text = "Times that the picture stood still at viewers' for want of video"
        yield Figure("viewer_stalls", text, self._stalls, labels=("variant",), rises=True)
        text = "Seconds that it stood still"
        yield Figure("viewer_stalled_seconds", text, self._stalled, labels=("variant",), rises=True)
        text = "Errors in viewers' players, those they got over by themselves included"
        yield Figure("viewer_errors", text, self._errors, labels=("variant",), rises=True)
