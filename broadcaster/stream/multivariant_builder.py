"""What is told of the variants: what the source says of them, as far as they are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, log2

from broadcaster.hls import MultivariantPlaylist, Rendition, Variant

PLAYLIST, IFRAMES = "playlist.m3u8", "iframes.m3u8"  # a media playlist, and the I-frame playlist beside it
VIDEO = ("avc", "hvc", "hev")  # what CODECS of those begin with whose key frames are found (RFC 6381)

STEPS = 4  # to twice the bandwidth


@dataclass(frozen=True, slots=True)
class MeasuredBandwidth:
    """What is known of a playlist by its segments."""

    bandwidth: int  # bits per second, the peak
    iframe_bandwidth: int  # of its key frames alone; 0 where none are known
    independent: bool  # all segments can be decoded on their own (§4.4.2.1)


def multivariant(
    source: MultivariantPlaylist, playlists: Mapping[str, MeasuredBandwidth]
) -> MultivariantPlaylist:
    """What players are told of these playlists, with what the source says of them.

    It names one I-frame playlist, the smallest variant's: who seeks looks at small pictures, and wants them
    at once.
    """
    bandwidths = {name: one.bandwidth for name, one in playlists.items()}
    variants, sound = _attributed(source, bandwidths)
    frames = {_address(name): (name, one.iframe_bandwidth) for name, one in playlists.items()}
    with_frames = [one for one in variants if frames[one.uri][1]]
    smallest = min(with_frames, key=lambda one: one.bandwidth, default=None)
    return MultivariantPlaylist(
        variants,
        all(one.independent for one in playlists.values()),
        sound,
        smallest and _iframes(smallest, *frames[smallest.uri]),
    )


def _iframes(variant: Variant, name: str, bandwidth: int) -> Variant:
    """The variant's I-frame playlist, in which there is no sound."""
    codecs = [one for one in (variant.codecs or "").split(",") if one.strip().startswith(VIDEO)]
    told = ",".join(codecs) or None
    return Variant(f"{name}/{IFRAMES}", _rounded(bandwidth), codecs=told, resolution=variant.resolution)


def _attributed(
    source: MultivariantPlaylist, bandwidths: Mapping[str, int]
) -> tuple[tuple[Variant, ...], tuple[Rendition, ...]]:
    """The variants served, with what the source says of them; their bandwidth is the measured one if higher.

    ``bandwidths`` are those measured, in bits per second, of all playlists: those of sound alone are
    renditions, and no variants, but come on top of those that they are played with. Owncast's are of the
    first segments, or of its idle clip.
    """
    sound = tuple(one for one in source.renditions if one.uri is None or one.uri in bandwidths)
    groups, alone = {one.group_id for one in sound}, {one.uri for one in sound}
    served = {name: bandwidth for name, bandwidth in bandwidths.items() if name not in alone}
    described = {one.uri: one if one.audio in groups else replace(one, audio=None) for one in source.variants}
    if not served.keys() <= described.keys():
        # Beside variants with CODECS or RESOLUTION, players take those without for sound alone.
        described = {name: Variant(name, one.bandwidth) for name, one in described.items()}
    order = [name for name in described if name in served] + sorted(served.keys() - described.keys())
    told = dict[int, Variant]()
    for name in order:
        variant = described.get(name, Variant(name, 0))
        beside = (bandwidths[one.uri] for one in sound if one.uri and one.group_id == variant.audio)
        measured = _rounded(served[name] + max(beside, default=0))
        if variant.bandwidth < measured:
            variant = replace(variant, bandwidth=measured, average_bandwidth=None)
        while variant.bandwidth in told:  # players would take two that look the same for one, in two places
            variant = replace(variant, bandwidth=variant.bandwidth + 1)
        told[variant.bandwidth] = replace(variant, uri=_address(name))
    return tuple(told.values()), tuple(replace(one, uri=one.uri and _address(one.uri)) for one in sound)


def _rounded(bandwidth: int) -> int:
    """The next higher of few values: BANDWIDTH is the peak (§4.4.6.2), and peers meet by it.

    Whoever comes after it has changed shares with none who came before.
    """
    return ceil(2 ** (ceil(log2(bandwidth) * STEPS) / STEPS)) if bandwidth else 0


def _address(name: str) -> str:
    return f"{name}/{PLAYLIST}"
