"""Admission of long requests, so that connections stay free for short requests."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web
from multidict import MultiMapping

from broadcaster.aio import EventLoopLag
from broadcaster.http.connections import CONNECTIONS
from broadcaster.metrics import Metric
from broadcaster.tracker.tracker import NETWORK_BITS, ORGANISATION_FACTOR, limited_networks

logger = logging.getLogger(__name__)

SHARE = 0.8  # of all connections: the rest is for playlists and the page
VIEWERS_PER_NETWORK = 500  # many viewers can share an address
REQUESTS_PER_VIEWER = 3  # events, the tracker, and a blocked request
FEW = 100  # long requests: below, overload has another cause, so none is refused
CLOUDFLARE, FORWARDED = "CF-Connecting-IP", "X-Forwarded-For"
NO_HEADER = "none"  # no header is trusted
LONGEST_ADDRESS = 100  # characters; an IPv6 address with its zone has fewer
ADDRESSES = 4096  # whose text was parsed last


class RequestKind(StrEnum):
    """The kinds of long requests."""

    EVENTS = "events"
    MEDIA = "media"  # segments, where a relay serves them
    TRACKER = "tracker"
    WAITERS = "waiters"
    CLIPS = "clips"


class NotAdmitted(Exception):  # noqa: N818 - no error: an answer
    """A long request is refused."""

    max_age: int | None = None  # seconds; not cacheable, as the next request may be admitted

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class AdmissionControl:
    """Decides which long requests are admitted, on a listener with so many ``connections``.

    ``trusted`` names the header with the viewer's address, as for ``client_network``. With ``media`` segments
    have a quarter of the connections, and no others.
    """

    def __init__(
        self, connections: int, lag: EventLoopLag, trusted: str | None = None, *, media: bool = False
    ) -> None:
        self._most = max(1, int(SHARE * connections))
        self._most_per_network = max(1, min(REQUESTS_PER_VIEWER * VIEWERS_PER_NETWORK, self._most // 2))
        self._most_media = self._most // 4 if media else self._most
        self._most_others = self._most - self._most // 4 if media else self._most
        self._lag = lag
        self.proxies: frozenset[str] = frozenset()  # their X-Forwarded-For is trusted
        self._trusted = trusted
        self._count: Counter[RequestKind] = Counter(dict.fromkeys(RequestKind, 0))
        self._by_network: Counter[tuple[RequestKind, str]] = Counter()
        self._requests: dict[str, dict[int, web.Request]] = {}  # by network and organisation, newest last
        self._with_network = 0  # requests of known networks
        self._refused: Counter[str] = Counter(full=0, site=0, lag=0)
        self._shared = False  # whether all viewers have come from one network
        self._contradiction = False  # whether headers have contradicted each other

    def network(self, request: web.BaseRequest) -> str | None:
        """The client network of a request; None if it is unknown, or if all viewers share it."""
        network = self._network(request)
        return None if network and self._is_shared(network) else network

    def network_text(self, request: web.BaseRequest) -> str:
        """The client network of a request, for its sender; "unknown" if it is not known."""
        return self._network(request) or "unknown"

    def _network(self, request: web.BaseRequest) -> str | None:
        if self._trusted is None and not self._contradiction and _contradict(request):
            self._contradiction = True
            logger.warning(
                "requests have a %s and an %s with different addresses: a viewer may have forged one of them;"
                " name the right one in BROADCASTER_TRUSTED_HEADER (relay: --trusted-header)",
                CLOUDFLARE,
                FORWARDED,
            )
        return network_of(self.address(request))

    def address(self, request: web.BaseRequest) -> IPv4Address | IPv6Address | None:
        """The client's address; None if it is unknown."""
        remote = _address(request.remote)
        if self.proxies and remote and not remote.is_loopback and str(remote) in self.proxies:
            return _address(_last(request.headers, FORWARDED))
        return client_address(request.remote, request.headers, self._trusted)

    @contextmanager
    def take(self, request: web.Request, kind: RequestKind) -> Iterator[None]:
        """Count a long request while inside; raises NotAdmitted."""
        network = self._network(request)
        if refusal := self._refusal(kind, network):
            self._refused[refusal.reason] += 1
            raise refusal
        connections = request.app[CONNECTIONS]
        names = [name for name, _ in limited_networks(network)] if network else []
        self._count[kind] += 1
        self._with_network += network is not None
        for name in names:
            self._by_network[kind, name] += 1
            self._requests.setdefault(name, {})[id(request)] = request
        connections.hold(request)
        try:
            yield
        finally:
            connections.release(request)
            self._count[kind] -= 1
            self._with_network -= network is not None
            for name in names:
                self._by_network[kind, name] -= 1
                if not self._by_network[kind, name]:
                    del self._by_network[kind, name]
                self._remove(name, request)

    def metrics(self) -> Iterator[Metric]:
        """Admitted and refused requests."""
        counts = {str(kind): float(self._count[kind]) for kind in RequestKind}
        yield Metric("long_requests", "Long requests, by kind", counts, labels=("kind",))
        text = (
            "Refused long requests: connections taken (full), too many from an address (site), overload (lag)"
        )
        yield Metric("long_requests_refused", text, self._refused, labels=("reason",), is_counter=True)
        text = "1 once all viewers have come from one address, whose limits then do not hold"
        yield Metric("viewers_share_an_address", text, self._shared)
        yield Metric("audience_lag_seconds", "Event loop lag of the viewer server", self._lag.seconds)

    def _is_full(self, kind: RequestKind) -> bool:
        media, total = self._count[RequestKind.MEDIA], self._count.total()
        if kind is RequestKind.MEDIA:
            return total >= self._most or media >= self._most_media
        return total >= self._most or total - media >= self._most_others

    def _refusal(self, kind: RequestKind, network: str | None) -> NotAdmitted | None:
        if self._is_full(kind) and not self._make_room(network):
            return NotAdmitted("full", "All connections are taken")
        if network and self._has_too_many(kind, network):
            return NotAdmitted("site", "Too many from one address")
        if self._lag.is_overloaded and self._count.total() >= FEW:
            return NotAdmitted("lag", "Too much is going on")
        return None

    def _has_too_many(self, kind: RequestKind, network: str) -> bool:
        if self._is_shared(network):
            return False
        half = max(1, self._most_media // 2)
        return any(
            len(self._requests.get(name, ())) >= self._limit(times)
            or (kind is RequestKind.MEDIA and self._by_network[kind, name] >= half)
            for name, times in limited_networks(network)
        )

    def _is_shared(self, network: str) -> bool:
        """Whether all viewers, and not few, come from this network: a proxy may not send their addresses."""
        count = len(self._requests.get(network, ()))
        shared = count >= FEW and count == self._with_network
        if shared:
            self.warn_of_shared_address()
        return shared

    def warn_of_shared_address(self) -> None:
        """Log once that all viewers come from one address."""
        if self._shared:
            return
        self._shared = True
        logger.warning(
            "all viewers come from one address, so its limits are not applied: unless they are all in one"
            " place, the proxy in front does not send their addresses (BROADCASTER_TRUSTED_HEADER;"
            " relay: --trusted-header)"
        )

    def _limit(self, times: int) -> int:
        return min(times * self._most_per_network, self._most // 2 or 1)

    def _make_room(self, network: str | None) -> bool:
        """Close the newest connection of another network above its limit, which it passed while alone."""
        own = {name for name, _ in limited_networks(network)} if network else set()
        for name, requests in self._requests.items():
            if name not in own and len(requests) > self._limit(ORGANISATION_FACTOR):
                newest = next(reversed(requests.values()))
                for other, _ in limited_networks(self._network(newest) or name):
                    self._remove(other, newest)
                if newest.transport:
                    newest.transport.abort()
                return True
        return False

    def _remove(self, name: str, request: web.Request) -> None:
        if (requests := self._requests.get(name)) is not None:
            requests.pop(id(request), None)
            if not requests:
                del self._requests[name]


ADMISSION = web.AppKey("ADMISSION", AdmissionControl)


def client_network(remote: str | None, headers: Mapping[str, str], trusted: str | None = None) -> str | None:
    """The network for which limits hold: an IPv4 address or an IPv6 /64; None if it is unknown."""
    return network_of(client_address(remote, headers, trusted))


def network_of(address: IPv4Address | IPv6Address | None) -> str | None:
    """The network of an address for which limits hold."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, NETWORK_BITS), strict=False))
    return str(address) if address else None


def client_address(
    remote: str | None, headers: Mapping[str, str], trusted: str | None = None
) -> IPv4Address | IPv6Address | None:
    """The address of a client; None if it is unknown.

    A connection from this machine comes from a tunnel or a proxy, which sends the viewer's address in the
    ``trusted`` header, or without a setting in either header. Headers of other clients are ignored.
    """
    address = _address(remote)
    if address is None or address.is_loopback:
        names = (CLOUDFLARE, FORWARDED) if trusted is None else (trusted,) if trusted != NO_HEADER else ()
        address = _address(next(filter(None, (_last(headers, name) for name in names)), ""))
    return address


def _last(headers: Mapping[str, str], name: str) -> str:
    """The last value of the last line, which the nearest proxy added; the client may have sent the others."""
    if name not in headers:
        return ""
    lines = headers.getall(name, []) if isinstance(headers, MultiMapping) else [headers.get(name, "")]
    return ",".join(lines).rpartition(",")[2].strip()


def _contradict(request: web.BaseRequest) -> bool:
    if CLOUDFLARE not in request.headers or FORWARDED not in request.headers:
        return False
    first, second = (_last(request.headers, name) for name in (CLOUDFLARE, FORWARDED))
    address = _address(request.remote)
    return bool(first and second) and first != second and (address is None or address.is_loopback)


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    return _parsed(text) if text and len(text) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=ADDRESSES)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
