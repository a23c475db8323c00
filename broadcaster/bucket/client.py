"""The S3 client of one bucket: stores, reads, lists and deletes objects, and makes their URLs.

A multipart upload in R2 has at most 10,000 parts; all but the last have the same size of at least 5 MiB. The
ETag of a part is its MD5. The ETag of the object is the MD5 of the parts' MD5s and the number of parts, as in
S3 (developers.cloudflare.com/r2/objects/multipart-objects).
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import logging
import traceback
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import aiohttp
import botocore.handlers
from aiobotocore.config import AioConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from broadcaster.aio import LogLimiter
from broadcaster.bucket.body import ANSWER, STALL, MonitoredPayload
from broadcaster.bucket.session import REGION, Bucket, create_client
from broadcaster.errors import (
    NotLeading,
    ObjectNotFound,
    ObjectsNotDeleted,
    Problem,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)
from broadcaster.hls import MEDIA_TYPE

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import (
        HeadObjectOutputTypeDef,
        ListMultipartUploadsOutputTypeDef,
        ListPartsOutputTypeDef,
        PutObjectRequestTypeDef,
    )

logger = logging.getLogger(__name__)

CACHE_CONTROL = "public, max-age=31536000, immutable"  # keys are never used twice
POOL_CONNECTIONS = 32
CONNECT_TIMEOUT = 5  # seconds; three turns of a link whose buffers are full take two to three
READ_TIMEOUT = 600  # seconds; the deadline of each call is shorter
KEEPALIVE = 60  # seconds

OVERTAKEN = {409, 412}  # the condition does not hold, or another write is under way
COMPRESS_FROM, GZIP_LEVEL = 16_384, 6  # bytes of a playlist
NOT_FOUND = 404
LARGEST = 2**26  # bytes of an object that is read, packed or not
GZIP = 31  # zlib's window bits for gzip's format
# Price classes (developers.cloudflare.com/r2/pricing); failed requests count as well.
OPERATION_CLASSES = {
    **dict.fromkeys(("PUT", "LIST", "MULTIPART"), "a"),
    **dict.fromkeys(("HEAD", "GET"), "b"),
    **dict.fromkeys(("DELETE", "ABORT"), "free"),
}
HALF = 0.5  # seconds that the Date header leaves out on average
NO_SUCH_UPLOAD = "NoSuchUpload"  # aborted, or completed
CONTENT_TYPES = {
    ".m3u8": MEDIA_TYPE,
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".aac": "audio/aac",
    ".vtt": "text/vtt",
    ".json": "application/json",
    ".jpg": "image/jpeg",
}

REFUSALS = {  # by S3 error code: the cause and the remedy
    "InvalidAccessKeyId": ("the access key is not known", "check the access key (R2_ACCESS_KEY_ID)"),
    "SignatureDoesNotMatch": ("the secret does not fit the key", "check the secret (R2_SECRET_ACCESS_KEY)"),
    "Unauthorized": ("the access key is not accepted", "check it (R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY)"),
    "AccessDenied": ("the key may not use this bucket", "check the key's rights, and the bucket (R2_BUCKET)"),
    "NoSuchBucket": ("there is no such bucket", "check the bucket's name (R2_BUCKET)"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set it by NTP (timedatectl set-ntp true)"),
}
PERMANENT_STATUS = {401, 403}
_tracebacks = LogLimiter()  # by kind of exception
# Caused by the network or by an invalid answer; any other exception is a bug of this program.
NETWORK_ERRORS = (
    aiohttp.ClientError,
    BotoCoreError,
    EOFError,
    OSError,
    ResponseParserError,
    zlib.error,
)


def content_type(key: str) -> str:
    """The media type by the key's suffix."""
    suffix = key[key.rfind(".") :].lower() if "." in key else ""
    return CONTENT_TYPES.get(suffix, "application/octet-stream")


def _now() -> datetime:
    return datetime.now(UTC)


