"""What pages report of how they watch and of where their video came from: added up, and nothing else kept.

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
from broadcaster.viewer_server.admission import ADMISSION, OF_A_SITE

STARTUP_SECONDS = (0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 60)
LATENCY_SECONDS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 60, 300)
# What a report is taken to say at most: more is said by who has been away, or is not true.
LONGEST_STARTUP, LONGEST_LATENCY, LONGEST_STALLS = 120.0, 3600.0, 60.0  # seconds
MOST_STALLS, MOST_ERRORS = 10.0, 50.0
MOST_VARIANTS = 50  # that there are labels for
UNKNOWN = "unknown"


class QoEMetrics:
    """``variants`` are those that are served now: no other name becomes a label."""

    def __init__(self, variants: Callable[[], Collection[str]]) -> None:
        self._variants = variants
        self._known: set[str] = set()
        self._stalls: defaultdict[str, float] = defaultdict(float)
        self._stalled: defaultdict[str, float] = defaultdict(float)
        self._errors: defaultdict[str, float] = defaultdict(float)
        text = "From the opening of the page, or a click, to the first picture"
        self._startup = Histogram("viewer_startup_seconds", text, STARTUP_SECONDS, ("variant",))
        text = "How far behind the end of the playlist viewers are, at each report"
        self._latency = Histogram("viewer_latency_seconds", text, LATENCY_SECONDS, ("variant",))

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

    def metrics(self) -> Iterator[Metric]:
        """All that was said."""
        yield self._startup.metric
        yield self._latency.metric
        text = "Times that the picture stood still at viewers' for want of video"
        yield Metric("viewer_stalls", text, self._stalls, labels=("variant",), is_counter=True)
        text = "Seconds that it stood still"
        yield Metric("viewer_stalled_seconds", text, self._stalled, labels=("variant",), is_counter=True)
        text = "Errors in viewers' players, those they got over by themselves included"
        yield Metric("viewer_errors", text, self._errors, labels=("variant",), is_counter=True)


MEMORY = 60.0  # seconds for which a page counts after its last report; it sends one every 25
MOST = 25_000  # pages: as many as can report so often
BLIND_OF_A_SITE = 20  # pages without a picture that count: one address may have a network of its own
EARLIEST = 5.0  # seconds after which a page's word counts again


class WatchingPage(NamedTuple):
    """One that watches."""

    site: str | None
    variant: str
    heard: float  # monotonic


class PictureReport(NamedTuple):
    """What a page has last said of its picture."""

    site: str | None
    lit: bool
    heard: float  # monotonic


class PictureReports:
    """Counts pages by their latest report: those that have played something, and those with errors alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pages: OrderedDict[str, PictureReport] = OrderedDict()  # the latest heard of last
        self._count = Counter[bool]()  # by whether there is a picture
        self._blind_of_sites = Counter[str]()

    def heard(self, name: str, site: str | None, *, played: bool, errors: bool) -> None:
        """Take note of a page's report."""
        self._remove(name)
        if not (played or errors) or len(self._pages) >= MOST:
            return
        if not played and site and self._blind_of_sites[site] >= BLIND_OF_A_SITE:
            return
        self._pages[name] = PictureReport(site, played, self._clock())
        self._count[played] += 1
        if not played and site:
            self._blind_of_sites[site] += 1

    @property
    def lit(self) -> int:
        """Pages that have a picture."""
        self._forget()
        return self._count[True]

    @property
    def blind(self) -> int:
        """Pages that report errors and have no picture."""
        self._forget()
        return self._count[False]

    def _forget(self) -> None:
        oldest = self._clock() - MEMORY
        while self._pages and next(iter(self._pages.values())).heard < oldest:
            self._remove(next(iter(self._pages)))

    def _remove(self, name: str) -> None:
        if screen := self._pages.pop(name, None):
            self._count[screen.lit] -= 1
            if not screen.lit and screen.site:
                self._blind_of_sites[screen.site] -= 1
                if not self._blind_of_sites[screen.site]:
                    del self._blind_of_sites[screen.site]


