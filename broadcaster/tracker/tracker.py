"""The rules of the tracker: who is admitted, to whom offers are sent, and which connections are closed."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv6Network
from itertools import count
from random import Random

from broadcaster.hls import Variant
from broadcaster.tracker.protocol import (
    Announce,
    Malformed,
    PeerAnswer,
    answer_to,
    failure,
    info_hash,
    offer_to,
    parse,
    reply,
    stream_index,
)


@dataclass(frozen=True, slots=True)
class TrackerLimits:
    """Limits of the tracker, in seconds, messages, and messages per second: it is open to the world."""

    interval: int = 20  # between two announces of a peer; 5 s piles up half-open offers
    missed: float = 2  # intervals without an announce after which a peer is removed
    idle: float = 300  # seconds after which a connection without announces is closed
    connections: int = 5000
    connections_per_address: int = 500  # many viewers can share an address
    swarms_per_connection: int = 10  # a page has one for each variant that it has played lately
    peers_per_swarm: int = 5000
    pending_offers: int = 30  # of a connection; a page does not answer offers of peers that it already has
    pending_seconds: float = 50  # for which the offering client waits for the answer
    message_rate: float = 2  # a page sends one in 20 s, and answers, which are free
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
    """A limit or rule refuses a request. ``reason`` names it; the message is for the client."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class TokenBucket:
    """A token bucket: ``burst`` tokens at once, ``rate`` tokens per second in the long run."""

    rate: float
    burst: float
    level: float
    at: float  # monotonic seconds

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> TokenBucket:
        """A full bucket."""
        return cls(rate, burst, burst, now)

    def take(self, now: float, tokens: float = 1) -> bool:
        """Take tokens, unless there are too few; returns whether they were taken."""
        self._fill(now)
        if self.level < tokens:
            return False
        self.level -= tokens
        return True

    def resize(self, rate: float, burst: float, now: float) -> None:
        """Change rate and size; added room is full."""
        self._fill(now)
        self.level = min(self.level + max(burst - self.burst, 0), burst)
        self.rate, self.burst = rate, burst

    def give_back(self) -> None:
        """Return the last token."""
        self.level = min(self.level + 1, self.burst)

    def is_full(self, now: float) -> bool:
        """Whether the bucket is full again."""
        self._fill(now)
        return self.level >= self.burst

    def _fill(self, now: float) -> None:
        self.level = min(self.level + (now - self.at) * self.rate, self.burst)
        self.at = now


ADDRESSES_PER_CONNECTION = 2  # client networks that are remembered, for each possible connection
FORGET_EVERY = 10.0  # seconds
NETWORK_BITS, ORGANISATION_BITS = 64, 48  # IPv6 prefixes of one network, and of all networks of a subscriber
ORGANISATION_FACTOR = 4  # limits of an organisation, in multiples of the limits of a network


@lru_cache(maxsize=4096)
def limited_networks(network: str) -> tuple[tuple[str, int], ...]:
    """The names for which limits hold, with the factor of these limits: the network, and its organisation.

    The organisation is the /48 around an IPv6 network. Without it a subscriber with 65,536 networks would
    have 65,536 times the limit.
    """
    try:
        organisation = IPv6Network(network, strict=False).supernet(new_prefix=ORGANISATION_BITS)
    except ValueError:  # an IPv4 address
        return ((network, 1),)
    return (network, 1), (str(organisation), ORGANISATION_FACTOR)


@dataclass(slots=True)
class _NetworkUse:
    announces: TokenBucket
    connections: int = 0


