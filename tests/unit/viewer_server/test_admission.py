"""Which requests are admitted when connections are scarce."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from broadcaster.aio import FOR_LONG, TOO_LATE, EventLoopLag
from broadcaster.http import listening
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.tracker.tracker import Tracker, TrackerLimits
from broadcaster.viewer_server.admission import (
    FEW,
    REQUESTS_PER_VIEWER,
    VIEWERS_PER_NETWORK,
    AdmissionControl,
    NotAdmitted,
    RequestKind,
)
from tests.support.fakes.viewer_app import MEDIA, ViewerApp
from tests.support.waiting import eventually

PLACES = 10


def asks(
    address: str,
    headers: Mapping[str, str] | None = None,
    remote: str = "127.0.0.1",
    end: Callable[[], None] = lambda: None,
) -> web.Request:
    """A request that came through the tunnel."""
    request = SimpleNamespace(
        remote=remote,
        headers=CIMultiDict({"CF-Connecting-IP": address, **(headers or {})}),
        app={CONNECTIONS: Connections(PLACES)},
        protocol=object(),
        transport=SimpleNamespace(abort=end),
    )
    return cast("web.Request", request)


def taken(
    places: AdmissionControl, stack: contextlib.ExitStack, kind: RequestKind, count: int, address: str = ""
) -> int:
    """How many of ``count`` requests are admitted."""
    found = 0
    for _ in range(count):
        with contextlib.suppress(NotAdmitted):
            stack.enter_context(places.take(asks(address), kind))
            found += 1
    return found


def test_long_requests_leave_room() -> None:
    """Long requests of all kinds get four fifths of the connections, and ended requests make room."""
    places = AdmissionControl(100, EventLoopLag())
    with contextlib.ExitStack() as stack:
        assert taken(places, stack, RequestKind.EVENTS, 30) == 30
        assert taken(places, stack, RequestKind.TRACKER, 30) == 30
        assert taken(places, stack, RequestKind.WAITERS, 30) == 20
    with contextlib.ExitStack() as stack:
        assert taken(places, stack, RequestKind.WAITERS, 100) == 80


def of_a_site(places: int) -> int:
    """The limit of an address, over all kinds."""
    return min(REQUESTS_PER_VIEWER * VIEWERS_PER_NETWORK, int(0.8 * places) // 2)


def media_taken(places: AdmissionControl) -> float:
    """Requests for segments that last now."""
    return next(metric for metric in places.metrics() if metric.name == "long_requests").samples["media",]


@pytest.mark.parametrize("number", [100, 2000, 10_000])
def test_an_address_is_limited_over_all_kinds(number: int) -> None:
    """An address cannot take all connections by any mixture of kinds; other addresses are admitted."""
    places = AdmissionControl(number, EventLoopLag())
    with contextlib.ExitStack() as stack:
        assert taken(places, stack, RequestKind.EVENTS, 1, "9.9.9.9") == 1
        found = sum(
            taken(places, stack, kind, number // 7, "8.8.8.8") for kind in [*RequestKind, *RequestKind]
        )
        assert found == of_a_site(number)
        assert taken(places, stack, RequestKind.MEDIA, 30, "9.9.9.9") == 30
        assert media_taken(places) >= 30
    assert media_taken(places) == 0


def test_segments_have_connections_of_their_own() -> None:
    """Segments of a relay and other long requests have separate shares."""
    places = AdmissionControl(1000, EventLoopLag(), media=True)
    with contextlib.ExitStack() as stack:
        assert taken(places, stack, RequestKind.EVENTS, 1, "9.9.9.9") == 1
        assert taken(places, stack, RequestKind.MEDIA, 300, "8.8.8.8") == 100
        assert (
            sum(taken(places, stack, RequestKind.MEDIA, 1, f"1.1.1.{number}") for number in range(200)) == 100
        )
        assert (
            sum(taken(places, stack, RequestKind.EVENTS, 10, f"2.2.2.{number}") for number in range(200))
            == 599
        )


def test_an_organisation_is_limited() -> None:
    """All networks of an IPv6 subscriber have a common limit; the next subscriber has its own."""
    places = AdmissionControl(10_000, EventLoopLag())
    with contextlib.ExitStack() as stack:
        taken(places, stack, RequestKind.EVENTS, 1, "9.9.9.9")
        found = sum(
            taken(places, stack, RequestKind.EVENTS, 100, f"2606:4700:1:{network:x}::1")
            for network in range(100)
        )
        assert found == 4000  # half of what there is
        assert taken(places, stack, RequestKind.EVENTS, 10, "2606:4700:2::1") == 10


def test_all_viewers_from_one_address(caplog: pytest.LogCaptureFixture) -> None:
    """Behind a proxy without addresses all viewers share one: none is refused, and a line is logged."""
    places = AdmissionControl(5000, EventLoopLag())
    with contextlib.ExitStack() as stack:
        assert taken(places, stack, RequestKind.EVENTS, 3000, "8.8.8.8") == 3000
        assert caplog.text.count("all viewers come from one address") == 1
        assert "8.8.8.8" not in caplog.text
        assert places.network(asks("8.8.8.8")) is None  # other bounds do not hold either
        assert taken(places, stack, RequestKind.EVENTS, 1, "9.9.9.9") == 1
        assert taken(places, stack, RequestKind.EVENTS, 10, "8.8.8.8") == 0  # now it is one of two
        assert places.network(asks("8.8.8.8")) == "8.8.8.8"


def test_an_address_that_came_alone_makes_room() -> None:
    """After one address has taken all connections, other addresses are admitted in its place."""
    places, ended = AdmissionControl(1000, EventLoopLag()), list[int]()
    with contextlib.ExitStack() as stack:
        for number in range(800):
            request = asks("8.8.8.8", end=partial(ended.append, number))
            stack.enter_context(places.take(request, RequestKind.WAITERS))
        assert taken(places, stack, RequestKind.EVENTS, 5, "9.9.9.9") == 5
        assert taken(places, stack, RequestKind.EVENTS, 5, "8.8.8.8") == 0
    assert ended == [799, 798, 797, 796, 795]


@pytest.mark.parametrize(
    ("trusted", "site"),
    [(None, "1.1.1.1"), ("cf-connecting-ip", "1.1.1.1"), ("x-forwarded-for", "9.9.9.9"), ("none", None)],
)
def test_the_trusted_header(trusted: str | None, site: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """The trusted header has the address; without a setting, a contradiction is logged once."""
    places = AdmissionControl(PLACES, EventLoopLag(), trusted)
    headers = {"X-Forwarded-For": "2.2.2.2, 9.9.9.9", "none": "3.3.3.3"}
    for _ in range(2):
        assert places.network(asks("1.1.1.1", headers)) == site
    assert caplog.text.count("with different addresses") == (trusted is None)
    assert "1.1.1.1" not in caplog.text


def test_headers_of_strangers_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """Headers from other machines are ignored, whichever header is trusted."""
    for trusted in (None, "cf-connecting-ip", "x-forwarded-for"):
        request = asks("1.1.1.1", {"X-Forwarded-For": "9.9.9.9"}, remote="8.8.8.8")
        assert AdmissionControl(PLACES, EventLoopLag(), trusted).network(request) == "8.8.8.8"
    places = AdmissionControl(PLACES, EventLoopLag())
    assert places.network(asks("1.1.1.1", {"X-Forwarded-For": "2.2.2.2, 1.1.1.1"})) == "1.1.1.1"
    assert not caplog.text


@pytest.mark.parametrize("trusted", [None, "x-forwarded-for"])
def test_a_proxy_that_adds_a_line(trusted: str | None) -> None:
    """HAProxy leaves the header of a viewer and adds another: the last line is the proxy's."""
    lines = CIMultiDict([("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "9.9.9.9")])
    request = cast("web.Request", SimpleNamespace(remote="127.0.0.1", headers=lines))
    assert AdmissionControl(PLACES, EventLoopLag(), trusted).network(request) == "9.9.9.9"


def test_a_moment_is_no_overload() -> None:
    """A single late wake-up, as of thousands of requests together, refuses no request."""
    lag = EventLoopLag()
    lag.note(0.9)
    assert not lag.is_overloaded
    lag.note(0.9)
    lag.note(0)
    assert not lag.is_overloaded
    assert lag.seconds > TOO_LATE  # it is reported all the same


def test_an_overloaded_process_admits_no_request() -> None:
    """Admitted requests go on; new requests are admitted when the lag has ended."""
    lag = EventLoopLag()
    places = AdmissionControl(1000, lag)
    with contextlib.ExitStack() as stack:
        lag.note(FOR_LONG + TOO_LATE)
        assert taken(places, stack, RequestKind.EVENTS, FEW + 3) == FEW  # so few are not what makes it late
        lag.note(0)
        assert taken(places, stack, RequestKind.EVENTS, 3) == 3
    samples = next(metric.samples for metric in places.metrics() if metric.name == "long_requests_refused")
    assert samples["lag",] == 3


async def test_lag_is_measured() -> None:
    """A blocked event loop has a lag, which fades."""
    lag = EventLoopLag()
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 - that is what holds it up
    await eventually(lambda: lag.seconds > TOO_LATE)
    measuring.cancel()


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[tuple[ViewerApp, str]]:
    """A server with ten connections."""
    site = ViewerApp(tmp_path, places=PLACES, tracker=Tracker(TrackerLimits()))
    site.go_live("0")
    async with listening(site.app, "127.0.0.1", 0, "TEST") as address:
        yield site, address


async def connected(address: str, request: str) -> socket.socket:
    """A client that has sent a request and waits."""
    client = socket.socket()
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", int(address.rpartition(":")[2])))
    await loop.sock_sendall(client, request.encode())
    assert await loop.sock_recv(client, 1) == b"H"
    return client


async def test_idle_connections_make_room(crowded: tuple[ViewerApp, str]) -> None:
    """When idle connections take all room, a viewer is still served."""
    site, address = crowded
    request = f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n"
    clients = [await connected(address, request) for _ in range(PLACES)]
    for _ in range(3):
        async with aiohttp.ClientSession() as session, session.get(address + MEDIA) as answer:
            assert answer.status == 200
    metrics = site.metrics()
    assert 'broadcaster_connections_cut_total{reason="full"} 0.0' in metrics
    assert 'broadcaster_connections_cut_total{reason="idle"} 1.0' in metrics
    assert "broadcaster_requests_total" in metrics
    for client in clients:
        client.close()


async def test_all_long_requests_taken(crowded: tuple[ViewerApp, str]) -> None:
    """With as many readers, sockets and waiters as allowed, playlists are answered at once."""
    site, address = crowded
    events = "GET /live/events HTTP/1.1\r\nHost: x\r\n\r\n"
    clients = [await connected(address, events) for _ in range(PLACES + 5)]
    for _ in range(5):
        async with aiohttp.ClientSession() as session, session.get(address + MEDIA) as answer:
            assert answer.status == 200
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{address}{MEDIA}?_HLS_msn=2") as answer:
                assert answer.status == 503
                assert answer.headers["Retry-After"]
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"{address}/live/tracker")
    assert 'broadcaster_long_requests{kind="events"} 8.0' in site.metrics()
    assert 'broadcaster_connections_cut_total{reason="full"} 0.0' in site.metrics()
    for client in clients:
        client.close()


def test_viewers_of_the_other_broadcaster() -> None:
    """A standby that passes requests on says whose they are; nobody else is believed."""
    admission = AdmissionControl(PLACES, EventLoopLag(), "cf-connecting-ip")
    forwarded = {"X-Forwarded-For": "2001:db8::7"}
    request = asks("192.0.2.1", forwarded, remote="10.0.0.2")
    assert admission.network(request) == "10.0.0.2"
    admission.proxies = frozenset({"10.0.0.2"})
    assert admission.network(request) == "2001:db8::/64"
    assert str(admission.address(request)) == "2001:db8::7"
    assert admission.network(asks("192.0.2.1", remote="10.0.0.2")) is None
    assert admission.network(asks("192.0.2.1", forwarded)) == "192.0.2.1"
