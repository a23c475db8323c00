"""What pages report of where their video came from: added up, and nothing else kept."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from aiohttp import hdrs, web

from broadcaster.audience.places import site_of
from broadcaster.figures import Figure
from broadcaster.tracker.limits import Bucket

MAX_BYTES = 1024  # of a report
MAX_SECONDS = 300.0  # that a report tells of, and that a page may be ahead: it fills its buffer first
# A page that plays uploads to several others, and what it says of that costs nobody anything.
UPLOADS = 4.0
MAX_SITES = 10_000  # that are remembered
MAX_REPORTS_PER_SECOND = 1000
FIELDS = {"httpBytes": "bucket", "p2pBytes": "peers", "uploadedBytes": "uploaded"}


class TooMuch(ValueError):  # noqa: N818 - no error: an answer
    """More than all pages of a site can have watched."""


class Beacon:
    """Counts the bytes that viewers say they got from the bucket and from each other.

    Nobody can say more than so many ``pages`` of a site can have played since the last report at so many bits
    per second (``bandwidth``).
    """

    def __init__(
        self,
        bandwidth: Callable[[], float],
        pages: Callable[[str | None], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bandwidth = bandwidth
        self._pages = pages
        self._clock = clock
        self._sites: OrderedDict[str | None, Bucket] = OrderedDict()  # the latest heard of last
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

    def has_room(self) -> bool:
        """Whether another report may be taken in this second."""
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
        played = 8 * (counts["bucket"] + counts["peers"]) / self._bandwidth()
        uploaded = 8 * counts["uploaded"] / self._bandwidth() / UPLOADS
        if not self._bucket(site).take(self._clock(), max(seconds, played, uploaded)):
            self._refused += 1
            raise TooMuch("more than can be")
        self._watched += seconds
        for source, count in counts.items():
            self._bytes[source] += count

    def _bucket(self, site: str | None) -> Bucket:
        """Seconds of video that the pages of a site may still report."""
        pages = max(1, self._pages(site))
        bucket = self._sites.pop(site, None)
        if bucket is None:
            bucket = Bucket.full(pages, MAX_SECONDS * pages, self._clock())
        self._sites[site] = bucket
        if len(self._sites) > MAX_SITES:
            self._sites.popitem(last=False)
        bucket.grow(pages, MAX_SECONDS * pages, self._clock())
        return bucket


BEACON = web.AppKey("BEACON", Beacon)


async def beacon(request: web.Request) -> web.Response:
    """Take a page's report (``navigator.sendBeacon``): 204; 400 for what is none, 429 when it is too much."""
    headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "no-store"}
    if not request.app[BEACON].has_room():
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
        return web.Response(status=413, headers=headers)
    try:
        request.app[BEACON].add(await request.text(), site_of(request.remote, request.headers))
    except TooMuch:
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    except (ValueError, LookupError, RecursionError):
        return web.Response(status=400, text="This is no report.\n", headers=headers)
    return web.Response(status=204, headers=headers)


def _number(value: object, most: float = 1e15) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("a number is missing or out of range")
    return value
