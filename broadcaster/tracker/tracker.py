"""The rules: who is admitted, who is told of whom, and who has to go.

Who is where: connections, their peers, and the swarms these are in.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from broadcaster.hls import Variant
from broadcaster.tracker.limits import Addresses, Bucket, Limits, Refusal, Refused
from broadcaster.tracker.protocol import (
    Announce,
    Answer,
    Malformed,
    answer_to,
    failure,
    info_hash,
    offer_to,
    parse,
    reply,
    stream_index,
)


@dataclass(slots=True, eq=False)
class Peer:
    """A connection's member of one swarm. ``position`` is its place in the swarm's order."""

    peer_id: str
    swarm: Swarm
    connection: Connection
    announced: float  # monotonic seconds
    position: int = 0


@dataclass(slots=True, eq=False)
class Connection:
    """One socket, with at most one peer in each swarm.

    ``pending`` are the offers that were handed to it and when each expires, oldest first.
    """

    number: int
    address: str | None
    messages: Bucket
    active: float  # monotonic seconds of the latest announce
    peers: dict[str, Peer] = field(default_factory=dict)  # by info hash
    pending: dict[tuple[Peer, str], float] = field(default_factory=dict)  # by offering peer and offer id

    def owe_answer(self, offer: tuple[Peer, str], expires: float, most: int) -> None:
        """Take note of an offer; one too many drives out the oldest."""
        if len(self.pending) >= most:
            del self.pending[next(iter(self.pending))]
        self.pending[offer] = expires


class Swarm:
    """The peers that can help each other."""

    def __init__(self, info_hash: str) -> None:
        self.info_hash = info_hash
        self.peers: dict[str, Peer] = {}
        self._order: list[Peer] = []

    def add(self, peer: Peer) -> None:
        """One more."""
        peer.position = len(self._order)
        self._order.append(peer)
        self.peers[peer.peer_id] = peer

    def remove(self, peer: Peer) -> None:
        """One less; the last takes its place, so that it does not matter how many there are."""
        last = self._order.pop()
        if last is not peer:
            self._order[peer.position] = last
            last.position = peer.position
        del self.peers[peer.peer_id]

    def others(self, peer: Peer, count: int, random: Random) -> list[Peer]:
        """Up to ``count`` peers at random, in random order, without ``peer``."""
        drawn = random.sample(self._order, min(count + 1, len(self._order)))
        return [one for one in drawn if one is not peer][:count]


MAX_RUNS = 16
MAX_STREAMS = 64


@dataclass(frozen=True, slots=True)
class Send:
    """Send this text to a connection."""

    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection; the tracker has forgotten it already."""

    connection: int
    reason: Refusal


Action = Send | Close


class Tracker:
    """All swarms. Time is passed in as monotonic seconds; ``random`` chooses who gets an offer.

    ``messages`` counts what came, by kind, ``refused`` what was refused, by reason.
    """

    def __init__(self, limits: Limits | None = None, random: Random | None = None) -> None:
        self.limits = limits or Limits()
        self.messages: Counter[str] = Counter(announce=0, answer=0, stop=0, malformed=0)
        self.refused: Counter[Refusal] = Counter()
        self._random = random or Random()  # noqa: S311 - a fair choice, not a secret
        self._numbers = count(1)
        self._connections: OrderedDict[int, Connection] = OrderedDict()  # the latest active last
        self._peers: OrderedDict[Peer, None] = OrderedDict()  # the latest announced last
        self._swarms: dict[str, Swarm] = {}
        self._addresses = Addresses(self.limits)
        self._streams: dict[str, None] = {}  # every stream index there has been, the newest last
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

    def admit(self, runs: Sequence[str], variants: Sequence[Variant]) -> None:
        """From now on admit viewers of these runs, newest last, and no others.

        ``variants`` are those of the multivariant playlist, none where a media playlist stands for it. Who
        read an earlier one stays in the swarm that followed from it.
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

    def connect(self, address: str | None, now: float) -> int:
        """Let a connection in; returns its number. Raises Refused.

        ``address`` is whatever viewers are told apart by where they come from; None is not limited.
        """
        try:
            if len(self._connections) >= self.limits.connections:
                raise Refused(Refusal.CONNECTIONS, "the tracker is full")
            self._addresses.enter(address, now)
        except Refused as refused:
            self.refused[refused.reason] += 1
            raise
        messages = Bucket.full(self.limits.message_rate, self.limits.message_burst, now)
        number = next(self._numbers)
        self._connections[number] = Connection(number, address, messages, now)
        return number

    def disconnect(self, connection: int) -> None:
        """A connection is gone, and its peers with it."""
        member = self._connections.pop(connection, None)
        if member is None:
            return
        for peer in list(member.peers.values()):
            self._remove(peer)
        member.pending.clear()
        self._addresses.leave(member.address)

    def receive(self, connection: int, message: str | bytes, now: float) -> list[Action]:
        """Take a message; returns what is to be done. Never raises, whatever the message is."""
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
        if isinstance(parsed, Answer):
            self.messages["answer"] += 1
            return self._answer(member, parsed, now)
        self.messages["stop" if parsed.stopped else "announce"] += 1
        try:
            return self._announce(member, parsed, now)
        except Refused as refused:
            self.refused[refused.reason] += 1
            return [Send(connection, failure(parsed.info_hash, str(refused)))]

    def charge(self, connection: int, now: float) -> list[Action]:
        """Something came that is no message, such as a ping: it counts against the rate all the same."""
        member = self._connections.get(connection)
        return [] if member is None or member.messages.take(now) else self._close(member, Refusal.RATE)

    def sweep(self, now: float) -> list[Action]:
        """Forget peers that have not announced for long, and close connections that do nothing."""
        last_announce = now - self.limits.interval * self.limits.missed
        while self._peers and (peer := next(iter(self._peers))).announced <= last_announce:
            self._remove(peer)
        actions: list[Action] = []
        while (
            self._connections
            and (one := next(iter(self._connections.values()))).active <= now - self.limits.idle
        ):
            actions += self._close(one, Refusal.IDLE)
        self._addresses.forget(now)
        return actions

    def _announce(self, member: Connection, announce: Announce, now: float) -> list[Action]:
        if announce.info_hash not in self._admitted:
            raise Refused(Refusal.UNKNOWN_SWARM, "this tracker does not serve that swarm")
        if announce.stopped:
            leaving = member.peers.get(announce.info_hash)
            if leaving and leaving.peer_id == announce.peer_id:
                self._remove(leaving)
            return [self._reply(member, announce.info_hash)]
        self._addresses.announce(member.address, now)
        peer = self._peer(member, announce, now)
        peer.announced = member.active = now
        self._peers.move_to_end(peer)
        self._connections.move_to_end(member.number)
        actions: list[Action] = [self._reply(member, announce.info_hash)]
        others = peer.swarm.others(peer, len(announce.offers), self._random)
        for other, offer in zip(others, announce.offers, strict=False):
            expires = now + self.limits.pending_seconds
            other.connection.owe_answer((peer, offer.offer_id), expires, self.limits.pending_offers)
            text = offer_to(announce.info_hash, announce.peer_id, offer)
            actions.append(Send(other.connection.number, text))
        return actions

    def _peer(self, member: Connection, announce: Announce, now: float) -> Peer:
        """The connection's peer in this swarm; one with another id takes the place of an earlier one."""
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

    def _answer(self, member: Connection, answer: Answer, now: float) -> list[Action]:
        """Hand an answer to the peer that offered, if that offer was handed to this peer (and only once)."""
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
