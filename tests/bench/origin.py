"""What reaches the origin behind nginx with the shipped file: every route, every byte of both ways.

600 pages join within a minute; a tenth of them leaves within the next, and comes back. 40 minutes are scaled
from a part in which all watch; ``measure_in_full`` watches for 40 minutes.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.http import raise_file_limit
from tests.bench.report import Figure, percentile, progress
from tests.support.judges.origin_costs import Case, Costs, costs
from tests.support.servers.counted_origin import EVENTS, PLAYLISTS, REPORTS

LENGTH = 2400  # seconds of the original's case
ORIGINAL = Case(variants=1, segment_seconds=6, viewers=600, join_within=60, leave=0.1, watch=240)
LARGER = replace(ORIGINAL, variants=3, segment_seconds=2, changes_every=600)
PER_SECOND = 5  # BROADCASTER_REPORTS_PER_SECOND
SELDOM = 0.1


def measure() -> list[Figure]:
    """The original's case, the same with few reports, and three variants of two-second segments."""
    return [
        *_measure("1 x 6 s", ORIGINAL),
        *_measure(f"1 x 6 s, {SELDOM:g} reports/s", ORIGINAL, SELDOM),
        *_measure("3 x 2 s", LARGER),
    ]


def measure_in_full() -> list[Figure]:
    """The original's case, nothing scaled."""
    return _measure("1 x 6 s", replace(ORIGINAL, watch=LENGTH - ORIGINAL.settling))


def _measure(name: str, case: Case, per_second: float = PER_SECOND) -> list[Figure]:
    raise_file_limit(10**5)
    progress(f"origin: {name}, {case.settling + case.watch:.0f} s")
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_run(Path(folder), case, per_second))
    return [replace(figure, name=f"{name}: {figure.name}") for figure in _figures(found, case, per_second)]


async def _run(folder: Path, case: Case, per_second: float) -> Costs:
    async with SeaweedBucket(folder / "bucket") as bucket:
        return await costs(folder, bucket, case, BROADCASTER_REPORTS_PER_SECOND=f"{per_second:g}")


def _figures(found: Costs, case: Case, per_second: float) -> Iterator[Figure]:
    joining, watching, pages = found.joining, found.watching, found.pages.figures
    times = (LENGTH - joining.seconds) / watching.seconds
    promised = case.variants == 1  # it is the original's case
    for route in sorted({*joining.routes, *watching.routes}):
        first, then = joining.routes[route], watching.routes[route]
        yield Figure(f"{route}, requests", first.requests + times * then.requests)
        yield Figure(f"{route}, bytes", (first.bytes + times * then.bytes) / 1e6, "MB")
        yield Figure(f"{route}, connections at once", max(first.most_open, then.most_open))
    reports = joining.requests(REPORTS) + times * watching.requests(REPORTS)
    whole = joining.requests() + times * watching.requests()
    few = promised and per_second < 1
    yield Figure("all requests", whole, at_most=999 if few else None)
    yield Figure("all but reports", whole - reports, at_most=700 if promised else None)
    yield Figure("reports per second, mean", reports / LENGTH, at_most=per_second)
    most = max(watching.by_second(REPORTS).values(), default=0)
    yield Figure("reports in a second, all watch", most, at_most=max(1, 1.7 * per_second))
    yield Figure("reports in a second, pages join", max(joining.by_second(REPORTS).values(), default=0))
    megabytes = (joining.bytes + times * watching.bytes) / 1e6
    yield Figure("all bytes", megabytes, "MB", at_most=45 if promised else None)
    yield Figure("connections at once, all watch", watching.most_open, at_most=20)
    yield Figure("connections at once, pages join", joining.most_open)
    yield Figure("connections, mean", (joining.open_seconds + times * watching.open_seconds) / LENGTH)
    playlists = watching.requests(PLAYLISTS) / found.versions
    yield Figure("playlists per version", playlists, at_most=1.1 if promised else None)
    yield Figure("events per version", watching.requests(EVENTS) / found.versions, at_most=1.5)
    for share in (0.5, 0.99):
        late = percentile(found.pages.late, share)
        yield Figure(f"segment made to known by a page, p{100 * share:.0f}", late, "s")
    yield Figure("requests of all pages", pages.requests())
    yield Figure("stalls of all pages", pages.stalls, at_most=0)
    yield Figure("answers that were no success", sum(pages.refused().values()), at_most=0)
