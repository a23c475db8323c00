"""What the service itself never asks of a bucket: part of an object, its CORS policy, its lifecycle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from broadcaster.errors import StorageError
from broadcaster.storage import Bucket, typed
from broadcaster.storage.session import session

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

DEADLINE = 3.0  # seconds for one call
NONE_SET = {"NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration"}
Rule = Mapping[str, Any]


class SettingsClient:
    """Reads and changes one bucket's settings. Every call raises StorageUnavailable or StorageRefused."""

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
        """When the oldest of the first 1000 objects was stored; keys begin with the time of their run."""
        async with _failures("LIST"):
            answer = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
        return min((one["LastModified"] for one in answer.get("Contents", [])), default=None)

    async def cors(self) -> list[Rule]:
        """Return the rules of the bucket's CORS policy."""
        async with _failures("GET of the CORS policy"):
            try:
                return list((await self._client.get_bucket_cors(Bucket=self._bucket)).get("CORSRules", []))
            except ClientError as error:
                return _none_set(error)

    async def set_cors(self, rules: Sequence[Rule]) -> None:
        """Replace the bucket's CORS policy."""
        policy: Any = {"CORSRules": list(rules)}
        async with _failures("PUT of the CORS policy"):
            await self._client.put_bucket_cors(Bucket=self._bucket, CORSConfiguration=policy)

    async def lifecycle(self) -> list[Rule]:
        """Return the bucket's lifecycle rules."""
        async with _failures("GET of the lifecycle rules"):
            try:
                answer = await self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket)
                return list(answer.get("Rules", []))
            except ClientError as error:
                return _none_set(error)

    async def set_lifecycle(self, rules: Sequence[Rule]) -> None:
        """Replace the bucket's lifecycle rules."""
        configuration: Any = {"Rules": list(rules)}
        async with _failures("PUT of the lifecycle rules"):
            await self._client.put_bucket_lifecycle_configuration(
                Bucket=self._bucket, LifecycleConfiguration=configuration
            )


def _none_set(error: ClientError) -> list[Rule]:
    if error.response.get("Error", {}).get("Code") in NONE_SET:
        return []
    raise error


@asynccontextmanager
async def _failures(operation: str) -> AsyncIterator[None]:
    """In our words: what the client says may carry the key or the signature."""
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - an answer can be wrong in ways that no list foresees
        raise typed(operation, error, DEADLINE) from None


@asynccontextmanager
async def open_settings(bucket: Bucket) -> AsyncIterator[SettingsClient]:
    """A client that asks once and is patient for seconds only."""
    config = AioConfig(
        region_name="auto",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",  # R2 refuses the default trailer checksum
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1},
        connect_timeout=DEADLINE,
    )
    async with session().create_client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        config=config,
    ) as client:
        yield SettingsClient(client, bucket.name)
