"""Who is where: connections, their peers, and the swarms these are in."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from broadcaster.tracker.limits import Bucket


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
