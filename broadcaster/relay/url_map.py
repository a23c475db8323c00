"""Maps URLs of the origin's objects to paths of this relay; only mapped objects can be fetched through it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from yarl import URL

from broadcaster.errors import PlaylistError
from broadcaster.hls import MediaPlaylist, MediaSegment

PREFIX = "/segments"
MAX_ADDRESS = 4096  # characters
MAX_SEGMENTS = 20_000  # per playlist: hours
# Mapped objects, and characters of their URLs: half a gigabyte of memory each.
MAX_OBJECTS, MAX_CHARACTERS = 500_000, 2**28
# Seconds for which an announced or removed object stays mapped; a removed one also for the duration of its
# playlist, because a player with that playlist may still request it (RFC 8216, 6.2.2).
RETENTION = 60.0
USUAL_SECONDS = 6.0  # playing time of an object while unknown
EDGE_SEGMENTS = 6  # per variant: the live edge, with which players start
NEWEST = 2
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class MappedObject:
    """An object of the origin. ``token`` identifies its URL without the query, which may be signed again.

    ``size`` in bytes and ``sha256`` are known when an event has given them. ``seconds`` is the playing time.
    """

    token: str
    name: str
    variant: str
    url: str
    size: int | None = None
    sha256: str | None = None
    seconds: float = USUAL_SECONDS

    @property
    def path(self) -> str:
        """The path on this relay."""
        return f"{PREFIX}/{self.token}/{self.name}"


class UrlMap:
    """All available objects: those listed at present, and for some time those announced or removed.

    ``clock`` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._objects: dict[str, MappedObject] = {}
        self._characters = 0  # of all URLs
        self._listed: dict[str, dict[str, None]] = {}  # tokens by variant, in order
        self._edges: dict[str, frozenset[str]] = {}  # tokens by variant
        self._newest: dict[str, frozenset[str]] = {}
        self._left: set[str] = set()  # tokens of objects that playlists no longer list
        self._leaving: dict[str, float] = {}  # expiry of objects that no playlist lists
        self._last: dict[str, tuple[MediaPlaylist, MediaPlaylist]] = {}  # the origin's playlist and ours

    def __len__(self) -> int:
        return len(self._objects)

    def find(self, token: str, name: str) -> MappedObject | None:
        """The object with this token and name, or None."""
        found = self._objects.get(token)
        return found if found and found.name == name else None

    def is_listed(self, token: str) -> bool:
        """Whether a playlist lists the object now."""
        return any(token in tokens for tokens in self._listed.values())

    def is_at_the_edge(self, target: MappedObject) -> bool:
        """Whether live playback needs the object: a map, one of the newest segments, or not listed yet."""
        return self._is_announced(target) or target.token in self._edges.get(target.variant, ())

    def is_newest(self, target: MappedObject) -> bool:
        """Whether the object is one of the newest of its variant, which all live viewers request together."""
        return self._is_announced(target) or target.token in self._newest.get(target.variant, ())

    def _is_announced(self, target: MappedObject) -> bool:
        """Whether the object was announced and no playlist has listed it yet."""
        token = target.token
        return token not in self._left and token not in self._listed.get(target.variant, ())

    def note(self, variant: str, url: str, base: URL, **metadata: Any) -> MappedObject:  # noqa: ANN401 - of MappedObject
        """Map an announced object; raises PlaylistError if the URL is not http(s).

        ``base`` resolves relative URLs; ``metadata`` are fields of MappedObject.
        """
        return self._map(variant, base, url, **metadata)

    def take(
        self, variant: str, playlist: MediaPlaylist, base: URL
    ) -> tuple[MediaPlaylist, list[MappedObject]]:
        """Map a playlist; returns it with this relay's paths, and the objects that are new in it.

        ``base`` is its URL. Raises PlaylistError if a URL is not http(s), or if there are too many.
        """
        if len(playlist.segments) > MAX_SEGMENTS:
            raise PlaylistError(f"lists more than {MAX_SEGMENTS} segments")
        ours = replace(playlist, segments=self._rewritten(variant, playlist, base))
        self._last[variant] = playlist, ours
        before = self._listed.get(variant, {})
        now = self._listed[variant] = dict.fromkeys(_tokens(ours))
        self._edges[variant] = frozenset(_edge(ours))
        self._newest[variant] = frozenset(list(now)[-NEWEST:])
        for token in now.keys() - before.keys():
            self._leaving.pop(token, None)
            self._left.discard(token)
        self._expire(before.keys() - now.keys(), ours.duration.total_seconds())
        return ours, [self._objects[token] for token in now if token not in before]

    def drop(self, variant: str) -> None:
        """Remove a variant."""
        last = self._last.pop(variant, None)
        gone = self._listed.pop(variant, {})
        self._edges.pop(variant, None)
        self._newest.pop(variant, None)
        self._expire(gone.keys(), last[1].duration.total_seconds() if last else 0.0)

    def _rewritten(self, variant: str, playlist: MediaPlaylist, base: URL) -> tuple[MediaSegment, ...]:
        """The mapped segments; segments that are the same objects as before are not mapped again."""
        theirs, ours = self._last.get(variant, (None, None))
        known: dict[int, tuple[MediaSegment, MediaSegment]] = {}
        if theirs and ours:
            pairs = zip(theirs.segments, ours.segments, strict=True)
            known = dict(enumerate(pairs, theirs.media_sequence))
        made = []
        for number, segment in enumerate(playlist.segments, playlist.media_sequence):
            old, new = known.get(number, (None, None))
            made.append(new if new and old is segment else self._rewrite(variant, segment, base))
        return tuple(made)

    def _rewrite(self, variant: str, segment: MediaSegment, base: URL) -> MediaSegment:
        map_uri = self._map(variant, base, segment.map_uri).path if segment.map_uri else None
        if segment.gap:  # no object
            return replace(segment, uri=_mapped(variant, base, segment.uri).path, map_uri=map_uri)
        seconds = segment.duration.total_seconds()
        return replace(
            segment, uri=self._map(variant, base, segment.uri, seconds=seconds).path, map_uri=map_uri
        )

    def _map(self, variant: str, base: URL, address: str, **metadata: Any) -> MappedObject:  # noqa: ANN401
        made = _mapped(variant, base, address)
        if old := self._objects.get(made.token):  # a playlist has no sizes and checksums
            made = replace(made, size=old.size, sha256=old.sha256, seconds=old.seconds)
        made = replace(made, **metadata)
        if not self._has_room(made):
            self._sweep()
            if not self._has_room(made):
                raise PlaylistError(f"lists more than {MAX_OBJECTS} objects, or {MAX_CHARACTERS} characters")
        self._remove(made.token)
        self._objects[made.token] = made
        self._characters += len(made.url)
        if not self.is_listed(made.token):  # and may never be
            self._leave(made.token, RETENTION)
        return made

    def _has_room(self, made: MappedObject) -> bool:
        old = self._objects.get(made.token)
        characters = self._characters + len(made.url) - (len(old.url) if old else 0)
        objects = len(self._objects) + (old is None)
        return objects <= MAX_OBJECTS and characters <= MAX_CHARACTERS

    def _remove(self, token: str) -> None:
        old = self._objects.pop(token, None)
        self._characters -= len(old.url) if old else 0

    def _leave(self, token: str, seconds: float) -> None:
        self._leaving[token] = max(self._clock() + seconds, self._leaving.get(token, 0.0))

    def _expire(self, tokens: Iterable[str], seconds: float) -> None:
        for token in tokens:
            if not self.is_listed(token):
                self._left.add(token)
                self._leave(token, seconds + RETENTION)
        self._sweep()

    def _sweep(self) -> None:
        """Remove expired objects."""
        now = self._clock()
        for token in [token for token, until in self._leaving.items() if until < now]:
            del self._leaving[token]
            self._left.discard(token)
            self._remove(token)


