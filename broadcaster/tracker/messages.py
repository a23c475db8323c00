"""The WebTorrent protocol: JSON over a WebSocket, as the ``bittorrent-tracker`` package speaks it.

``info_hash``, ``peer_id`` and ``offer_id`` are strings of 20 characters, each of which stands for one byte.
Whatever is passed on to other peers is built anew from what was checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE_BYTES = 65_536
MAX_OFFERS = 10  # of one announce; the rest is not read. The client makes 5
MAX_SDP = 16_384  # characters; that of a data channel has some 500, and 100 more for each of its candidates
MAX_CANDIDATES = 16  # addresses of one peer, all of which those who are told of them try. A page has 1 to 6
ID_LENGTH = 20
LAST_BYTE = "\xff"
CANDIDATE = re.compile(r"candidate\b", re.IGNORECASE)  # and not "a=end-of-candidates"


class Malformed(ValueError):  # noqa: N818 - reads as the state it reports
    """Not a message of the protocol."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A half-open connection, for any peer."""

    offer_id: str
    sdp: str


@dataclass(frozen=True, slots=True)
class Announce:
    """A peer is here (or leaves), and makes offers."""

    info_hash: str
    peer_id: str
    stopped: bool
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an offer, for the peer that made it."""

    info_hash: str
    peer_id: str
    to_peer_id: str
    offer_id: str
    sdp: str


def parse(message: str | bytes) -> Announce | Answer:
    """Read a message of a client; raises Malformed."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise Malformed("too large")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise Malformed("not JSON") from None
    # A scrape is not answered: no player asks for one.
    if not isinstance(fields, dict) or fields.get("action") != "announce":
        raise Malformed("not an announce")
    info_hash, peer_id = _id(fields, "info_hash"), _id(fields, "peer_id")
    if fields.get("answer") is not None:
        sdp = _sdp(fields, "answer")
        return Answer(info_hash, peer_id, _id(fields, "to_peer_id"), _id(fields, "offer_id"), sdp)
    stopped = fields.get("event") == "stopped"
    return Announce(info_hash, peer_id, stopped, () if stopped else _offers(fields.get("offers")))


def reply(info_hash: str, interval: int, peers: int) -> str:
    """The reply to an announce: when to announce again (seconds), and how many peers there are.

    Of a live stream nobody has everything: all are incomplete.
    """
    return _text(info_hash, interval=interval, complete=0, incomplete=peers)


def failure(info_hash: str, reason: str) -> str:
    """The reply to an announce that is refused."""
    return _text(info_hash, **{"failure reason": reason})


def offer_to(info_hash: str, peer_id: str, offer: Offer) -> str:
    """An offer of the peer ``peer_id``, for another."""
    sdp = {"type": "offer", "sdp": offer.sdp}
    return _text(info_hash, offer=sdp, offer_id=offer.offer_id, peer_id=peer_id)


def answer_to(answer: Answer) -> str:
    """An answer, for the peer that made the offer."""
    sdp = {"type": "answer", "sdp": answer.sdp}
    return _text(answer.info_hash, answer=sdp, offer_id=answer.offer_id, peer_id=answer.peer_id)


def _text(info_hash: str, **fields: object) -> str:
    # A client hangs up on a message without an action.
    return json.dumps({"action": "announce", "info_hash": info_hash, **fields}, separators=(",", ":"))


def _id(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) != ID_LENGTH or max(value) > LAST_BYTE:
        raise Malformed(f"no valid {name}")
    return value


def _sdp(fields: Mapping[str, Any], kind: str) -> str:
    """The session description ``kind`` (offer or answer)."""
    description = fields.get(kind)
    sdp = (
        description.get("sdp") if isinstance(description, dict) and description.get("type") == kind else None
    )
    if not isinstance(sdp, str) or len(sdp) > MAX_SDP:
        raise Malformed(f"no valid {kind}")
    return _cut(sdp)


def _cut(sdp: str) -> str:
    """All of it but the candidates past the bound (RFC 8839, section 5.1).

    It is not refused: a viewer with that many network interfaces is still reached by the others.
    """
    lines = sdp.splitlines(keepends=True)
    candidates = [number for number, line in enumerate(lines) if CANDIDATE.search(line)]
    for number in reversed(candidates[MAX_CANDIDATES:]):
        del lines[number]
    return "".join(lines)


def _offers(offers: object) -> tuple[Offer, ...]:
    if offers is None:
        return ()
    if not isinstance(offers, list) or not all(isinstance(one, dict) for one in offers[:MAX_OFFERS]):
        raise Malformed("no valid offers")
    return tuple(Offer(_id(one, "offer_id"), _sdp(one, "offer")) for one in offers[:MAX_OFFERS])
