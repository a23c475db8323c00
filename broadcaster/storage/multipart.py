"""Large objects, which come in parts: who sends a part needs no key, but a URL for that part alone.

In R2 all parts but the last are of equal size, 5 MiB at least, and there are 10,000 at most; the ETag of a
part is its MD5, and that of the object the MD5 of those and their number, as in S3
(developers.cloudflare.com/r2/objects/multipart-objects).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from broadcaster.storage.reading import Reading

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import ListMultipartUploadsOutputTypeDef, ListPartsOutputTypeDef

GONE = "NoSuchUpload"  # given up, or completed


class Multipart(Reading):
    """Uploads in parts to one bucket; deadlines are in seconds.

    All raise StorageUnavailable or StorageRefused.
    """

    async def begin(
        self, key: str, *, media_type: str, disposition: str, cache_control: str, deadline: float
    ) -> str:
        """Begin an upload; returns what the bucket calls it."""
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
        """Where this part is PUT, of exactly so many bytes, by whoever has the URL."""
        self.operations["a"] += 1
        what = {"Bucket": self._bucket.name, "Key": key, "UploadId": upload, "PartNumber": number}
        return await self._client.generate_presigned_url(
            "upload_part", Params={**what, "ContentLength": size}, ExpiresIn=int(valid.total_seconds())
        )

    async def parts(self, key: str, upload: str, *, deadline: float) -> dict[int, tuple[str, int]] | None:
        """MD5 (hexadecimal) and size of each part that is there; None when there is no such upload.

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
            for one in more.get("Parts", []):
                found[one["PartNumber"]] = one["ETag"].strip('"'), one["Size"]
        return found

    async def complete(self, key: str, upload: str, md5s: Sequence[str], *, deadline: float) -> bool:
        """Make the object of these parts; False when there is no such upload, perhaps because it is done."""
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
        """Give an upload up, with all its parts; one that is not there is given up already."""
        async with self._failures("ABORT", deadline):
            try:
                await self._client.abort_multipart_upload(Bucket=self._bucket.name, Key=key, UploadId=upload)
            except ClientError as error:
                if not _is_gone(error):
                    raise

    async def uploads(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, str, datetime]]:
        """Those under way whose keys begin so: key, what the bucket calls it, and when it was begun.

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
            for one in more.get("Uploads", []):
                yield one["Key"], one["UploadId"], one["Initiated"]


def _is_gone(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") == GONE
