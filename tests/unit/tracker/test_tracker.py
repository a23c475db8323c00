"""The tracker's rules: which peers get which offers, and all limits."""

import json
from typing import Any

import pytest

from broadcaster.hls import Variant
from broadcaster.tracker.protocol import info_hash, stream_index
from broadcaster.tracker.tracker import Refusal, Refused, TrackerLimits
from tests.support.fakes.webtorrent_clients import (
    OTHER_SWARM,
    RUN,
    SWARM,
    Crowd,
    announce,
    answer,
    identifier,
)

FULL = Variant("0", 2_500_000, None, "avc1.64001f,mp4a.40.2", (1280, 720), 30.0)


def failure_of(replies: dict[str, list[dict[str, Any]]], name: str) -> str:
    (reply,) = replies[name]
    assert reply["action"] == "announce"
    return str(reply["failure reason"])


@pytest.mark.parametrize(
    ("variant", "index", "swarm"),
    [
        (None, "UYnLxGhQilEV4D0HbCx+kRv0ZF0=", "KkXjmoL9ZYEjGXjOHHy6"),
        (Variant("0", 0), "ZJ7vfm6xun7mHTjQy7Tf6h8sYQU=", "/X+ON9VUuqhStvDWbTTp"),
        (Variant("0", 1_234_567), "Q1eNYYeIpkIGa+dnkMdliMgrG64=", "oLQ7iBga7CeXMEMDmbNc"),
        (FULL, "EHK89iYCQiM+pA6Jy1vN2QvR6q8=", "PMIAohUboYeHHSapa1nf"),
        (
            Variant("1", 900_000, 800_000, "mp4a.40.2, avc1.66.30", (640, 360), 29.97),
            "RygTtdPje7J76D74FQ0uJ0cAYD0=",
            "zkyXWZN5+l4XSaSuF9gF",
        ),
        (
            Variant("1", 10, None, "hvc1.1.6.L93.B0,avc1.4D401E,ec-3", None, 100.0),
            "yVfofzrKJZEOTjS6hIPcWnEtLfY=",
            "hrZcNRU3KoIOtt3iiz0a",
        ),
        (Variant("3", 0, 20, "av01.0.04M.08/x"), "U+bV6frSms05LdvShz7nGVx4A8E=", "f2NHfujjvoHvzCgovMUC"),
        (Variant("4", 77, None, "mp4a.40.2"), "CjK78eg5WRnxdlD+NF516JajNG8=", "QnP83DCRoyuSlsh3vpTR"),
        (Variant("4", 77, None, "avc1.066.30"), "MbzeLYg8ZRw6xdrVgvyZJTZnrQY=", "Xgby8YDIP3HN6YQDfkM0"),
    ],
)
def test_swarm_of_a_variant(variant: Variant | None, index: str, swarm: str) -> None:
    """The index and the swarm of a variant are those that p2p-media-loader 2.3.1 was seen to compute."""
    assert stream_index(variant) == index
    assert info_hash("r1", index) == swarm


def test_announce() -> None:
    """The reply has the interval and the number of peers."""
    crowd = Crowd()
    crowd.connect("a", "b")
    assert crowd.say("a", announce("a", 5)) == {
        "a": [{"action": "announce", "info_hash": SWARM, "interval": 20, "complete": 0, "incomplete": 1}]
    }
    assert crowd.say("b", announce("b"))["b"][0]["incomplete"] == 2
    assert crowd.say("b", announce("b", event=None))["b"][0]["incomplete"] == 2
    assert (crowd.tracker.peers, crowd.tracker.torrents, crowd.tracker.sockets) == (2, 1, 2)


def test_offers_go_to_others() -> None:
    """Each offer goes to another peer, never to its sender, and no peer gets two."""
    crowd = Crowd()
    names = [f"peer{number}" for number in range(8)]
    crowd.connect(*names)
    for name in names:
        crowd.say(name, announce(name))
    sent = crowd.say("peer0", announce("peer0", 5))
    offers = {name: messages for name, messages in sent.items() if name != "peer0"}
    assert len(offers) == 5
    for number, (message,) in enumerate(offers.values()):
        assert message == {
            "action": "announce",
            "info_hash": SWARM,
            "offer": {"type": "offer", "sdp": f"offer of peer0-{number}"},
            "offer_id": identifier(f"peer0-{number}"),
            "peer_id": identifier("peer0"),
        }


def test_offers_are_spread() -> None:
    """Over time each peer gets offers, in whatever order the peers came."""
    crowd = Crowd()
    names = [f"peer{number}" for number in range(10)]
    crowd.connect(*names)
    for name in names:
        crowd.say(name, announce(name))
    reached: set[str] = set()
    for _ in range(30):
        crowd.pass_time(1)
        reached |= crowd.say("peer0", announce("peer0", 2)).keys()
    assert reached == set(names)


