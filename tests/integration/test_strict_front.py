"""The front that stands for R2 where that is stricter than SeaweedFS refuses what R2 does, and only that."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from broadcaster.bucket.session import session
from broadcaster.demo.bucket import SeaweedBucket
from tests.support.servers.r2_rules import MIB, MOST, SMALLEST, UNEQUAL, Refused, check, strict_front

KEY = "live/files/a.mp4"
CONFIG = AioConfig(
    s3={"addressing_style": "path"},
    retries={"total_max_attempts": 1},
    request_checksum_calculation="when_required",
)


@dataclass
class Client:
    s3: Any
    bucket: str

    async def refusal(self, *sizes: int) -> tuple[str, str]:
        """Code and message when R2 makes no object of such parts, empty when it does."""
        where = {"Bucket": self.bucket, "Key": KEY}
        upload = (await self.s3.create_multipart_upload(**where))["UploadId"]
        parts = []
        for number, size in enumerate(sizes, 1):
            body = bytes([number]) * size
            answer = await self.s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
            assert answer["ETag"].strip('"') == hashlib.md5(body).hexdigest()
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        try:
            await self.s3.complete_multipart_upload(
                **where,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
            )
        except ClientError as error:
            await self.s3.abort_multipart_upload(**where, UploadId=upload)
            return error.response["Error"]["Code"], error.response["Error"]["Message"]
        return "", ""


@pytest.fixture
async def client(bucket: SeaweedBucket) -> AsyncIterator[Client]:
    async with (
        strict_front(bucket) as front,
        session().create_client(
            "s3",
            region_name="auto",
            endpoint_url=front.url,
            aws_access_key_id=bucket.access_key_id,
            aws_secret_access_key=bucket.secret_access_key,
            config=CONFIG,
        ) as s3,
    ):
        yield Client(s3, bucket.bucket)


async def test_sizes_of_parts(client: Client) -> None:
    """Equal parts of 5 MiB and a smaller last one make an object; SeaweedFS would take others, too."""
    assert await client.refusal(SMALLEST, SMALLEST, 7) == ("", "")
    head = await client.s3.head_object(Bucket=client.bucket, Key=KEY)
    assert head["ContentLength"] == 2 * SMALLEST + 7
    assert head["ETag"].endswith('-3"')
    assert await client.refusal(SMALLEST, SMALLEST + MIB, 7) == ("InvalidPart", UNEQUAL)
    assert (await client.refusal(SMALLEST - 1, 7))[0] == "EntityTooSmall"


async def test_what_is_no_part(client: Client) -> None:
    """Numbers end at 10,000; an upload that is over, and the checksums in trailers, are refused."""
    where = {"Bucket": client.bucket, "Key": KEY}
    upload = (await client.s3.create_multipart_upload(**where))["UploadId"]
    with pytest.raises(ClientError, match="InvalidArgument"):
        await client.s3.upload_part(**where, UploadId=upload, PartNumber=MOST + 1, Body=b"x")
    await client.s3.abort_multipart_upload(**where, UploadId=upload)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        await client.s3.list_parts(**where, UploadId=upload)
    trailer = {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    url = f"{client.s3.meta.endpoint_url}/{client.bucket}/a"
    async with aiohttp.ClientSession() as session, session.put(url, headers=trailer) as answer:
        assert (answer.status, "NotImplemented" in await answer.text()) == (501, True)


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ([], "MalformedXML"),
        ([(2, "b"), (1, "a")], "InvalidPartOrder"),
        ([(1, "a"), (1, "a")], "InvalidPartOrder"),
        ([(1, "a"), (4, "d")], "InvalidPart"),
        ([(1, "b")], "InvalidPart"),
        ([(3, "c"), (1, "a")], "InvalidPartOrder"),
        ([(3, "c"), (4, "d")], "InvalidPart"),
    ],
)
def test_which_parts_make_an_object(named: list[tuple[int, str]], code: str) -> None:
    """In order, all there, each as it was answered; and the last one not longer than the others."""
    known = {1: ("a", 2 * SMALLEST), 2: ("b", 2 * SMALLEST), 3: ("c", SMALLEST)}
    check([(1, "a"), (2, "b"), (3, "c")], known)
    check([(3, "c")], known)
    with pytest.raises(Refused) as caught:
        check(named, known)
    assert (caught.value.status, caught.value.code) == (400, code)
