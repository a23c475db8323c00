"""Whatever comes in whatever order: no exception, no bound passed, and nobody gets what is not for him.

Hypothesis drives the tracker with valid messages, near misses, noise, leaving connections and passing time,
beside a model that knows nothing of the tracker's insides but what went out.
"""

import json
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broadcaster.tracker.protocol import info_hash, stream_index
from broadcaster.tracker.tracker import Action, Close, Refused, Send, Tracker, TrackerLimits
from tests.support.fakes.webtorrent_clients import SWARM, Crowd, announce, answer, identifier
from tests.support.length import seconds

RUNS = ("r0", "r1")
SWARMS = [info_hash(run, stream_index(None)) for run in (*RUNS, "foreign")]
PEERS = ("a", "b", "c")
ADDRESSES = (None, "192.0.2.1", "192.0.2.2")
LIMITS = TrackerLimits(
    interval=20,
    idle=100,
    connections=4,
    connections_per_address=2,
    swarms_per_connection=1,
    peers_per_swarm=2,
    pending_offers=3,
    pending_seconds=30,
    message_rate=2,
    message_burst=40,
    address_rate=2,
    address_burst=40,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([SWARM, identifier("a")])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
fields = st.sampled_from(
    ["info_hash", "peer_id", "offers", "answer", "to_peer_id", "offer_id", "event", "numwant", "left"]
)


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return Crowd(TrackerLimits(connections=1_000_000))


@given(message=st.text() | st.binary() | anything.map(json.dumps))
@settings(max_examples=seconds(300, 100))
def test_noise(crowd: Crowd, message: str | bytes) -> None:
    """Arbitrary text, bytes and JSON close the connection and do nothing else."""
    crowd.connect("a")
    assert crowd.say("a", message) == {}
    assert crowd.gone.pop("a") == "malformed"
    assert crowd.tracker.sockets == 0


@given(changes=st.dictionaries(fields, anything, min_size=1), answers=st.booleans())
@settings(max_examples=seconds(500, 100))
def test_near_misses(crowd: Crowd, changes: dict[str, Any], *, answers: bool) -> None:
    """A valid message with changed fields is handled as valid, or closes the connection."""
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    valid = json.loads(answer("a", "b", "b-0") if answers else announce("a", 2))
    sent = crowd.say("a", json.dumps({**valid, **changes}))
    assert all(message["action"] == "announce" for messages in sent.values() for message in messages)
    closed = crowd.gone.pop("a", None)
    assert closed in (None, "malformed")
    if not closed:
        crowd.disconnect("a")
    crowd.disconnect("b")
    assert (crowd.tracker.peers, crowd.tracker.torrents, crowd.tracker.sockets) == (0, 0, 0)


class Offer(NamedTuple):
    """An offer of ``peer`` of connection ``by`` that was sent to connection ``to``."""

    swarm: str
    to: int
    name: str
    by: int
    peer: str


class Traffic(RuleBasedStateMachine):
    """The tracker with clients of all kinds, and a model of its peers."""

    @initialize(seed=st.integers(0, 9))
    def begin(self, seed: int) -> None:
        self.now = 1000.0
        self.tracker = Tracker(LIMITS, Random(seed))
        self.runs: list[str] = list(RUNS)
        self.open: dict[int, str | None] = {}
        self.members: dict[tuple[str, int], tuple[str, float]] = {}  # swarm, connection → peer, last announce
        self.offers: dict[Offer, bool] = {}  # whether it may be answered
        self.made = 0
        self.tracker.admit(self.runs, [])
        for peer in PEERS[:2]:
            number = self.tracker.connect(None, self.now)
            self.open[number] = None
            self._announce(number, peer, SWARMS[0], 0)

    @rule(address=st.sampled_from(ADDRESSES))
    def connect(self, address: str | None) -> None:
        try:
            number = self.tracker.connect(address, self.now)
        except Refused:
            return
        assert number not in self.open
        self.open[number] = address

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        noise=st.none() | st.text(max_size=5) | anything.map(json.dumps) | st.binary(max_size=5),
    )
    def leave(self, data: st.DataObject, noise: str | bytes | None) -> None:
        """A connection closes, or is closed because of what it says."""
        number = data.draw(st.sampled_from(sorted(self.open)))
        if noise is None:
            self.tracker.disconnect(number)
            self._forget(number)
        else:
            (action,) = self._note(self.tracker.receive(number, noise, self.now))
            assert isinstance(action, Close)

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(), peer=st.sampled_from(PEERS), swarm=st.sampled_from(SWARMS), offers=st.integers(0, 12)
    )
    def announce(self, data: st.DataObject, peer: str, swarm: str, offers: int) -> None:
        self._announce(data.draw(st.sampled_from(sorted(self.open))), peer, swarm, offers)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), offers=st.integers(1, 5), answers=st.integers(0, 2))
    def meet(self, data: st.DataObject, offers: int, answers: int) -> None:
        """A client announces again, as clients do; who is offered something answers never, once, or twice."""
        swarm, number = data.draw(st.sampled_from(sorted(self.members)))
        before = set(self.offers)
        self._announce(number, self.members[swarm, number][0], swarm, offers)
        for offer in sorted(self.offers.keys() - before):
            for time in range(answers):
                answering = self.members.get((swarm, offer.to))
                sent = self._answer(offer, offer.to, answering[0]) if answering else []
                assert len(sent) == (time == 0) or offer.to not in self.open

    def _announce(self, number: int, peer: str, swarm: str, offers: int) -> None:
        names = [f"o{self.made + offset}" for offset in range(offers)]
        self.made += offers
        actions = self._note(self.tracker.receive(number, announce(peer, names, swarm=swarm), self.now))
        if any(isinstance(action, Send) and "interval" in json.loads(action.text) for action in actions):
            if self.members.get((swarm, number), (peer, 0))[0] != peer:
                self._leave(swarm, number)
            self.members[swarm, number] = (peer, self.now)
        others = {other for joined, other in self.members if joined == swarm} - {number}
        sent = [action for action in actions if isinstance(action, Send) and action.connection != number]
        expected = min(offers, 10, len(others)) if (swarm, number) in self.members and len(actions) > 1 else 0
        assert len({action.connection for action in sent} & others) == len(sent) == expected
        for action in sent:
            message = json.loads(action.text)
            assert (message["info_hash"], message["peer_id"]) == (swarm, identifier(peer))
            offer = message["offer_id"].rstrip("-")
            assert offer in names
            self.offers[Offer(swarm, action.connection, offer, number, peer)] = True

    @precondition(lambda self: self.members)
    @rule(data=st.data(), peer=st.sampled_from(PEERS))
    def stop(self, data: st.DataObject, peer: str) -> None:
        swarm, number = data.draw(st.sampled_from(sorted(self.members)))
        actions = self._note(
            self.tracker.receive(number, announce(peer, 3, swarm=swarm, event="stopped"), self.now)
        )
        assert len(actions) == 1
        if isinstance(actions[0], Send) and self.members[swarm, number][0] == peer:
            self._leave(swarm, number)

    @precondition(lambda self: self.offers and self.open)
    @rule(data=st.data(), honest=st.booleans(), peer=st.sampled_from(PEERS))
    def answer(self, data: st.DataObject, peer: str, *, honest: bool) -> None:
        """Who was offered something answers, or anybody else; late, again, or under another name."""
        offer = data.draw(st.sampled_from(sorted(self.offers)))
        number = (
            offer.to if honest and offer.to in self.open else data.draw(st.sampled_from(sorted(self.open)))
        )
        self._answer(offer, number, peer)

    @rule(seconds=st.sampled_from([0.125, 1.0, 5.0, 20.0, 31.0, 39.0, 101.0]))  # exact in binary
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._note(self.tracker.sweep(self.now))
        for (swarm, number), (_, announced) in list(self.members.items()):
            if announced + 2 * LIMITS.interval <= self.now:
                self._leave(swarm, number)

    @rule(runs=st.lists(st.sampled_from(RUNS), unique=True))
    def admit(self, runs: list[str]) -> None:
        self.runs = runs
        self.tracker.admit(runs, [])
        for swarm, number in list(self.members):
            if swarm not in self._admitted():
                self._leave(swarm, number)

    @invariant()
    def members_are_known(self) -> None:
        """Exactly those that announced and have not left; each id once, and no bound passed."""
        tracker, swarms = self.tracker, {swarm for swarm, _ in self.members}
        assert (tracker.peers, tracker.torrents) == (len(self.members), len(swarms))
        assert swarms <= self._admitted()
        assert len({(swarm, peer) for (swarm, _), (peer, _) in self.members.items()}) == len(self.members)
        for swarm in swarms:
            assert [joined for joined, _ in self.members].count(swarm) <= LIMITS.peers_per_swarm
        for number in self.open:
            assert [joined for _, joined in self.members].count(number) <= LIMITS.swarms_per_connection

    @invariant()
    def connections_are_bounded(self) -> None:
        assert self.tracker.sockets == len(self.open) <= LIMITS.connections
        for address in ADDRESSES[1:]:
            assert list(self.open.values()).count(address) <= LIMITS.connections_per_address

    def _answer(self, offer: Offer, number: int, peer: str) -> list[Action]:
        message = answer(peer, offer.peer, offer.name, swarm=offer.swarm)
        actions = self._note(self.tracker.receive(number, message, self.now))
        for action in actions:
            if isinstance(action, Send):
                assert self.offers[offer], "answered already, or by somebody who is gone"
                assert (number, action.connection) == (offer.to, offer.by)
                assert self.members[offer.swarm, number][0] == peer
                assert json.loads(action.text)["peer_id"] == identifier(peer)
                self.offers[offer] = False
        return [action for action in actions if isinstance(action, Send)]

    def _admitted(self) -> set[str]:
        return {info_hash(run, stream_index(None)) for run in self.runs}

    def _note(self, actions: list[Action]) -> list[Action]:
        """Nothing is sent to a connection that is gone."""
        for action in actions:
            assert action.connection in self.open
            if isinstance(action, Close):
                self._forget(action.connection)
        return actions

    def _forget(self, number: int) -> None:
        del self.open[number]
        for swarm, member in list(self.members):
            if member == number:
                self._leave(swarm, member)

    def _leave(self, swarm: str, number: int) -> None:
        """Nobody may answer any more what a peer offered that has left."""
        del self.members[swarm, number]
        for offer in self.offers:
            if offer.swarm == swarm and offer.by == number:
                self.offers[offer] = False


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=seconds(80, 40), stateful_step_count=50)
