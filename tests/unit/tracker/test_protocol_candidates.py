"""Candidates of a peer: the tracker passes on 16, because other peers try all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.webtorrent_clients import Crowd, announce, answer, identifier

MOST = 16
HEAD = (  # as Chromium writes it for a data channel
    "v=0",
    "o=- 4213357286139450000 2 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0",
    "a=extmap-allow-mixed",
    "a=msid-semantic: WMS",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
)
FOOT = (
    "a=ice-ufrag:abcd",
    "a=ice-pwd:abcdefghijklmnopqrstuvwx",
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
    "a=setup:actpass",
    "a=mid:0",
    "a=sctp-port:5000",
    "a=max-message-size:262144",
)


def candidates(count: int) -> list[str]:
    return [
        f"a=candidate:{number} 1 udp 2113937151 192.0.2.{number} 54400 typ host generation 0"
        for number in range(count)
    ]


def description(lines: list[str], end: str = "\r\n") -> str:
    return "".join(line + end for line in (*HEAD, *lines, "a=end-of-candidates", *FOOT))


def offered(sdp: str) -> str:
    """The offer as another peer gets it."""
    crowd = Crowd()
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    offers = [{"offer": {"type": "offer", "sdp": sdp}, "offer_id": identifier("a-0")}]
    (message,) = crowd.say("a", announce("a", offers=offers))["b"]
    return str(message["offer"]["sdp"])


@pytest.mark.parametrize("count", [0, 1, MOST])
def test_few_candidates(count: int) -> None:
    """The description of a viewer with a usual number of addresses is passed on unchanged."""
    sdp = description(candidates(count))
    assert offered(sdp) == sdp


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_no_more_than_sixteen(end: str) -> None:
    """Of more candidates the first 16 are passed on, with all other lines."""
    assert offered(description(candidates(60), end)) == description(candidates(MOST), end)


def test_in_an_answer() -> None:
    """Answers are cut like offers."""
    crowd = Crowd()
    crowd.connect("a", "b")
    crowd.say("b", announce("b"))
    crowd.say("a", announce("a", 1))
    many = {"type": "answer", "sdp": description(candidates(60))}
    (message,) = crowd.say("b", answer("b", "a", "a-0", answer=many))["a"]
    assert message["answer"]["sdp"] == description(candidates(MOST))


LINES = ["a=candidate:1 1 udp", "A=Candidate 1 1", " a = CANDIDATE:", "a=mid:0", "", "\u20ac"]
PRINTED = st.text(st.characters(exclude_categories=["Cc", "Zl", "Zp"]), max_size=8)


@given(st.lists(st.sampled_from(LINES) | PRINTED), st.sampled_from(["\r\n", "\n", "\r"]))
def test_any_spelling(lines: list[str], end: str) -> None:
    """However a browser may read it, 16 lines at most are candidates, and no other line is lost."""
    sdp = end.join(lines)
    kept = offered(sdp)
    assert kept.lower().count("candidate") <= MOST
    assert [line for line in kept.split(end) if "candidate" not in line.lower() and line] == [
        line for line in lines if "candidate" not in line.lower() and line
    ]
