"""What pages report of how they watch and of where their video came from: added up, and nothing else kept."""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import hdrs, web

from broadcaster.audience.experience import Experience
from broadcaster.audience.places import OF_A_SITE, PLACES
from broadcaster.audience.viewers import Viewers
from broadcaster.figures import Figure
from broadcaster.tracker.addresses import bounded
from broadcaster.tracker.limits import Bucket

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


class TooMuch(ValueError):  # noqa: N818 - no error: an answer
    """More than all pages of a site can have watched."""


@dataclass(slots=True)
class Allowance:
    """What a site may still say: seconds of video, and reports."""

    seconds: Bucket
    reports: Bucket


class Beacon:
    """Counts the bytes that viewers say they got from the bucket and from each other, and who they are.

    Nobody can say more than so many ``pages`` of a site can have played since the last report at so many bits
    per second (``bandwidth``).
    """

    def __init__(
        self,
        bandwidth: Callable[[], float],
        pages: Callable[[str | None], int],
        viewers: Viewers,
        experience: Experience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bandwidth = bandwidth
        self._pages = pages
        self._viewers = viewers
        self._experience = experience
        self._clock = clock
        self._sites: OrderedDict[str | None, Allowance] = OrderedDict()  # the latest heard of last
        self._bytes = dict.fromkeys(FIELDS.values(), 0.0)
        self._watched = 0.0
        self._refused = 0
        self._second, self._reports = 0, 0

    def figures(self) -> Iterator[Figure]:
        """What has been reported."""
        text = "Bytes that viewers report: from the bucket, from peers, uploaded to peers"
        yield Figure("viewer_bytes", text, self._bytes, labels=("source",), rises=True)
        text = "Seconds that viewers report to have watched"
        yield Figure("viewer_seconds", text, self._watched, rises=True)
        text = "Reports that could not be true"
        yield Figure("viewer_reports_refused", text, self._refused, rises=True)

    def has_room(self, site: str | None = None) -> bool:
        """Whether another report of a site may be taken now: one site leaves room to the others."""
        for name, times in bounded(site) if site else []:
            if not self._allowance(name, times).reports.take(self._clock()):
                return False
        second = int(self._clock())
        if second != self._second:
            self._second, self._reports = second, 0
        self._reports += 1
        return self._reports <= MAX_REPORTS_PER_SECOND

    def add(self, text: str, site: str | None = None) -> None:
        """Add a report of a page up; raises ValueError for what is none, TooMuch for what cannot be true."""
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
            raise TooMuch("more than can be")
        self._watched += seconds
        self._viewers.furthest.heard(behind)
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

    def _allowance(self, site: str | None, times: int = 1) -> Allowance:
        """What the pages of a site may still report; those of an organisation, so many ``times`` as much."""
        now, pages = self._clock(), max(1, self._pages(site))
        allowance = self._sites.pop(site, None)
        if allowance is None:
            seconds = Bucket.full(pages, MAX_SECONDS * pages, now)
            allowance = Allowance(
                seconds, Bucket.full(times * SITE_REPORTS_PER_SECOND, times * OF_A_SITE, now)
            )
        self._sites[site] = allowance
        if len(self._sites) > MAX_SITES:
            self._sites.popitem(last=False)
        allowance.seconds.grow(pages, MAX_SECONDS * pages, now)
        return allowance


BEACON = web.AppKey("BEACON", Beacon)


async def beacon(request: web.Request) -> web.Response:
    """Take a page's report (``navigator.sendBeacon``): 204; 400 for what is none, 429 when it is too much."""
    headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "no-store"}
    site = request.app[PLACES].site(request)
    if not request.app[BEACON].has_room(site):
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
        return web.Response(status=413, headers=headers)
    try:
        request.app[BEACON].add(await request.text(), site)
    except TooMuch:
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    except (ValueError, LookupError, RecursionError):
        return web.Response(status=400, text="This is no report.\n", headers=headers)
    return web.Response(status=204, headers=headers)


def _number(value: object, most: float = 1e15) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("a number is missing or out of range")
    return value
