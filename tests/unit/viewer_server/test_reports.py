"""Who watches, and how they fare: by the reports of pages, which strangers can forge."""

import json
import math
import sys

import pytest

from broadcaster.viewer_server import events as event_stream
from broadcaster.viewer_server.admission import VIEWERS_PER_NETWORK
from broadcaster.viewer_server.reports import (
    LONGEST_LATENCY,
    MAX_REPORTS_PER_SECOND,
    MOST,
    MOST_STALLS,
    MOST_VARIANTS,
    MOST_WITHOUT_PICTURE,
    ReportSampling,
    ViewerCounter,
)
from tests.support.fakes.playback_reports import Gate, name_of
from tests.support.fakes.viewer_app import Client, ViewerApp


def test_who_watches_now() -> None:
    """Each page once, as long as it reports; not after it has left, or has been silent for a minute."""
    gate = Gate("0", "1")
    for after in (0, 25, 50):
        gate.now = 1000 + after
        for number in range(50):
            assert gate.send(number, f"site {number % 7}", variant="0" if number % 2 else "1")
    assert len(gate.viewers) == 50
    assert gate.metrics['broadcaster_viewers{variant="0"}'] == 25
    gate.send(7, over=True)
    gate.send(8, over=True)
    gate.send(9, variant="1")
    assert len(gate.viewers) == 48
    assert gate.metrics['broadcaster_viewers{variant="1"}'] == 25
    gate.now += 60
    assert len(gate.viewers) == 48
    gate.now += 1
    assert len(gate.viewers) == 0
    assert gate.metrics['broadcaster_viewers{variant="unknown"}'] == 0


def test_who_has_a_picture() -> None:
    """By the latest report of the last minute: errors and nothing played are no picture."""
    gate = Gate("0")
    pictures = gate.viewers.pictures
    gate.send(1, errors=3, over=True)  # a page that has never played
    gate.send(2, errors=1, seconds=25)
    gate.send(3, seconds=25)
    gate.send(4, over=True)
    assert (pictures.with_picture, pictures.without_picture) == (2, 1)
    gate.now += 25
    gate.send(1, seconds=20)
    gate.send(2, errors=2)
    gate.send(3, over=True)
    assert (pictures.with_picture, pictures.without_picture) == (1, 1)
    assert gate.metrics["broadcaster_viewers_without_picture"] == 1
    gate.now += 61
    assert (pictures.with_picture, pictures.without_picture) == (0, 0)
    for number in range(1000):
        gate.send(number, "hostile", errors=1, over=True)
    assert pictures.without_picture == MOST_WITHOUT_PICTURE


def test_who_has_no_decoder() -> None:
    """They are counted by the codec, and are none of those with errors; unknown names are one."""
    gate = Gate("0")
    pictures = gate.viewers.pictures
    gate.send(1, errors=1, undecodable="HEVC, AC-3", over=True)
    gate.send(2, undecodable="HEVC", over=True)
    gate.send(3, undecodable="<x>", seconds=25)
    gate.send(4, undecodable=7, errors=1)
    assert pictures.undecodable == {"HEVC": 2, "unknown": 1}
    assert (pictures.with_picture, pictures.without_picture) == (0, 1)
    assert gate.metrics['broadcaster_viewers_undecodable{codec="HEVC"}'] == 2
    gate.now += 61
    assert pictures.undecodable == {}


def test_how_they_fare() -> None:
    """By the variant that they play: starts, stalls, latency, errors."""
    gate = Gate("0", "1")
    gate.send(1, variant="0", startup=1.2, latency=2.5, stalls=0, errors=1)
    gate.send(2, variant="1", startup=0.7, latency=40.0, stalls=2, stalled=3.5)
    figures = gate.metrics
    assert figures['broadcaster_viewer_startup_seconds_bucket{le="1.0",variant="0"}'] == 0
    assert figures['broadcaster_viewer_startup_seconds_bucket{le="1.5",variant="0"}'] == 1
    assert figures['broadcaster_viewer_startup_seconds_count{variant="1"}'] == 1
    assert figures['broadcaster_viewer_latency_seconds_sum{variant="1"}'] == 40
    assert figures['broadcaster_viewer_stalls_total{variant="1"}'] == 2
    assert figures['broadcaster_viewer_stalled_seconds_total{variant="1"}'] == 3.5
    assert figures['broadcaster_viewer_errors_total{variant="0"}'] == 1


