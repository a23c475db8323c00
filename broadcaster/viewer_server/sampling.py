"""Which pages report, and how often, so that reports stay below the operator's limit.

A page reports while its draw, which is part of its name, is below the share that it has read last. So the
server knows which pages are in the sample: an estimate is what the sample says, divided by the share.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

REPORT_SECONDS, LONGEST_REPORT_SECONDS = 25.0, 400.0  # between two reports of a page
# Reports come at random: with this part of the limit as their mean, hardly a second has 1.7 times the limit.
AIM = 0.32
LAG = 90.0  # seconds in which all pages have read a new share, and those it adds have reported
STEP, LEAP = 1.1, 1.5  # factors of a change that the next event carries, and of one that is an event itself
FORGOTTEN = 2.4  # times the time between two reports, after which a page is gone


def draw_of(viewer: str) -> float:
    """The draw of a page, between 0 and 1, by its name of 16 hexadecimal digits."""
    return int(viewer[:8], 16) / 2**32


class SampledPage(Protocol):
    """A page that has reported."""

    @property
    def draw(self) -> float:
        """Its draw."""

    @property
    def heard(self) -> float:
        """When it reported, by the clock of the sampling."""


class ReportSampling:
    """``share`` and ``every`` (seconds) are for pages to go by; ``per_second`` is the operator's limit."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.share = 1.0 if per_second else 0.0
        self.every = REPORT_SECONDS
        self._aim = AIM * per_second
        self._clock = clock
        self._replaced: deque[tuple[float, float, float]] = deque()  # when, share, every

    @property
    def sampled(self) -> float:
        """The share of pages that have surely reported: the least one that pages may still go by."""
        return min(self.share, *(share for _, share, _ in self._in_force()), 1.0)

    @property
    def longest(self) -> float:
        """Seconds between two reports: the longest time that pages may still go by."""
        return max(self.every, *(every for _, _, every in self._in_force()), 0.0)

    def gone(self, pages: Mapping[str, SampledPage]) -> list[str]:
        """The names of pages that are silent, or that are in the sample no more."""
        oldest = self._clock() - FORGOTTEN * self.longest
        return [name for name, page in pages.items() if page.draw >= self.share or page.heard < oldest]

    def weight(self, draw: float) -> float:
        """How many pages a page with this draw stands for."""
        sampled = self.sampled
        return 1 / sampled if draw < sampled else 0.0

    def part(self, pages: int) -> int:
        """How many of these pages are in the sample, at least one."""
        return max(1, round(self.sampled * pages))

    def estimate(self, draws: Iterable[float]) -> int:
        """How many pages there are, by those that have reported."""
        sampled = self.sampled
        return round(sum(draw < sampled for draw in draws) / sampled) if sampled else 0

    def estimates(self, draws: Iterable[tuple[str, float]]) -> dict[str, int]:
        """The estimated number of pages by name, such as a variant's; pages without a name are left out."""
        by_name = defaultdict[str, list[float]](list)
        for name, draw in draws:
            if name:
                by_name[name].append(draw)
        return {name: self.estimate(found) for name, found in by_name.items()}

    def error(self, draws: Iterable[float]) -> int:
        """By how many an estimate may be wrong: two standard deviations."""
        sampled = self.sampled
        if not 0 < sampled < 1:
            return 0
        count = sum(draw < sampled for draw in draws)
        return round(2 * math.sqrt(max(count, 1) * (1 - sampled)) / sampled)

    def adapt(self, viewers: float) -> bool:
        """Follow the number of viewers; returns whether pages have to know at once."""
        if not self._aim:
            return False
        every = min(max(viewers / self._aim, REPORT_SECONDS), LONGEST_REPORT_SECONDS)
        share = min(1.0, self._aim * LONGEST_REPORT_SECONDS / max(viewers, 1.0))
        change = max(_factor(share, self.share), _factor(every, self.every))
        if change < STEP and (share < 1 or self.share == 1):
            return False
        self._replaced.append((self._clock(), self.share, self.every))
        leap = _factor(share, self.share) >= LEAP
        self.share, self.every = share, every
        return leap

    def _in_force(self) -> deque[tuple[float, float, float]]:
        while self._replaced and self._replaced[0][0] < self._clock() - LAG:
            self._replaced.popleft()
        return self._replaced


def _factor(one: float, other: float) -> float:
    return max(one / other, other / one)
