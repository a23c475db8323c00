"""The checks of the bucket (access, lease, PUT, HEAD, GET, DELETE) and of the uplink's upload rate.

``ProbeObjects`` are the objects that the checks store for some seconds. ``SettingsClient`` makes the requests
that the service itself never makes: ranges, CORS policy, lifecycle rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from broadcaster.bucket import Bucket, ObjectStore, classify_error
from broadcaster.bucket.lease import ALIVE, FILE, MACHINE, VERSION, LeaseRecord, owner_key
from broadcaster.bucket.session import create_client
from broadcaster.doctor.folders import Survey
from broadcaster.doctor.report import from_storage, rate_text, reading, time_text
from broadcaster.errors import ObjectNotFound, StorageError, StorageUnavailable
from broadcaster.guest import TIMEOUT, Browser, BrowserResponse
from broadcaster.printable import size_text
from broadcaster.service.health import CheckFinding, clock_finding, failed, ok, skipped, warning


async def negotiated(url: str) -> str | None:
    """The protocol that an https server chooses by ALPN (RFC 7301): ``h2`` or ``http/1.1``.

    None if it chooses none. Raises OSError (ssl.SSLError included) or TimeoutError.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    parts = urlsplit(url)
    async with asyncio.timeout(TIMEOUT):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
    try:
        chosen: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    finally:
        writer.close()
    return chosen


PUT_DEADLINE = 3.0  # seconds
CLEANUP = 6.0  # seconds: on a thin uplink, the rest of an upload that was given up goes first
SETTLE = 1.0  # seconds in which the bucket may still store an object whose upload was given up


class ProbeObjects:
    """Test objects under a random name below the service's prefix. ``remove`` deletes them all."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self.folder = f"{prefix}/check-{secrets.token_hex(16)}/0"
        self._store = store
        self._uploads: dict[str, asyncio.Task[str]] = {}  # by key, each that was begun

    def key(self, name: str) -> str:
        """The key of a test object. It ends as a segment's does, so that a CDN treats it as a segment."""
        return f"{self.folder}/{name}.ts"

    async def url(self, name: str) -> str:
        """The URL at which viewers read the object; signed if the bucket is private."""
        return await self._store.url(self.key(name))

    async def put(self, name: str, size: int, *, deadline: float = PUT_DEADLINE) -> bytes:
        """Store ``size`` incompressible bytes and return them. Raises StorageError."""
        body, key = os.urandom(size), self.key(name)
        upload = self._uploads[key] = asyncio.create_task(self._store.put(key, body))
        await asyncio.wait({upload}, timeout=deadline)
        if not upload.done():
            upload.cancel()
            raise StorageUnavailable(f"PUT: no answer within {deadline:.0f} s")
        await upload
        return body

    async def remove(self) -> int:
        """Delete all test objects and return their number. Raises StorageError.

        The upload that an interrupt has left gets time for its answer. Objects whose upload had no answer are
        deleted twice: the bucket may store them after the first time.
        """
        uploads, self._uploads = self._uploads, {}
        left = {upload for upload in uploads.values() if not upload.done() and not upload.cancelling()}
        if left:
            await asyncio.wait(left, timeout=CLEANUP)
        for upload in uploads.values():
            upload.cancel()
        await asyncio.gather(*uploads.values(), return_exceptions=True)
        if uploads:
            await self._store.delete([*uploads], deadline=CLEANUP)
        unanswered = [key for key, upload in uploads.items() if upload.cancelled() or upload.exception()]
        if unanswered:
            await asyncio.sleep(SETTLE)
            await self._store.delete(unanswered, deadline=CLEANUP)
        return len(uploads)


@asynccontextmanager
async def probing(store: ObjectStore, prefix: str) -> AsyncIterator[ProbeObjects]:
    """A context with test objects, which are deleted when it is left."""
    objects = ProbeObjects(store, prefix)
    try:
        yield objects
    finally:
        with contextlib.suppress(StorageError):  # the last check has reported it
            await objects.remove()


if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

DEADLINE = 3.0  # seconds for one call
NONE_SET = {"NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration"}
Rule = Mapping[str, Any]


