"""The health of a relay."""

from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from yarl import URL

from broadcaster.errors import StorageUnavailable
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.ipc.messages import State, View, ViewerProblem
from broadcaster.relay.follower import OriginFollower
from broadcaster.relay.origin import Origin
from broadcaster.relay.segments import FAILING, REQUESTED, SegmentHandler
from broadcaster.relay.serve import RelayHealth, Savings
from broadcaster.relay.url_map import MappedObject, UrlMap
from tests.support.fakes.clock import Clock

BASE = URL("https://live.example.com/live/0/playlist.m3u8")


def standing(
    origin: Origin, state: State, *, silence: float = 0, media: str | None = None, trouble: str | None = None
) -> RelayHealth:
    """The health of a relay with parts in these states."""
    follower = SimpleNamespace(view=View(state, target_duration=2), silence=silence)
    problem = cast("ViewerProblem | None", trouble)
    return RelayHealth(
        origin,
        cast("OriginFollower", follower),
        cast("SegmentHandler", SimpleNamespace(fault=media)),
        list,
        lambda: problem,
    )


@pytest.mark.parametrize(
    ("silence", "fault", "away"),
    [(10.9, None, False), (11.1, None, True), (2.9, "is refused", False), (3.1, "is refused", True)],
)
def test_an_unreachable_origin(silence: float, fault: str | None, *, away: bool) -> None:
    """An origin is unreachable soon after a failure, or when a blocking request should have been answered."""
    clock = Clock()
    origin = Origin(cast("Any", None), "https://live.example.com", clock)
    origin.fault = fault
    clock.now += silence
    relay = standing(origin, State.LIVE, trouble="encoder")
    report = relay.report()
    assert relay.is_unreachable is away
    assert (report.severity, report.trouble) == (("failing", "delivery") if away else ("warning", "encoder"))
    assert ("reconnecting" in relay.uplink) is away


@pytest.mark.parametrize(
    ("silence", "media", "trouble", "severity"),
    [
        (11.0, None, None, "ok"),
        (11.1, None, None, "failing"),
        (11.1, None, "encoder", "warning"),
        (0.0, "HTTP 403", None, "failing"),
        (0.0, "HTTP 403", "encoder", "failing"),
    ],
)
def test_an_origin_that_answers_is_not_enough(
    silence: float, media: str | None, trouble: str | None, severity: str
) -> None:
    """A relay fails if a live stream's playlists have nothing new, or its segments cannot be fetched."""
    origin = Origin(cast("Any", None), "https://live.example.com", Clock())
    on = standing(origin, State.LIVE, silence=silence, media=media, trouble=trouble)
    assert on.report().severity == severity
    assert standing(origin, State.ENDED, silence=silence, media=media).report().severity == "ok"


async def test_segments_that_cannot_be_fetched() -> None:
    """Failing fetches of listed segments are a fault until a success, or until viewers stop requesting."""
    clock, away = Clock(), True
    url_map = UrlMap(clock)
    segments = tuple(MediaSegment(uri, timedelta(seconds=2)) for uri in ("1.ts", "2.ts"))
    ours, _ = url_map.take("0", MediaPlaylist(2, 1, segments=segments), BASE)
    url_map.take("0", MediaPlaylist(2, 2, segments=segments[1:]), BASE)

    async def fetch(_: MappedObject) -> bytes:
        if away:
            raise StorageUnavailable("HTTP 503")
        return b"x"

    media = SegmentHandler(url_map, fetch, lambda _: None, 100, clock)

    async def ask(number: int) -> str | None:
        found = url_map.find(*ours.segments[number].uri.split("/")[2:])
        assert found
        with suppress(StorageUnavailable):
            await media.fetched(found)
        return media.fault

    assert await ask(1) is None
    clock.now += FAILING
    assert await ask(0) is None
    assert await ask(1) == "HTTP 503"
    clock.now += REQUESTED
    assert media.fault is None
    assert await ask(1) == "HTTP 503"
    away = False
    assert await ask(1) is None


@pytest.mark.parametrize(("answers", "fetched", "rate"), [(0, 3, 0.0), (100, 2, 0.98), (1, 5, 0.0)])
def test_the_hit_rate(answers: int, fetched: int, rate: float) -> None:
    """The hit rate is the share of answers without a fetch, and never negative."""
    savings = Savings(answers, fetched, sent=100, received=250)
    assert (savings.hit_rate, savings.bytes) == (rate, 0)
