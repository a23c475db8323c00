"""How much of everything there may be: a tracker is open to the world."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
