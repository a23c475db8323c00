"""What pages report of how they watch and of where their video came from: added up, and nothing else kept.

Of a large audience only a sample reports (``sampling.py``): sums and counts are then estimates.

How viewers fare, as their pages say: added up by variant. Nothing that is said can bend it far.

Who watches now: pages, by a random name that each has while it is open, and that nobody keeps.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import hdrs, web

from broadcaster.ipc.messages import MaxViewerDelay
from broadcaster.metrics import Histogram, Metric
from broadcaster.tracker.tracker import TokenBucket, limited_networks
from broadcaster.viewer_server.admission import ADMISSION, FEW, OF_A_SITE
from broadcaster.viewer_server.sampling import REPORT_SECONDS, ReportSampling, draw_of

STARTUP_SECONDS = (0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 60)
LATENCY_SECONDS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 60, 300)
# What a report is taken to say at most: more is said by who has been away, or is not true.
LONGEST_STARTUP, LONGEST_LATENCY = 120.0, 3600.0  # seconds
MOST_STALLS, LONGEST_STALLS, MOST_ERRORS = 10.0, 60.0, 50.0  # in ``REPORT_SECONDS``
MOST_VARIANTS = 50  # that there are labels for
UNKNOWN = "unknown"
ESTIMATED = "; an estimate while viewer_report_share is below 1"


class QoEMetrics:
    """``variants`` are those that are served now: no other name becomes a label."""

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
        """The variant, where it is one."""
        if isinstance(variant, str) and variant in self._variants() and len(self._known) < MOST_VARIANTS:
            self._known.add(variant)
        return variant if isinstance(variant, str) and variant in self._known else UNKNOWN

    def add(self, variant: str, report: Mapping[str, float], weight: float = 1, times: float = 1) -> None:
        """Add what a page has said, for ``weight`` pages; ``variant`` is a label.

        ``times`` is how much longer pages wait between reports than where all report.
        """
        self._stalls[variant] += weight * min(report.get("stalls", 0), times * MOST_STALLS)
        self._stalled[variant] += weight * min(report.get("stalled", 0), times * LONGEST_STALLS)
        self._errors[variant] += weight * min(report.get("errors", 0), times * MOST_ERRORS)
        if "startup" in report:
            self._startup.observe(min(report["startup"], LONGEST_STARTUP), variant)
        if "latency" in report:
            self._latency.observe(min(report["latency"], LONGEST_LATENCY), variant)

    def metrics(self) -> Iterator[Metric]:
        """All that was said."""
        yield self._startup.metric
        yield self._latency.metric
        text = f"Times that the picture stood still at viewers' for want of video{ESTIMATED}"
        yield Metric("viewer_stalls", text, self._stalls, labels=("variant",), is_counter=True)
        text = f"Seconds that it stood still{ESTIMATED}"
        yield Metric("viewer_stalled_seconds", text, self._stalled, labels=("variant",), is_counter=True)
        text = f"Errors in viewers' players, those they got over by themselves included{ESTIMATED}"
        yield Metric("viewer_errors", text, self._errors, labels=("variant",), is_counter=True)


MOST = 25_000  # pages that are remembered: as many as can report so often
BLIND_OF_A_SITE = 20  # pages without a picture that count: one address may have a network of its own
EARLIEST = 5.0  # seconds after which a page's word counts again


class WatchingPage(NamedTuple):
    """One that watches."""

    site: str | None
    draw: float
    variant: str
    heard: float  # monotonic


class PictureReport(NamedTuple):
    """What a page has last said of its picture."""

    site: str | None
    draw: float
    lit: bool
    heard: float  # monotonic


class PictureReports:
    """Counts pages by their latest report: those that have played something, and those with errors alone."""

    def __init__(self, sampling: ReportSampling, clock: Callable[[], float]) -> None:
        self._sampling = sampling
        self._clock = clock
        self._pages: OrderedDict[str, PictureReport] = OrderedDict()  # the latest heard of last
        self._blind_of_sites = Counter[str]()

    def heard(self, name: str, site: str | None, *, played: bool, errors: bool) -> None:
        """Take note of the report of a page of the sample."""
        self._remove(name)
        if not (played or errors) or len(self._pages) >= MOST:
            return
        if not played and site and self._blind_of_sites[site] >= self._sampling.part(BLIND_OF_A_SITE):
            return
        self._pages[name] = PictureReport(site, draw_of(name), played, self._clock())
        if not played and site:
            self._blind_of_sites[site] += 1

    @property
    def lit(self) -> int:
        """Pages that have a picture."""
        return self._count(lit=True)

    @property
    def blind(self) -> int:
        """Pages that report errors and have no picture."""
        return self._count(lit=False)

    def _count(self, *, lit: bool) -> int:
        for name in self._sampling.gone(self._pages):
            self._remove(name)
        return self._sampling.estimate(page.draw for page in self._pages.values() if page.lit is lit)

    def _remove(self, name: str) -> None:
        if (screen := self._pages.pop(name, None)) and not screen.lit and screen.site:
            self._blind_of_sites[screen.site] -= 1
            if not self._blind_of_sites[screen.site]:
                del self._blind_of_sites[screen.site]


class ViewerCounter:
    """Counts pages that watch; those of one site only as far as so many can share an address."""

    def __init__(self, sampling: ReportSampling, clock: Callable[[], float] = time.monotonic) -> None:
        self.furthest = MaxViewerDelay()
        self.screens = PictureReports(sampling, clock)
        self.sampling = sampling
        self._clock = clock
        self._pages: OrderedDict[str, WatchingPage] = OrderedDict()  # the latest heard of last
        self._of_sites: Counter[str] = Counter()

    def __len__(self) -> int:
        self._forget()
        return self.sampling.estimate(page.draw for page in self._pages.values())

    @property
    def error(self) -> int:
        """By how many their number may be wrong: two standard deviations."""
        self._forget()
        return self.sampling.error(page.draw for page in self._pages.values())

    @property
    def behind(self) -> float:
        """Seconds that the most delayed viewer is behind live."""
        return self.furthest.seconds(self._clock())

    def of_site(self, site: str | None) -> int:
        """Pages of a site that report; all pages where the site is not known."""
        return self._of_sites[site] if site else len(self._pages)

    def is_all(self, site: str | None) -> bool:
        """Whether all pages come from one site, and there are many: a proxy does not say whom it serves."""
        return site is not None and FEW <= self._of_sites[site] == len(self._pages)

    def heard(self, name: str, site: str | None, variant: str, *, leaves: bool = False) -> float:
        """A page says that it watches, or did and ``leaves``; returns for how many pages its report counts.

        Not too often, unless it is the last one, nor from too many.
        """
        now, draw = self._clock(), draw_of(name)
        before = self._remove(name)
        if draw >= self.sampling.share or (
            before is None and (len(self._pages) >= MOST or self._has_too_many(site))
        ):
            return 0.0
        if not leaves:
            self._pages[name] = WatchingPage(site, draw, variant, now)
            for one, _ in limited_networks(site) if site else []:
                self._of_sites[one] += 1
        counts = leaves or before is None or now - before.heard >= EARLIEST
        return self.sampling.weight(draw) if counts else 0.0

    def metrics(self) -> Iterator[Metric]:
        """How many there are."""
        self._forget()
        draws = defaultdict[str, list[float]](list)
        for page in self._pages.values():
            draws[page.variant].append(page.draw)
        counts = {variant: float(self.sampling.estimate(found)) for variant, found in draws.items()}
        text = f"Pages that watch now, by the variant that they say they play{ESTIMATED}"
        yield Metric("viewers", text, counts or {UNKNOWN: 0.0}, labels=("variant",))
        text = "By how many the number of viewers may be wrong (two standard deviations); 0 where all report"
        yield Metric("viewers_error", text, self.error)
        text = "The share of pages that report how they watch; BROADCASTER_REPORTS_PER_SECOND bounds it"
        yield Metric("viewer_report_share", text, self.sampling.share)
        text = f"Pages that report errors and have no picture{ESTIMATED}"
        yield Metric("viewers_without_picture", text, self.screens.blind)
        text = "Seconds that the viewer who is furthest behind live is behind, as pages say"
        yield Metric("viewer_furthest_seconds", text, self.behind)

    def _has_too_many(self, site: str | None) -> bool:
        return site is not None and any(
            self._of_sites[one] >= self.sampling.part(times * OF_A_SITE)
            for one, times in limited_networks(site)
        )

    def _forget(self) -> None:
        for name in self.sampling.gone(self._pages):
            self._remove(name)

    def _remove(self, name: str) -> WatchingPage | None:
        page = self._pages.pop(name, None)
        for one, _ in limited_networks(page.site) if page and page.site else []:
            self._of_sites[one] -= 1
            if not self._of_sites[one]:
                del self._of_sites[one]
        return page


MAX_BYTES = 1024  # of a report
MAX_SECONDS = 900.0  # that a report tells of, and that a page may be ahead: it fills its buffer first
# A page that plays uploads to several others, and what it says of that costs nobody anything.
UPLOADS = 4.0
LONGEST_BEHIND = 7 * 86_400.0  # seconds
MAX_SITES = 10_000  # that are remembered
MAX_REPORTS_PER_SECOND = 1000
SITE_REPORTS_PER_SECOND = OF_A_SITE / 20  # a page sends one in 25 s or less; all of a site may come at once
VIEWER = re.compile(r"[0-9a-f]{16}")  # the name of a page
SAID = ("startup", "stalls", "stalled", "latency", "errors")  # of how it watches
FIELDS = {"httpBytes": "bucket", "p2pBytes": "peers", "uploadedBytes": "uploaded"}


class ImplausibleReport(ValueError):  # noqa: N818 - no error: an answer
    """More than all pages of a site can have watched."""


@dataclass(slots=True)
class ReportBudget:
    """What a site may still say: seconds of video, and reports."""

    seconds: TokenBucket
    reports: TokenBucket


class PlaybackReports:
    """Counts the bytes that viewers say they got from the bucket and from each other, and who they are.

    Nobody can say more than the pages of a site that report can have played since the last report at so many
    bits per second (``bandwidth``).
    """

    def __init__(
        self,
        bandwidth: Callable[[], float],
        viewers: ViewerCounter,
        experience: QoEMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bandwidth = bandwidth
        self._viewers = viewers
        self._experience = experience
        self._clock = clock
        self._sites: OrderedDict[str | None, ReportBudget] = OrderedDict()  # the latest heard of last
        self._bytes = dict.fromkeys(FIELDS.values(), 0.0)
        self._watched = 0.0
        self._refused = 0
        self._second, self._reports = 0, 0

    def metrics(self) -> Iterator[Metric]:
        """What has been reported."""
        text = f"Bytes that viewers report: from the bucket, from peers, uploaded to peers{ESTIMATED}"
        yield Metric("viewer_bytes", text, self._bytes, labels=("source",), is_counter=True)
        text = f"Seconds that viewers report to have watched{ESTIMATED}"
        yield Metric("viewer_seconds", text, self._watched, is_counter=True)
        text = "Reports that could not be true"
        yield Metric("viewer_reports_refused", text, self._refused, is_counter=True)

    def comes_from_all(self, site: str | None) -> bool:
        """Whether a site is the address of all viewers, which has no bounds of its own."""
        return self._viewers.is_all(site)

    def has_room(self, site: str | None = None) -> bool:
        """Whether another report of a site may be taken now: one site leaves room to the others."""
        for name, times in limited_networks(site) if site else []:
            if not self._allowance(name, times).reports.take(self._clock()):
                return False
        second = int(self._clock())
        if second != self._second:
            self._second, self._reports = second, 0
        self._reports += 1
        return self._reports <= MAX_REPORTS_PER_SECOND

    def add(self, text: str, site: str | None = None) -> None:
        """Add the report of a page; raises ValueError if malformed, ImplausibleReport if untrue."""
        report = json.loads(text)
        if not isinstance(report, dict):
            raise ValueError("not an object")  # noqa: TRY004 - one error for all that is wrong
        seconds = _number(report.get("seconds"), MAX_SECONDS)
        counts = {source: _number(report.get(name, 0)) for name, source in FIELDS.items()}
        behind = _number(report.get("behind", 0), LONGEST_BEHIND)
        weight = self._watched_by(report, site)
        played = 8 * (counts["bucket"] + counts["peers"]) / self._bandwidth()
        uploaded = 8 * counts["uploaded"] / self._bandwidth() / UPLOADS
        if not self._allowance(site).seconds.take(self._clock(), max(seconds, played, uploaded)):
            self._refused += 1
            raise ImplausibleReport("more than can be")
        self._watched += weight * seconds
        self._viewers.furthest.note(behind, self._clock())
        for source, count in counts.items():
            self._bytes[source] += weight * count

    def _watched_by(self, report: dict[str, object], site: str | None) -> float:
        """Count the page, if it has a name, and add up how it fares; returns how many pages it is for."""
        name = report.get("viewer")
        if name is None:
            return 1.0
        if not isinstance(name, str) or not VIEWER.fullmatch(name):
            raise ValueError("a viewer has a name of 16 hexadecimal digits")
        said = {key: _number(report[key]) for key in SAID if key in report}
        variant = self._experience.label(report.get("variant"))
        seconds = _number(report.get("seconds"), MAX_SECONDS)
        weight = self._viewers.sampling.weight(draw_of(name))
        if weight:
            self._viewers.screens.heard(name, site, played=seconds > 0, errors=said.get("errors", 0) > 0)
        counts = self._viewers.heard(name, site, variant, leaves=report.get("over") is True)
        if counts:
            self._experience.add(variant, said, counts, self._viewers.sampling.longest / REPORT_SECONDS)
        return weight

    def _allowance(self, site: str | None, times: int = 1) -> ReportBudget:
        """What the pages of a site may still report; those of an organisation, so many ``times`` as much."""
        now, pages = self._clock(), max(1, self._viewers.of_site(site))
        allowance = self._sites.pop(site, None)
        if allowance is None:
            seconds = TokenBucket.full(pages, MAX_SECONDS * pages, now)
            allowance = ReportBudget(
                seconds, TokenBucket.full(times * SITE_REPORTS_PER_SECOND, times * OF_A_SITE, now)
            )
        self._sites[site] = allowance
        if len(self._sites) > MAX_SITES:
            self._sites.popitem(last=False)
        allowance.seconds.resize(pages, MAX_SECONDS * pages, now)
        return allowance


PLAYBACK_REPORTS = web.AppKey("PLAYBACK_REPORTS", PlaybackReports)


async def beacon(request: web.Request) -> web.Response:
    """Take a page's report (``navigator.sendBeacon``): 204; 400 for what is none, 429 when it is too much."""
    headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "no-store"}
    site = request.app[ADMISSION].site(request)
    if request.app[PLAYBACK_REPORTS].comes_from_all(site):
        request.app[ADMISSION].warn_of_shared_address()
        site = None
    if not request.app[PLAYBACK_REPORTS].has_room(site):
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
        return web.Response(status=413, headers=headers)
    try:
        request.app[PLAYBACK_REPORTS].add(await request.text(), site)
    except ImplausibleReport:
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    except (ValueError, LookupError, RecursionError):
        return web.Response(status=400, text="This is no report.\n", headers=headers)
    return web.Response(status=204, headers=headers)


def _number(value: object, most: float = 1e15) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("a number is missing or out of range")
    return value
