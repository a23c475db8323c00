"""The multivariant playlist, as frozen data that renders itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from broadcaster.hls.codecs import same_codecs
from broadcaster.hls.media_playlist import tag

AUDIO, CLOSED_CAPTIONS = "AUDIO", "CLOSED-CAPTIONS"  # TYPE of EXT-X-MEDIA that is carried
NONE = "NONE"  # CLOSED-CAPTIONS of variants without any


@dataclass(frozen=True, slots=True)
class Rendition:
    """EXT-X-MEDIA (§4.4.6.1): sound, or captions, that go with the variants of a group."""

    group_id: str  # GROUP-ID
    name: str  # NAME
    uri: str | None = None  # URI; None where the sound is in the variants' own segments
    language: str | None = None  # LANGUAGE
    default: bool = False  # DEFAULT
    autoselect: bool = False  # AUTOSELECT
    channels: str | None = None  # CHANNELS
    instream_id: str | None = None  # INSTREAM-ID of captions, which are in the variants' own segments

    @property
    def type(self) -> str:
        """TYPE: captions have an INSTREAM-ID, sound has none."""
        return CLOSED_CAPTIONS if self.instream_id else AUDIO

    def line(self) -> str:
        """The tag."""
        return tag(
            "EXT-X-MEDIA",
            f"TYPE={self.type}",
            self.uri and f'URI="{self.uri}"',
            f'GROUP-ID="{self.group_id}"',
            self.language and f'LANGUAGE="{self.language}"',
            f'NAME="{self.name}"',
            self.default and "DEFAULT=YES",
            # "If the AUTOSELECT attribute is present, its value MUST be YES if the value of the DEFAULT
            # attribute is YES" (§4.4.6.1).
            (self.autoselect or self.default) and "AUTOSELECT=YES",
            self.channels and f'CHANNELS="{self.channels}"',
            self.instream_id and f'INSTREAM-ID="{self.instream_id}"',
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """EXT-X-STREAM-INF (§4.4.6.2): one encoding of the stream."""

    uri: str
    bandwidth: int  # BANDWIDTH, bits per second
    average_bandwidth: int | None = None  # AVERAGE-BANDWIDTH, bits per second
    codecs: str | None = None  # CODECS
    resolution: tuple[int, int] | None = None  # RESOLUTION, width and height in pixels
    frame_rate: float | None = None  # FRAME-RATE
    audio: str | None = None  # AUDIO, the GROUP-ID of its renditions
    video_range: str | None = None  # VIDEO-RANGE: SDR, HLG or PQ
    supplemental_codecs: str | None = None  # SUPPLEMENTAL-CODECS
    closed_captions: str | None = None  # CLOSED-CAPTIONS: the GROUP-ID of its captions, or NONE

    def line(self) -> str:
        """The tag that introduces this variant."""
        return tag(
            "EXT-X-STREAM-INF",
            f"BANDWIDTH={self.bandwidth}",
            self.average_bandwidth and f"AVERAGE-BANDWIDTH={self.average_bandwidth}",
            self.codecs and f'CODECS="{self.codecs}"',
            self.supplemental_codecs and f'SUPPLEMENTAL-CODECS="{self.supplemental_codecs}"',
            self.resolution and f"RESOLUTION={self.resolution[0]}x{self.resolution[1]}",
            self.frame_rate and f"FRAME-RATE={self.frame_rate:.3f}",
            self.video_range and f"VIDEO-RANGE={self.video_range}",
            self.audio and f'AUDIO="{self.audio}"',
            self.closed_captions and f"CLOSED-CAPTIONS={self._captions}",
        )

    @property
    def _captions(self) -> str:
        return NONE if self.closed_captions == NONE else f'"{self.closed_captions}"'

    def iframe_line(self) -> str:
        """EXT-X-I-FRAME-STREAM-INF (§4.4.6.3), where this is an I-frame playlist."""
        return tag(
            "EXT-X-I-FRAME-STREAM-INF",
            f"BANDWIDTH={self.bandwidth}",
            self.codecs and f'CODECS="{self.codecs}"',
            self.resolution and f"RESOLUTION={self.resolution[0]}x{self.resolution[1]}",
            self.video_range and f"VIDEO-RANGE={self.video_range}",
            f'URI="{self.uri}"',
        )


@dataclass(frozen=True, slots=True)
class MultivariantPlaylist:
    """A multivariant playlist (§4.4.6)."""

    variants: tuple[Variant, ...] = ()
    independent_segments: bool = False
    renditions: tuple[Rendition, ...] = ()
    iframes: Variant | None = None  # of which there is an I-frame playlist
    not_carried: tuple[tuple[str, str], ...] = ()  # other playlists: URI, and why it is not carried

    @property
    def uris(self) -> set[str]:
        """All media playlists that it names."""
        renditions = {rendition.uri for rendition in self.renditions if rendition.uri}
        return {variant.uri for variant in self.variants} | renditions

    def renamed(self, name: Callable[[str], str]) -> MultivariantPlaylist:
        """The same with the URIs of its media playlists replaced by ``name`` of each."""
        variants = (replace(variant, uri=name(variant.uri)) for variant in self.variants)
        renditions = (replace(known, uri=known.uri and name(known.uri)) for known in self.renditions)
        return replace(self, variants=tuple(variants), renditions=tuple(renditions))

    def with_codecs(self, found: Mapping[str, tuple[str, ...]]) -> MultivariantPlaylist:
        """The same with CODECS as ``found`` in the media by URI, where these are other than what it says.

        "The CODECS attribute ... MUST be every media format that is present in any Rendition" of a variant's
        groups (§4.4.6.2): without those of all its renditions, a variant keeps what it says.
        """
        variants = list[Variant]()
        for variant in self.variants:
            beside = (known.uri for known in self.renditions if known.uri and known.group_id == variant.audio)
            parts = [found.get(uri, ()) for uri in (variant.uri, *beside)]
            codecs = tuple(dict.fromkeys(codec for part in parts for codec in part))
            is_new = all(parts) and not same_codecs(variant.codecs or "", codecs)
            variants.append(replace(variant, codecs=",".join(codecs)) if is_new else variant)
        return replace(self, variants=tuple(variants))

    def render(self) -> str:
        """The playlist as text."""
        lines = ["#EXTM3U", "#EXT-X-VERSION:3"]
        if self.independent_segments:
            lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
        lines += [rendition.line() for rendition in self.renditions]
        lines += [f"{variant.line()}\n{variant.uri}" for variant in self.variants]
        if self.iframes:
            lines.append(self.iframes.iframe_line())
        return "\n".join(lines) + "\n"