class NetworkLimiter:
    """Counts connections and announces of client networks. None is an unknown network, without limits."""

    def __init__(self, limits: TrackerLimits) -> None:
        self._limits = limits
        self._known: dict[str, _NetworkUse] = {}
        self._networks = 0  # of these, without organisations
        self._forgot = 0.0  # monotonic

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, network: str | None, now: float) -> None:
        """Add a connection; raises Refused."""
        if network is None:
            return
        limits = self._limits
        found: dict[str, _NetworkUse] = {}
        for name, times in limited_networks(network):
            rate, burst = times * limits.address_rate, times * limits.address_burst
            found[name] = self._known.get(name) or _NetworkUse(TokenBucket.full(rate, burst, now))
            if found[name].connections >= times * limits.connections_per_address:
                raise Refused(Refusal.ADDRESS, "too many connections from this address")
        if network not in self._known and self._networks >= ADDRESSES_PER_CONNECTION * limits.connections:
            raise Refused(Refusal.CONNECTIONS, "the tracker is full")
        if not _take(found.values(), now):
            raise Refused(Refusal.ADDRESS, "too many connections from this address")
        self._networks += network not in self._known
        self._known |= found
        for use in found.values():
            use.connections += 1

    def announce(self, network: str | None, now: float) -> None:
        """Count an announce; raises Refused."""
        if network is not None and not _take(self._uses(network), now):
            raise Refused(Refusal.ADDRESS, "too many announces from this address")

    def leave(self, network: str | None) -> None:
        """Remove a connection."""
        for use in self._uses(network) if network is not None else ():
            use.connections -= 1

    def forget(self, now: float) -> None:
        """Forget networks without connections and without recent announces."""
        if now - self._forgot < FORGET_EVERY:
            return
        self._forgot = now
        for name, use in list(self._known.items()):
            if not use.connections and use.announces.is_full(now):
                del self._known[name]
                self._networks -= not name.endswith(f"/{ORGANISATION_BITS}")

    def _uses(self, network: str) -> list[_NetworkUse]:
        return [self._known[name] for name, _ in limited_networks(network)]


def _take(uses: Iterable[_NetworkUse], now: float) -> bool:
    """Take a token of each, or of none."""
    taken: list[TokenBucket] = []
    for use in uses:
        if not use.announces.take(now):
            for bucket in taken:
                bucket.give_back()
            return False
        taken.append(use.announces)
    return True


@dataclass(slots=True, eq=False)
class Peer:
    """A connection's membership in one swarm. ``position`` is the index in the swarm's list."""

    peer_id: str
    swarm: Swarm
    connection: Connection
    announced: float  # monotonic seconds
    position: int = 0


@dataclass(slots=True, eq=False)
class Connection:
    """One socket, with at most one peer in each swarm.

    ``pending`` has the offers that were sent to it, with the time when each expires, oldest first.
    """

    number: int
    network: str | None
    messages: TokenBucket
    active: float  # monotonic seconds of the latest announce
    peers: dict[str, Peer] = field(default_factory=dict)  # by info hash
    pending: dict[tuple[Peer, str], float] = field(default_factory=dict)  # by offering peer and offer id


class Swarm:
    """The peers that exchange segments of one variant."""

    def __init__(self, info_hash: str) -> None:
        self.info_hash = info_hash
        self.peers: dict[str, Peer] = {}
        self._order: list[Peer] = []

    def add(self, peer: Peer) -> None:
        """Add a peer."""
        peer.position = len(self._order)
        self._order.append(peer)
        self.peers[peer.peer_id] = peer

    def remove(self, peer: Peer) -> None:
        """Remove a peer in constant time: the last peer takes its position."""
        last = self._order.pop()
        if last is not peer:
            self._order[peer.position] = last
            last.position = peer.position
        del self.peers[peer.peer_id]

    def others(self, peer: Peer, count: int, random: Random) -> list[Peer]:
        """Up to ``count`` random peers without ``peer``."""
        drawn = random.sample(self._order, min(count + 1, len(self._order)))
        return [other for other in drawn if other is not peer][:count]


MAX_RUNS = 16
MAX_STREAMS = 64


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text to a connection."""

    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection, which the tracker has removed."""

    connection: int
    reason: Refusal


Action = Send | Close


