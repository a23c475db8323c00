"""What is told of the variants: what the source says of them, as far as they are served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from broadcaster.hls import Rendition, Variant


def attributed(
    source: Iterable[Variant], renditions: Iterable[Rendition], bandwidths: Mapping[str, int]
) -> tuple[tuple[Variant, ...], tuple[Rendition, ...]]:
    """The variants served, with what the source says of them; else with the bandwidth that was measured.

    ``bandwidths`` are of all playlists: those of sound alone are renditions, and no variants.
    """
    sound = tuple(one for one in renditions if one.uri is None or one.uri in bandwidths)
    groups, alone = {one.group_id for one in sound}, {one.uri for one in sound}
    served = {name: bandwidth for name, bandwidth in bandwidths.items() if name not in alone}
    described = {one.uri: one if one.audio in groups else replace(one, audio=None) for one in source}
    if not served.keys() <= described.keys():
        # Beside variants with CODECS or RESOLUTION, players take those without for sound alone.
        described = {name: Variant(name, one.bandwidth) for name, one in described.items()}
    order = [name for name in described if name in served] + sorted(served.keys() - described.keys())
    variants = tuple(
        replace(
            described.get(name, Variant(name, 0)),
            uri=_address(name),
            # BANDWIDTH is required (§4.4.6.2)
            bandwidth=(described[name].bandwidth if name in described else 0) or served[name],
        )
        for name in order
    )
    return variants, tuple(replace(one, uri=one.uri and _address(one.uri)) for one in sound)


def _address(name: str) -> str:
    return f"{name}/playlist.m3u8"