def test_no_more_than_ten_offers() -> None:
    """Ten offers of an announce are passed on."""
    crowd = Crowd()
    names = [f"peer{number}" for number in range(20)]
    crowd.connect(*names)
    for name in names:
        crowd.say(name, announce(name))
    assert len(crowd.say("peer0", announce("peer0", 15)).keys() - {"peer0"}) == 10


def test_answer() -> None:
    """The answer goes to the offering peer, once, and the answering peer gets no reply."""
    crowd = Crowd()
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    crowd.say("a", announce("a", 1))
    assert crowd.say("b", answer("b", "a", "a-0")) == {
        "a": [
            {
                "action": "announce",
                "info_hash": SWARM,
                "answer": {"type": "answer", "sdp": "answer of b"},
                "offer_id": identifier("a-0"),
                "peer_id": identifier("b"),
            }
        ]
    }
    assert crowd.say("b", answer("b", "a", "a-0")) == {}
    assert crowd.tracker.refused[Refusal.UNASKED_ANSWER] == 1


@pytest.mark.parametrize(
    "message",
    [
        answer("b", "a", "a-1"),
        answer("b", "c", "a-0"),
        answer("c", "a", "a-0"),
        answer("b", "b", "a-0"),
        answer("b", "a", "a-0", swarm=OTHER_SWARM),
    ],
)
def test_unasked_answer(message: str) -> None:
    """An answer without an offer to this peer goes nowhere."""
    crowd = Crowd()
    crowd.connect("a", "b", "c")
    crowd.say("b", announce("b"))
    crowd.say("a", announce("a", 1))
    crowd.say("c", announce("c"))
    assert crowd.say("b", message) == {}
    assert crowd.say("b", answer("b", "a", "a-0")).keys() == {"a"}


def test_answer_of_another_peer() -> None:
    """A peer cannot answer an offer to another peer, even under its id."""
    crowd = Crowd()
    crowd.connect("a", "b", "c")
    crowd.say("b", announce("b"))
    crowd.say("a", announce("a", 1))
    assert crowd.say("c", answer("b", "a", "a-0")) == {}
    crowd.say("c", announce("c"))
    assert crowd.say("c", answer("b", "a", "a-0")) == {}


def test_late_answer() -> None:
    """An answer is too late when the offering client no longer waits, or another client has its id."""
    crowd = Crowd(TrackerLimits(pending_seconds=10))
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    crowd.say("a", announce("a", ["old", "older"]))
    crowd.pass_time(10)
    assert crowd.say("b", answer("b", "a", "old")) == {}
    crowd.say("a", announce("a", ["new"]))
    crowd.disconnect("a")
    crowd.connect("impostor")
    crowd.say("impostor", announce("a"))
    assert crowd.say("b", answer("b", "a", "new")) == {}


def test_pending_offers_are_limited() -> None:
    """Of unanswered offers only the latest are remembered."""
    crowd = Crowd(TrackerLimits(pending_offers=3))
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    for number in range(5):
        crowd.say("a", announce("a", [f"offer{number}"]))
    answered = [bool(crowd.say("b", answer("b", "a", f"offer{number}"))) for number in range(5)]
    assert answered == [False, False, True, True, True]


def test_foreign_swarm() -> None:
    """Only swarms of served encoder runs are admitted; the client gets an error and stays connected."""
    crowd = Crowd()
    crowd.connect("a")
    reason = failure_of(crowd.say("a", announce("a", 5, swarm=OTHER_SWARM)), "a")
    assert reason == "this tracker does not serve that swarm"
    assert (crowd.tracker.peers, crowd.tracker.torrents) == (0, 0)
    assert crowd.tracker.refused == {Refusal.UNKNOWN_SWARM: 1}
    assert not crowd.gone


def test_swarms_follow_the_stream() -> None:
    """New runs and variants are admitted, peers of earlier variants stay, peers of old runs are removed."""
    crowd = Crowd()
    crowd.connect("a", "b")
    crowd.say("a", announce("a"))
    crowd.tracker.admit([RUN, "new"], [FULL])
    for run in (RUN, "new"):
        for index in (stream_index(None), stream_index(FULL)):
            assert crowd.say("b", announce("b", swarm=info_hash(run, index)))["b"][0]["interval"] == 20
    assert (crowd.tracker.peers, crowd.tracker.torrents) == (5, 4)
    crowd.tracker.admit(["new"], [])
    assert (crowd.tracker.peers, crowd.tracker.torrents) == (2, 2)
    assert "does not serve" in failure_of(crowd.say("a", announce("a")), "a")
    still = announce("b", swarm=info_hash("new", stream_index(FULL)))
    assert crowd.say("b", still)["b"][0]["incomplete"] == 1


