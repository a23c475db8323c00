"""Playback reports of pages: traffic, QoE metrics by variant, and the number of viewers.

Only sums and counts are stored, and limits keep the effect of forged reports small. Of a large audience a
sample reports (``ReportSampling``), so that reports stay below the operator's limit: a page reports while its
draw, which is part of its name, is below the share that it has read last. So the server knows which pages are
in the sample: an estimate is what the sample says, divided by the share.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aiohttp import hdrs, web

from broadcaster.access.gate import GUEST
from broadcaster.ipc.messages import MaxViewerDelay
from broadcaster.metrics import Histogram, Metric
from broadcaster.tracker.tracker import TokenBucket, limited_networks
from broadcaster.viewer_server.admission import ADMISSION, FEW, VIEWERS_PER_NETWORK

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


def _factor(first: float, second: float) -> float:
    return max(first / second, second / first)


STARTUP_SECONDS = (0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 60)
LATENCY_SECONDS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 60, 300)
# Larger values in a report are cut: the page was in the background, or the value is forged.
LONGEST_STARTUP, LONGEST_LATENCY = 120.0, 3600.0  # seconds
MOST_STALLS, LONGEST_STALLS, MOST_ERRORS = 10.0, 60.0, 50.0  # in ``REPORT_SECONDS``
MOST_VARIANTS = 50  # labels
UNKNOWN = "unknown"
ESTIMATED = "; an estimate while viewer_report_share is below 1"


class QoEMetrics:
    """Start-up time, latency, stalls and errors by variant; ``variants`` returns the served names."""

    def __init__(self, variants: Callable[[], Collection[str]]) -> None:
        self._variants = variants
        self._known: set[str] = set()
        self._stalls: defaultdict[str, float] = defaultdict(float)
        self._stalled: defaultdict[str, float] = defaultdict(float)
        self._errors: defaultdict[str, float] = defaultdict(float)
        text = "From the opening of the page, or a click, to the first picture (of the sample)"
        self._startup = Histogram("viewer_startup_seconds", text, STARTUP_SECONDS, ("variant",))
        text = "How far behind the end of the playlist viewers are, at each report (of the sample)"
        self._latency = Histogram("viewer_latency_seconds", text, LATENCY_SECONDS, ("variant",))

    def label(self, variant: object) -> str:
        """The label of a variant; ``UNKNOWN`` for a name that was not served."""
        if isinstance(variant, str) and variant in self._variants() and len(self._known) < MOST_VARIANTS:
            self._known.add(variant)
        return variant if isinstance(variant, str) and variant in self._known else UNKNOWN

    def add(self, variant: str, report: Mapping[str, float], weight: float = 1, times: float = 1) -> None:
        """Add a report for ``weight`` pages; ``variant`` is a label.

        ``times`` is the interval of reports, in multiples of the interval without sampling.
        """
        self._stalls[variant] += weight * min(report.get("stalls", 0), times * MOST_STALLS)
        self._stalled[variant] += weight * min(report.get("stalled", 0), times * LONGEST_STALLS)
        self._errors[variant] += weight * min(report.get("errors", 0), times * MOST_ERRORS)
        if "startup" in report:
            self._startup.observe(min(report["startup"], LONGEST_STARTUP), variant)
        if "latency" in report:
            self._latency.observe(min(report["latency"], LONGEST_LATENCY), variant)

    def metrics(self) -> Iterator[Metric]:
        """The metrics of all reports."""
        yield self._startup.metric
        yield self._latency.metric
        text = f"Stalls of viewers' players for lack of video{ESTIMATED}"
        yield Metric("viewer_stalls", text, self._stalls, labels=("variant",), is_counter=True)
        text = f"Seconds of these stalls{ESTIMATED}"
        yield Metric("viewer_stalled_seconds", text, self._stalled, labels=("variant",), is_counter=True)
        text = f"Errors in viewers' players, with errors that players recovered from{ESTIMATED}"
        yield Metric("viewer_errors", text, self._errors, labels=("variant",), is_counter=True)


MOST = 25_000  # pages that are remembered: as many as MAX_REPORTS_PER_SECOND allows
MOST_WITHOUT_PICTURE = 20  # pages of a client network that count: its own network may be at fault
EARLIEST = 5.0  # seconds between two reports of a page that count


class WatchingPage(NamedTuple):
    """A page that watches."""

    network: str | None
    draw: float
    variant: str
    heard: float  # monotonic
    grant: str = ""  # of a private event


class PictureReport(NamedTuple):
    """The latest report of a page about its picture."""

    network: str | None
    draw: float
    with_picture: bool
    undecodable: str  # the codec that its browser cannot decode, if it says so
    heard: float  # monotonic


class PictureReports:
    """Counts pages by their latest report: with a picture, without a decoder, and with errors only."""

    def __init__(self, sampling: ReportSampling, clock: Callable[[], float]) -> None:
        self._sampling = sampling
        self._clock = clock
        self._pages: OrderedDict[str, PictureReport] = OrderedDict()  # the latest last
        self._without_picture = Counter[str]()

    def heard(
        self, name: str, network: str | None, *, played: bool, errors: bool, undecodable: str = ""
    ) -> None:
        """Note the report of a page of the sample."""
        self._remove(name)
        if not (played or errors or undecodable) or len(self._pages) >= MOST:
            return
        if (
            not played
            and network
            and self._without_picture[network] >= self._sampling.part(MOST_WITHOUT_PICTURE)
        ):
            return
        self._pages[name] = PictureReport(network, draw_of(name), played, undecodable, self._clock())
        if not played and network:
            self._without_picture[network] += 1

    @property
    def with_picture(self) -> int:
        """The number of pages with a picture."""
        return self._count(lambda page: page.with_picture)

    @property
    def without_picture(self) -> int:
        """The number of pages that report errors and have no picture."""
        return self._count(lambda page: not page.with_picture and not page.undecodable)

    @property
    def undecodable(self) -> dict[str, int]:
        """The number of pages whose browsers cannot decode the stream, by the codec."""
        self._forget()
        return self._sampling.estimates((page.undecodable, page.draw) for page in self._pages.values())

    def _forget(self) -> None:
        for name in self._sampling.gone(self._pages):
            self._remove(name)

    def _count(self, is_counted: Callable[[PictureReport], bool]) -> int:
        self._forget()
        return self._sampling.estimate(page.draw for page in self._pages.values() if is_counted(page))

    def _remove(self, name: str) -> None:
        if (page := self._pages.pop(name, None)) and not page.with_picture and page.network:
            self._without_picture[page.network] -= 1
            if not self._without_picture[page.network]:
                del self._without_picture[page.network]


class ViewerCounter:
    """Counts pages that watch, up to a limit for each client network."""

    def __init__(self, sampling: ReportSampling, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_delay = MaxViewerDelay()
        self.pictures = PictureReports(sampling, clock)
        self.sampling = sampling
        self._clock = clock
        self._pages: OrderedDict[str, WatchingPage] = OrderedDict()  # the latest last
        self._by_network: Counter[str] = Counter()

    def __len__(self) -> int:
        self._forget()
        return self.sampling.estimate(page.draw for page in self._pages.values())

    @property
    def error(self) -> int:
        """Two standard deviations of the estimated number."""
        self._forget()
        return self.sampling.error(page.draw for page in self._pages.values())

    @property
    def delay(self) -> float:
        """Seconds that the most delayed viewer is behind live."""
        return self.max_delay.seconds(self._clock())

    def of_network(self, network: str | None) -> int:
        """The number of reporting pages of a client network; of all if it is unknown."""
        return self._by_network[network] if network else len(self._pages)

    @property
    def by_grant(self) -> dict[str, int]:
        """The estimated number of pages by the grants of their guests."""
        self._forget()
        return self.sampling.estimates((page.grant, page.draw) for page in self._pages.values())

    def keep_guests(self, grants: Collection[str]) -> None:
        """Forget the pages of guests with other grants than these: they are not let in any more."""
        for name in [name for name, page in self._pages.items() if page.grant and page.grant not in grants]:
            self._remove(name)

    def is_all(self, network: str | None) -> bool:
        """Whether all pages, and not few, come from this network: a proxy may not send their addresses."""
        return network is not None and FEW <= self._by_network[network] == len(self._pages)

    def heard(
        self, name: str, network: str | None, variant: str, *, leaves: bool = False, grant: str = ""
    ) -> float:
        """Note that a page watches, or ``leaves``; returns the number of pages that its report stands for.

        A report too soon after another, or of too many pages of a network, stands for 0.
        """
        now, draw = self._clock(), draw_of(name)
        before = self._remove(name)
        if draw >= self.sampling.share or (
            before is None and (len(self._pages) >= MOST or self._has_too_many(network))
        ):
            return 0.0
        if not leaves:
            self._pages[name] = WatchingPage(network, draw, variant, now, grant)
            for limited, _ in limited_networks(network) if network else []:
                self._by_network[limited] += 1
        counts = leaves or before is None or now - before.heard >= EARLIEST
        return self.sampling.weight(draw) if counts else 0.0

    def metrics(self) -> Iterator[Metric]:
        """The numbers of pages."""
        self._forget()
        counts = self.sampling.estimates((page.variant, page.draw) for page in self._pages.values())
        text = f"Pages that watch now, by the reported variant{ESTIMATED}"
        yield Metric("viewers", text, counts or {UNKNOWN: 0.0}, labels=("variant",))
        text = "Two standard deviations of the number of viewers; 0 if all pages report"
        yield Metric("viewers_error", text, self.error)
        text = "The share of pages that report, limited by BROADCASTER_REPORTS_PER_SECOND"
        yield Metric("viewer_report_share", text, self.sampling.share)
        text = f"Pages that report errors and have no picture{ESTIMATED}"
        yield Metric("viewers_without_picture", text, self.pictures.without_picture)
        text = f"Pages whose browser cannot decode any variant, by the codec{ESTIMATED}"
        yield Metric("viewers_undecodable", text, self.pictures.undecodable, labels=("codec",))
        text = "How far the most delayed viewer is behind live, in seconds, as pages report"
        yield Metric("viewer_furthest_seconds", text, self.delay)

    def _has_too_many(self, network: str | None) -> bool:
        return network is not None and any(
            self._by_network[limited] >= self.sampling.part(times * VIEWERS_PER_NETWORK)
            for limited, times in limited_networks(network)
        )

    def _forget(self) -> None:
        for name in self.sampling.gone(self._pages):
            self._remove(name)

    def _remove(self, name: str) -> WatchingPage | None:
        page = self._pages.pop(name, None)
        for limited, _ in limited_networks(page.network) if page and page.network else []:
            self._by_network[limited] -= 1
            if not self._by_network[limited]:
                del self._by_network[limited]
        return page


MAX_BYTES = 1024  # of a report
MAX_SECONDS = 900.0  # of a report, and of the buffer that a page fills first
UPLOADS = 4.0  # times the played bytes: a page can upload to several others
LONGEST_BEHIND = 7 * 86_400.0  # seconds
MAX_NETWORKS = 10_000  # client networks that are remembered
MAX_REPORTS_PER_SECOND = 1000
# A page sends a report every 25 s or less often; all pages of a network may report at once.
NETWORK_REPORTS_PER_SECOND = VIEWERS_PER_NETWORK / 20
VIEWER = re.compile(r"[0-9a-f]{16}")  # the name of a page
QOE_FIELDS = ("startup", "stalls", "stalled", "latency", "errors")
CODECS = {"H.264", "HEVC", "AV1", "VP9", "AAC", "AC-3", "E-AC-3"}
FIELDS = {"httpBytes": "bucket", "p2pBytes": "peers", "uploadedBytes": "uploaded"}


class ImplausibleReport(ValueError):  # noqa: N818 - no error: an answer
    """More than all pages of a client network can have watched."""


@dataclass(slots=True)
class ReportBudget:
    """What a client network may still report: seconds of video, and reports."""

    seconds: TokenBucket
    reports: TokenBucket


class PlaybackReports:
    """Adds up reported bytes and seconds, and passes reports to the counters.

    A client network cannot report more than its reporting pages can have played since the last report at
    ``bandwidth`` (bits per second).
    """

    def __init__(
        self,
        bandwidth: Callable[[], float],
        viewers: ViewerCounter,
        qoe: QoEMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bandwidth = bandwidth
        self._viewers = viewers
        self._qoe = qoe
        self._clock = clock
        self._budgets: OrderedDict[str | None, ReportBudget] = OrderedDict()  # the latest last
        self._bytes = dict.fromkeys(FIELDS.values(), 0.0)
        self._watched = 0.0
        self._refused = 0
        self._second, self._reports = 0, 0

    def metrics(self) -> Iterator[Metric]:
        """The sums."""
        text = f"Bytes that viewers report: from the bucket, from peers, uploaded to peers{ESTIMATED}"
        yield Metric("viewer_bytes", text, self._bytes, labels=("source",), is_counter=True)
        text = f"Seconds that viewers report to have watched{ESTIMATED}"
        yield Metric("viewer_seconds", text, self._watched, is_counter=True)
        text = "Implausible reports"
        yield Metric("viewer_reports_refused", text, self._refused, is_counter=True)

    def comes_from_all(self, network: str | None) -> bool:
        """Whether a client network is that of all viewers, which has no limits of its own."""
        return self._viewers.is_all(network)

    def has_room(self, network: str | None = None) -> bool:
        """Whether another report of a client network is accepted now."""
        for name, times in limited_networks(network) if network else []:
            if not self._budget(name, times).reports.take(self._clock()):
                return False
        second = int(self._clock())
        if second != self._second:
            self._second, self._reports = second, 0
        self._reports += 1
        return self._reports <= MAX_REPORTS_PER_SECOND

    def add(self, text: str, network: str | None = None, grant: str = "") -> None:
        """Add the report of a page; raises ValueError if it is malformed, and ImplausibleReport.

        ``grant`` is that of its guest in a private event.
        """
        report = json.loads(text)
        if not isinstance(report, dict):
            raise ValueError("not an object")  # noqa: TRY004 - one error for all that is wrong
        seconds = _number(report.get("seconds"), MAX_SECONDS)
        counts = {source: _number(report.get(name, 0)) for name, source in FIELDS.items()}
        behind = _number(report.get("behind", 0), LONGEST_BEHIND)
        weight = self._count_page(report, network, grant)
        played = 8 * (counts["bucket"] + counts["peers"]) / self._bandwidth()
        uploaded = 8 * counts["uploaded"] / self._bandwidth() / UPLOADS
        if not self._budget(network).seconds.take(self._clock(), max(seconds, played, uploaded)):
            self._refused += 1
            raise ImplausibleReport("more than can be")
        self._watched += weight * seconds
        self._viewers.max_delay.note(behind, self._clock())
        for source, count in counts.items():
            self._bytes[source] += weight * count

    def add_all(self, reports: Iterable[tuple[str, str | None, str]]) -> None:
        """Add plausible reports that came by an edge, each with its client network and its guest's grant."""
        for text, network, grant in reports:
            if self.has_room(network):
                with suppress(ImplausibleReport, ValueError, LookupError, RecursionError):
                    self.add(text, network, grant)

    def _count_page(self, report: dict[str, object], network: str | None, grant: str) -> float:
        """Count the page, if it has a name, and add its QoE; returns the number of pages it stands for."""
        name = report.get("viewer")
        if name is None:
            return 1.0
        if not isinstance(name, str) or not VIEWER.fullmatch(name):
            raise ValueError("a viewer has a name of 16 hexadecimal digits")
        qoe = {key: _number(report[key]) for key in QOE_FIELDS if key in report}
        variant = self._qoe.label(report.get("variant"))
        seconds = _number(report.get("seconds"), MAX_SECONDS)
        weight = self._viewers.sampling.weight(draw_of(name))
        if weight:
            codec = _codec(report.get("undecodable"))
            played, errors = seconds > 0 and not codec, qoe.get("errors", 0) > 0
            self._viewers.pictures.heard(name, network, played=played, errors=errors, undecodable=codec)
        leaves = report.get("over") is True
        counts = self._viewers.heard(name, network, variant, leaves=leaves, grant=grant)
        if counts:
            self._qoe.add(variant, qoe, counts, self._viewers.sampling.longest / REPORT_SECONDS)
        return weight

    def _budget(self, network: str | None, times: int = 1) -> ReportBudget:
        """The budget of a client network; of an organisation, ``times`` as much."""
        now, pages = self._clock(), max(1, self._viewers.of_network(network))
        budget = self._budgets.pop(network, None)
        if budget is None:
            seconds = TokenBucket.full(pages, MAX_SECONDS * pages, now)
            budget = ReportBudget(
                seconds,
                TokenBucket.full(times * NETWORK_REPORTS_PER_SECOND, times * VIEWERS_PER_NETWORK, now),
            )
        self._budgets[network] = budget
        if len(self._budgets) > MAX_NETWORKS:
            self._budgets.popitem(last=False)
        budget.seconds.resize(pages, MAX_SECONDS * pages, now)
        return budget


