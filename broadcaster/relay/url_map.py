"""Addresses of the origin's objects on this machine: nothing else can be fetched through it."""

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
MAX_SEGMENTS = 20_000  # of a playlist: hours
# Of all playlists and events of late, and the length of their addresses: half a gigabyte of memory each.
MAX_OBJECTS, MAX_CHARACTERS = 500_000, 2**28
# Seconds for which an object can be had that is only told of, or that a playlist has left, and the playlist's
# duration besides: a player that holds the longest one may still want it (RFC 8216, 6.2.2).
KEPT = 60.0
USUAL_SECONDS = 6.0  # of what is not known
EDGE_SEGMENTS = 6  # of each variant are the live edge: a player begins with those, and goes on with them
NEWEST = 2
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Listed:
    """An object that the origin has listed. ``url`` may be signed anew; ``token`` is of all but its query.

    ``size`` in bytes and ``sha256`` are what the origin's events tell of it, if they do. ``seconds`` is how
    long it plays.
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
        """Its address here."""
        return f"{PREFIX}/{self.token}/{self.name}"


class Listing:
    """All objects that can be had: of each variant those that its playlist lists, and lately listed.

    ``clock`` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._objects: dict[str, Listed] = {}
        self._characters = 0  # of their addresses
        self._listed: dict[str, dict[str, None]] = {}  # tokens by variant, in order
        self._edges: dict[str, frozenset[str]] = {}  # tokens by variant
        self._newest: dict[str, frozenset[str]] = {}
        self._left: set[str] = set()  # tokens that a playlist has had, and has no more
        self._leaving: dict[str, float] = {}  # when those go that no playlist lists
        self._last: dict[str, tuple[MediaPlaylist, MediaPlaylist]] = {}  # the origin's, and ours of it

    def __len__(self) -> int:
        return len(self._objects)

    def find(self, token: str, name: str) -> Listed | None:
        """What has this address; None when there is nothing."""
        found = self._objects.get(token)
        return found if found and found.name == name else None

    def is_listed(self, token: str) -> bool:
        """Whether a playlist lists it now."""
        return any(token in tokens for tokens in self._listed.values())

    def is_at_the_edge(self, listed: Listed) -> bool:
        """Whether who plays live needs it: it is of the newest of its variant, a map, or not listed yet."""
        return self._is_coming(listed) or listed.token in self._edges.get(listed.variant, ())

    def is_newest(self, listed: Listed) -> bool:
        """Whether it is of the last that a variant has, which all who play live are sent at the same time."""
        return self._is_coming(listed) or listed.token in self._newest.get(listed.variant, ())

    def _is_coming(self, listed: Listed) -> bool:
        """Whether it was told of, and no playlist has had it."""
        token = listed.token
        return token not in self._left and token not in self._listed.get(listed.variant, ())

    def note(self, variant: str, url: str, base: URL, **told: Any) -> Listed:  # noqa: ANN401 - of Listed
        """An object that the origin tells of; raises PlaylistError for what is no address of the web.

        ``base`` is where that was told, ``told`` what is known of it besides.
        """
        return self._hold(variant, base, url, **told)

    def take(self, variant: str, playlist: MediaPlaylist, base: URL) -> tuple[MediaPlaylist, list[Listed]]:
        """The origin's playlist with our addresses, and what is in it that was not in the one before.

        ``base`` is where it was. Raises PlaylistError when it has an address that is none of the web, or too
        many.
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
        self._let_go(before.keys() - now.keys(), ours.duration.total_seconds())
        return ours, [self._objects[token] for token in now if token not in before]

    def drop(self, variant: str) -> None:
        """There is no such variant any more."""
        last = self._last.pop(variant, None)
        gone = self._listed.pop(variant, {})
        self._edges.pop(variant, None)
        self._newest.pop(variant, None)
        self._let_go(gone.keys(), last[1].duration.total_seconds() if last else 0.0)

    def _rewritten(self, variant: str, playlist: MediaPlaylist, base: URL) -> tuple[MediaSegment, ...]:
        """Its segments; of those that are the very same as before, what was made of them then."""
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
        map_uri = self._hold(variant, base, segment.map_uri).path if segment.map_uri else None
        if segment.gap:  # there is nothing to be had
            return replace(segment, uri=_made(variant, base, segment.uri).path, map_uri=map_uri)
        seconds = segment.duration.total_seconds()
        return replace(
            segment, uri=self._hold(variant, base, segment.uri, seconds=seconds).path, map_uri=map_uri
        )

    def _hold(self, variant: str, base: URL, address: str, **told: Any) -> Listed:  # noqa: ANN401
        made = _made(variant, base, address)
        if old := self._objects.get(made.token):  # a playlist does not tell what an event has told
            made = replace(made, size=old.size, sha256=old.sha256, seconds=old.seconds)
        made = replace(made, **told)
        if not self._has_room(made):
            self._sweep()
            if not self._has_room(made):
                raise PlaylistError(f"lists more than {MAX_OBJECTS} objects, or {MAX_CHARACTERS} characters")
        self._remove(made.token)
        self._objects[made.token] = made
        self._characters += len(made.url)
        if not self.is_listed(made.token):  # it may never be
            self._leave(made.token, KEPT)
        return made

    def _has_room(self, made: Listed) -> bool:
        old = self._objects.get(made.token)
        characters = self._characters + len(made.url) - (len(old.url) if old else 0)
        objects = len(self._objects) + (old is None)
        return objects <= MAX_OBJECTS and characters <= MAX_CHARACTERS

    def _remove(self, token: str) -> None:
        old = self._objects.pop(token, None)
        self._characters -= len(old.url) if old else 0

    def _leave(self, token: str, seconds: float) -> None:
        self._leaving[token] = max(self._clock() + seconds, self._leaving.get(token, 0.0))

    def _let_go(self, tokens: Iterable[str], seconds: float) -> None:
        for token in tokens:
            if not self.is_listed(token):
                self._left.add(token)
                self._leave(token, seconds + KEPT)
        self._sweep()

    def _sweep(self) -> None:
        """Forget what has had its time."""
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
    """The newest segments, and all maps: without its map nothing can be played."""
    for segment in playlist.segments:
        if segment.map_uri:
            yield segment.map_uri.split("/")[2]
    for segment in playlist.segments[-EDGE_SEGMENTS:]:
        if not segment.gap:
            yield segment.uri.split("/")[2]


def _made(variant: str, base: URL, address: str) -> Listed:
    if len(address) > MAX_ADDRESS:
        raise PlaylistError("lists an address that is too long")
    try:
        url = URL(address, encoded=True)  # not even the spelling of a signed one may change
        url = url if url.is_absolute() else base.join(url)
        host, plain = url.host, f"{url.scheme}://{url.authority}{url.raw_path}"
    except ValueError:  # a port that is none, among others
        raise PlaylistError("lists what is no address") from None
    if url.scheme not in ("http", "https") or not host or url.user is not None:
        raise PlaylistError("lists an address that is none of the web")
    token = hashlib.sha256(plain.encode()).hexdigest()[:32]
    name = UNSAFE.sub("_", url.name)[-LONGEST_NAME:] or "object"
    return Listed(token, name, variant, str(url))
