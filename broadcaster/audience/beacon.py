"""What pages report of where their video came from: added up, and nothing else kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from aiohttp import hdrs, web

from broadcaster.figures import Figure

MAX_BYTES = 1024  # of a report
MAX_SECONDS = 300
MAX_BYTES_PER_SECOND = 100_000_000 // 8  # more than any stream has: nobody shall bend the figures at will
MAX_REPORTS_PER_SECOND = 1000
FIELDS = {"httpBytes": "bucket", "p2pBytes": "peers", "uploadedBytes": "uploaded"}


class Beacon:
    """Counts the bytes that viewers say they got from the bucket and from each other."""

    def __init__(self) -> None:
        self._bytes = dict.fromkeys(FIELDS.values(), 0.0)
        self._watched = 0.0
        self._second, self._reports = 0, 0

    def figures(self) -> Iterator[Figure]:
        """What has been reported."""
        text = "Bytes that viewers report: from the bucket, from peers, uploaded to peers"
        yield Figure("viewer_bytes", text, self._bytes, labels=("source",), rises=True)
        text = "Seconds that viewers report to have watched"
        yield Figure("viewer_seconds", text, self._watched, rises=True)

    def has_room(self, now: float) -> bool:
        """Whether another report may be taken in this second (monotonic)."""
        if int(now) != self._second:
            self._second, self._reports = int(now), 0
        self._reports += 1
        return self._reports <= MAX_REPORTS_PER_SECOND

    def add(self, text: str) -> None:
        """Add a report up; raises ValueError for what is none, or cannot be true."""
        report = json.loads(text)
        if not isinstance(report, dict):
            raise ValueError("not an object")  # noqa: TRY004 - one error for all that is wrong
        seconds = _number(report.get("seconds"), MAX_SECONDS)
        most = max(seconds, 1) * MAX_BYTES_PER_SECOND
        counts = {source: _number(report.get(name, 0), most) for name, source in FIELDS.items()}
        self._watched += seconds
        for source, count in counts.items():
            self._bytes[source] += count


BEACON = web.AppKey("BEACON", Beacon)


async def beacon(request: web.Request) -> web.Response:
    """Take a page's report (``navigator.sendBeacon``): 204; 400 for what is none, 429 when it is too much."""
    headers = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "no-store"}
    if not request.app[BEACON].has_room(time.monotonic()):
        return web.Response(status=429, headers={**headers, hdrs.RETRY_AFTER: "30"})
    if (request.content_length or MAX_BYTES + 1) > MAX_BYTES:
        return web.Response(status=413, headers=headers)
    try:
        request.app[BEACON].add(await request.text())
    except (ValueError, LookupError, RecursionError):
        return web.Response(status=400, text="This is no report.\n", headers=headers)
    return web.Response(status=204, headers=headers)


def _number(value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("a number is missing or out of range")
    return value