PLAYBACK_REPORTS = web.AppKey("PLAYBACK_REPORTS", PlaybackReports)


async def beacon(request: web.Request) -> web.Response:
    """Accept a report (``navigator.sendBeacon``): 204, 400 if it is malformed, 429 if it is too much."""
    headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "no-store"}
    network = request.app[ADMISSION].network(request)
    if request.app[PLAYBACK_REPORTS].comes_from_all(network):
        request.app[ADMISSION].warn_of_shared_address()
        network = None
    if not request.app[PLAYBACK_REPORTS].has_room(network):
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
        return web.Response(status=413, headers=headers)
    guest = request.get(GUEST)
    try:
        request.app[PLAYBACK_REPORTS].add(await request.text(), network, guest.grant if guest else "")
    except ImplausibleReport:
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    except (ValueError, LookupError, RecursionError):
        return web.Response(status=400, text="This is no report.\n", headers=headers)
    return web.Response(status=204, headers=headers)


def _codec(names: object) -> str:
    """The first codec of ``names``, ``UNKNOWN`` for one that is not in ``CODECS``; empty without names."""
    first = names.partition(",")[0] if isinstance(names, str) else ""
    return first if first in CODECS or not first else UNKNOWN


def _number(value: object, most: float = 1e15) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("a number is missing or out of range")
    return value
