"""What is written of a recording's part, or of a clip."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from broadcaster.catalog.views import Clip, Part
from broadcaster.hls import MediaPlaylist, MediaSegment, MultivariantPlaylist
from broadcaster.hls.recorded import RecordedPlaylist
from broadcaster.hls.types import ENDLIST, lines_of
from broadcaster.live.attributes import IFRAMES, PLAYLIST, Measured, multivariant

COMPRESS_FROM = 16_384  # bytes of a playlist; players expect a long one compressed
GZIP_LEVEL, GZIP = 6, 31  # how much work it is worth; zlib's word for gzip's format


class Body(NamedTuple):
    """What is stored of a playlist, and whether it is compressed."""

    content: bytes
    gzipped: bool


class GrowingText:
    """A text that only grows, kept compressed: each version costs what is new in it.

    The compressed beginning never changes, so the head has to be right from the start.
    """

    def __init__(self, head: str) -> None:
        self.head = head
        self._compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP)
        self._compressed = bytearray()
        self._plain = bytearray()  # as long as it is short
        self.add(head)

    def add(self, text: str) -> None:
        """Add to it, for good."""
        data = text.encode()
        self._compressed += self._compressor.compress(data)
        if len(self._plain) < COMPRESS_FROM:
            self._plain += data

    def body(self, rest: str) -> Body:
        """All of it, with what comes after it in this version alone."""
        data = rest.encode()
        if len(self._plain) + len(data) < COMPRESS_FROM:
            return Body(bytes(self._plain) + data, gzipped=False)
        ending = self._compressor.copy()
        return Body(b"".join((self._compressed, ending.compress(data), ending.flush())), gzipped=True)


class GrowingVariant:
    """The playlists of one variant of a recording that is on: its latest segments, and compressed text."""

    def __init__(self, target_duration: int, first: int, *, ended: bool) -> None:
        self.playlist = RecordedPlaylist(target_duration, first, self._settle)
        self.ended = ended
        self._begins = target_duration, first
        self._heads: tuple[str, str] | None = None
        self._texts: tuple[GrowingText, GrowingText] | None = None  # media, and I-frames
        self._map_uri: str | None = None

    @property
    def is_right(self) -> bool:
        """Whether it can go on with the beginning that is compressed already."""
        return self._texts is None or self._heads == self.playlist.heads(ended=self.ended)

    def again(self) -> GrowingVariant:
        """An empty one, whose text begins as that of this one should have."""
        fresh = GrowingVariant(*self._begins, ended=self.ended)
        fresh._heads = self.playlist.heads(ended=self.ended)
        return fresh

    def bodies(self, variant: str, main: MultivariantPlaylist) -> dict[str, Body]:
        """Its playlists by name: the media playlist, and that of I-frames if players are told of it."""
        media, frames = self._begun()
        latest, end = self.playlist.latest, ENDLIST if self.ended else ""
        found = {f"{variant}/{PLAYLIST}": media.body("".join(lines_of(latest, self._map_uri)) + end)}
        if main.iframes is not None and main.iframes.uri == (name := f"{variant}/{IFRAMES}"):
            found[name] = frames.body("".join(one.iframe_text for one in latest) + end)
        return found

    def _settle(self, segment: MediaSegment) -> None:
        if self._texts is None:
            self._texts = self._begun()
            self._heads = self._texts[0].head, self._texts[1].head
        media, frames = self._texts
        media.add("".join(lines_of([segment], self._map_uri)))
        frames.add(segment.iframe_text)
        self._map_uri = segment.map_uri

    def _begun(self) -> tuple[GrowingText, GrowingText]:
        if self._texts:
            return self._texts
        media, frames = self._heads or self.playlist.heads(ended=self.ended)
        return GrowingText(media), GrowingText(frames)


def multivariant_of(part: Part | Clip, playlists: Mapping[str, RecordedPlaylist]) -> MultivariantPlaylist:
    """The playlist that names those of its variants."""
    measured = {
        name: Measured(one.peak_bandwidth, one.iframe_bandwidth, one.independent_segments)
        for name, one in playlists.items()
    }
    return multivariant(part.described, measured)


def rendered(variant: str, playlist: MediaPlaylist, main: MultivariantPlaylist) -> dict[str, str]:
    """The variant's playlists by name: the media playlist, and that of I-frames if players are told of it.

    One of hours takes a while: nothing of the stream that is on may wait for it.
    """
    texts, iframes = {f"{variant}/{PLAYLIST}": playlist.render()}, f"{variant}/{IFRAMES}"
    is_named = main.iframes is not None and main.iframes.uri == iframes
    return texts | ({iframes: playlist.render_iframes()} if is_named else {})