class SettingsClient:
    """Reads and changes the bucket's settings. All calls raise StorageUnavailable or StorageRefused."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def read(self, key: str, first: int, last: int) -> bytes:
        """Return an object's bytes from ``first`` to ``last``, both included."""
        async with _failures("ranged GET"):
            answer = await self._client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={first}-{last}"
            )
            async with answer["Body"] as body:
                return await body.read()

    async def oldest(self, prefix: str) -> datetime | None:
        """The time when the oldest of the first 1000 objects was stored; keys begin with the run's time."""
        async with _failures("LIST"):
            answer = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
        return min((entry["LastModified"] for entry in answer.get("Contents", [])), default=None)

    async def cors(self) -> list[Rule]:
        """Return the rules of the bucket's CORS policy."""
        async with _failures("GET of the CORS policy"):
            return await _rules(self._client.get_bucket_cors(Bucket=self._bucket), "CORSRules")

    async def set_cors(self, rules: Sequence[Rule]) -> None:
        """Replace the bucket's CORS policy."""
        policy: Any = {"CORSRules": list(rules)}
        async with _failures("PUT of the CORS policy"):
            await self._client.put_bucket_cors(Bucket=self._bucket, CORSConfiguration=policy)

    async def lifecycle(self) -> list[Rule]:
        """Return the bucket's lifecycle rules."""
        async with _failures("GET of the lifecycle rules"):
            request = self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket)
            return await _rules(request, "Rules")

    async def set_lifecycle(self, rules: Sequence[Rule]) -> None:
        """Replace the bucket's lifecycle rules."""
        configuration: Any = {"Rules": list(rules)}
        async with _failures("PUT of the lifecycle rules"):
            await self._client.put_bucket_lifecycle_configuration(
                Bucket=self._bucket, LifecycleConfiguration=configuration
            )


async def _rules(request: Awaitable[Mapping[str, Any]], field: str) -> list[Rule]:
    """The rules in the answer; an empty list where the bucket has no configuration."""
    try:
        return list((await request).get(field, []))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in NONE_SET:
            return []
        raise


@asynccontextmanager
async def _failures(operation: str) -> AsyncIterator[None]:
    """Convert the client's errors, whose texts may contain the key or the signature."""
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - malformed answers raise many types
        raise classify_error(operation, error, DEADLINE) from None


@asynccontextmanager
async def open_settings(bucket: Bucket) -> AsyncIterator[SettingsClient]:
    """A SettingsClient without retries and with timeouts of seconds."""
    config = AioConfig(
        region_name="auto",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",  # R2 refuses the default trailer checksum
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1},
        connect_timeout=DEADLINE,
    )
    async with create_client(bucket, config) as client:
        yield SettingsClient(client, bucket.name)


