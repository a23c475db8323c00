"""What ingest knows of a private event: the secret of all names, who is invited, the passphrase's hash.

All three are files in the state folder. Passphrases are compared here, not in the viewer
server, so that strangers talk to no process that has the hash.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import time
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import TypeAdapter, ValidationError

from broadcaster.access import make_token, opened_of, proxy_key
from broadcaster.access.invitations import Invitation, Invitations
from broadcaster.aio import OwnThread, Signal
from broadcaster.errors import NotPossible
from broadcaster.ipc.messages import (
    AccessMode,
    Grants,
    GuestCount,
    PassphraseAnswer,
    PassphraseTry,
    PublicRecording,
)
from broadcaster.own_files import OTHERS, read_own, write_own
from broadcaster.tracker.tracker import TokenBucket

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

logger = logging.getLogger(__name__)

SECRET, PASSPHRASE = "access-secret", "access-passphrase"  # files in the state folder
INVITATIONS, DOORS, VERSION = "access-invitations", "access-doors", "access-version"
BEFORE = ".before"  # ends the names of files that were replaced by those of another broadcaster
SECRET_BYTES = 32
NONCE_BYTES = 12
VALID = 24 * 3600  # seconds for which a passphrase opens the event
SHORTEST = 8  # characters
RATE, BURST = 0.5, 30  # computed hashes: 60 in any minute
MOST_WAITING = 200
COUNTS_EVERY = 10.0  # seconds between two writes of numbers alone

Answer = Callable[[PassphraseAnswer], None]


@dataclass(frozen=True, slots=True)
class Doors:
    """The doors of an event; times are seconds since the epoch.

    ``closed``: when they were closed last. ``opened``: guests see nothing of before; None if they may, or
    if that has ended.
    ``opens``: when they open by themselves. ``hidden``: the listed recordings that the closing has hidden.
    """

    open: bool
    closed: float
    opened: float | None = None
    opens: float | None = None
    hidden: tuple[str, ...] = ()


_doors: TypeAdapter[Doors] = TypeAdapter(Doors)


@dataclass(frozen=True, slots=True)
class AccessState:
    """What another broadcaster needs to let the same guests in.

    ``version``: the lease's epoch, and the number of changes since. ``digest``: by which the right passphrase
    is recognised, if the other one has the same key; empty while it is not known.
    """

    version: tuple[int, int]
    secret: str
    passphrase: str
    invitations: list[Invitation]
    doors: Doors
    digest: str = ""


_state: TypeAdapter[AccessState] = TypeAdapter(AccessState)
_version: TypeAdapter[tuple[int, int]] = TypeAdapter(tuple[int, int])


def adopt(folder: Path, text: str) -> None:
    """Replace the files of a keeper by the state of another one (``Keeper.state``), if that is newer.

    Files of a secret of their own, by which guests have links, are renamed. Raises ValueError, OSError.
    """
    state = _state.validate_json(text)
    if state.version <= _own_version(folder / VERSION):
        return
    hashed, _, digest = read_own(folder / PASSPHRASE, OTHERS).partition("\n")
    own = read_own(folder / SECRET, OTHERS)
    if (
        own
        and own != state.secret
        and (hashed or read_own(folder / INVITATIONS, OTHERS, 3) not in ("", "[]"))
    ):
        logger.error("the links of this broadcaster are not valid any more: the leader has another secret")
        for name in (SECRET, PASSPHRASE, INVITATIONS):
            with suppress(FileNotFoundError):
                (folder / name).replace(folder / f"{name}{BEFORE}")
        hashed = ""
    write_own(folder / SECRET, state.secret)
    if hashed != state.passphrase or state.digest not in ("", digest):  # an own digest stays without theirs
        write_own(folder / PASSPHRASE, f"{state.passphrase}\n{state.digest}")
    write_own(folder / INVITATIONS, json.dumps([asdict(invitation) for invitation in state.invitations]))
    write_own(folder / DOORS, json.dumps(asdict(state.doors)))
    write_own(folder / VERSION, json.dumps(state.version))  # the last: else all is written again


def passphrase_in(folder: Path, peppers: Sequence[bytes]) -> tuple[bool, bool]:
    """Whether a state folder has a passphrase, and its digest under one of ``peppers``. Raises OSError."""
    hashed, digest = _kept(folder / PASSPHRASE, [_digest_key(pepper) for pepper in peppers])
    return bool(hashed), digest is not None


def _digest_key(pepper: bytes) -> bytes:
    return hmac.digest(pepper, b"passphrase", "sha256")


@dataclass(frozen=True, slots=True)
class _Digest:
    """The right passphrase, once it is known, by a digest under a key."""

    key: bytes
    tag: bytes

    def is_of(self, passphrase: str) -> bool:
        return hmac.compare_digest(_tag(self.key, passphrase), self.tag)

    def line(self, hashed: str) -> str:
        return f"{_check(self.key, hashed)} {self.tag.hex()}"


def _kept(file: Path, keys: Sequence[bytes]) -> tuple[str, _Digest | None]:
    """The hash in the file, and the digest of the right passphrase if it was made with one of the keys."""
    hashed, _, line = read_own(file, OTHERS).partition("\n")
    check, _, tag = line.partition(" ")
    found = (key for key in keys if hmac.compare_digest(check, _check(key, hashed)))
    return hashed, next((_Digest(key, bytes.fromhex(tag)) for key in found), None)


def _tag(key: bytes, passphrase: str) -> bytes:
    return hmac.digest(key, passphrase.encode(errors="replace"), "sha256")


def _check(key: bytes, hashed: str) -> str:
    return hmac.digest(key, b"check " + hashed.encode(), "sha256").hex()


async def _nothing(_: Doors) -> None:
    """Nothing is to be done."""


async def _none() -> tuple[str, ...]:
    """There are no recordings."""
    return ()


class Keeper:
    """Decides who gets a token. ``clock`` is the wall time.

    With ``peppers``, secrets that are not in the state folder, the right passphrase is recognised at once,
    also after a restart, by a digest under one of them; new digests are under the first.

    Raises OSError when the state folder cannot be used.
    """

    def __init__(  # noqa: PLR0913 - two modes, and what tests replace
        self,
        folder: Path,
        *,
        mode: AccessMode = "passphrase",
        doors: Literal["open", "closed"] = "open",
        peppers: Sequence[bytes] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self.on_change: Callable[[Grants], None] = lambda _: None
        self.mode = mode
        self.computed = 0  # hashes for tries
        self.watching: dict[str, int] = {}  # by grant
        self.invitations = Invitations(folder / INVITATIONS)
        self.on_open: Callable[[Doors], Awaitable[None]] = _nothing
        # Hides what guests have addresses of; returns the recordings that were listed.
        self.on_close: Callable[[], Awaitable[tuple[str, ...]]] = _none
        # Called after each change that a standby has to know.
        self.on_share: Callable[[], Awaitable[None]] | None = None
        self._clock = clock
        self._version_file = folder / VERSION
        self.version = _own_version(self._version_file)
        self._doors_file = folder / DOORS
        self.doors = _own_doors(self._doors_file) or self._first_doors(doors)
        self._doors_changed = Signal()
        self._file = folder / PASSPHRASE
        self._monotonic = monotonic
        self._hasher = hasher or PasswordHasher()
        self._secret = _own_secret(folder / SECRET)
        keys = [_digest_key(pepper) for pepper in peppers] or [secrets.token_bytes(32)]
        self._key = keys[0]
        self._hash, self._right = _kept(self._file, keys) if mode == "passphrase" else ("", None)
        self._is_unshared = False  # a standby does not have the digest yet
        self._bucket = TokenBucket.full(RATE, BURST, monotonic())
        self._waiting: list[tuple[PassphraseTry, Answer]] = []  # newest last
        self._came = asyncio.Event()
        self._thread, self._writing = OwnThread("passphrases"), OwnThread("invitations")
        self._unwritten = asyncio.Event()

    @property
    def names(self) -> bytes:
        """The secret of the names of objects in the bucket."""
        return hmac.digest(self._secret, b"object names", "sha256")

    @property
    def has_passphrase(self) -> bool:
        """Whether a passphrase is set."""
        return bool(self._hash)

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the right passphrase is not known yet: until its first try, a flood keeps guests out."""
        return bool(self._hash) and not self._right

    def grants(self) -> Grants:
        """Who may watch now."""
        ends: dict[str, int | None] = {invitation.grant: invitation.until for invitation in self.invitations}
        ends |= {self._grant: None} if self._hash else {}
        doors = f"{'open' if self.doors.open else 'closed'}-{1000 * self.doors.closed:.0f}"
        if self.doors.open:
            return Grants(self._secret.hex(), ends, doors=doors)
        crew = {invitation.grant for invitation in self.invitations if invitation.crew}
        waiting = {grant: ends.pop(grant) for grant in ends.keys() - crew}
        return Grants(self._secret.hex(), ends, waiting, doors)

    def state(self) -> str:
        """What another broadcaster needs to let the same guests in, as JSON."""
        invitations = list(self.invitations)
        digest = self._right.line(self._hash) if self._right else ""
        state = AccessState(self.version, self._secret.hex(), self._hash, invitations, self.doors, digest)
        return json.dumps(asdict(state))

    async def lead(self, epoch: int) -> None:
        """Count changes from this epoch of the lease on: this state is newer than another one's of before it.

        Raises NotPossible.
        """
        if self.version < (epoch, 0):
            await self._number((epoch, 0))

    async def _share(self) -> None:
        if self.on_share:
            await self._number((self.version[0], self.version[1] + 1))
            await self.on_share()

    async def _number(self, version: tuple[int, int]) -> None:
        self.version = version  # at once: no two changes have the same number
        try:
            await self._writing.call(write_own, self._version_file, json.dumps(version))
        except OSError as error:
            raise NotPossible(f"the number of the change cannot be kept: {error.strerror}") from None

    @property
    def is_rehearsing(self) -> bool:
        """Whether what the encoder sends is for the crew alone, until the stream for guests has begun."""
        return not self.doors.open or self.doors.opened is not None

    async def open_doors(self, *, keep: bool = False) -> None:
        """Let all guests in; with ``keep`` they may see what was before. Raises NotPossible."""
        if self.doors.open:
            raise NotPossible("the doors are open")
        doors = Doors(open=True, closed=self.doors.closed, opened=None if keep else self._clock())
        await self.on_open(doors)
        await self._keep_doors(doors)
        self.on_change(self.grants())
        logger.info("the doors are open")
        await self._share()

    async def close_doors(self, opens: float | None = None) -> None:
        """Let the crew in alone, until a time or the next opening. Raises NotPossible."""
        if opens is not None and opens <= self._clock():
            raise NotPossible("the doors open in the future")
        doors = replace(self.doors, opens=opens)
        if self.doors.open:  # what fails is done again with the next try
            hidden = await self.on_close()
            doors = Doors(open=False, closed=self._clock(), opens=opens, hidden=hidden)
        await self._keep_doors(doors)
        self.on_change(self.grants())
        logger.info("the doors are closed")
        await self._share()

    async def end_rehearsal(self) -> None:
        """What guests may see has begun. Raises NotPossible."""
        if self.doors.open:
            await self._keep_doors(replace(self.doors, opened=None))
            await self._share()

    async def keep_time(self) -> None:
        """Open the doors when it is time, until cancelled."""
        while True:
            changed, opens = self._doors_changed.next(), self.doors.opens
            wait = None if opens is None or self.doors.open else max(0.0, opens - self._clock())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await changed.wait()
                continue
            await self.open_doors()

    def _first_doors(self, doors: Literal["open", "closed"]) -> Doors:
        found = Doors(doors == "open", self._clock())
        if not found.open:  # since now, also after a restart
            write_own(self._doors_file, json.dumps(asdict(found)))
        return found

    async def _keep_doors(self, doors: Doors) -> None:
        try:
            await self._writing.call(write_own, self._doors_file, json.dumps(asdict(doors)))
        except OSError as error:
            raise NotPossible(f"the state of the doors cannot be kept: {error.strerror}") from None
        self.doors = doors
        self._doors_changed.notify()

    def path_of(self, invitation: Invitation) -> str:
        """The path that an invitation opens."""
        return f"/t/{make_token(self._secret, invitation.grant, invitation.until)}/"

    async def invite(self, name: str, until: int, *, crew: bool = False) -> Invitation:
        """Make an invitation. Raises NotPossible."""
        invitation = self.invitations.add(name, int(self._clock()), until, crew=crew)
        try:
            await self._keep_invitations()
        except NotPossible:
            self.invitations.revoke(invitation.grant)
            raise
        self.on_change(self.grants())
        await self._share()
        return invitation

    async def revoke(self, grant: str) -> None:
        """End the access of all who came with an invitation, at once. Raises KeyError, NotPossible."""
        self.invitations.revoke(grant)
        self.on_change(self.grants())
        await self._keep_invitations()
        await self._share()

    def count(self, guests: Sequence[GuestCount]) -> None:
        """Note how often links were opened, and how many watch."""
        self.watching = {guest.grant: guest.watching for guest in guests if guest.watching}
        self.count_opened({guest.grant: guest.opened for guest in guests if guest.opened})

    def count_opened(self, opened: Mapping[str, int]) -> None:
        """Add to how often links were opened, by grant."""
        if self.invitations.count(opened):
            self._unwritten.set()

    async def keep_counts(self) -> None:
        """Write the numbers of opened links, now and then, until cancelled."""
        while True:
            await self._unwritten.wait()
            await self._keep_invitations()
            await asyncio.sleep(COUNTS_EVERY)

    async def _keep_invitations(self) -> None:
        """Write the file, one version after the other. Raises NotPossible."""
        self._unwritten.clear()
        try:
            await self._writing.call(self.invitations.write, self.invitations.text())
        except OSError as error:
            raise NotPossible(f"the invitations cannot be kept: {error.strerror}") from None

    async def set_passphrase(self, text: str) -> None:
        """Replace the passphrase; who came with the former one is a stranger then. Raises NotPossible."""
        if self.mode != "passphrase":
            raise NotPossible("the event has no passphrase: set BROADCASTER_ACCESS=passphrase, and restart")
        passphrase = _normalized(text)
        if not SHORTEST <= len(passphrase) <= 200:  # noqa: PLR2004 - the length that a try can have
            raise NotPossible(f"a passphrase has {SHORTEST} characters at least, and 200 at most")
        hashed = await self._thread.call(self._hasher.hash, passphrase)
        digest = _Digest(self._key, _tag(self._key, passphrase))
        try:
            await self._writing.call(write_own, self._file, f"{hashed}\n{digest.line(hashed)}")
        except OSError as error:
            raise NotPossible(f"the passphrase cannot be kept: {error.strerror}") from None
        self._hash, self._right = hashed, digest
        self.on_change(self.grants())
        await self._share()
        logger.info("the passphrase is changed")

    def __call__(self, attempt: PassphraseTry, answer: Answer) -> None:
        """Answer a try, at once if the right passphrase is known; else when its turn has come."""
        if self._right or not self._hash:
            passphrase = _normalized(attempt.text)
            right = self._right is not None and self._right.is_of(passphrase)
            self._answer(attempt, answer, right=right)
            if right and self._right and self._right.key != self._key:
                self._learn(passphrase)
            return
        self._waiting.append((attempt, answer))
        if len(self._waiting) > MOST_WAITING:
            oldest, its_answer = self._waiting.pop(0)
            its_answer(PassphraseAnswer(oldest.id, busy=True))
        self._came.set()

    async def run(self) -> None:
        """Compute hashes for tries, the newest first, until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            if self._is_unshared:
                self._is_unshared = False
                with suppress(NotPossible):  # the next change is shared with the digest
                    await self._share()
            while self._waiting:
                if self._bucket.take(self._monotonic()):
                    await self._compute(*self._waiting.pop())
                else:
                    await asyncio.sleep((1 - self._bucket.level) / RATE)

    async def _compute(self, attempt: PassphraseTry, answer: Answer) -> None:
        self.computed += 1
        hashed, passphrase = self._hash, _normalized(attempt.text)
        right = await self._thread.call(self._verify, hashed, passphrase)
        if right and hashed == self._hash:
            self._learn(passphrase)
        self._answer(attempt, answer, right=right and hashed == self._hash)
        if self._right:
            waiting, self._waiting = self._waiting, []
            for other, its_answer in waiting:
                self(other, its_answer)

    def _learn(self, passphrase: str) -> None:
        """Keep the digest of the right passphrase, also for a standby."""
        self._right = _Digest(self._key, _tag(self._key, passphrase))
        self._writing.submit(write_own, self._file, f"{self._hash}\n{self._right.line(self._hash)}")
        self._is_unshared = True
        self._came.set()

    def _verify(self, hashed: str, passphrase: str) -> bool:
        try:
            return self._hasher.verify(hashed, passphrase)
        except (VerificationError, InvalidHashError):
            return False

    def _answer(self, attempt: PassphraseTry, answer: Answer, *, right: bool) -> None:
        token = make_token(self._secret, self._grant, int(self._clock()) + VALID)
        answer(PassphraseAnswer(attempt.id, token if right else None))

    @property
    def _grant(self) -> str:
        """The grant of the passphrase: another one for each passphrase."""
        return sha256(self._hash.encode()).hexdigest()[:16]


class GateFile:
    """What a gate in front of the service has to know, in a file that it reads for each request.

    The file can be read by the group of its folder, if the folder has the setgid bit.
    """

    def __init__(self, file: Path, grants: Grants) -> None:
        self._file, self._grants = file, grants
        self._opened: list[str] = []
        self._changed = Signal()

    def update(self, grants: Grants) -> None:
        """Who may watch from now on."""
        self._grants = grants
        self._changed.notify()

    def show_recordings(self, found: Mapping[str, PublicRecording]) -> None:
        """Strangers can watch those of them that are opened."""
        self._opened = opened_of(found)
        self._changed.notify()

    async def run(self) -> None:
        """Write the file at each change, until cancelled; raises OSError."""
        while True:
            changed, grants = self._changed.next(), self._grants
            known = {
                "secret": grants.secret,
                "grants": dict(grants.ends),
                "waiting": dict(grants.waiting),
                "doors": grants.doors,
                "opened": self._opened,
                "key": proxy_key(bytes.fromhex(grants.secret)),
            }
            await asyncio.to_thread(write_own, self._file, json.dumps(known), 0o640)
            await changed.wait()


def _own_doors(file: Path) -> Doors | None:
    """What the operator has said of the doors; None if nothing."""
    try:
        return _doors.validate_json(read_own(file, OTHERS))
    except ValidationError:
        return None


def _own_version(file: Path) -> tuple[int, int]:
    try:
        return _version.validate_json(read_own(file, OTHERS))
    except ValidationError:
        return 0, 0


def _own_secret(file: Path) -> bytes:
    """The secret of this state folder, made at the first start."""
    text = read_own(file, OTHERS)
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        secret = secrets.token_bytes(SECRET_BYTES)
        write_own(file, secret.hex())
    return secret


def _normalized(text: str) -> str:
    """The passphrase as it is compared: keyboards compose the same letters in different ways."""
    return unicodedata.normalize("NFKC", " ".join(text.split()))


def seal(secret: bytes, text: str) -> bytes:
    """A text that only who has the secret can read, or could have written (ChaCha20-Poly1305, RFC 8439)."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _cipher(secret).encrypt(nonce, text.encode(), None)


def unseal(secret: bytes, body: bytes) -> str:
    """The text of ``seal``; raises ValueError if it was sealed with another secret, or changed."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as in _cipher

    try:
        return _cipher(secret).decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], None).decode()
    except (InvalidTag, ValueError):
        raise ValueError("sealed with another secret, or changed") from None


def _cipher(secret: bytes) -> ChaCha20Poly1305:
    # 6 MB, which only a broadcaster with a standby needs
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    return ChaCha20Poly1305(hmac.digest(secret, b"broadcaster seal", sha256))