def test_admitted_swarms_are_limited() -> None:
    """However often runs and variants change, only the latest are remembered."""
    crowd = Crowd()
    for number in range(200):
        crowd.tracker.admit([f"run{run}" for run in range(number)], [Variant("0", 1000 + number)])
    crowd.connect("a")
    newest, oldest = stream_index(Variant("0", 1199)), stream_index(Variant("0", 1000))
    assert "interval" in crowd.say("a", announce("a", swarm=info_hash("run198", newest)))["a"][0]
    assert failure_of(crowd.say("a", announce("a", swarm=info_hash("run198", oldest))), "a")
    assert failure_of(crowd.say("a", announce("a", swarm=info_hash("run0", newest))), "a")


def test_one_owner_of_a_peer_id() -> None:
    """A peer id cannot be used by two connections; it is free once its peer has left."""
    crowd = Crowd()
    crowd.connect("a", "thief", "b")
    crowd.say("a", announce("a"))
    assert "another connection" in failure_of(crowd.say("thief", announce("a", 1)), "thief")
    assert crowd.say("b", announce("b", 1)).keys() == {"a", "b"}
    crowd.disconnect("a")
    assert crowd.say("thief", announce("a"))["thief"][0]["incomplete"] == 2


def test_one_peer_of_a_connection_in_a_swarm() -> None:
    """A page that returns with another peer id over the same socket is still one peer."""
    crowd = Crowd()
    crowd.connect("a")
    crowd.say("a", announce("a"))
    assert crowd.say("a", announce("a2"))["a"][0]["incomplete"] == 1
    assert crowd.tracker.peers == 1


def test_leaving() -> None:
    """A peer that stops, or whose connection closes, gets no more offers."""
    crowd = Crowd()
    crowd.connect("a", "b", "c")
    for name in "abc":
        crowd.say(name, announce(name))
    assert crowd.say("b", announce("b", 3, event="stopped"))["b"][0]["incomplete"] == 2
    crowd.disconnect("c")
    crowd.disconnect("c")
    assert crowd.say("a", announce("a", 5)).keys() == {"a"}
    assert (crowd.tracker.peers, crowd.tracker.sockets) == (1, 2)
    assert crowd.say("c", announce("c")) == {}


def test_remaining_peers() -> None:
    """In whatever order peers leave, the remaining peers can be reached."""
    crowd = Crowd()
    crowd.connect(*"abcdef")
    for name in "abcdef":
        crowd.say(name, announce(name))
    for name in "bfe":
        crowd.disconnect(name)
    assert crowd.say("a", announce("a", 5)).keys() == set("acd")


def test_stopping_another_peer() -> None:
    """A peer cannot make another peer leave."""
    crowd = Crowd()
    crowd.connect("a", "b")
    crowd.say("a", announce("a"))
    crowd.say("b", announce("b"))
    crowd.say("b", announce("a", event="stopped"))
    assert crowd.tracker.peers == 2


def test_peer_falls_silent() -> None:
    """A peer is removed after two intervals without an announce; announcing peers stay."""
    crowd = Crowd(TrackerLimits(interval=20))
    crowd.connect("a", "b")
    crowd.say("a", announce("a"))
    crowd.say("b", announce("b"))
    crowd.pass_time(20)
    crowd.say("a", announce("a", event=None))
    crowd.pass_time(19.9)
    assert crowd.tracker.peers == 2
    crowd.pass_time(0.1)
    assert crowd.tracker.peers == 1
    assert crowd.say("a", announce("a", 5, event=None)).keys() == {"a"}
    assert crowd.say("b", announce("b", event=None))["b"][0]["incomplete"] == 2


def test_idle_connection() -> None:
    """A connection without announces is closed, whatever else it sends."""
    crowd = Crowd(TrackerLimits(idle=60))
    crowd.connect("idle", "active", "foreign")
    for _ in range(3):
        crowd.say("active", announce("active"))
        crowd.say("foreign", announce("foreign", swarm=OTHER_SWARM))
        crowd.pass_time(20)
    assert crowd.gone == {"idle": "idle", "foreign": "idle"}
    assert crowd.tracker.sockets == 1


