"""Tokens of private events: who has one may watch.

A token is ``<expiry>.<grant><mac>``, all hexadecimal: seconds since the epoch, the grant that it was made
for, and HMAC-SHA-256 over both. This module has no I/O and no clock.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from broadcaster.ipc.messages import PublicRecording

TOKEN = re.compile(r"(?P<expiry>[0-9a-f]{8,10})\.(?P<grant>[0-9a-f]{16})(?P<mac>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Guest:
    """The holder of a valid token; ``expires`` in seconds since the epoch. ``in_path``: not in a cookie."""

    token: str
    grant: str
    expires: int
    in_path: bool = True

    @property
    def is_proxy(self) -> bool:
        """Whether it is a gate in front, which has let a guest pass; its token stands for that guest's."""
        return not self.grant

    @property
    def is_stranger(self) -> bool:
        """Whether it is anybody who watches a recording that is opened."""
        return not self.token


STRANGER = Guest("", "", 0, in_path=False)
# What strangers can ask for: the page of a recording that is opened, its playlists in a private bucket, and,
# while there is one, the files of the page.
OF_A_RECORDING = re.compile(r"/(?:watch/([\w-]+)|recordings/([\w-]+)/(?:[\w-]+/)*[\w-]+\.m3u8)")
OF_THE_PAGE = re.compile(r"/(assets/[\w.-]+|icon-\w+\.png|manifest\.json)")


def opened_of(recordings: Mapping[str, PublicRecording]) -> list[str]:
    """The IDs of the recordings that strangers can watch."""
    return [found.id for found in recordings.values() if found.opened]


def is_opened(path: str, opened: Collection[str]) -> bool:
    """Whether strangers can ask for a path, when the recordings with these IDs are opened."""
    match = OF_A_RECORDING.fullmatch(path)
    return (match[1] or match[2]) in opened if match else bool(opened and OF_THE_PAGE.fullmatch(path))


def proxy_key(secret: bytes) -> str:
    """By which a gate in front, which knows the secret, is recognised."""
    return hmac.new(secret, b"broadcaster gate in front", "sha256").hexdigest()


def make_token(secret: bytes, grant: str, expires: int) -> str:
    """The token of a grant (16 hexadecimal digits) that is valid until ``expires``."""
    expiry = f"{expires:08x}"
    return f"{expiry}.{grant}{_mac(secret, expiry, grant)}"


def guest_of(
    token: str, secret: bytes, grants: Mapping[str, int | None], now: float, *, in_path: bool = True
) -> Guest | None:
    """The holder of a token; None if it is malformed, forged or expired, or its grant is not valid.

    ``grants`` has the end of each valid grant; None is no end.
    """
    match = TOKEN.fullmatch(token)
    if match is None:
        return None
    expiry, grant = match["expiry"], match["grant"]
    if not hmac.compare_digest(match["mac"], _mac(secret, expiry, grant)):
        return None
    guest = Guest(token, grant, int(expiry, 16), in_path)
    return guest if is_valid(guest, grants, now) else None


def is_valid(guest: Guest, grants: Mapping[str, int | None], now: float) -> bool:
    """Whether the token has not expired, and its grant is still valid."""
    end = grants.get(guest.grant, 0)
    return now < guest.expires and (end is None or now < end)


def _mac(secret: bytes, expiry: str, grant: str) -> str:
    return hmac.new(secret, f"broadcaster access {expiry} {grant}".encode(), "sha256").hexdigest()