SIZE = 1880  # bytes of a probe object
PART = (188, 375)  # first and last byte of the range that is read
ENDPOINT_SETTING = "R2_ACCOUNT_ID or R2_ENDPOINT_URL"


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients that the checks use."""

    browser: Browser
    store: ObjectStore
    settings: SettingsClient
    objects: ProbeObjects


SAME = "give both the same settings and the same release"
ALONE = "no other broadcaster writes under this prefix"
NOBODY = "nobody has led under {}/ yet: the other one needs the same bucket and prefix (R2_BUCKET, R2_PREFIX)"
COPIED = "a broadcaster on another machine leads with the state folder of this one: each takes the lead back"
OWN_FOLDER = (
    f"delete the file {FILE} in the state folder, or give each a state folder of its own"
    f" (BROADCASTER_STATE_DIR); if this broadcaster has moved just now, check again in {time_text(ALIVE)}"
)


def standby_finding(lease: LeaseRecord, ours: Mapping[str, str], age: str) -> CheckFinding:
    """Whether this broadcaster could take over from the one with the lease."""
    if not lease.standby:
        return failed(
            f"another broadcaster leads, wrote {age} ago, and never stands by: it takes the lead back",
            "let that one stand by as well (BROADCASTER_STANDBY=true)",
        )
    if not lease.settings:
        return warning("another broadcaster leads, of an earlier release", SAME)
    theirs = {name: lease.settings.get(name, "unknown") for name in ours}
    differ = [name for name in ours if name != MACHINE and theirs[name] != ours[name]]
    if not differ:
        return ok(f"another broadcaster leads, and wrote {age} ago: this one takes over when it is gone")
    values = ", ".join(f"{name} ({theirs[name]} there, {ours[name]} here)" for name in differ)
    found = f"the broadcaster that leads differs from this one: {values}"
    return warning(found, SAME) if differ == [VERSION] else failed(found, SAME)


class BucketChecks:
    """The checks of one bucket. ``put_seconds`` is the duration of a tiny PUT, ``body`` its bytes."""

    def __init__(self, clients: Clients, endpoint: str, prefix: str, lease_secret: bytes = b"") -> None:
        self._lease_secret = lease_secret
        self.put_seconds = 0.0
        self.body = b""
        self._browser = clients.browser
        self._objects = clients.objects
        self._store = clients.store
        self._settings = clients.settings
        self._endpoint = endpoint
        self._prefix = prefix
        self._greeting: BrowserResponse | None = None
        self._requested = 0.0  # seconds since the epoch, half way through the request

    async def endpoint(self) -> CheckFinding:
        """The endpoint answers; it may refuse an unsigned request."""
        started = time.time()
        with reading(self._endpoint, ENDPOINT_SETTING):
            self._greeting = await self._browser.fetch(self._endpoint + "/")
        self._requested = (started + time.time()) / 2
        return ok(f"{self._endpoint} answers in {self._greeting.seconds * 1000:.0f} ms")

    async def clock(self) -> CheckFinding:
        """Compare this machine's clock with the Date header of the endpoint."""
        date = self._greeting.headers.get("Date", "") if self._greeting else ""
        try:
            theirs = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return skipped("the endpoint sends no Date header")
        skew = self._requested - theirs - 0.5  # the header leaves out half a second on average
        return clock_finding(skew)

    async def access(self) -> CheckFinding:
        """The key pair is valid and may use the bucket."""
        await self._store.check(self._prefix, deadline=DEADLINE)
        return ok("the key opens the bucket")

    async def lease(self, name: str | None, now: datetime, ours: Mapping[str, str]) -> CheckFinding:
        """No other broadcaster leads, or this one could take over from it.

        ``name`` is our owner name, None before the first start; ``ours`` are what both should have in common.
        """
        key = owner_key(self._prefix, self._lease_secret)
        try:
            lease = LeaseRecord.parse(await self._store.get(key, deadline=DEADLINE))
        except ObjectNotFound:
            lease = None
        except ValueError as error:
            return warning(f"{key} is {error}", "see what else writes under the prefix (R2_PREFIX)")
        is_standby = ours["BROADCASTER_STANDBY"] == "True"
        if lease is None:
            return ok(NOBODY.format(self._prefix) if is_standby else ALONE)
        age = abs((now - lease.at).total_seconds())
        if lease.owner == name:
            machine = lease.settings.get(MACHINE, ours[MACHINE])
            return ok(ALONE) if machine == ours[MACHINE] or age > ALIVE else warning(COPIED, OWN_FOLDER)
        if age > ALIVE:
            return ok(f"another broadcaster wrote under this prefix {time_text(age)} ago, and does no more")
        if is_standby:
            return standby_finding(lease, ours, time_text(age))
        return warning(
            f"another broadcaster wrote under {self._prefix}/ {time_text(age)} ago, and leads: the one that"
            " was started last deletes and writes playlists, the other does not",
            "stop one of them, or give it its own prefix (R2_PREFIX); if it was stopped just now, or ran with"
            f" another state folder, check again in {time_text(ALIVE)}",
        )

    async def put(self) -> CheckFinding:
        """An object can be stored."""
        started = time.perf_counter()
        try:
            self.body = await self._objects.put("probe", SIZE)
        except StorageError as error:
            return from_storage(error, "give the token Object Read & Write on the bucket")
        self.put_seconds = time.perf_counter() - started
        return ok(f"{size_text(SIZE)} in {self.put_seconds * 1000:.0f} ms")

    async def head(self) -> CheckFinding:
        """HEAD returns the object's size."""
        size = await self._store.size(self._objects.key("probe"), deadline=DEADLINE)
        if size != SIZE:
            return failed(
                f"the object stored just now has {size} bytes, not {SIZE}", "do not use this bucket"
            )
        return ok("the size is right")

    async def get(self) -> CheckFinding:
        """A range of the object can be read."""
        first, last = PART
        part = await self._settings.read(self._objects.key("probe"), first, last)
        if part != self.body[first : last + 1]:
            return failed(f"the bytes {first} to {last} are not those stored", "do not use this bucket")
        return ok("a range of the object has the stored bytes")

    async def delete(self) -> CheckFinding:
        """All objects that the checks stored can be deleted."""
        try:
            count = await self._objects.remove()
        except StorageError as error:
            found = from_storage(error)
            message = f"{found.message}; probe objects may be left under {self._objects.folder}/"
            return failed(message, f"{found.remedy}; delete them by hand")
        return ok(f"{count} probe object(s) deleted") if count else skipped("there is nothing to delete")


