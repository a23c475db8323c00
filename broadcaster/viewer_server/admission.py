"""AdmissionControl of requests that last, so that they leave room for those that do not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web
from multidict import MultiMapping

from broadcaster.http.connections import CONNECTIONS
from broadcaster.http.server import Lag
from broadcaster.metrics import Metric
from broadcaster.tracker.limits import NETWORKS, SITE, bounded

logger = logging.getLogger(__name__)

SHARE = 0.8  # of all connections: the rest is for playlists and the page
OF_A_SITE = 500  # viewers; many can share one address
PLACES_OF_A_VIEWER = 3  # events, the tracker, and what it waits for
FEW = 100  # are not what makes this process late: something else does. Past that they come first.
CLOUDFLARE, FORWARDED = "CF-Connecting-IP", "X-Forwarded-For"
NO_HEADER = "none"  # no header is believed


class RequestKind(StrEnum):
    """What lasts."""

    EVENTS = "events"
    MEDIA = "media"  # segments, where a relay serves them
    TRACKER = "tracker"
    WAITERS = "waiters"
    CLIPS = "clips"


class NotAdmitted(Exception):  # noqa: N818 - no error: an answer
    """There is no place; says why."""

    max_age: int | None = None  # seconds for which a cache may say so to others: at once there may be one

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class AdmissionControl:
    """One budget for all that lasts, of a listener with so many ``connections``."""

    def __init__(
        self, connections: int, lag: Lag, trusted: str | None = None, *, media: bool = False
    ) -> None:
        """``trusted`` names the header that tells a viewer's address, as ``client_network`` takes it.

        With ``media`` a quarter of the places is for segments, and those are for nothing else.
        """
        self._most = max(1, int(SHARE * connections))
        self._of_a_site = max(1, min(PLACES_OF_A_VIEWER * OF_A_SITE, self._most // 2))
        self._of_media = self._most // 4 if media else self._most
        self._of_others = self._most - self._most // 4 if media else self._most
        self._lag = lag
        self._trusted = trusted
        self._taken: Counter[RequestKind] = Counter(dict.fromkeys(RequestKind, 0))
        self._of_sites: Counter[tuple[RequestKind, str]] = Counter()
        self._held: dict[str, dict[_Place, None]] = {}  # by site, and by organisation; the latest last
        self._known = 0  # places that are taken of known sites
        self._refused: Counter[str] = Counter(full=0, site=0, lag=0)
        self._shared = False  # all viewers come from one address
        self._contradiction = False  # between headers

    def site(self, request: web.BaseRequest) -> str | None:
        """Where a request comes from, as far as there are bounds for it.

        None where that is not known, and where all viewers come from the same address.
        """
        site = self._site(request)
        return None if site and self._is_shared(site) else site

    def address(self, request: web.BaseRequest) -> str:
        """Where a request comes from, for who sent it; ``unknown`` where that is not known."""
        return self._site(request) or "unknown"

    def _site(self, request: web.BaseRequest) -> str | None:
        if self._trusted is None and not self._contradiction and _contradict(request):
            self._contradiction = True
            logger.warning(
                "requests have a %s and an %s that name different addresses: a viewer may have forged"
                " one of them; BROADCASTER_TRUSTED_HEADER (of a relay: --trusted-header) names the right one",
                CLOUDFLARE,
                FORWARDED,
            )
        return client_network(request.remote, request.headers, self._trusted)

    @contextmanager
    def take(self, request: web.Request, kind: RequestKind) -> Iterator[None]:
        """Take one while inside; raises NotAdmitted."""
        site = self._site(request)
        if refusal := self._refusal(kind, site):
            self._refused[refusal.reason] += 1
            raise refusal
        connections = request.app[CONNECTIONS]
        place = _Place(request, tuple(name for name, _ in bounded(site)) if site else ())
        self._taken[kind] += 1
        self._known += site is not None
        for name in place.names:
            self._of_sites[kind, name] += 1
            self._held.setdefault(name, {})[place] = None
        connections.hold(request)
        try:
            yield
        finally:
            connections.release(request)
            self._taken[kind] -= 1
            self._known -= site is not None
            for name in place.names:
                self._of_sites[kind, name] -= 1
                if not self._of_sites[kind, name]:
                    del self._of_sites[kind, name]
            self._leave(place)

    def count(self, kind: RequestKind, site: str | None) -> int:
        """How many there are of a kind and a site; of all sites where that is not known."""
        return self._of_sites[kind, site] if site else self._taken[kind]

    def metrics(self) -> Iterator[Metric]:
        """How many are taken, and what was refused."""
        taken = {str(kind): float(self._taken[kind]) for kind in RequestKind}
        yield Metric("long_requests", "Requests that last, by kind", taken, labels=("kind",))
        text = "Requests that last and were refused: no place (full), too many of a site, too busy (lag)"
        yield Metric("long_requests_refused", text, self._refused, labels=("reason",), is_counter=True)
        text = "1 once all viewers have come from one address, whose bounds then do not hold"
        yield Metric("viewers_share_an_address", text, self._shared)
        yield Metric("audience_lag_seconds", "How late the process is that serves viewers", self._lag.seconds)

    def _is_full(self, kind: RequestKind) -> bool:
        media, total = self._taken[RequestKind.MEDIA], self._taken.total()
        taken, most = (
            (media, self._of_media) if kind is RequestKind.MEDIA else (total - media, self._of_others)
        )
        return total >= self._most or taken >= most

    def _refusal(self, kind: RequestKind, site: str | None) -> NotAdmitted | None:
        if self._is_full(kind) and not self._make_room(site):
            return NotAdmitted("full", "All places are taken")
        if site and self._has_too_many(kind, site):
            return NotAdmitted("site", "Too many from one address")
        if self._lag.is_overloaded and self._taken.total() >= FEW:
            return NotAdmitted("lag", "Too much is going on")
        return None

    def _has_too_many(self, kind: RequestKind, site: str) -> bool:
        if self._is_shared(site):
            return False
        half = max(1, self._of_media // 2)
        return any(
            len(self._held.get(name, ())) >= self._bound(times)
            or (kind is RequestKind.MEDIA and self._of_sites[kind, name] >= half)
            for name, times in bounded(site)
        )

    def _is_shared(self, site: str) -> bool:
        """Whether all viewers come from this site, and there are many.

        A proxy that does not tell whom it serves makes all viewers one.
        """
        count = len(self._held.get(site, ()))
        shared = count >= FEW and count == self._known
        if shared and not self._shared:
            self._shared = True
            logger.warning(
                "all viewers come from one address, so the bounds of an address do not apply to it: unless"
                " they are all in one place, the proxy in front does not say whom it serves"
                " (BROADCASTER_TRUSTED_HEADER; of a relay: --trusted-header)"
            )
        return shared

    def _bound(self, times: int) -> int:
        return min(times * self._of_a_site, self._most // 2 or 1)

    def _make_room(self, site: str | None) -> bool:
        """End the latest of a site that has more than it may, as it came when nobody else was there."""
        own = {name for name, _ in bounded(site)} if site else set()
        for name, places in self._held.items():
            if name not in own and len(places) > self._bound(NETWORKS):
                latest = next(reversed(places))
                self._leave(latest)
                latest.end()
                return True
        return False

    def _leave(self, place: _Place) -> None:
        for name in place.names:
            if (places := self._held.get(name)) is not None:
                places.pop(place, None)
                if not places:
                    del self._held[name]


class _Place:
    """What a request has taken, of all that is of these names."""

    def __init__(self, request: web.Request, names: tuple[str, ...]) -> None:
        self.names = names
        self._request = request

    def end(self) -> None:
        """Close the connection."""
        if self._request.transport:
            self._request.transport.abort()


ADMISSION = web.AppKey("ADMISSION", AdmissionControl)


def client_network(remote: str | None, headers: Mapping[str, str], trusted: str | None = None) -> str | None:
    """Where a request comes from, as far as sharing a limit goes: an IPv4 address, or an IPv6 site.

    What connects from this machine is a tunnel or a proxy of ours, which says whom it serves in the header
    that is ``trusted``; where none is named, in whichever it sends. If it does not, nothing is known. Nobody
    else is believed.
    """
    address = _address(remote)
    if address is None or address.is_loopback:
        names = (CLOUDFLARE, FORWARDED) if trusted is None else (trusted,) if trusted != NO_HEADER else ()
        address = _address(next(filter(None, (_last(headers, name) for name in names)), ""))
    if isinstance(address, IPv6Address):
        return str(ip_network((address, SITE), strict=False))
    return str(address) if address else None


def _last(headers: Mapping[str, str], name: str) -> str:
    """What the proxy next to us has told in a header: the last of its values, in the last of its lines.

    What is before it is the client's word.
    """
    lines = headers.getall(name, []) if isinstance(headers, MultiMapping) else [headers.get(name, "")]
    return ",".join(lines).rpartition(",")[2].strip()


def _contradict(request: web.BaseRequest) -> bool:
    told = [_last(request.headers, name) for name in (CLOUDFLARE, FORWARDED)]
    address = _address(request.remote)
    return all(told) and told[0] != told[1] and (address is None or address.is_loopback)


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text or "")
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
