"""Looks into the bucket: what is there, and whether it lets us in."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from broadcaster.errors import ObjectNotFound, StorageError, StorageRefused, StorageUnavailable
from broadcaster.storage.body import ANSWER, STALL, Body
from broadcaster.storage.bucket import Bucket
from broadcaster.storage.faults import status_of, typed

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import HeadObjectOutputTypeDef

NOT_FOUND = 404
LARGEST = 2**26  # bytes of an object that is read, packed or not
GZIP = 31  # for zlib: with gzip's head, and the largest window
# What Cloudflare charges for each (developers.cloudflare.com/r2/pricing); one that fails counts as well.
OPERATION_CLASSES = {
    **dict.fromkeys(("PUT", "LIST", "MULTIPART"), "a"),
    **dict.fromkeys(("HEAD", "GET"), "b"),
    **dict.fromkeys(("DELETE", "ABORT"), "free"),
}


class Reading:
    """Looks into one bucket; deadlines are in seconds. All raise StorageUnavailable or StorageRefused.

    ``operations`` counts what was asked of the bucket, by price class: a, b or free.
    """

    def __init__(self, client: S3Client, bucket: Bucket) -> None:
        self._client = client
        self._bucket = bucket
        self.operations = Counter(dict.fromkeys(OPERATION_CLASSES.values(), 0))

    async def size(self, key: str, *, deadline: float) -> int | None:
        """The size in bytes of an object, None when there is none."""
        head = await self._head(key, deadline)
        return head["ContentLength"] if head else None

    async def etag(self, key: str, *, deadline: float) -> str | None:
        """The ETag of an object, None when there is none."""
        head = await self._head(key, deadline)
        return head.get("ETag") if head else None

    async def objects(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        """The keys that begin so, in order, and the sizes of their objects in bytes.

        Each request may take ``deadline`` seconds.
        """
        more, last = True, ""
        while more:
            async with self._failures("LIST", deadline):
                page = await self._client.list_objects_v2(
                    Bucket=self._bucket.name, Prefix=prefix, StartAfter=last
                )
            for one in page.get("Contents", []):
                last = one["Key"]
                yield last, one["Size"]
            more = page["IsTruncated"]

    async def get(self, key: str, *, deadline: float) -> bytes:
        """An object that was written by ``replace``; raises StorageRefused for what cannot have been.

        What others have written there may be of any size, packed or not.
        """
        async with self._failures("GET", deadline):
            try:
                answer = await self._client.get_object(Bucket=self._bucket.name, Key=key)
            except ClientError as error:
                if status_of(error) == NOT_FOUND and error.response["Error"].get("Code") == "NoSuchKey":
                    raise ObjectNotFound(f"GET of {key}: there is no such object") from None
                raise
            if answer["ContentLength"] > LARGEST:
                raise StorageRefused(f"GET of {key}: {answer['ContentLength']} bytes are too many")
            body = await answer["Body"].read()
            if answer.get("ContentEncoding") == "gzip":
                body = await asyncio.to_thread(_unpacked, key, body)
        return body

    async def check(self, prefix: str, *, deadline: float) -> None:
        """Find out whether the bucket is there and lets us in.

        A listing, because its errors, unlike those of HEAD, say what is wrong.
        """
        async with self._failures("LIST", deadline):
            await self._client.list_objects_v2(Bucket=self._bucket.name, Prefix=prefix, MaxKeys=1)

    async def _head(self, key: str, deadline: float) -> HeadObjectOutputTypeDef | None:
        async with self._failures("HEAD", deadline):
            try:
                return await self._client.head_object(Bucket=self._bucket.name, Key=key)
            except ClientError as error:
                if status_of(error) != NOT_FOUND:
                    raise
                # HEAD does not say whether it was the bucket that is not there; LIST raises then.
                await self._client.list_objects_v2(Bucket=self._bucket.name, Prefix=key, MaxKeys=1)
                return None

    @asynccontextmanager
    async def _failures(
        self, operation: str, deadline: float, body: Body | None = None
    ) -> AsyncIterator[asyncio.Timeout]:
        self.operations[OPERATION_CLASSES[operation]] += 1
        try:
            async with asyncio.timeout(deadline) as limit:
                yield limit
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - an answer can be wrong in ways that no list foresees
            where = f"{operation} to {self._bucket.endpoint_url}, bucket {self._bucket.name!r}"
            if body and limit.expired():
                if body.left:
                    raise StorageUnavailable(f"{where}: no bytes get through for {STALL:.0f} s") from None
                deadline = ANSWER
            raise typed(where, error, deadline) from None  # the cause may quote the request


def _unpacked(key: str, body: bytes) -> bytes:
    unpacking = zlib.decompressobj(GZIP)
    try:
        text = unpacking.decompress(body, LARGEST)
    except zlib.error as error:
        raise StorageRefused(f"GET of {key}: it cannot be unpacked ({error})") from None
    if not unpacking.eof:
        raise StorageRefused(f"GET of {key}: it is cut off, or unpacked it has more than {LARGEST} bytes")
    return text
