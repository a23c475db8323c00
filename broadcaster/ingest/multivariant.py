"""What multivariant playlists say of the variants: the stream's, and the one of Owncast's idle clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from broadcaster.errors import is_final
from broadcaster.hls import MultivariantPlaylist
from broadcaster.ingest.folder import variant_name


class Listing:
    """What the stream's multivariant playlist says, names of variants in the place of their URIs."""

    def __init__(self, root: Path) -> None:
        self.playlist = MultivariantPlaylist()
        self._root = root
        self._clip = MultivariantPlaylist()

    def read(self, path: Path, playlist: MultivariantPlaylist) -> None:
        """Take in what the file at ``path`` says now; the clip's tells nothing of a stream's."""
        named = self._named(path, playlist)
        if not (self.playlist.variants and named == self._clip):
            self.playlist = named

    def is_clips(self) -> None:
        """What is listed now is the idle clip's: it is written over a stream's too."""
        self._clip = self.playlist

    def clear(self) -> None:
        """There is none."""
        self.playlist = MultivariantPlaylist()

    def _named(self, path: Path, playlist: MultivariantPlaylist) -> MultivariantPlaylist:
        names = {uri: variant_name(self._local_path(uri, path)) for uri in playlist.uris}
        variants = ((one, names.get(one.uri)) for one in playlist.variants)
        renditions = ((one, names[one.uri] if one.uri else None) for one in playlist.renditions)
        return MultivariantPlaylist(
            tuple(replace(one, uri=name) for one, name in variants if name),
            renditions=tuple(replace(one, uri=name) for one, name in renditions if name or not one.uri),
        )

    def _local_path(self, uri: str, multivariant: Path) -> str:
        """The path below the root that a variant's URI means."""
        try:
            parts = urlsplit(uri)
        except ValueError:
            return ""
        path = PurePosixPath(unquote(parts.path).lstrip("/"))
        if not parts.netloc and not parts.path.startswith("/"):
            return path.as_posix()
        # With a serving endpoint configured Owncast's URIs are absolute: the end of the path is ours.
        nested, flat = PurePosixPath(*path.parts[-2:]), path.name
        beside = self._root / flat
        try:
            flat_is_meant = not (self._root / nested).exists() and beside.exists() and beside != multivariant
        except OSError as error:
            if not is_final(error):
                raise
            flat_is_meant = False  # no name of a file
        return flat if flat_is_meant else nested.as_posix()
