"""Which pages report: the rate stays below the limit, and estimates stay near the truth."""

import random
import statistics
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

import pytest

from broadcaster.viewer_server.reports import (
    LONGEST_REPORT_SECONDS,
    REPORT_SECONDS,
    ReportSampling,
    draw_of,
)
from tests.support.fakes.playback_reports import Gate
from tests.support.length import SOAK

STALLS = 'broadcaster_viewer_stalls_total{variant="0"}'
STALL_EVERY = 30  # seconds in which a page stalls once


@dataclass
class Page:
    """What a page knows of its reports."""

    name: str
    quiet: float  # until then it does not report
    looked: float  # when it was in the sample
    at: float = 0.0  # of the latest report
    spread: float = 1.0
    counted: bool = False
    stalls: int = 0  # that it has not reported


class Crowd:
    """Pages that report as ``beacon.js`` does, each at most once in a second."""

    def __init__(self, gate: Gate, seed: int) -> None:
        self.gate = gate
        self.reports: Counter[int] = Counter()  # by second
        self.stalls = 0.0
        self._chance = random.Random(seed)
        self._pages: list[Page] = []  # in the order of their draws

    def __len__(self) -> int:
        return len(self._pages)

    def join(self, count: int) -> None:
        """More pages begin to watch; their first reports come within five seconds."""
        for _ in range(count):
            quiet = self.gate.now + self._chance.uniform(0, 5)
            self._pages.append(Page(f"{self._chance.getrandbits(64):016x}", quiet, self.gate.now))
        self._pages.sort(key=lambda page: page.name)

    def leave(self, count: int) -> None:
        """Pages are closed."""
        left = {page.name: page for page in self._chance.sample(self._pages, count)}
        for page in self._sample():
            if page.name in left and page.counted:
                self._report(page, over=True)
        self._pages = [page for page in self._pages if page.name not in left]

    def watch(self, seconds: int) -> None:
        """Let so many seconds pass."""
        for _ in range(seconds):
            self.gate.now += 1
            self.gate.sampling.adapt(len(self.gate.viewers))
            self.stalls += len(self._pages) / STALL_EVERY
            for page in self._sample():
                self._look(page)

    def _sample(self) -> list[Page]:
        share = self.gate.sampling.share
        return self._pages[: bisect_left(self._pages, share, key=lambda page: draw_of(page.name))]

    def _look(self, page: Page) -> None:
        now, every = self.gate.now, self.gate.sampling.every
        if page.looked < now - 1:  # it was not in the sample
            page.quiet, page.counted, page.stalls = now + self._chance.uniform(0, 60), False, 0
        page.looked = now
        page.stalls += self._chance.random() < 1 / STALL_EVERY
        due = 25 + (every - 25) * page.spread
        if now >= page.quiet and (not page.counted or now - page.at >= due):
            self._report(page)

    def _report(self, page: Page, *, over: bool = False) -> None:
        self.reports[int(self.gate.now)] += 1
        self.gate.send(int(page.name, 16), None, variant="0", seconds=1, stalls=page.stalls, over=over)
        page.at, page.counted, page.stalls = self.gate.now, True, 0
        page.spread = self._chance.uniform(0.5, 1.5)


def test_a_small_audience_is_counted_exactly() -> None:
    """As long as all reports stay below the limit, no page is left out and no number is an estimate."""
    gate = Gate("0", per_second=5)
    crowd = Crowd(gate, 1)
    for _ in range(60):
        crowd.join(9)
        crowd.watch(5)
    crowd.watch(600)
    assert (len(gate.viewers), gate.viewers.error, gate.sampling.share) == (540, 0, 1.0)
    assert gate.sampling.every == pytest.approx(540 / 1.6, rel=0.1)
    assert gate.metrics[STALLS] == pytest.approx(crowd.stalls, rel=0.3)  # the others are reported later
    rates = [crowd.reports[int(gate.now) - ago] for ago in range(300)]
    assert sum(rates) / 300 <= 5
    assert max(rates) <= 1.7 * 5


def test_ten_thousand_are_estimated() -> None:
    """Viewers and stalls are near the truth, by as much as is said, and reports stay below the limit."""
    errors = []
    for seed in range(3 if SOAK else 1):
        gate = Gate("0", per_second=5)
        crowd = Crowd(gate, seed)
        for _ in range(60):
            crowd.join(10_000 // 60)
            crowd.watch(1)
        assert max(crowd.reports.values()) <= 200
        crowd.watch(400)
        begin, stalls, before = gate.now, crowd.stalls, gate.metrics[STALLS]
        crowd.watch(600)
        errors.append(abs(len(gate.viewers) / len(crowd) - 1))
        assert 0 < abs(len(gate.viewers) - len(crowd)) <= 1.5 * gate.viewers.error
        assert gate.metrics[STALLS] - before == pytest.approx(crowd.stalls - stalls, rel=0.15)
        rates = [count for second, count in crowd.reports.items() if second > begin]
        assert sum(rates) / 600 <= 5
        assert max(rates) <= 1.7 * 5
    assert statistics.mean(errors) <= 0.05


def test_an_audience_that_leaves_is_followed() -> None:
    """When nine of ten leave, more of the others report, and the number is right again."""
    gate = Gate("0", per_second=5)
    crowd = Crowd(gate, 4)
    crowd.join(5000)
    crowd.watch(400)
    crowd.leave(4500)
    crowd.watch(500)
    assert gate.sampling.share == 1
    assert len(gate.viewers) == 500


def test_an_estimate_never_counts_by_a_share_that_pages_may_not_know() -> None:
    """A share that falls counts at once, a share that rises when all pages have read it."""
    now = 0.0
    sampling = ReportSampling(1, lambda: now)
    assert sampling.adapt(1280)
    assert (sampling.share, sampling.sampled, sampling.every) == (0.1, 0.1, LONGEST_REPORT_SECONDS)
    sampling.adapt(640)
    assert (sampling.share, sampling.sampled, sampling.weight(0.15)) == (0.2, 0.1, 0)
    now = 91
    assert (sampling.sampled, sampling.weight(0.15)) == (0.2, 5)
    assert not sampling.adapt(650)
    assert sampling.adapt(1)
    assert (sampling.share, sampling.every, sampling.longest) == (1, REPORT_SECONDS, LONGEST_REPORT_SECONDS)


def test_one_address_does_not_stand_for_many() -> None:
    """Names that are in every sample count for no more than the viewers of one address."""
    gate = Gate("0", per_second=5)
    crowd = Crowd(gate, 5)
    crowd.join(5000)
    crowd.watch(300)
    honest = len(gate.viewers)
    for number in range(2000):
        gate.send(number, "hostile", variant="0", stalls=10)
    assert len(gate.viewers) - honest <= 510


def test_all_viewers_behind_one_address_are_counted() -> None:
    """A proxy that does not say whom it serves makes all viewers one address, which then has no bounds."""
    gate = Gate("0")
    for number in range(100):
        gate.send(number, "proxy")
    assert gate.beacon.comes_from_all("proxy")
    gate.send(200, "another")
    assert not gate.beacon.comes_from_all("proxy")
    assert not gate.beacon.comes_from_all(None)


def test_without_reports_nothing_is_sampled() -> None:
    """A limit of 0 asks no page to report."""
    sampling = ReportSampling(0)
    assert not sampling.adapt(100)
    assert sampling.share == sampling.estimate([0.0]) == sampling.error([0.0]) == sampling.weight(0.0) == 0