def test_ten_thousand_hostile_reports() -> None:
    """One address: neither the count nor the figures nor memory grow past what so many pages can say."""
    gate = Gate("0")
    for number in range(100):
        gate.send(10**6 + number, "honest", variant="0", latency=3.0)
    taken = 0
    for number in range(10_000):
        gate.now += 0.001
        said = {"variant": f"v{number}", "stalls": 1e15, "errors": 1e15, "latency": 1e15, "startup": 1e15}
        taken += gate.send(number, "hostile", seconds=300, httpBytes=1e15, **said)
    assert len(gate.viewers) == 100 + VIEWERS_PER_NETWORK
    assert taken <= VIEWERS_PER_NETWORK + 10 * VIEWERS_PER_NETWORK / 20 + 1  # at once, and in ten seconds
    figures = gate.metrics
    assert all(math.isfinite(value) for value in figures.values())
    assert {name for name in figures if "v1" in name} == set()
    assert figures['broadcaster_viewer_stalls_total{variant="unknown"}'] == VIEWERS_PER_NETWORK * MOST_STALLS
    assert (
        figures['broadcaster_viewer_latency_seconds_sum{variant="unknown"}']
        == VIEWERS_PER_NETWORK * LONGEST_LATENCY
    )
    assert figures['broadcaster_viewer_latency_seconds_sum{variant="0"}'] == 300
    assert figures['broadcaster_viewer_bytes_total{source="bucket"}'] == 0
    assert sum(sys.getsizeof(value) for value in vars(gate.viewers).values()) < 200_000


def test_a_site_leaves_room_to_the_others() -> None:
    """Whoever sends all he can does not keep out those of other addresses."""
    gate = Gate("0")
    for number in range(2 * MAX_REPORTS_PER_SECOND):
        gate.send(number, "hostile")
    assert gate.send(10**6, "honest")


def test_many_addresses_take_no_more_than_there_is() -> None:
    """A botnet fills the count up to its bound; who is in it stays in it."""
    now = 0.0
    viewers = ViewerCounter(ReportSampling(1000, lambda: now), lambda: now)
    assert viewers.heard(name_of(0), "honest", "0")
    for number in range(1, MOST + 1000):
        viewers.heard(name_of(number), f"site {number}", "0")
    assert len(viewers) == MOST
    now = 30.0
    assert viewers.heard(name_of(0), "honest", "0")
    now = 61.0
    assert len(viewers) == 1


def test_a_page_is_not_heard_too_often() -> None:
    """Of what it says in the same moment only the first counts, or one page would outweigh all others."""
    gate = Gate("0")
    for _ in range(10):
        gate.send(1, variant="0", latency=100.0)
    assert gate.metrics['broadcaster_viewer_latency_seconds_count{variant="0"}'] == 1
    gate.now += 5
    gate.send(1, variant="0", latency=100.0)
    assert gate.metrics['broadcaster_viewer_latency_seconds_count{variant="0"}'] == 2


def test_the_last_word_counts() -> None:
    """Who leaves because the picture stood still may have reported a moment before."""
    gate = Gate("0")
    gate.send(1, variant="0", stalls=0)
    gate.send(1, variant="0", stalls=1, over=True)
    assert gate.metrics['broadcaster_viewer_stalls_total{variant="0"}'] == 1
    assert len(gate.viewers) == 0


def test_labels_are_bounded() -> None:
    """A variant that was served keeps its label, and there are only so many."""
    gate = Gate()
    for number in range(MOST_VARIANTS + 10):
        gate.served = [str(number)]
        gate.send(number, variant=str(number), stalls=1)
    names = [name for name in gate.metrics if name.startswith("broadcaster_viewer_stalls_total")]
    assert len(names) == MOST_VARIANTS + 1
    assert gate.experience.label("0") == "0"


@pytest.mark.parametrize(
    "said",
    [
        '"viewer": 7',
        '"viewer": "me"',
        f'"viewer": "{"0" * 17}"',
        f'"viewer": "{"0" * 16}", "latency": NaN',
        f'"viewer": "{"0" * 16}", "latency": 1e999',
        f'"viewer": "{"0" * 16}", "stalls": -1',
        f'"viewer": "{"0" * 16}", "errors": "many"',
        f'"viewer": "{"0" * 16}", "startup": true',
        f'"viewer": "{"0" * 16}", "startup": null',
    ],
)
async def test_reports_that_are_none(site: ViewerApp, client: Client, said: str) -> None:
    """Nobody is counted for one."""
    assert (await client.post("/live/beacon", data=f'{{"seconds": 0, {said}}}')).status == 400
    assert 'broadcaster_viewers{variant="unknown"} 0.0' in site.metrics()


async def test_pages_get_the_number_of_viewers(
    site: ViewerApp, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is the operator; whenever it changes, but not too often: each time wakes everybody up."""
    stream = site.server.event_stream
    first = stream.serial
    for number in range(3):
        report = json.dumps({"seconds": 0, "viewer": name_of(number)})
        assert (await client.post("/live/beacon", data=report)).status == 204
        site.server.refresh_status()
    assert [event.data for event in stream.since(first) or []] == ['{"viewers":1}']
    monkeypatch.setattr(event_stream, "VIEWERS_EVERY", 0.0)
    site.server.refresh_status()
    site.server.refresh_status()
    assert [event.data for event in stream.since(first) or []] == ['{"viewers":1}', '{"viewers":3}']
    assert stream.state()["viewers"] == 3
    assert site.server.pong().viewers == 3
