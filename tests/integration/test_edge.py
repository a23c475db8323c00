"""What reaches the service behind nginx from an audience: every route, every byte of both ways.

Pages are simulated, hundreds of them. The original's case is one variant of 6-second segments for 40 minutes,
and 600 viewers: at full length (``SOAK=1``) it is that, nothing scaled.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support import length
from tests.support.judges.origin_costs import Case, Costs, costs
from tests.support.servers.counted_origin import EVENTS, PLAYLISTS, REPORTS, Traffic

LENGTH = 2400  # seconds of the original's case
MOST_BYTES = 45e6  # in that time
LATE = {503, 504}  # a busy machine is too late for the service, or for nginx
ORIGINAL = Case(variants=1, segment_seconds=6, viewers=600, join_within=60, watch=240, leave=0.1)
SHORT = Case(variants=3, segment_seconds=2, viewers=100, join_within=3, watch=6)
CASES = [
    replace(ORIGINAL, watch=LENGTH - ORIGINAL.settling),
    replace(ORIGINAL, variants=3, segment_seconds=2),
]


@pytest.mark.takes(25)
@pytest.mark.parametrize("case", CASES if length.SOAK else [SHORT], ids=lambda case: f"{case.variants}")
async def test_hundreds_of_pages(tmp_path: Path, bucket: SeaweedBucket, case: Case) -> None:
    """Each version is asked for once, over few connections; no page sees an older playlist than before."""
    found = await costs(tmp_path, bucket, case)
    show(found)
    watching, figures = found.watching, found.pages.figures
    # Pages ask once more for these.
    late = sum(count for (_, status), count in figures.answers.items() if status in LATE)
    slow = 1 if length.SOAK else 3  # a busy machine has pages join while others watch
    # One of each variant is under way at the begin.
    assert watching.requests(PLAYLISTS) <= slow * 1.1 * (found.versions + case.variants) + late
    assert watching.requests(EVENTS) <= slow * 1.5 * (found.versions + 1) + late
    blocked = [count for path, count in watching.paths(PLAYLISTS).items() if "_HLS_msn=" in path]
    assert set(blocked) == {1} or late
    assert watching.most_open <= slow * 20
    assert watching.bytes <= MOST_BYTES * watching.seconds / LENGTH
    assert figures.requests(PLAYLISTS) >= case.viewers * found.versions / case.variants or late
    assert figures.fell == []
    assert {status for _, status in figures.answers} <= {200, 204, *LATE}
    if length.SOAK:
        assert figures.refused() == {}
        assert figures.stalls == 0
        assert max(watching.by_second(REPORTS).values()) <= 1.7 * 5
    if case in CASES[:1]:
        both = found.joining, watching
        assert sum(origin.requests() - origin.requests(REPORTS) for origin in both) <= 700
        assert sum(origin.requests(REPORTS) for origin in both) <= 5 * LENGTH
        assert sum(origin.bytes for origin in both) <= MOST_BYTES


@pytest.mark.skipif(not length.SOAK, reason="make soak runs it")
async def test_few_reports(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """With a report in ten seconds all requests of the original's case are fewer than 1,000."""
    found = await costs(tmp_path, bucket, ORIGINAL, BROADCASTER_REPORTS_PER_SECOND="0.1")
    show(found)
    times = (LENGTH - found.joining.seconds) / found.watching.seconds
    assert found.joining.requests() + times * found.watching.requests() < 1000


def show(found: Costs) -> None:
    figures = found.pages.figures
    print(f"\n{len(found.pages.pages)} pages, {figures.requests()} requests, {figures.stalls} stalls")
    for name, traffic in (("joining", found.joining), ("watching", found.watching)):
        print(
            f"{name}, {traffic.seconds:.0f} s: {traffic.requests()} requests, {traffic.bytes} bytes, ", end=""
        )
        print(f"{traffic.mean_open:.1f} connections, {traffic.most_open} at most; {found.versions} versions")
        show_routes(traffic)


def show_routes(traffic: Traffic) -> None:
    for name, route in sorted(traffic.routes.items()):
        print(f"  {name}: {route.requests} requests, {route.bytes} bytes, {route.most_open} connections")