def test_swarms_of_a_connection_are_limited() -> None:
    """A connection can be in a limited number of swarms; leaving a swarm makes room."""
    crowd = Crowd(TrackerLimits(swarms_per_connection=2))
    swarms = [info_hash(run, stream_index(None)) for run in ("r0", "r1", "r2")]
    crowd.tracker.admit(["r0", "r1", "r2"], [])
    crowd.connect("a")
    for swarm in swarms[:2]:
        crowd.say("a", announce("a", swarm=swarm))
    assert "too many swarms" in failure_of(crowd.say("a", announce("a", swarm=swarms[2])), "a")
    crowd.say("a", announce("a", swarm=swarms[0], event="stopped"))
    assert crowd.say("a", announce("a", swarm=swarms[2]))["a"][0]["incomplete"] == 1


def test_peers_of_a_swarm_are_limited() -> None:
    """A full swarm admits no peer, and works for its peers."""
    crowd = Crowd(TrackerLimits(peers_per_swarm=2))
    crowd.connect("a", "b", "c")
    crowd.say("a", announce("a"))
    crowd.say("b", announce("b"))
    assert "full" in failure_of(crowd.say("c", announce("c")), "c")
    assert crowd.say("a", announce("a", 5, event=None)).keys() == {"a", "b"}


def test_connections_are_limited() -> None:
    """Too many connections are refused, in all and from one address."""
    crowd = Crowd(TrackerLimits(connections=4, connections_per_address=2))
    crowd.connect("a", "b", address="192.0.2.1")
    with pytest.raises(Refused, match="this address") as refused:
        crowd.connect("c", address="192.0.2.1")
    assert refused.value.reason == Refusal.ADDRESS
    crowd.disconnect("a")
    crowd.connect("c", address="192.0.2.1")
    crowd.connect("d", "e")
    with pytest.raises(Refused, match="full"):
        crowd.connect("f")
    assert crowd.tracker.sockets == 4


def test_networks_of_one_subscriber_are_limited_together() -> None:
    """All networks of an IPv6 /48 together have four times the limit of a network."""
    crowd = Crowd(TrackerLimits(connections_per_address=2))
    for network in range(4):
        site = f"2001:db8:1:{network}::/64"
        crowd.connect(f"a{network}", f"b{network}", address=site)
        with pytest.raises(Refused, match="this address"):
            crowd.connect("c", address=site)
    with pytest.raises(Refused, match="this address"):
        crowd.connect("c", address="2001:db8:1:ffff::/64")
    crowd.connect("d", address="2001:db8:2::/64")


def test_addresses_are_limited_and_forgotten() -> None:
    """An address is remembered while it is connected and shortly after, and their number is limited."""
    crowd = Crowd(TrackerLimits(connections=5, address_burst=3, address_rate=0.1))
    for number in range(10):
        crowd.connect("a", address=f"192.0.2.{number}")
        crowd.disconnect("a")
    with pytest.raises(Refused, match="full"):
        crowd.connect("a", address="192.0.2.99")
    crowd.connect("b", address="192.0.2.1")
    crowd.connect("b", address="192.0.2.1")
    with pytest.raises(Refused, match="too many connections"):
        crowd.connect("b", address="192.0.2.1")
    crowd.pass_time(10)
    crowd.connect("a", address="192.0.2.99")


def test_addresses_are_not_forgotten_too_soon() -> None:
    """Neither reconnecting nor waiting gives an address more than its limit."""
    crowd = Crowd(TrackerLimits(connections_per_address=2, address_burst=4, address_rate=0.1, idle=1e6))
    crowd.connect("a", "b", address="192.0.2.1")
    crowd.pass_time(100)
    with pytest.raises(Refused, match="this address"):
        crowd.connect("c", address="192.0.2.1")
    for _ in range(4):
        crowd.connect("d", address="192.0.2.2")
        crowd.disconnect("d")
    crowd.pass_time(10)
    crowd.connect("d", address="192.0.2.2")
    crowd.disconnect("d")
    with pytest.raises(Refused, match="this address"):
        crowd.connect("d", address="192.0.2.2")


def test_announces_of_an_address_are_limited() -> None:
    """Connections from one address share a rate of announces; other addresses are not affected."""
    crowd = Crowd(TrackerLimits(address_burst=6, address_rate=1))
    crowd.connect("a", "b", "c", address="192.0.2.1")
    for name in "abc":
        crowd.say(name, announce(name))
    assert "this address" in failure_of(crowd.say("a", announce("a", event=None)), "a")
    crowd.connect("d", address="192.0.2.2")
    assert "interval" in crowd.say("d", announce("d"))["d"][0]
    crowd.pass_time(1)
    assert "interval" in crowd.say("a", announce("a", event=None))["a"][0]
    assert not crowd.gone