SIZES = tuple(16_384 * 4**step for step in range(5))  # bytes: 16 KiB to 4 MiB
LONG_ENOUGH = 0.5  # seconds of an upload for a good measurement
PATIENCE = 4.0  # seconds for the whole measurement
MARGIN = 2.0  # times the stream's own rate, to make up for an outage and for scenes with much motion


@dataclass(frozen=True, slots=True)
class Measurement:
    """An upload of ``size`` bytes that took ``seconds``, or was aborted after them (not ``finished``)."""

    size: int
    seconds: float
    finished: bool = True

    @property
    def rate(self) -> float:
        """Bytes per second; an upper bound if the upload was aborted."""
        return self.size / self.seconds


async def measure(objects: ProbeObjects) -> Measurement:
    """Upload larger and larger objects until an upload takes long enough to measure. Raises StorageError."""
    end = time.monotonic() + PATIENCE
    best = None
    for size in SIZES:
        started = time.monotonic()
        try:
            await objects.put(f"uplink-{size}", size, deadline=end - started)
        except StorageError:
            aborted = time.monotonic()
            if best:
                return best
            if aborted < end:
                raise
            return Measurement(size, aborted - started, finished=False)
        best = Measurement(size, time.monotonic() - started)
        if best.seconds > LONG_ENOUGH or time.monotonic() + 2 * best.seconds > end:
            break
    assert best  # noqa: S101 - there is at least one size
    return best


def uplink_finding(measured: Measurement, found: Survey, overhead: float) -> CheckFinding:
    """The finding for an uplink's rate against that of the stream. ``overhead``: seconds of a tiny PUT."""
    how = f"{size_text(measured.size)} in {time_text(measured.seconds)}"
    speed = f"{'' if measured.finished else 'less than '}{rate_text(measured.rate)} ({how})"
    if not found.rate:
        if not measured.finished:
            return failed(f"the uplink carries {speed}", SLOW)
        return ok(f"the uplink carries {speed}; check again during a stream to compare")
    largest = max(found.streamed, key=lambda variant: variant.largest)
    put = overhead + largest.largest / measured.rate
    stream = f"the stream makes {rate_text(found.rate)} in {len(found.streamed)} variant(s)"
    segment = (
        f"a PUT of {size_text(largest.largest)} takes {time_text(put)} "
        f"of its segment's {time_text(largest.target_duration)}"
    )
    message = f"{stream}, the uplink carries {speed}; {segment}"
    if measured.rate < found.rate:
        return failed(message, SLOW)
    if measured.rate < MARGIN * found.rate:
        return warning(message, f"leave room for outages and motion: {MARGIN:.0f} times the stream; {SLOW}")
    return ok(message)


def warm_finding(found: Survey) -> CheckFinding:
    """What it costs that this broadcaster uploads in advance while it stands by."""
    if not found.rate:
        return ok("a standby that is warm uploads as much as the leader; check again during a stream")
    segments = sum(3600 * (variant.listed - variant.missing) / variant.duration for variant in found.streamed)
    return ok(
        f"while it stands by, {rate_text(found.rate)} of the uplink, and an hour {segments:,.0f} class A"
        f" operations and {size_text(3600 * found.rate)}, which the leader deletes within an hour and a half"
    )


SLOW = (
    "lower the bit rate or the number of variants in Owncast, or use a faster uplink; "
    "if uploads are under way at the moment, check without them"
)