def _tokens(playlist: MediaPlaylist) -> Iterator[str]:
    for segment in playlist.segments:
        if segment.map_uri:
            yield segment.map_uri.split("/")[2]
        if not segment.gap:
            yield segment.uri.split("/")[2]


def _edge(playlist: MediaPlaylist) -> Iterator[str]:
    """Tokens of the newest segments and of all maps."""
    for segment in playlist.segments:
        if segment.map_uri:
            yield segment.map_uri.split("/")[2]
    for segment in playlist.segments[-EDGE_SEGMENTS:]:
        if not segment.gap:
            yield segment.uri.split("/")[2]


def _mapped(variant: str, base: URL, address: str) -> MappedObject:
    if len(address) > MAX_ADDRESS:
        raise PlaylistError("lists a URL that is too long")
    try:
        url = URL(address, encoded=True)  # the encoding of a signed URL must not change
        url = url if url.is_absolute() else base.join(url)
        host, plain = url.host, f"{url.scheme}://{url.authority}{url.raw_path}"
    except ValueError:  # an invalid port, for example
        raise PlaylistError("lists an invalid URL") from None
    if url.scheme not in ("http", "https") or not host or url.user is not None:
        raise PlaylistError("lists a URL that is not http(s)")
    token = hashlib.sha256(plain.encode()).hexdigest()[:32]
    name = UNSAFE.sub("_", url.name)[-LONGEST_NAME:] or "object"
    return MappedObject(token, name, variant, str(url))
