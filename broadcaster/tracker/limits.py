"""How much of everything there may be: a tracker is open to the world.

What comes from where: the only thing that is kept about addresses, and no longer than it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv6Network, ip_network


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds. Seconds, messages, and messages per second."""

    interval: int = 20  # between two announces of a peer; 5 s piles up half-open offers
    missed: float = 2  # intervals without an announce after which a peer is gone
    idle: float = 300  # seconds after which a connection that announces nothing has to go
    connections: int = 5000
    connections_per_address: int = 500  # many viewers can share one address
    swarms_per_connection: int = 10  # a page has one for each variant that it has lately played
    peers_per_swarm: int = 5000
    # Offers to one connection that it has not answered. It does not answer those of peers it has already.
    pending_offers: int = 30
    pending_seconds: float = 50  # as long as the client that made an offer waits for its answer
    message_rate: float = 2  # a page that watches sends one in 20 s, and answers, which cost nothing
    message_burst: int = 40
    address_rate: float = 50  # announces and connections
    address_burst: int = 500


class Refusal(StrEnum):
    """Why something was refused."""

    MALFORMED = "malformed"
    RATE = "rate"
    IDLE = "idle"
    SLOW = "slow"
    CONNECTIONS = "connections"
    ADDRESS = "address"
    UNKNOWN_SWARM = "unknown_swarm"
    PEER_ID_TAKEN = "peer_id_taken"
    SWARMS = "swarms"
    PEERS = "peers"
    UNASKED_ANSWER = "unasked_answer"


class Refused(Exception):  # noqa: N818 - reads as the state it reports
    """A rule forbids it. ``reason`` says which; the message is for the client."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``burst`` at once, ``rate`` per second for long."""

    rate: float
    burst: float
    level: float
    at: float  # monotonic seconds

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> Bucket:
        """One that nothing was taken from."""
        return cls(rate, burst, burst, now)

    def take(self, now: float, tokens: float = 1) -> bool:
        """Take some; whether there were so many."""
        self._fill(now)
        if self.level < tokens:
            return False
        self.level -= tokens
        return True

    def grow(self, rate: float, burst: float, now: float) -> None:
        """From now on it is of this size; what it has more room for is in it."""
        self._fill(now)
        self.level = min(self.level + max(burst - self.burst, 0), burst)
        self.rate, self.burst = rate, burst

    def give_back(self) -> None:
        """The last token taken was not due."""
        self.level = min(self.level + 1, self.burst)

    def is_full(self, now: float) -> bool:
        """Whether it may be forgotten."""
        self._fill(now)
        return self.level >= self.burst

    def _fill(self, now: float) -> None:
        self.level = min(self.level + (now - self.at) * self.rate, self.burst)
        self.at = now


ADDRESSES_PER_CONNECTION = 2  # remembered, for each connection that there may be; organisations besides
FORGET = 10.0  # seconds between two looks at who may be forgotten
SITE, ORGANISATION = 64, 48  # bits of an IPv6 prefix: of one network, and of all networks of one subscriber
NETWORKS = 4  # an organisation may have so many times as much as a network


@lru_cache(maxsize=4096)
def organisation_of(site: str) -> str | None:
    """The /48 around an IPv6 site (a /64); None for an IPv4 address.

    One subscriber can have 65,536 sites, so a bound of each is no bound.
    """
    if ":" not in site:
        return None
    try:
        network = ip_network(site, strict=False)
    except ValueError:
        return None
    return str(network.supernet(new_prefix=ORGANISATION)) if isinstance(network, IPv6Network) else None


def bounded(site: str) -> list[tuple[str, int]]:
    """What bounds apply to a site: names, and how many times as much as a site each may have."""
    organisation = organisation_of(site)
    return [(site, 1), (organisation, NETWORKS)] if organisation else [(site, 1)]


@dataclass(slots=True)
class _Address:
    announces: Bucket
    connections: int = 0


class Addresses:
    """Counts connections and announces by address, and by IPv6 organisation.

    None is an unknown address, which is not limited.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[str, _Address] = {}
        self._sites = 0  # of those
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, name: str | None, now: float) -> None:
        """One more connection; raises Refused."""
        if name is None:
            return
        limits = self._limits
        found = {one: self._known.get(one) or self._new(times, now) for one, times in bounded(name)}
        for one, times in bounded(name):
            if found[one].connections >= times * limits.connections_per_address:
                raise Refused(Refusal.ADDRESS, "too many connections from this address")
        if name not in self._known and self._sites >= ADDRESSES_PER_CONNECTION * limits.connections:
            raise Refused(Refusal.CONNECTIONS, "the tracker is full")
        if not _take(list(found.values()), now):
            raise Refused(Refusal.ADDRESS, "too many connections from this address")
        self._sites += name not in self._known  # what was refused is not remembered
        self._known |= found
        for address in found.values():
            address.connections += 1

    def announce(self, name: str | None, now: float) -> None:
        """One more announce; raises Refused."""
        if name is not None and not _take([self._known[one] for one, _ in bounded(name)], now):
            raise Refused(Refusal.ADDRESS, "too many announces from this address")

    def leave(self, name: str | None) -> None:
        """One connection less."""
        if name is not None:
            for one, _ in bounded(name):
                self._known[one].connections -= 1

    def _new(self, times: int, now: float) -> _Address:
        limits = self._limits
        return _Address(Bucket.full(times * limits.address_rate, times * limits.address_burst, now))

    def forget(self, now: float) -> None:
        """Let go of addresses that nothing has come from lately."""
        if now - self._looked < FORGET:
            return
        self._looked = now
        for name, address in list(self._known.items()):
            if not address.connections and address.announces.is_full(now):
                del self._known[name]
                self._sites -= not name.endswith(f"/{ORGANISATION}")


def _take(addresses: list[_Address], now: float) -> bool:
    """Take a token of each, or of none."""
    taken: list[_Address] = []
    for address in addresses:
        if not address.announces.take(now):
            for one in taken:
                one.announces.give_back()
            return False
        taken.append(address)
    return True
