"""The WebTorrent protocol, as the package ``bittorrent-tracker`` speaks it: JSON over a WebSocket.

``info_hash``, ``peer_id`` and ``offer_id`` are strings of 20 characters, each of which stands for one byte.
Texts for other peers are built from checked fields only.

The swarm of a viewer follows from the multivariant playlist that its player reads, as p2p-media-loader 2.3.1
computes it. So the tracker can compute the swarms of a stream, and admits no other swarm.
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
MAX_OFFERS = 10  # of one announce; further offers are ignored. The client makes 5
MAX_SDP = 16_384  # characters; a data channel's has some 500, and 100 for each candidate
MAX_CANDIDATES = 16  # addresses of one peer, all of which other peers try. A page has 1 to 6
ID_LENGTH = 20
LAST_BYTE = "\xff"
CANDIDATE = re.compile(r"candidate\b", re.IGNORECASE)  # and not "a=end-of-candidates"


class Malformed(ValueError):  # noqa: N818 - reads as the state it reports
    """Not a message of the protocol."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer of a connection, for any peer."""

    offer_id: str
    sdp: str


@dataclass(frozen=True, slots=True)
class Announce:
    """A peer joins, stays in or leaves (``stopped``) a swarm, and makes offers."""

    info_hash: str
    peer_id: str
    stopped: bool
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """The answer to an offer, for the offering peer."""

    info_hash: str
    peer_id: str
    to_peer_id: str
    offer_id: str
    sdp: str


def parse(message: str | bytes) -> Announce | PeerAnswer:
    """Read a message of a client; raises Malformed."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise Malformed("too large")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise Malformed("not JSON") from None
    # A scrape is refused: no player sends one.
    if not isinstance(fields, dict) or fields.get("action") != "announce":
        raise Malformed("not an announce")
    info_hash, peer_id = _id(fields, "info_hash"), _id(fields, "peer_id")
    if fields.get("answer") is not None:
        sdp = _sdp(fields, "answer")
        return PeerAnswer(info_hash, peer_id, _id(fields, "to_peer_id"), _id(fields, "offer_id"), sdp)
    stopped = fields.get("event") == "stopped"
    return Announce(info_hash, peer_id, stopped, () if stopped else _offers(fields.get("offers")))


def reply(info_hash: str, interval: int, peers: int) -> str:
    """The reply to an announce: the interval (seconds) and the number of peers.

    No peer has all of a live stream: all are incomplete.
    """
    return _text(info_hash, interval=interval, complete=0, incomplete=peers)


def failure(info_hash: str, reason: str) -> str:
    """The reply to a refused announce."""
    return _text(info_hash, **{"failure reason": reason})


def offer_to(info_hash: str, peer_id: str, offer: Offer) -> str:
    """An offer of the peer ``peer_id``, for another peer."""
    sdp = {"type": "offer", "sdp": offer.sdp}
    return _text(info_hash, offer=sdp, offer_id=offer.offer_id, peer_id=peer_id)


def answer_to(answer: PeerAnswer) -> str:
    """An answer, for the offering peer."""
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
    """The description without surplus candidates (RFC 8839, section 5.1).

    It is not refused: other peers can still reach a viewer with that many network interfaces.
    """
    lines = sdp.splitlines(keepends=True)
    candidates = [number for number, line in enumerate(lines) if CANDIDATE.search(line)]
    for number in reversed(candidates[MAX_CANDIDATES:]):
        del lines[number]
    return "".join(lines)


def _offers(offers: object) -> tuple[Offer, ...]:
    if offers is None:
        return ()
    if not isinstance(offers, list) or not all(isinstance(offer, dict) for offer in offers[:MAX_OFFERS]):
        raise Malformed("no valid offers")
    return tuple(Offer(_id(offer, "offer_id"), _sdp(offer, "offer")) for offer in offers[:MAX_OFFERS])


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
    """The swarm of a stream index and an encoder run (getStreamHash in utils/peer.ts)."""
    stream = f"{PROTOCOL_VERSION}-{SWARM_PREFIX}{run}-main-{index}"
    return b64encode(_sha1(stream)[:INFO_HASH_BYTES]).decode()


def stream_index(variant: Variant | None) -> str:
    """The name of a variant in info hashes (utils/stream.ts, generateStreamShortId).

    None is a single variant, whose media playlist is the main playlist: its player knows no attributes.
    """
    fields = NO_ATTRIBUTES
    if variant:
        # hls.js reads a missing bandwidth as NaN.
        bandwidth = variant.bandwidth or variant.average_bandwidth or "NaN"
        width, height = variant.resolution or ("", "")
        rate = f"{variant.frame_rate:.3f}".rstrip("0").rstrip(".") if variant.frame_rate else ""
        # The empty fields are language, channels, name and video range, which our playlists do not have.
        fields = f"{bandwidth}-{_video_codecs(variant.codecs or '')}-{width}-{height}----{rate}-"
    return b64encode(_sha1(fields)).decode()


def _video_codecs(codecs: str) -> str:
    """The video codecs of CODECS, sorted, as p2p-media-loader spells them."""
    names = (name.split("/")[0] for name in re.split("[ ,]+", codecs) if VIDEO_CODECS.match(name))
    return ",".join(sorted(_hexadecimal(name.lower()) for name in names))


def _hexadecimal(codec: str) -> str:
    decimal = DECIMAL_AVC.fullmatch(codec)
    if not decimal:
        return codec
    return f"{decimal[1]}.{int(decimal[2]):02x}00{int(decimal[3]):02x}"


def _sha1(text: str) -> bytes:
    """SHA-1, as p2p-media-loader uses it; not for security."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).digest()
