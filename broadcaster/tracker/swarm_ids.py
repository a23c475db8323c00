"""Which swarm a viewer of one variant of one run joins: computed just as p2p-media-loader 2.3.1 does.

A viewer's swarm follows from what its player reads in the multivariant playlist, so ours can be computed
from the same playlist, and no other need be admitted.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

from broadcaster.hls import Variant

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
