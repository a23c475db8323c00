"""The lease of a prefix: detects a second broadcaster that writes under the same prefix of the bucket.

Every broadcaster renews one object under its prefix by compare-and-swap. If the object is not the version
that it stored before, another running broadcaster has written it. No clocks are compared.
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

from broadcaster.bucket.client import ObjectStore
from broadcaster.bucket.conditional import ConditionalWriter
from broadcaster.catalog.records import unguessable
from broadcaster.errors import StorageError
from broadcaster.own_files import read_own, write_own

logger = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two renewals
ALIVE = 3 * EVERY  # seconds for which a detected broadcaster counts as running
DEADLINE = 10.0  # seconds for one request
FILE = "owner"  # in the state folder


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The content of the lease object: the writer and the time of the write."""

    owner: str
    at: datetime

    def render(self) -> bytes:
        """The content as JSON."""
        return json.dumps({"owner": self.owner, "at": self.at.isoformat()}).encode()

    @staticmethod
    def parse(body: bytes) -> LeaseRecord:
        """Parse the content; raises ValueError."""
        try:
            found = json.loads(body)
            claim = LeaseRecord(str(found["owner"]), datetime.fromisoformat(found["at"]).astimezone())
        except (ValueError, TypeError, LookupError):
            raise ValueError("not an owner's object") from None
        return claim


def owner_key(prefix: str, secret: bytes = b"") -> str:
    """The key of the lease object; with a ``secret``, only who has it finds the object."""
    return unguessable(f"{prefix}/owner.json", secret)


def stored_name(folder: Path) -> str | None:
    """The ID of the broadcaster in its state folder, None before the first start. Raises OSError."""
    return read_own(folder / FILE) or None


def own_name(folder: Path) -> str:
    """The ID of the broadcaster; a random one is made at the first start (host names are not unique)."""
    with contextlib.suppress(OSError):
        if name := stored_name(folder):
            return name
    name = secrets.token_hex(8)
    with contextlib.suppress(OSError):  # the next start makes another ID then
        write_own(folder / FILE, name)
    return name


class PrefixLease:
    """Renews the lease object of the broadcaster ``name``; ``clock`` gives the wall time."""

    def __init__(  # noqa: PLR0913 - the bucket, whose lease it is, and the clocks
        self,
        store: ObjectStore,
        prefix: str,
        name: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        *,
        secret: bytes = b"",
    ) -> None:
        self._key = owner_key(prefix, secret)
        self._objects = ConditionalWriter(store)
        self._prefix = prefix
        self._name = name
        self._clock = clock
        self._monotonic = monotonic
        self._other_at: float | None = None  # monotonic: when another broadcaster was detected

    @property
    def warning(self) -> str | None:
        """The warning for the operator while another broadcaster is running, else None."""
        if self._other_at is None or self._monotonic() - self._other_at > ALIVE:
            return None
        return (
            f"another broadcaster writes under {self._prefix}/ in this bucket, and each may delete what the"
            " other lists: stop one of them, or give it an R2_PREFIX of its own"
        )

    async def run(self) -> None:
        """Renew the lease until cancelled."""
        while True:
            try:
                await self.renew()
            except StorageError as error:
                logger.debug("the lease is not renewed: %s", error)
            await asyncio.sleep(EVERY)

    async def renew(self) -> None:
        """Write the lease object once; raises StorageError."""
        key = self._key
        ours = self._objects.etag(key)
        if ours and await self._write(key):
            return
        found = await self._objects.look_up(key, deadline=DEADLINE)
        if ours and found not in (ours, None):
            known, self._other_at = self.warning, self._monotonic()
            if not known:
                logger.error("%s", self.warning)
        await self._write(key)

    async def _write(self, key: str) -> bool:
        body = LeaseRecord(self._name, self._clock()).render()
        return await self._objects.replace(key, body, int(EVERY), deadline=DEADLINE)
