"""What is written of a recording's part, or of a clip."""

from __future__ import annotations

from collections.abc import Mapping

from broadcaster.catalog.views import Clip, Part
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.hls.recorded import RecordedPlaylist
from broadcaster.live.attributes import IFRAMES, PLAYLIST, Measured, multivariant


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
