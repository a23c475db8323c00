"""Tells whether another broadcaster works under the same prefix: each would delete what the other lists.

Each renews one object under the prefix, and each time in the place of what it wrote itself. Whatever else is
there by then is of another one that is alive: what the dead have left stays as it is. No clocks are compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from broadcaster.errors import StorageError
from broadcaster.own_files import read_own, write_own

logger = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two renewals
ALIVE = 3 * EVERY  # seconds for which one that was noticed counts as alive
DEADLINE = 10.0  # seconds for one request
FILE = "owner"  # in the state folder


class LeaseStore(Protocol):
    """Where the object is. Everything raises StorageError; ``deadline`` is in seconds."""

    async def etag(self, key: str, *, deadline: float) -> str | None:
        """The ETag of an object, None when there is none."""

    async def replace(
        self, key: str, body: bytes, *, etag: str | None, max_age: int, deadline: float
    ) -> str | None:
        """Store an object in the place of the one with this ETag, or of none.

        Returns its own ETag, None when something else is in that place.
        """


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the object says: who wrote it, and when."""

    owner: str
    at: datetime

    def render(self) -> bytes:
        """As it is stored."""
        return json.dumps({"owner": self.owner, "at": self.at.isoformat()}).encode()

    @staticmethod
    def parse(body: bytes) -> LeaseRecord:
        """Raises ValueError for anything else."""
        try:
            found = json.loads(body)
            claim = LeaseRecord(str(found["owner"]), datetime.fromisoformat(found["at"]).astimezone())
        except (ValueError, TypeError, LookupError):
            raise ValueError("not an owner's object") from None
        return claim


def owner_key(prefix: str) -> str:
    """The key of the object."""
    return f"{prefix}/owner.json"


def stored_name(folder: Path) -> str | None:
    """The name of the broadcaster with this state folder, None before its first start. Raises OSError."""
    return read_own(folder / FILE) or None


def own_name(folder: Path) -> str:
    """The same, made where there is none: chance and not the machine's name, for two may share that."""
    with contextlib.suppress(OSError):
        if name := stored_name(folder):
            return name
    name = secrets.token_hex(8)
    with contextlib.suppress(OSError):  # the next start has another name then
        write_own(folder / FILE, name)
    return name


class PrefixLease:
    """Keeps the object of the broadcaster called ``name``; ``clock`` gives the wall time."""

    def __init__(
        self,
        store: LeaseStore,
        prefix: str,
        name: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._name = name
        self._clock = clock
        self._monotonic = monotonic
        self._etag: str | None = None  # of what we wrote, where that is known
        self._other_at: float | None = None  # when another one was noticed

    @property
    def warning(self) -> str | None:
        """What the operator has to know while another one is alive. It is no reason to stop."""
        if self._other_at is None or self._monotonic() - self._other_at > ALIVE:
            return None
        return (
            f"another broadcaster writes under {self._prefix}/ in this bucket, and each may delete what the"
            " other lists: stop one of them, or give it an R2_PREFIX of its own"
        )

    async def run(self) -> None:
        """Renew it until cancelled."""
        while True:
            try:
                await self.renew()
            except StorageError as error:
                logger.debug("the owner's object is not renewed: %s", error)
            await asyncio.sleep(EVERY)

    async def renew(self) -> None:
        """Write it once; raises StorageError."""
        ours, self._etag = self._etag, None  # it is not known until there is an answer
        etag = ours and await self._replace(ours)
        if etag is None:
            found = await self._store.etag(owner_key(self._prefix), deadline=DEADLINE)
            if ours and found not in (ours, None):
                self._note_other()
            etag = await self._replace(found)
        self._etag = etag

    async def _replace(self, etag: str | None) -> str | None:
        body = LeaseRecord(self._name, self._clock()).render()
        key, max_age = owner_key(self._prefix), int(EVERY)
        return await self._store.replace(key, body, etag=etag, max_age=max_age, deadline=DEADLINE)

    def _note_other(self) -> None:
        known, self._other_at = self.warning, self._monotonic()
        if not known:
            logger.error("%s", self.warning)
