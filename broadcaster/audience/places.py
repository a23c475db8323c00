"""Places of requests that last, so that they leave room for those that do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import hdrs, web

from broadcaster.figures import Figure
from broadcaster.web.connections import CONNECTIONS
from broadcaster.web.lag import Lag

SHARE = 0.8  # of all connections: the rest is for playlists and the page
OF_A_SITE = 500  # of each kind; many viewers can share one address
FEW = 100  # are not what makes this process late: something else does. Past that they come first.
IPV6_SITE = 64  # bits: what one customer has


class Kind(StrEnum):
    """What lasts."""

    EVENTS = "events"
    MEDIA = "media"  # segments, where a relay serves them
    TRACKER = "tracker"
    WAITERS = "waiters"
    CLIPS = "clips"


class Full(Exception):  # noqa: N818 - no error: an answer
    """There is no place; says why."""

    max_age: int | None = None  # seconds for which a cache may say so to others: at once there may be one

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Places:
    """One budget for all that lasts, of a listener with so many ``connections``."""

    def __init__(self, connections: int, lag: Lag) -> None:
        self._most = max(1, int(SHARE * connections))
        self._lag = lag
        self._taken: Counter[Kind] = Counter(dict.fromkeys(Kind, 0))
        self._of_sites: Counter[tuple[Kind, str]] = Counter()
        self._refused: Counter[str] = Counter(full=0, site=0, lag=0)

    @contextmanager
    def take(self, request: web.Request, kind: Kind) -> Iterator[None]:
        """Take one while inside; raises Full."""
        site = site_of(request.remote, request.headers)
        if refusal := self._refusal(kind, site):
            self._refused[refusal.reason] += 1
            raise refusal
        connections = request.app[CONNECTIONS]
        self._taken[kind] += 1
        if site:
            self._of_sites[kind, site] += 1
        connections.hold(request)
        try:
            yield
        finally:
            connections.release(request)
            self._taken[kind] -= 1
            if site:
                self._of_sites[kind, site] -= 1
                if not self._of_sites[kind, site]:
                    del self._of_sites[kind, site]

    def count(self, kind: Kind, site: str | None) -> int:
        """How many there are of a kind and a site; of all sites where that is not known."""
        return self._of_sites[kind, site] if site else self._taken[kind]

    def figures(self) -> Iterator[Figure]:
        """How many are taken, and what was refused."""
        taken = {str(kind): float(self._taken[kind]) for kind in Kind}
        yield Figure("long_requests", "Requests that last, by kind", taken, labels=("kind",))
        text = "Requests that last and were refused: no place (full), too many of a site, too busy (lag)"
        yield Figure("long_requests_refused", text, self._refused, labels=("reason",), rises=True)
        yield Figure("audience_lag_seconds", "How late the process is that serves viewers", self._lag.seconds)

    def _refusal(self, kind: Kind, site: str | None) -> Full | None:
        if self._taken.total() >= self._most:
            return Full("full", "All places are taken")
        if site and self._of_sites[kind, site] >= OF_A_SITE:
            return Full("site", "Too many from one address")
        if self._lag.is_overloaded and self._taken.total() >= FEW:
            return Full("lag", "Too much is going on")
        return None


PLACES = web.AppKey("PLACES", Places)


def site_of(remote: str | None, headers: Mapping[str, str]) -> str | None:
    """Where a request comes from, as far as sharing a limit goes: an IPv4 address, or an IPv6 site.

    What connects from this machine is a tunnel or a proxy of ours, which says whom it serves; if it does not,
    nothing is known. Nobody else is believed.
    """
    address = _address(remote)
    if address is None or address.is_loopback:
        forwarded = headers.get("CF-Connecting-IP") or headers.get(hdrs.X_FORWARDED_FOR, "").split(",")[-1]
        address = _address(forwarded.strip())
    if isinstance(address, IPv6Address):
        return str(ip_network((address, IPV6_SITE), strict=False))
    return str(address) if address else None


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text or "")
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