class Tracker:
    """All swarms. Time is passed in as monotonic seconds; ``random`` chooses the receivers of offers.

    ``messages`` counts messages by kind, ``refused`` refusals by reason.
    """

    def __init__(self, limits: TrackerLimits | None = None, random: Random | None = None) -> None:
        self.limits = limits or TrackerLimits()
        self.messages: Counter[str] = Counter(announce=0, answer=0, stop=0, malformed=0)
        self.refused: Counter[Refusal] = Counter()
        self._random = random or Random()  # noqa: S311 - a fair choice, not a secret
        self._numbers = count(1)
        self._connections: OrderedDict[int, Connection] = OrderedDict()  # the latest active last
        self._peers: OrderedDict[Peer, None] = OrderedDict()  # the latest announced last
        self._swarms: dict[str, Swarm] = {}
        self._networks = NetworkLimiter(self.limits)
        self._streams: dict[str, None] = {}  # all stream indexes, the newest last
        self._admitted: frozenset[str] = frozenset()

    @property
    def peers(self) -> int:
        """Peers in all swarms."""
        return len(self._peers)

    @property
    def torrents(self) -> int:
        """Swarms with a peer in them."""
        return len(self._swarms)

    @property
    def sockets(self) -> int:
        """Connections."""
        return len(self._connections)

    @property
    def admitted(self) -> frozenset[str]:
        """The swarms that are served, by their info hashes."""
        return self._admitted

    def admit(self, runs: Sequence[str], variants: Sequence[Variant]) -> None:
        """Admit only viewers of these encoder runs, newest last.

        ``variants`` are the variants of the multivariant playlist, empty for a single variant. Viewers who
        have read an earlier playlist stay in the swarms of its variants.
        """
        for index in (stream_index(None), *map(stream_index, variants)):
            self._streams.pop(index, None)
            self._streams[index] = None
        for old in list(self._streams)[:-MAX_STREAMS]:
            del self._streams[old]
        self._admitted = frozenset(
            info_hash(run, index) for run in runs[-MAX_RUNS:] for index in self._streams
        )
        for old in self._swarms.keys() - self._admitted:
            for peer in list(self._swarms[old].peers.values()):
                self._remove(peer)

    def connect(self, network: str | None, now: float) -> int:
        """Add a connection of a client network and return its number; raises Refused."""
        try:
            if len(self._connections) >= self.limits.connections:
                raise Refused(Refusal.CONNECTIONS, "the tracker is full")
            self._networks.enter(network, now)
        except Refused as refused:
            self.refused[refused.reason] += 1
            raise
        messages = TokenBucket.full(self.limits.message_rate, self.limits.message_burst, now)
        number = next(self._numbers)
        self._connections[number] = Connection(number, network, messages, now)
        return number

    def disconnect(self, connection: int) -> None:
        """Remove a connection and its peers."""
        member = self._connections.pop(connection, None)
        if member is None:
            return
        for peer in list(member.peers.values()):
            self._remove(peer)
        member.pending.clear()
        self._networks.leave(member.network)

    def receive(self, connection: int, message: str | bytes, now: float) -> list[Action]:
        """Handle a message and return the actions. Never raises, whatever the message is."""
        member = self._connections.get(connection)
        if member is None:
            return []
        if not member.messages.take(now):
            return self._close(member, Refusal.RATE)
        try:
            parsed = parse(message)
        except Malformed:
            self.messages["malformed"] += 1
            return self._close(member, Refusal.MALFORMED)
        if isinstance(parsed, PeerAnswer):
            self.messages["answer"] += 1
            return self._answer(member, parsed, now)
        self.messages["stop" if parsed.stopped else "announce"] += 1
        try:
            return self._announce(member, parsed, now)
        except Refused as refused:
            self.refused[refused.reason] += 1
            return [Send(connection, failure(parsed.info_hash, str(refused)))]

    def charge(self, connection: int, now: float) -> list[Action]:
        """Count a frame that is no message, such as a ping, toward the rate."""
        member = self._connections.get(connection)
        return [] if member is None or member.messages.take(now) else self._close(member, Refusal.RATE)

    def sweep(self, now: float) -> list[Action]:
        """Remove peers that have stopped announcing, and close idle connections."""
        last_announce = now - self.limits.interval * self.limits.missed
        while self._peers and (peer := next(iter(self._peers))).announced <= last_announce:
            self._remove(peer)
        actions: list[Action] = []
        while (
            self._connections
            and (oldest := next(iter(self._connections.values()))).active <= now - self.limits.idle
        ):
            actions += self._close(oldest, Refusal.IDLE)
        self._networks.forget(now)
        return actions

    def _announce(self, member: Connection, announce: Announce, now: float) -> list[Action]:
        if announce.info_hash not in self._admitted:
            raise Refused(Refusal.UNKNOWN_SWARM, "this tracker does not serve that swarm")
        if announce.stopped:
            leaving = member.peers.get(announce.info_hash)
            if leaving and leaving.peer_id == announce.peer_id:
                self._remove(leaving)
            return [self._reply(member, announce.info_hash)]
        self._networks.announce(member.network, now)
        peer = self._peer(member, announce, now)
        peer.announced = member.active = now
        self._peers.move_to_end(peer)
        self._connections.move_to_end(member.number)
        actions: list[Action] = [self._reply(member, announce.info_hash)]
        others = peer.swarm.others(peer, len(announce.offers), self._random)
        for other, offer in zip(others, announce.offers, strict=False):
            pending = other.connection.pending
            if len(pending) >= self.limits.pending_offers:
                del pending[next(iter(pending))]
            pending[peer, offer.offer_id] = now + self.limits.pending_seconds
            text = offer_to(announce.info_hash, announce.peer_id, offer)
            actions.append(Send(other.connection.number, text))
        return actions

    def _peer(self, member: Connection, announce: Announce, now: float) -> Peer:
        """The connection's peer in this swarm; a new peer id replaces the earlier peer."""
        swarm = self._swarms.get(announce.info_hash) or Swarm(announce.info_hash)
        mine = member.peers.get(announce.info_hash)
        if mine and mine.peer_id == announce.peer_id:
            return mine
        if announce.peer_id in swarm.peers:
            raise Refused(Refusal.PEER_ID_TAKEN, "this peer id belongs to another connection")
        if mine:
            self._remove(mine)
        elif len(member.peers) >= self.limits.swarms_per_connection:
            raise Refused(Refusal.SWARMS, "too many swarms for one connection")
        if len(swarm.peers) >= self.limits.peers_per_swarm:
            raise Refused(Refusal.PEERS, "this swarm is full")
        swarm = self._swarms.setdefault(announce.info_hash, swarm)
        peer = Peer(announce.peer_id, swarm, member, now)
        swarm.add(peer)
        member.peers[announce.info_hash] = peer
        self._peers[peer] = None
        return peer

    def _answer(self, member: Connection, answer: PeerAnswer, now: float) -> list[Action]:
        """Send an answer to the offering peer, once for each offer that this peer was sent."""
        mine = member.peers.get(answer.info_hash)
        offering = mine.swarm.peers.get(answer.to_peer_id) if mine else None
        if mine and offering and mine.peer_id == answer.peer_id:
            expires = member.pending.pop((offering, answer.offer_id), now)
            if expires > now:
                member.messages.give_back()
                return [Send(offering.connection.number, answer_to(answer))]
        self.refused[Refusal.UNASKED_ANSWER] += 1
        return []  # an answer gets no reply

    def _reply(self, member: Connection, swarm_id: str) -> Send:
        swarm = self._swarms.get(swarm_id)
        text = reply(swarm_id, self.limits.interval, len(swarm.peers) if swarm else 0)
        return Send(member.number, text)

    def _close(self, member: Connection, reason: Refusal) -> list[Action]:
        self.refused[reason] += 1
        self.disconnect(member.number)
        return [Close(member.number, reason)]

    def _remove(self, peer: Peer) -> None:
        swarm = peer.swarm
        swarm.remove(peer)
        del peer.connection.peers[swarm.info_hash]
        del self._peers[peer]
        if not swarm.peers:
            del self._swarms[swarm.info_hash]