class Fence(Protocol):
    """Keeps who does not lead from changing what the leader has in the bucket (``bucket/lease.py``)."""

    async def ask(self, *, surely: bool = False) -> int:
        """The epoch of the lease; with ``surely``, the bucket is asked. Raises NotLeading or StorageError."""


EPOCH = "epoch"  # of an object's metadata: under which lease it was written


class ObjectStore:
    """The objects of one bucket. Made by ``open_store``. ``clock`` gives the wall time; deadlines: seconds.

    Every method that sends a request raises StorageUnavailable or StorageRefused. With a ``fence``, every
    method that changes what another one may have written raises NotLeading where this one does not lead.

    ``operations`` counts requests by price class: a, b or free. ``sent`` counts the bytes of segments that
    were sent, including failed attempts. ``clock_skew`` is by how many seconds ``clock`` is ahead of the
    bucket's, by its latest answer.
    """

    fence: Fence | None = None

    def __init__(self, client: S3Client, bucket: Bucket, clock: Callable[[], datetime] = _now) -> None:
        self._client = client
        self._bucket = bucket
        self.operations = Counter(dict.fromkeys(OPERATION_CLASSES.values(), 0))
        keys = Credentials(bucket.access_key_id, bucket.secret_access_key)
        self._auth = S3SigV4Auth(keys, "s3", REGION)
        self._clock = clock
        self.sent = 0
        self.clock_skew: float | None = None
        self._lasting: dict[str, tuple[str, datetime]] = {}  # by key: URL, and when it was signed

    async def put(self, key: str, body: bytes) -> str:
        """Store an object under a new key. There is no time limit while bytes are sent.

        Raises StorageUnavailable or StorageRefused. When it returns, the bucket has confirmed the
        object, checked against its MD5 (R2 is strongly consistent: it can be read at once). Returns its
        SHA-256, hexadecimal.
        """
        payload = MonitoredPayload(body)
        headers = {"Content-Type": content_type(key), "Cache-Control": CACHE_CONTROL}
        async with self._failures("PUT", STALL, payload) as limit:
            with payload.watched(limit, self._note_sent):
                answer = await self._send(key, payload, headers)
        # In R2 an ETag is the MD5. In S3 it is not, for objects that are encrypted with the customer's key.
        etag, md5 = answer.get("ETag", "").strip('"'), payload.md5.hexdigest()
        if etag != md5:  # no other server knows the MD5: Content-Type proves nothing then
            _check_etag(key, etag, answer.get("Content-Type"))
            if len(etag) == len(md5) and answer.get("x-amz-server-side-encryption", "AES256") == "AES256":
                raise StorageUnavailable(f"PUT of {key}: the bucket has other bytes than were sent")
        return payload.sha256.hexdigest()

    async def replace(  # noqa: PLR0913 - the properties of an object
        self,
        key: str,
        body: bytes,
        *,
        etag: str | None,
        max_age: int,
        deadline: float,
        gzipped: bool = False,
        is_fenced: bool = True,
    ) -> str | None:
        """Replace the version of an object with this ETag (None: no object); returns the new ETag.

        Returns None when the bucket has another version: a delayed request cannot overwrite a newer version.
        Caches may keep the object for ``max_age`` seconds. A long playlist is stored compressed, as players
        expect it (Apple's authoring specification, 10.1), if the body is not ``gzipped`` already. Raises as
        ``put`` does.
        """
        is_picture = content_type(key).startswith("image/")
        if is_long := len(body) >= COMPRESS_FROM and not is_picture and not gzipped:
            body = await asyncio.to_thread(gzip.compress, body, GZIP_LEVEL, mtime=0)
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket.name,
            "Key": key,
            "Body": body,
            "ContentType": content_type(key),
            "CacheControl": f"public, max-age={max_age}",
            "ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
        }
        if is_long or gzipped:
            request["ContentEncoding"] = "gzip"
        if self.fence and is_fenced:
            request["Metadata"] = {EPOCH: str(await self.fence.ask())}
        if etag:
            request["IfMatch"] = etag
        else:
            request["IfNoneMatch"] = "*"
        async with self._failures("PUT", deadline):
            try:
                found = (await self._client.put_object(**request)).get("ETag")
            except ClientError as error:
                if status_of(error) in OVERTAKEN:
                    return None
                raise
        return _check_etag(key, found)

    async def copy(self, source: str, key: str, *, deadline: float) -> None:
        """Copy an object that ``put`` stored, within the bucket, to a new key.

        Raises ObjectNotFound where there is no ``source``, else as ``put`` does.
        """
        async with self._failures("PUT", deadline):
            try:
                answer = await self._client.copy_object(
                    Bucket=self._bucket.name,
                    Key=key,
                    CopySource={"Bucket": self._bucket.name, "Key": source},
                    MetadataDirective="REPLACE",
                    ContentType=content_type(key),
                    CacheControl=CACHE_CONTROL,
                )
            except ClientError as error:
                if status_of(error) == NOT_FOUND:
                    raise ObjectNotFound(f"PUT of {key}: the object to copy is gone") from None
                raise
        _check_etag(key, answer.get("CopyObjectResult", {}).get("ETag"))

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete up to 1000 objects; missing objects count as deleted.

        Raises ObjectsNotDeleted for objects that the bucket did not delete, else as ``put`` does.
        """
        await self._ask_surely()
        async with self._failures("DELETE", deadline):
            answer = await self._client.delete_objects(
                Bucket=self._bucket.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        errors = [error for error in answer.get("Errors", []) if error.get("Code") != "NoSuchKey"]
        if errors:
            codes = ", ".join(sorted({str(error.get("Code")) for error in errors}))
            kept = frozenset(str(error.get("Key")) for error in errors)
            raise ObjectsNotDeleted(f"DELETE of some of {len(keys)} objects: {codes}", kept)

    async def size(self, key: str, *, deadline: float) -> int | None:
        """The size in bytes of an object, None when there is none."""
        head = await self._head(key, deadline)
        return head["ContentLength"] if head else None

    async def etag(self, key: str, *, deadline: float) -> str | None:
        """The ETag of an object, None when there is none; NotLeading for an object of a later leader."""
        head = await self._head(key, deadline)
        if self.fence and head and (epoch := _epoch_of(head)) and epoch > await self.fence.ask():
            raise NotLeading(f"{key} was written by a later leader")
        return head.get("ETag") if head else None

    async def written(self, key: str, *, deadline: float) -> tuple[int, datetime] | None:
        """The epoch under which an object was written (0: none), and when; None when there is no object.

        The time is the bucket's, in whole seconds.
        """
        head = await self._head(key, deadline)
        return (_epoch_of(head), head["LastModified"]) if head else None

    async def objects(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        """Keys with this prefix, in order, and the sizes of their objects in bytes.

        Each request may take ``deadline`` seconds.
        """
        async for key, size, _ in self._entries(prefix, deadline):
            yield key, size

    async def older(self, prefix: str, age: timedelta, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        """As ``objects``, those alone that were stored at least so long ago, by the bucket's own clock."""
        async for key, size, modified in self._entries(prefix, deadline):
            skew = self.clock_skew  # by the answer that has this entry
            if skew is not None and self._clock() - timedelta(seconds=skew) - modified >= age:
                yield key, size

    async def _entries(self, prefix: str, deadline: float) -> AsyncIterator[tuple[str, int, datetime]]:
        more, last = True, ""
        while more:
            async with self._failures("LIST", deadline):
                page = await self._client.list_objects_v2(
                    Bucket=self._bucket.name, Prefix=prefix, StartAfter=last
                )
            for entry in page.get("Contents", []):
                last = entry["Key"]
                yield last, entry["Size"], entry["LastModified"]
            more = page["IsTruncated"]

    async def get(self, key: str, *, deadline: float) -> bytes:
        """The body of an object that ``replace`` stored, decompressed.

        Raises ObjectNotFound, and StorageRefused for an object that is too large or cannot be decompressed.
        """
        async with self._failures("GET", deadline):
            try:
                answer = await self._client.get_object(Bucket=self._bucket.name, Key=key)
            except ClientError as error:
                if status_of(error) == NOT_FOUND and error.response["Error"].get("Code") == "NoSuchKey":
                    raise ObjectNotFound(f"GET of {key}: there is no such object") from None
                raise
            if answer["ContentLength"] > LARGEST:
                raise StorageRefused(f"GET of {key}: {answer['ContentLength']} bytes is too large")
            body = await answer["Body"].read()
            if answer.get("ContentEncoding") == "gzip":
                body = await asyncio.to_thread(_unpacked, key, body)
        return body

    async def check(self, prefix: str, *, deadline: float) -> None:
        """Check that the bucket exists and that the keys give access to it.

        Sends a LIST request: unlike those of HEAD, its errors name the cause.
        """
        async with self._failures("LIST", deadline):
            await self._client.list_objects_v2(Bucket=self._bucket.name, Prefix=prefix, MaxKeys=1)

    async def url(self, key: str) -> str:
        """The URL of the object for viewers. For a private bucket: presigned, new at each call."""
        life = self._bucket.signed_for
        if life is None:
            return f"{self._bucket.public_url}/{quote(key)}"
        where = {"Bucket": self._bucket.name, "Key": key}
        seconds = int(life.total_seconds())
        return await self._client.generate_presigned_url("get_object", Params=where, ExpiresIn=seconds)

    async def long_lived_url(self, key: str) -> str:
        """The same for an object of many segments: one presigned URL is reused for half of its validity."""
        now, half = self._clock(), (self._bucket.signed_for or timedelta.max) / 2
        self._lasting = {name: known for name, known in self._lasting.items() if now - known[1] < half}
        if key not in self._lasting:
            signed = (await self.url(key), now)
            self._lasting.setdefault(key, signed)
        return self._lasting[key][0]

    async def begin(
        self, key: str, *, media_type: str, disposition: str, cache_control: str, deadline: float
    ) -> str:
        """Begin a multipart upload; returns its upload ID."""
        await self._ask_surely()
        async with self._failures("MULTIPART", deadline):
            answer = await self._client.create_multipart_upload(
                Bucket=self._bucket.name,
                Key=key,
                ContentType=media_type,
                ContentDisposition=disposition,
                CacheControl=cache_control,
            )
        return answer["UploadId"]

    async def part_url(self, key: str, upload: str, number: int, size: int, *, valid: timedelta) -> str:
        """A presigned URL that accepts a PUT of this part, of exactly ``size`` bytes."""
        if self.fence:
            await self.fence.ask()
        self.operations["a"] += 1
        part = {"Bucket": self._bucket.name, "Key": key, "UploadId": upload, "PartNumber": number}
        return await self._client.generate_presigned_url(
            "upload_part", Params={**part, "ContentLength": size}, ExpiresIn=int(valid.total_seconds())
        )

    async def parts(self, key: str, upload: str, *, deadline: float) -> dict[int, tuple[str, int]] | None:
        """MD5 (hexadecimal) and size of each stored part; None when there is no such upload.

        Each request may take ``deadline`` seconds.
        """
        found: dict[int, tuple[str, int]] = {}
        more: ListPartsOutputTypeDef | None = None
        while more is None or more["IsTruncated"]:
            after: Any = {"PartNumberMarker": int(more["NextPartNumberMarker"])} if more else {}
            async with self._failures("LIST", deadline):
                try:
                    more = await self._client.list_parts(
                        Bucket=self._bucket.name, Key=key, UploadId=upload, **after
                    )
                except ClientError as error:
                    if _is_gone(error):
                        return None
                    raise
            for part in more.get("Parts", []):
                found[part["PartNumber"]] = part["ETag"].strip('"'), part["Size"]
        return found

    async def complete(self, key: str, upload: str, md5s: Sequence[str], *, deadline: float) -> bool:
        """Complete a multipart upload; False when there is no such upload, perhaps because it is complete."""
        await self._ask_surely()
        parts: Any = [{"PartNumber": number, "ETag": f'"{md5}"'} for number, md5 in enumerate(md5s, 1)]
        async with self._failures("MULTIPART", deadline):
            try:
                await self._client.complete_multipart_upload(
                    Bucket=self._bucket.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
                )
            except ClientError as error:
                if _is_gone(error):
                    return False
                raise
        return True

    async def abort(self, key: str, upload: str, *, deadline: float) -> None:
        """Abort a multipart upload and delete its parts. An unknown upload counts as aborted."""
        await self._ask_surely()
        async with self._failures("ABORT", deadline):
            try:
                await self._client.abort_multipart_upload(Bucket=self._bucket.name, Key=key, UploadId=upload)
            except ClientError as error:
                if not _is_gone(error):
                    raise

    async def uploads(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, str, datetime]]:
        """Unfinished multipart uploads with this prefix: key, upload ID and time of the beginning.

        Each request may take ``deadline`` seconds.
        """
        more: ListMultipartUploadsOutputTypeDef | None = None
        while more is None or more["IsTruncated"]:
            after: Any = (
                {"KeyMarker": more["NextKeyMarker"], "UploadIdMarker": more["NextUploadIdMarker"]}
                if more
                else {}
            )
            async with self._failures("LIST", deadline):
                more = await self._client.list_multipart_uploads(
                    Bucket=self._bucket.name, Prefix=prefix, **after
                )
            for entry in more.get("Uploads", []):
                yield entry["Key"], entry["UploadId"], entry["Initiated"]

    async def _ask_surely(self) -> None:
        """Raise NotLeading unless the bucket says that this broadcaster leads."""
        if self.fence:
            await self.fence.ask(surely=True)

    async def _send(self, key: str, body: MonitoredPayload, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Send a PUT over the client's connections; returns the headers of the answer. Raises ClientError.

        Without botocore's other work for a request, a PUT takes 1 ms of CPU time instead of 2 ms (``make
        bench``, "publish").
        """
        request = AWSRequest("PUT", self._bucket.address(key), headers=headers, data=body)
        request.context["client_config"] = self._client.meta.config  # the body is not signed
        self._auth.add_auth(request)
        connections = self._client._endpoint.http_session  # type: ignore[attr-defined] # noqa: SLF001
        answer = await connections.send(request.prepare())
        text = await answer.text
        self._note_date(answer.headers.get("Date", ""))
        if answer.status_code != HTTPStatus.OK:
            error = {"Code": code_in(text) or str(answer.status_code)}
            response: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": answer.status_code}}
            raise ClientError(response, "PutObject")
        response_headers: Mapping[str, str] = answer.headers
        return response_headers

    def note_answer(self, parsed: Mapping[str, Any], **_: object) -> None:
        """Handle botocore's event of an answer."""
        self._note_date(parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", ""))

    def _note_date(self, date: str) -> None:
        with suppress(ValueError):
            self.clock_skew = self._clock().timestamp() - parsedate_to_datetime(date).timestamp() - HALF

    def _note_sent(self, size: int) -> None:
        self.sent += size

    async def _head(self, key: str, deadline: float) -> HeadObjectOutputTypeDef | None:
        async with self._failures("HEAD", deadline):
            try:
                return await self._client.head_object(Bucket=self._bucket.name, Key=key)
            except ClientError as error:
                if status_of(error) != NOT_FOUND:
                    raise
                # The answer to HEAD is the same where the bucket is missing; LIST raises then.
                await self._client.list_objects_v2(Bucket=self._bucket.name, Prefix=key, MaxKeys=1)
                return None

    @asynccontextmanager
    async def _failures(
        self, operation: str, deadline: float, body: MonitoredPayload | None = None
    ) -> AsyncIterator[asyncio.Timeout]:
        self.operations[OPERATION_CLASSES[operation]] += 1
        try:
            async with asyncio.timeout(deadline) as limit:
                yield limit
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - a broken answer may raise anything
            where = f"{operation} to {self._bucket.endpoint_url}, bucket {self._bucket.name!r}"
            if body and limit.expired():
                if body.left:
                    raise StorageUnavailable(f"{where}: no bytes get through for {STALL:.0f} s") from None
                deadline = ANSWER
            raise classify_error(where, error, deadline) from None  # the cause may quote the request


def _unpacked(key: str, body: bytes) -> bytes:
    unpacking = zlib.decompressobj(GZIP)
    try:
        text = unpacking.decompress(body, LARGEST)
    except zlib.error as error:
        raise StorageRefused(f"GET of {key}: it cannot be decompressed ({error})") from None
    if not unpacking.eof:
        raise StorageRefused(f"GET of {key}: it is truncated, or has more than {LARGEST} bytes decompressed")
    return text


def _epoch_of(head: HeadObjectOutputTypeDef) -> int:
    written = head.get("Metadata", {}).get(EPOCH, "")
    return int(written) if written.isdecimal() else 0


def _is_gone(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") == NO_SUCH_UPLOAD


def _check_etag(key: str, etag: str | None, media_type: str | None = None) -> str:
    """Return the ETag; raise StorageUnavailable where the answer is not that of an S3 service."""
    if not (etag or "").strip('"') or (media_type or "").startswith("text/html"):
        raise StorageUnavailable(
            f"PUT of {key}: HTTP 200 without an ETag: the answer is not from a bucket",
            "check the endpoint, and whether a proxy or a captive portal is in the way (R2_ENDPOINT_URL)",
        )
    return str(etag)


@asynccontextmanager
async def open_store(bucket: Bucket, clock: Callable[[], datetime] = _now) -> AsyncIterator[ObjectStore]:
    """The store of this bucket, with one client, closed at the end of the context."""
    config = AioConfig(
        region_name=REGION,
        signature_version="s3v4",
        s3={"addressing_style": "path", "payload_signing_enabled": False},
        request_checksum_calculation="when_required",  # R2 refuses the default trailer checksum
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1},
        max_pool_connections=POOL_CONNECTIONS,
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        connector_args={"keepalive_timeout": KEEPALIVE},
    )
    async with create_client(bucket, config) as client:
        # Expect: 100-continue costs a round trip per segment, and R2 does not answer it.
        client.meta.events.unregister("before-call.s3", botocore.handlers.add_expect_header)
        store = ObjectStore(client, bucket, clock)
        client.meta.events.register("after-call.s3", store.note_answer)
        yield store


def classify_error(where: str, error: Exception, deadline: float) -> StorageError:
    """The StorageError for an exception of the operation ``where``; ``deadline`` is in seconds."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = status_of(error)
        if code in REFUSALS:
            cause, remedy = REFUSALS[code]
            return StorageRefused(f"{where}: {code}: {cause}", remedy)
        if status in PERMANENT_STATUS:
            return StorageRefused(f"{where}: {code}", "check the key and the bucket's name (R2_BUCKET)")
        return StorageUnavailable(f"{where}: {code} (HTTP {status})")
    if isinstance(error, ParamValidationError):
        return StorageRefused(f"{where}: the request is not valid", "check the names (R2_BUCKET, R2_PREFIX)")
    if isinstance(error, TimeoutError):
        return StorageUnavailable(f"{where}: no answer within {deadline:.0f} s")
    cause, remedy = _why(where, error)
    return StorageUnavailable(f"{where}: {cause}", remedy)


def _why(where: str, error: Exception) -> Problem:
    kind = type(error).__name__
    if isinstance(error, NETWORK_ERRORS):
        return Problem(f"cannot be reached ({kind})")
    if isinstance(error, LookupError | ValueError):  # a field of the S3 answer is missing
        return Problem(f"the answer is not from a bucket ({kind})")
    if _tracebacks.allows(kind):
        # The traceback without the message, which may quote the request.
        trace = "".join(traceback.format_tb(error.__traceback__))
        logger.error("%s: %s in our own code; please report this\n%s", where, kind, trace)
    return Problem(f"our own code fails ({kind})", "please report this")


def code_in(answer: str) -> str:
    """The S3 error code in the body of an answer, empty where there is none."""
    return answer.partition("<Code>")[2].partition("</Code>")[0][:40]


def status_of(error: ClientError) -> int:
    """The HTTP status of an answer, 0 when there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
