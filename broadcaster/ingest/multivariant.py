"""What a multivariant playlist says of the variants, by the names that they have here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from broadcaster.errors import is_final
from broadcaster.hls import MultivariantPlaylist
from broadcaster.ingest.folder import variant_name


def named(root: Path, path: Path, playlist: MultivariantPlaylist) -> MultivariantPlaylist:
    """The playlist of the file at ``path``, names of variants in the place of their URIs.

    Raises OSError while the folder ``root`` cannot be looked at.
    """
    names = {uri: variant_name(_local_path(root, uri, path)) for uri in playlist.uris}
    variants = ((one, names.get(one.uri)) for one in playlist.variants)
    renditions = ((one, names[one.uri] if one.uri else None) for one in playlist.renditions)
    return MultivariantPlaylist(
        tuple(replace(one, uri=name) for one, name in variants if name),
        renditions=tuple(replace(one, uri=name) for one, name in renditions if name or not one.uri),
    )


def _local_path(root: Path, uri: str, multivariant: Path) -> str:
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
    beside = root / flat
    try:
        flat_is_meant = not (root / nested).exists() and beside.exists() and beside != multivariant
    except OSError as error:
        if not is_final(error):
            raise
        flat_is_meant = False  # no name of a file
    return flat if flat_is_meant else nested.as_posix()
