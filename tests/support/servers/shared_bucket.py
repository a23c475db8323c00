"""One real S3 server for all tests of a worker: starting one for each takes seconds of waiting."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aiobotocore.config import AioConfig

from broadcaster.bucket.session import session
from broadcaster.demo.bucket import SeaweedBucket
from tests.support.suspending import resume

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

T = TypeVar("T")


class LoopInThread:
    """An event loop that outlives those of the tests; child processes live no longer than its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="one bucket", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class OneBucket:
    """The server, which a test may suspend; a test that kills it needs one of its own."""

    def __init__(self, server: SeaweedBucket, client: "S3Client", thread: LoopInThread) -> None:
        self._server = server
        self._client = client
        self._thread = thread

    @contextmanager
    def lent(self) -> Iterator[SeaweedBucket]:
        """For one test: empty at its beginning, and running again after it."""
        self._thread.run(self._empty())
        try:
            yield self._server
        finally:
            resume(self._server.child)

    async def _empty(self) -> None:
        name = self._server.bucket
        async for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=name):
            found = [content["Key"] for content in page.get("Contents", [])]
            await asyncio.gather(*(self._client.delete_object(Bucket=name, Key=key) for key in found))


@contextmanager
def one_bucket(folder: Path) -> Iterator[OneBucket]:
    """A server with its data in ``folder``."""
    thread, stack = LoopInThread(), AsyncExitStack()

    async def start() -> OneBucket:
        server = await stack.enter_async_context(SeaweedBucket(folder))
        return OneBucket(server, await stack.enter_async_context(client_of(server)), thread)

    try:
        yield thread.run(start())
    finally:
        thread.run(stack.aclose())
        thread.close()


@asynccontextmanager
async def client_of(bucket: SeaweedBucket) -> AsyncIterator["S3Client"]:
    """A client with the service's key pair."""
    async with session().create_client(
        "s3",
        config=AioConfig(retries={"total_max_attempts": 1}),
        region_name="auto",
        endpoint_url=bucket.endpoint_url,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
    ) as client:
        yield client
