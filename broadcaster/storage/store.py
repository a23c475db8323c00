"""Puts objects into the bucket, looks, deletes, and says where viewers find them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import botocore.handlers
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from broadcaster.errors import ObjectsNotDeleted, StorageUnavailable
from broadcaster.storage.body import STALL, Body
from broadcaster.storage.bucket import REGION, Bucket
from broadcaster.storage.faults import status_of
from broadcaster.storage.media_types import content_type
from broadcaster.storage.multipart import Multipart
from broadcaster.storage.sending import Sender
from broadcaster.storage.session import session

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import PutObjectRequestTypeDef

CACHE_CONTROL = "public, max-age=31536000, immutable"  # keys are never used twice
POOL_CONNECTIONS = 32
CONNECT_TIMEOUT = 5  # seconds; three turns of a link whose buffers are full take two to three
READ_TIMEOUT = 600  # seconds; the limit of each call is the one that matters
KEEPALIVE = 60  # seconds

OVERTAKEN = {409, 412}  # the condition does not hold, or another write is under way
COMPRESS_FROM, GZIP_LEVEL = 16_384, 6  # bytes of a playlist, and how much work they are worth


def _now() -> datetime:
    return datetime.now(UTC)


class ObjectStore(Multipart):
    """Puts objects into one bucket. Made by ``open_store``; ``clock`` gives the wall time.

    ``operations`` counts what was asked of the bucket, by price class: a, b or free; ``sent`` counts the
    bytes of segments that have left, those of attempts that failed as well.
    """

    def __init__(self, client: S3Client, bucket: Bucket, clock: Callable[[], datetime] = _now) -> None:
        super().__init__(client, bucket)
        self._sender = Sender(client, bucket)
        self._clock = clock
        self.sent = 0
        self._lasting: dict[str, tuple[str, datetime]] = {}  # by key: URL, and when it was signed

    async def put(self, key: str, body: bytes) -> str:
        """Store an object under a key that is never used again, however long it takes while bytes move.

        Raises StorageUnavailable or StorageRefused. When it returns, the bucket has confirmed the
        object, checked against its MD5 (R2 is strongly consistent: it can be read at once). Returns its
        SHA-256, hexadecimal.
        """
        payload = Body(body)
        headers = {"Content-Type": content_type(key), "Cache-Control": CACHE_CONTROL}
        async with self._failures("PUT", STALL, payload) as limit:
            with payload.watched(limit, self._note_sent):
                answer = await self._sender.put(key, payload, headers)
        _check_etag(key, answer.get("ETag"), answer.get("Content-Type"))
        # An ETag is the MD5 in R2; of an object that is encrypted with a key of one's own, it is not.
        etag, md5 = answer.get("ETag", "").strip('"'), payload.md5.hexdigest()
        plain = len(etag) == len(md5) and answer.get("x-amz-server-side-encryption", "AES256") == "AES256"
        if plain and etag != md5:
            raise StorageUnavailable(f"PUT of {key}: the bucket has other bytes than were sent")
        return payload.sha256.hexdigest()

    async def replace(  # noqa: PLR0913 - what is known of it
        self,
        key: str,
        body: bytes,
        *,
        etag: str | None,
        max_age: int,
        deadline: float,
        gzipped: bool = False,
    ) -> str | None:
        """Store a playlist or picture in the place of the one with this ETag, or of none; returns its ETag.

        None when the bucket has another one by then: a request that arrives late cannot overwrite a newer
        one. Caches may keep it for ``max_age`` seconds. A long playlist is stored compressed, as players
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

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        """Delete up to 1000 objects; those that are not there count as deleted.

        Raises ObjectsNotDeleted where the bucket keeps some of them, else as ``put`` does.
        """
        async with self._failures("DELETE", deadline):
            answer = await self._client.delete_objects(
                Bucket=self._bucket.name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        errors = [error for error in answer.get("Errors", []) if error.get("Code") != "NoSuchKey"]
        if errors:
            codes = ", ".join(sorted({str(error.get("Code")) for error in errors}))
            kept = frozenset(str(error.get("Key")) for error in errors)
            raise ObjectsNotDeleted(f"DELETE of some of {len(keys)} objects: {codes}", kept)

    async def url(self, key: str) -> str:
        """Where viewers read the object. In a private bucket: signed now, and another one each time."""
        life = self._bucket.signed_for
        if life is None:
            return f"{self._bucket.public_url}/{quote(key)}"
        where = {"Bucket": self._bucket.name, "Key": key}
        seconds = int(life.total_seconds())
        return await self._client.generate_presigned_url("get_object", Params=where, ExpiresIn=seconds)

    async def lasting_url(self, key: str) -> str:
        """Where viewers read an object that is named again and again: one URL for half of its life."""
        now, half = self._clock(), (self._bucket.signed_for or timedelta.max) / 2
        self._lasting = {one: known for one, known in self._lasting.items() if now - known[1] < half}
        if key not in self._lasting:
            signed = (await self.url(key), now)
            self._lasting.setdefault(key, signed)
        return self._lasting[key][0]

    def _note_sent(self, size: int) -> None:
        self.sent += size


def _check_etag(key: str, etag: str | None, media_type: str | None = None) -> str:
    """The ETag of a stored object: what says 200 without one, or with a page, is no bucket."""
    if not (etag or "").strip('"') or (media_type or "").startswith("text/html"):
        raise StorageUnavailable(
            f"PUT of {key}: HTTP 200 without an ETag: what answers is no bucket; check R2_ENDPOINT_URL, and"
            " whether a proxy or a captive portal is in the way"
        )
    return str(etag)


@asynccontextmanager
async def open_store(bucket: Bucket, clock: Callable[[], datetime] = _now) -> AsyncIterator[ObjectStore]:
    """One client for the life of the process."""
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
    async with session().create_client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        config=config,
    ) as client:
        # Expect: 100-continue costs a round trip per segment, and R2 does not answer it.
        client.meta.events.unregister("before-call.s3", botocore.handlers.add_expect_header)
        yield ObjectStore(client, bucket, clock)
