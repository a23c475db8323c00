"""Bytes that are served: rendered and compressed once per version, never per request."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

from broadcaster.discovery import VariantsListed
from broadcaster.playlist import Variant


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """One version of a playlist, ready to be sent; it equals itself alone, so that it is a cheap key."""

    body: bytes
    gzipped: bytes
    etag: str  # of ``body``, without quotes
    modified: datetime
    max_age: int  # seconds


def render(text: str, target_duration: int, modified: datetime) -> Rendered:
    """Make a playlist's text ready; ``target_duration`` in seconds decides how long it may be cached."""
    body = text.encode()
    return Rendered(
        body=body,
        gzipped=gzip.compress(body, mtime=0),
        etag=hashlib.sha256(body).hexdigest()[:32],
        modified=modified,
        max_age=max(1, target_duration // 2),  # appendix B.1: half a target duration
    )


def attributed(source: VariantsListed, bandwidths: dict[str, int]) -> tuple[Variant, ...]:
    """The variants served, with what the source says of them; else with the bandwidth that was measured."""
    described = {variant.uri: variant for variant in source.variants}
    order = [name for name in described if name in bandwidths] + sorted(bandwidths.keys() - described.keys())
    return tuple(
        replace(
            described.get(name, Variant(name, 0)),
            uri=f"{name}/playlist.m3u8",
            # BANDWIDTH is required (§4.4.6.2)
            bandwidth=(described[name].bandwidth if name in described else 0) or bandwidths[name],
        )
        for name in order
    )