def test_messages_of_a_connection_are_limited() -> None:
    """A connection with too many messages is closed; answers to offers do not count."""
    crowd = Crowd(TrackerLimits(message_burst=21, message_rate=0.1))
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    for number in range(20):
        crowd.say("a", announce("a", [f"offer{number}"]))
        assert crowd.say("b", answer("b", "a", f"offer{number}"))
    for _ in range(20):
        crowd.ping("b")
    crowd.ping("a")
    assert not crowd.gone
    crowd.pass_time(10)
    crowd.ping("a")
    crowd.ping("b")
    assert not crowd.gone
    crowd.say("a", announce("a"))
    crowd.ping("b")
    assert crowd.gone == {"a": "rate", "b": "rate"}
    assert (crowd.tracker.peers, crowd.tracker.sockets) == (0, 0)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no json",
        "null",
        "[]",
        "1",
        "{}",
        '"announce"',
        "[" * 60_000,
        "9" * 60_000,
        b"\xff\xfe\x00",
        b"\x00" * 100,
        announce("a") + " " * 65_536,
        json.dumps({"action": "announce"}),
        json.dumps({"action": "scrape", "info_hash": SWARM}),
        json.dumps({"action": ["announce"], "info_hash": SWARM, "peer_id": identifier("a")}),
        announce("a", swarm="short"),
        announce("a", swarm="\u20ac" * 20),
        announce("a", peer_id=7),
        announce("a", peer_id=["a"] * 20),
        announce("a", peer_id="a" * 21),
        announce("a", offers="offers"),
        announce("a", offers={"0": 1}),
        announce("a", offers=[1]),
        announce("a", offers=[{}]),
        announce("a", offers=[{"offer_id": identifier("o"), "offer": "sdp"}]),
        announce("a", offers=[{"offer_id": identifier("o"), "offer": {"type": "answer", "sdp": ""}}]),
        announce("a", offers=[{"offer_id": identifier("o"), "offer": {"type": "offer", "sdp": 1}}]),
        announce(
            "a", offers=[{"offer_id": identifier("o"), "offer": {"type": "offer", "sdp": "x" * 20_000}}]
        ),
        announce("a", offers=[{"offer_id": "o", "offer": {"type": "offer", "sdp": ""}}]),
        answer("a", "b", "o", answer=1),
        answer("a", "b", "o", answer={"type": "offer", "sdp": ""}),
        answer("a", "b", "o", to_peer_id=None),
        answer("a", "b", "o", offer_id=3),
    ],
    ids=range(33),
)
def test_malformed(message: str | bytes) -> None:
    """A malformed message closes the connection, and other peers get nothing."""
    crowd = Crowd()
    crowd.connect("a", "b")
    crowd.say("a", announce("a"))
    crowd.say("b", announce("b"))
    assert crowd.say("a", message) == {}
    assert crowd.gone == {"a": "malformed"}
    assert crowd.tracker.peers == 1


def test_unknown_fields_are_not_passed_on() -> None:
    """Other peers get fields of the protocol only."""
    crowd = Crowd()
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    strange = "\xe9\u20ac\ud800\x00"
    offer = {"type": "offer", "sdp": strange, "more": 1}
    offers = [{"offer": offer, "offer_id": "\xff" * 20, "x": 2}]
    sent = crowd.say("a", announce("a", offers=offers, interval=1, answer_to="b"))
    (message,) = sent["b"]
    assert message.keys() == {"action", "info_hash", "peer_id", "offer", "offer_id"}
    assert message["offer"] == {"type": "offer", "sdp": strange}
    assert message["offer_id"] == "\xff" * 20


def test_refused_networks_take_no_room() -> None:
    """A /48 that tries all its networks is refused, and no other address is."""
    crowd = Crowd(TrackerLimits(connections=20, connections_per_address=1))
    for network in range(4):
        crowd.connect(f"own {network}", address=f"2001:db8:1:{network:x}::/64")
    for network in range(4, 200):
        with pytest.raises(Refused, match="from this address"):
            crowd.connect("a", address=f"2001:db8:1:{network:x}::/64")
    crowd.connect("b", address="2001:db8:2::/64")


def test_departed_addresses_keep_nobody_out() -> None:
    """Addresses that left shortly before take no connections, in IPv4 and in IPv6."""
    for address in ("10.0.0.{}", "2001:db8:{}::/64"):
        crowd = Crowd(TrackerLimits(connections=20))
        for number in range(20):
            crowd.connect(f"before {number}", address=address.format(number))
            crowd.disconnect(f"before {number}")
        for number in range(20, 40):
            crowd.connect(f"now {number}", address=address.format(number))
