"""The bucket: an S3 client set up for live video on Cloudflare R2, with typed failures.

Every call is made once: retrying is the pipeline's business, because botocore's own modes leave out what
R2 answers under load (429 TooManyRequests, ServiceUnavailable, 400 IncompleteBody).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import botocore.handlers
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError, ParamValidationError

from broadcaster.errors import StorageError, StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

CACHE_CONTROL = "public, max-age=31536000, immutable"  # keys are never used twice
CONTENT_TYPES = {
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".aac": "audio/aac",
    ".vtt": "text/vtt",
}
POOL_CONNECTIONS = 32
CONNECT_TIMEOUT = 3  # seconds
READ_TIMEOUT = 60  # seconds; the deadline of each call is the one that matters
KEEPALIVE = 60  # seconds

REMEDIES = {
    "InvalidAccessKeyId": "the access key is not known; check R2_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret does not fit the access key; check R2_SECRET_ACCESS_KEY",
    "Unauthorized": "the access key is not accepted; check R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY",
    "AccessDenied": "the access key may not use this bucket; check the token's permissions and R2_BUCKET",
    "NoSuchBucket": "there is no such bucket; check R2_BUCKET",
}
NOT_FOUND = 404
PERMANENT_STATUS = {401, 403}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the bucket is and how to get in; ``public_url`` is where viewers read it, no slash at its end."""

    endpoint_url: str
    name: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    public_url: str


class ObjectStore:
    """Puts objects into one bucket. Made by ``open_store``."""

    def __init__(self, client: S3Client, bucket: Bucket) -> None:
        self._client = client
        self._bucket = bucket

    async def put(self, key: str, body: bytes, *, deadline: float) -> None:
        """Store an object under a key that is never used again; ``deadline`` in seconds.

        Raises StorageUnavailable or StorageRefused. When it returns, the bucket has confirmed the
        object, checked against its MD5 (R2 is strongly consistent: it can be read at once).
        """
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        async with self._failures("PUT", deadline):
            await self._client.put_object(
                Bucket=self._bucket.name,
                Key=key,
                Body=body,
                ContentMD5=md5,
                ContentType=content_type(key),
                CacheControl=CACHE_CONTROL,
            )

    async def size(self, key: str, *, deadline: float) -> int | None:
        """The size in bytes of an object, None when there is none; raises as ``put`` does."""
        async with self._failures("HEAD", deadline):
            try:
                return (await self._client.head_object(Bucket=self._bucket.name, Key=key))["ContentLength"]
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != NOT_FOUND:
                    raise
                # HEAD does not say whether it was the bucket that is not there; LIST raises then.
                await self._client.list_objects_v2(Bucket=self._bucket.name, Prefix=key, MaxKeys=1)
                return None

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete up to 1000 objects; those that are not there count as deleted. Raises as ``put`` does."""
        async with self._failures("DELETE", deadline):
            answer = await self._client.delete_objects(
                Bucket=self._bucket.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        codes = {str(error.get("Code")) for error in answer.get("Errors", [])} - {"NoSuchKey"}
        if codes:
            raise StorageUnavailable(f"DELETE of some of {len(keys)} objects: {', '.join(sorted(codes))}")

    async def check(self, prefix: str, *, deadline: float) -> None:
        """Find out whether the bucket is there and lets us in; raises as ``put`` does.

        A listing, because its errors, unlike those of HEAD, say what is wrong.
        """
        async with self._failures("LIST", deadline):
            await self._client.list_objects_v2(Bucket=self._bucket.name, Prefix=prefix, MaxKeys=1)

    def url(self, key: str) -> str:
        """Where viewers read the object."""
        return f"{self._bucket.public_url}/{quote(key)}"

    @asynccontextmanager
    async def _failures(self, operation: str, deadline: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(deadline):
                yield
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - an answer can be wrong in ways that no list foresees
            raise self._typed(operation, error, deadline) from None  # the cause may quote the request

    def _typed(self, operation: str, error: Exception, deadline: float) -> StorageError:
        """The failure in our words: what the client says may carry the key or the signature."""
        where = f"{operation} to {self._bucket.endpoint_url}, bucket {self._bucket.name!r}"
        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in REMEDIES or status in PERMANENT_STATUS:
                return StorageRefused(f"{where}: {code}: {REMEDIES.get(code, 'check the R2_ settings')}")
            return StorageUnavailable(f"{where}: {code} (HTTP {status})")
        if isinstance(error, ParamValidationError):
            return StorageRefused(f"{where}: the request is not valid; check R2_BUCKET and R2_PREFIX")
        if isinstance(error, TimeoutError):
            return StorageUnavailable(f"{where}: no answer within {deadline:.0f} s")
        return StorageUnavailable(f"{where}: cannot be reached ({type(error).__name__})")


@asynccontextmanager
async def open_store(bucket: Bucket) -> AsyncIterator[ObjectStore]:
    """One client for the life of the process."""
    config = AioConfig(
        region_name="auto",
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
    async with get_session().create_client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        config=config,
    ) as client:
        # Expect: 100-continue costs a round trip per segment, and R2 does not answer it.
        client.meta.events.unregister("before-call.s3", botocore.handlers.add_expect_header)
        yield ObjectStore(client, bucket)


def content_type(key: str) -> str:
    """The media type by the key's suffix."""
    suffix = key[key.rfind(".") :].lower() if "." in key else ""
    return CONTENT_TYPES.get(suffix, "application/octet-stream")