class ViewerCounter:
    """Counts pages that watch; those of one site only as far as so many can share an address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.furthest = MaxViewerDelay()
        self.screens = PictureReports(clock)
        self._clock = clock
        self._pages: OrderedDict[str, WatchingPage] = OrderedDict()  # the latest heard of last
        self._of_sites: Counter[str] = Counter()
        self._of_variants: Counter[str] = Counter()

    def __len__(self) -> int:
        self._forget()
        return len(self._pages)

    @property
    def behind(self) -> float:
        """Seconds that the most delayed viewer is behind live."""
        return self.furthest.seconds(self._clock())

    def heard(self, name: str, site: str | None, variant: str, *, leaves: bool = False) -> bool:
        """A page says that it watches, or did and ``leaves``; whether its word counts.

        Not too often, unless it is the last one, nor from too many.
        """
        self._forget()
        now = self._clock()
        before = self._remove(name)
        if before is None and (len(self._pages) >= MOST or self._has_too_many(site)):
            return False
        if leaves:
            return True
        self._pages[name] = WatchingPage(site, variant, now)
        self._of_variants[variant] += 1
        for one, _ in limited_networks(site) if site else []:
            self._of_sites[one] += 1
        return before is None or now - before.heard >= EARLIEST

    def metrics(self) -> Iterator[Metric]:
        """How many there are."""
        self._forget()
        text = "Pages that watch now, by the variant that they say they play"
        yield Metric("viewers", text, dict(self._of_variants) or {UNKNOWN: 0.0}, labels=("variant",))
        text = "Pages that report errors and have no picture"
        yield Metric("viewers_without_picture", text, self.screens.blind)
        text = "Seconds that the viewer who is furthest behind live is behind, as pages say"
        yield Metric("viewer_furthest_seconds", text, self.behind)

    def _has_too_many(self, site: str | None) -> bool:
        networks = limited_networks(site) if site else ()
        return any(self._of_sites[name] >= times * OF_A_SITE for name, times in networks)

    def _forget(self) -> None:
        oldest = self._clock() - MEMORY
        while self._pages and next(iter(self._pages.values())).heard < oldest:
            self._remove(next(iter(self._pages)))

    def _remove(self, name: str) -> WatchingPage | None:
        page = self._pages.pop(name, None)
        if page is None:
            return None
        of_site = [(self._of_sites, one) for one, _ in limited_networks(page.site)] if page.site else []
        for counts, of in (*of_site, (self._of_variants, page.variant)):
            counts[of] -= 1
            if not counts[of]:
                del counts[of]
        return page


MAX_BYTES = 1024  # of a report
MAX_SECONDS = 300.0  # that a report tells of, and that a page may be ahead: it fills its buffer first
# A page that plays uploads to several others, and what it says of that costs nobody anything.
UPLOADS = 4.0
LONGEST_BEHIND = 7 * 86_400.0  # seconds
MAX_SITES = 10_000  # that are remembered
MAX_REPORTS_PER_SECOND = 1000
SITE_REPORTS_PER_SECOND = OF_A_SITE / 20  # a page sends one in 25 seconds; all of a site may come at once
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

    Nobody can say more than so many ``pages`` of a site can have played since the last report at so many bits
    per second (``bandwidth``).
    """

    def __init__(
        self,
        bandwidth: Callable[[], float],
        pages: Callable[[str | None], int],
        viewers: ViewerCounter,
        experience: QoEMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bandwidth = bandwidth
        self._pages = pages
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
        text = "Bytes that viewers report: from the bucket, from peers, uploaded to peers"
        yield Metric("viewer_bytes", text, self._bytes, labels=("source",), is_counter=True)
        text = "Seconds that viewers report to have watched"
        yield Metric("viewer_seconds", text, self._watched, is_counter=True)
        text = "Reports that could not be true"
        yield Metric("viewer_reports_refused", text, self._refused, is_counter=True)

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
        self._watched_by(report, site)
        played = 8 * (counts["bucket"] + counts["peers"]) / self._bandwidth()
        uploaded = 8 * counts["uploaded"] / self._bandwidth() / UPLOADS
        if not self._allowance(site).seconds.take(self._clock(), max(seconds, played, uploaded)):
            self._refused += 1
            raise ImplausibleReport("more than can be")
        self._watched += seconds
        self._viewers.furthest.note(behind, self._clock())
        for source, count in counts.items():
            self._bytes[source] += count

    def _watched_by(self, report: dict[str, object], site: str | None) -> None:
        """Count the page, if it says which it is, and add up how it fares."""
        name = report.get("viewer")
        if name is None:
            return
        if not isinstance(name, str) or not VIEWER.fullmatch(name):
            raise ValueError("a viewer has a name of 16 hexadecimal digits")
        said = {key: _number(report[key]) for key in SAID if key in report}
        variant = self._experience.label(report.get("variant"))
        seconds = _number(report.get("seconds"), MAX_SECONDS)
        self._viewers.screens.heard(name, site, played=seconds > 0, errors=said.get("errors", 0) > 0)
        if self._viewers.heard(name, site, variant, leaves=report.get("over") is True):
            self._experience.add(variant, said)

    def _allowance(self, site: str | None, times: int = 1) -> ReportBudget:
        """What the pages of a site may still report; those of an organisation, so many ``times`` as much."""
        now, pages = self._clock(), max(1, self._pages(site))
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
