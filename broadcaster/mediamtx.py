"""Client of MediaMTX's control API: whether a stream is published to a path, and with which codecs.

The rules follow MediaMTX's source (``internal/defs/api_path.go``, ``internal/core/path.go``): ``available``,
earlier ``ready``, is whether the path has a stream, also that of ``alwaysAvailable`` without a publisher. A
path that no publisher has used, and that the configuration does not name, is answered 404. The time in which
a stopped MediaMTX, or its publisher, can come back is that of Owncast.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from broadcaster.errors import EncoderError
from broadcaster.owncast import MAX_BYTES, NotThereError, PolledStatus, read
from broadcaster.printable import clean_title

LONGER = 1.5  # times hlsSegmentDuration: the encoder's key frames are farther apart


@dataclass(frozen=True, slots=True)
class PathStatus:
    """A path of MediaMTX: whether it has a stream, and the stream's codecs."""

    connected: bool
    codecs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HlsConfig:
    """The settings of MediaMTX that decide what it writes."""

    hls: bool
    variant: str  # mpegts, fmp4 or lowLatency
    always_remux: bool
    directory: str
    segment_seconds: float | None
    cdn_secret: bool = field(repr=False)


class MediaMtxStatus(PolledStatus):
    """The status of a path of MediaMTX; ``url`` is its control API with the path's name."""

    program, setting = "MediaMTX", "BROADCASTER_MEDIAMTX_URL"

    async def poll(self, session: aiohttp.ClientSession) -> None:
        """Ask once. Raises EncoderError."""
        self.heard(await fetch_path(session, self._url), self._clock())

    def heard(self, status: PathStatus, now: float) -> None:
        """Note an answer: a publisher that was seen, and is gone, has disconnected."""
        self.answered(connected=status.connected, now=now, seen=self.connected is True)


def split_url(url: str) -> tuple[str, str]:
    """The control API, and the name of the path."""
    parts = URL(url)
    return str(parts.origin()), parts.path.strip("/")


async def fetch_path(session: aiohttp.ClientSession, url: str) -> PathStatus:
    """The status of the path at ``url``. Raises EncoderError."""
    base, name = split_url(url)
    try:
        return parse_path(await read(session, base, f"/v3/paths/get/{name}", MAX_BYTES))
    except NotThereError as error:
        if b"path not found" in error.body:
            return PathStatus(connected=False)
        raise


async def fetch_config(session: aiohttp.ClientSession, url: str) -> HlsConfig:
    """The configuration of the MediaMTX at ``url``. Raises EncoderError."""
    return parse_config(await read(session, split_url(url)[0], "/v3/config/global/get", MAX_BYTES))


def parse_path(body: bytes) -> PathStatus:
    """Read an answer of ``/v3/paths/get/NAME``. Raises EncoderError."""
    found = _object(body)
    connected = found.get("available", found.get("ready"))
    if not isinstance(connected, bool):
        raise EncoderError("/v3/paths/get is not answered as MediaMTX does")
    tracks = found.get("tracks")
    texts = [track for track in tracks if isinstance(track, str)] if isinstance(tracks, list) else []
    return PathStatus(connected, tuple(clean_title(text) or "" for text in texts))


def parse_config(body: bytes) -> HlsConfig:
    """Read an answer of ``/v3/config/global/get``. Raises EncoderError."""
    found = _object(body)
    hls, variant, directory = found.get("hls"), found.get("hlsVariant"), found.get("hlsDirectory")
    remux = found.get("hlsAlwaysRemux")
    if not (isinstance(hls, bool) and isinstance(remux, bool)):
        raise EncoderError("/v3/config/global/get is not answered as MediaMTX does")
    return HlsConfig(
        hls,
        str(variant),
        remux,
        str(directory or ""),
        _seconds(found.get("hlsSegmentDuration")),
        cdn_secret=bool(found.get("hlsCDNSecret")),
    )


def mistakes(
    config: HlsConfig, folder: Path, name: str, target_duration: int | None
) -> Iterator[tuple[str, str]]:
    """What is wrong with the configuration for a service that follows ``folder``, and what to do.

    ``target_duration`` is of a live playlist in the folder, in seconds. If there is one, and the folder is
    not MediaMTX's own, a ladder writes it.
    """
    own = Path(config.directory, name) if config.directory else None
    if target_duration and own != folder:
        return
    if not config.hls:
        yield "HLS is off", "set hls: true"
    if config.variant == "lowLatency":
        yield "hlsVariant is lowLatency, which writes no playlists", "set hlsVariant: mpegts, or fmp4"
    elif config.variant not in {"mpegts", "fmp4"}:
        yield f"hlsVariant is {clean_title(config.variant)}", "set hlsVariant: mpegts, or fmp4"
    if not config.always_remux:
        yield (
            "hlsAlwaysRemux is off, so that nothing is written until somebody reads",
            "set hlsAlwaysRemux: true",
        )
    if own is None:
        yield "hlsDirectory is not set, so that no files are written", f"set hlsDirectory: {folder.parent}"
    elif own != folder:
        yield f"it writes into {clean_title(str(own))}", "name that folder (BROADCASTER_HLS_DIR)"
    if config.segment_seconds and target_duration and target_duration > LONGER * config.segment_seconds:
        text = (
            f"segments have {target_duration} s, more than hlsSegmentDuration ({config.segment_seconds:g} s)"
        )
        yield f"{text}: key frames are so far apart", "set the encoder's key frame interval to 2 s"
    if config.cdn_secret:
        yield "hlsCDNSecret is set, which this service does not use", "remove it"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise EncoderError("it does not answer as MediaMTX does")
    return found


def _seconds(value: object) -> float | None:
    """A duration as Go writes it (``1m0s``, ``2s``, ``200ms``), in seconds."""
    units = {"ms": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}
    rest, total = value if isinstance(value, str) else "", 0.0
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((unit for unit in units if rest[digits:].startswith(unit)), None)
        try:
            total += float(rest[:digits]) * units[unit or ""]
        except (KeyError, ValueError):
            return None
        rest = rest[digits + len(unit or "") :]
    return total or None
