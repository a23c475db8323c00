"""The bucket: is it there, does it let us in, does it take, show and delete an object."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp

from broadcaster.check.http import no_answer
from broadcaster.check.probe import ProbeObjects
from broadcaster.check.report import Finding, bytes_text, failed, ok, skipped, time_text, warning
from broadcaster.check.settings_client import DEADLINE, SettingsClient
from broadcaster.errors import StorageError, StorageRefused
from broadcaster.guest import Answer, Browser
from broadcaster.owner import ALIVE, Claim, owner_key
from broadcaster.storage import ObjectStore

REFUSED_SKEW = 900.0  # seconds: beyond it S3 refuses a signature (RequestTimeTooSkewed)
SKEW = 30.0  # seconds that players and logs would notice; a Date header has whole ones
SIZE = 1880  # bytes of a probe object
PART = (188, 375)  # of it, read as a range
ENDPOINT_SETTING = "R2_ACCOUNT_ID or R2_ENDPOINT_URL"


@dataclass(frozen=True, slots=True)
class Means:
    """What the checks work with."""

    browser: Browser
    store: ObjectStore
    settings: SettingsClient
    objects: ProbeObjects


class BucketChecks:
    """The checks of one bucket. ``put_seconds`` is how long a tiny object took, ``body`` what it holds."""

    def __init__(self, means: Means, endpoint: str, prefix: str) -> None:
        self.put_seconds = 0.0
        self.body = b""
        self._browser = means.browser
        self._objects = means.objects
        self._store = means.store
        self._settings = means.settings
        self._endpoint = endpoint
        self._prefix = prefix
        self._greeting: Answer | None = None
        self._asked = 0.0  # seconds since the epoch, half way through the request

    async def endpoint(self) -> Finding:
        """Something answers there; it need not like an unsigned request."""
        asked = time.time()
        try:
            self._greeting = await self._browser.fetch(self._endpoint + "/")
        except (aiohttp.ClientError, OSError) as error:
            return no_answer(error, self._endpoint, ENDPOINT_SETTING)
        self._asked = (asked + time.time()) / 2
        return ok(f"{self._endpoint} answers in {self._greeting.seconds * 1000:.0f} ms")

    async def clock(self) -> Finding:
        """Compare this machine's clock with the Date header of the endpoint."""
        date = self._greeting.headers.get("Date", "") if self._greeting else ""
        try:
            theirs = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return skipped("the endpoint does not say what time it is")
        skew = self._asked - theirs - 0.5  # the header leaves out half a second on average
        return judge_clock(skew)

    async def access(self) -> Finding:
        """The key pair is right and opens the bucket."""
        try:
            await self._store.check(self._prefix, deadline=DEADLINE)
        except StorageError as error:
            return from_storage(error)
        return ok("the key opens the bucket")

    async def owner(self, name: str | None, now: datetime) -> Finding:
        """No other broadcaster works under the prefix; ``name`` is ours, None before our first start."""
        key = owner_key(self._prefix)
        try:
            size = await self._store.size(key, deadline=DEADLINE)
            claim = Claim.parse(await self._settings.read(key, 0, size - 1)) if size else None
        except StorageError as error:
            return from_storage(error)
        except ValueError as error:
            return warning(f"{key} is {error}", "see what else writes under R2_PREFIX")
        if claim is None or claim.owner == name:
            return ok("no other broadcaster writes under this prefix")
        age = abs((now - claim.at).total_seconds())
        if age > ALIVE:
            return ok(f"another broadcaster wrote under this prefix {time_text(age)} ago, and does no more")
        return warning(
            f"another broadcaster wrote under {self._prefix}/ {time_text(age)} ago: each may delete what the"
            " other lists",
            "stop one of them, or give it an R2_PREFIX of its own; if it was stopped just now, or ran with"
            f" another state folder, check again in {time_text(ALIVE)}",
        )

    async def put(self) -> Finding:
        """An object can be stored."""
        started = time.perf_counter()
        try:
            self.body = await self._objects.put("probe", SIZE)
        except StorageError as error:
            return from_storage(error, "give the token Object Read & Write on the bucket")
        self.put_seconds = time.perf_counter() - started
        return ok(f"{bytes_text(SIZE)} in {self.put_seconds * 1000:.0f} ms")

    async def head(self) -> Finding:
        """Its size can be asked."""
        try:
            size = await self._store.size(self._objects.key("probe"), deadline=DEADLINE)
        except StorageError as error:
            return from_storage(error)
        if size != SIZE:
            return failed(
                f"the object stored just now has {size} bytes, not {SIZE}", "do not use this bucket"
            )
        return ok("it has the size that it should have")

    async def get(self) -> Finding:
        """A part of it can be read."""
        first, last = PART
        try:
            part = await self._settings.read(self._objects.key("probe"), first, last)
        except StorageError as error:
            return from_storage(error)
        if part != self.body[first : last + 1]:
            return failed(f"the bytes {first} to {last} are not those stored", "do not use this bucket")
        return ok("a range of it is what was stored")

    async def delete(self) -> Finding:
        """Everything that the checks stored can be deleted."""
        try:
            count = await self._objects.remove()
        except StorageError as error:
            found = from_storage(error)
            message = f"{found.message}; probe objects may be left under {self._objects.folder}/"
            return failed(message, f"{found.remedy}; delete them by hand")
        return ok(f"{count} probe object(s) deleted") if count else skipped("there is nothing to delete")


def judge_clock(skew: float) -> Finding:
    """Whether a clock that is ``skew`` seconds ahead of the endpoint's will do."""
    ahead = (
        f"this machine's clock is {time_text(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the bucket's"
    )
    remedy = "set it by NTP: timedatectl set-ntp true"
    if abs(skew) > REFUSED_SKEW:
        return failed(f"{ahead}: every signature is refused (RequestTimeTooSkewed)", remedy)
    if abs(skew) > SKEW:
        return warning(f"{ahead}: times in the playlists and the delay shown are wrong", remedy)
    return ok(f"within {SKEW:.0f} s of the bucket's")


def from_storage(error: StorageError, remedy: str = "") -> Finding:
    """A failure of the bucket, which names its remedy where it has one."""
    message, separator, named = str(error).rpartition("; ")
    if separator:
        return failed(message, f"{named}; {remedy}" if remedy and named not in remedy else named)
    usual = "check the R2_ settings" if isinstance(error, StorageRefused) else "see whether it lasts"
    return failed(str(error), remedy or usual)
