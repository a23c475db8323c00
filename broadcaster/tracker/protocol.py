"""The WebTorrent protocol: JSON over a WebSocket, as the ``bittorrent-tracker`` package speaks it.

``info_hash``, ``peer_id`` and ``offer_id`` are strings of 20 characters, each of which stands for one byte.
Whatever is passed on to other peers is built anew from what was checked.

Which swarm a viewer of one variant of one run joins: computed just as p2p-media-loader 2.3.1 does.

A viewer's swarm follows from what its player reads in the multivariant playlist, so ours can be computed
from the same playlist, and no other need be admitted.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broadcaster.hls import Variant

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


SWARM_PREFIX = "broadcaster-"  # the page's swarmId is this and the run's id
PROTOCOL_VERSION = "v2"  # PEER_PROTOCOL_VERSION, p2p-media-loader-core/src/utils/stream.ts
NO_ATTRIBUTES = "0--------"
INFO_HASH_BYTES = 15  # of the SHA-1: 20 characters of Base64 (utils/peer.ts)
# ``avc1.66.30`` is an old way to write ``avc1.42001e``.
DECIMAL_AVC = re.compile(r"(avc1?)\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})")
# The sample entries that hls.js takes for video (src/utils/codecs.ts).
VIDEO_CODECS = re.compile(
    "av01|avc[1234p]|dav1|drac|dva1|dvav|dvh[1e]|encv|hev1|hvc1|mjp2|mp4v|mvc[1234]|resv|rv60|s263|svc[12]"
    "|vc-1|vp0[89]"
)


def info_hash(run: str, index: str) -> str:
    """The swarm of one stream (``index``) of a run, as it goes over the wire.

    See getStreamHash in utils/peer.ts.
    """
    stream = f"{PROTOCOL_VERSION}-{SWARM_PREFIX}{run}-main-{index}"
    return b64encode(_sha1(stream)[:INFO_HASH_BYTES]).decode()


def stream_index(variant: Variant | None) -> str:
    """The stream's name among its siblings (utils/stream.ts, generateStreamShortId).

    None is the media playlist that is served as the main one: its player knows no attributes.
    """
    fields = NO_ATTRIBUTES
    if variant:
        # What hls.js reads where there is no bandwidth is not a number.
        bandwidth = variant.bandwidth or variant.average_bandwidth or "NaN"
        width, height = variant.resolution or ("", "")
        rate = f"{variant.frame_rate:.3f}".rstrip("0").rstrip(".") if variant.frame_rate else ""
        # The empty fields are language, channels, name, and video range, which our playlists do not have.
        fields = f"{bandwidth}-{_video_codecs(variant.codecs or '')}-{width}-{height}----{rate}-"
    return b64encode(_sha1(fields)).decode()


def _video_codecs(codecs: str) -> str:
    """The video codecs of CODECS in the library's spelling, in order."""
    names = (name.split("/")[0] for name in re.split("[ ,]+", codecs) if VIDEO_CODECS.match(name))
    return ",".join(sorted(_hexadecimal(name.lower()) for name in names))


def _hexadecimal(codec: str) -> str:
    decimal = DECIMAL_AVC.fullmatch(codec)
    if not decimal:
        return codec
    return f"{decimal[1]}.{int(decimal[2]):02x}00{int(decimal[3]):02x}"


def _sha1(text: str) -> bytes:
    """What the library takes, which is no matter of security."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).digest()
