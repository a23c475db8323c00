"""The operator's listener over a real bucket with R2's rules, and a recording to upload files for."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from broadcaster.admin import Dashboard, make_operator_app, own_token
from broadcaster.bucket import Bucket, ObjectStore, open_store
from broadcaster.catalog.records import StoredFile
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import HOST, free_ports
from broadcaster.http import listening
from broadcaster.ipc.messages import HealthReport
from broadcaster.recordings.admin_api import RecordingsAdmin
from broadcaster.recordings.file_uploads import Uploads
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.event_night import WELL, EventNight
from tests.support.servers.r2_rules import SMALLEST, StrictFront, strict_front

VIEWER = Path(__file__).resolve().parents[3] / "viewer"


@dataclass
class UploadFixture:
    """Parts are of 5 MiB, the least that R2 takes."""

    address: str
    token: str
    front: StrictFront
    store: ObjectStore
    stream: CatalogFixture
    bucket: SeaweedBucket
    recording: str  # its id

    async def file(self) -> StoredFile | None:
        """What the recording has."""
        (recording,) = await self.stream.recordings()
        return recording.file

    async def digest(self) -> str:
        """The SHA-256 of what viewers get."""
        file, found = await self.file(), hashlib.sha256()
        assert file
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.bucket.public_url}/{file.key}") as response,
        ):
            assert response.headers["Content-Type"] == file.type
            assert response.headers["Content-Disposition"].startswith("attachment; filename=")
            async for piece in response.content.iter_chunked(2**20):
                found.update(piece)
        return found.hexdigest()


def make_file(path: Path, size: int, seed: int = 0) -> str:
    """A file of so many bytes that cannot be foretold; returns its SHA-256."""
    digest, source = hashlib.sha256(), random.Random(seed)
    with path.open("wb") as file:
        for begin in range(0, size, SMALLEST):
            piece = source.randbytes(min(SMALLEST, size - begin))
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


@asynccontextmanager
async def upload_desk(folder: Path, bucket: SeaweedBucket) -> AsyncIterator[UploadFixture]:
    """All of it, at work."""
    stream = CatalogFixture(folder / "state")
    async with AsyncExitStack() as stack:
        stack.callback(lambda: stream.catalog.close())  # noqa: PLW0108 - the one that it has then
        stream.publish("0", count=3)
        stream.channel.end()
        front = await stack.enter_async_context(strict_front(bucket))
        where = Bucket(
            front.url, bucket.bucket, bucket.access_key_id, bucket.secret_access_key, bucket.public_url
        )
        store = await stack.enter_async_context(open_store(where))
        uploads = Uploads(store, stream.catalog, "live", lambda: None, part=SMALLEST)
        admin = RecordingsAdmin(
            own_token(folder),
            stream.catalog,
            lambda: None,
            _nothing,
            _nothing,
            newest=lambda: None,
            page=_no_page,
            uploads=uploads,
        )
        own = EventNight(WELL).own
        dashboard = Dashboard(VIEWER / "dashboard", VIEWER / "public" / "vendor", lambda _: [], 0.09, own=own)
        report = HealthReport("offline", 0, None)
        app = make_operator_app(lambda: report, CollectorRegistry(), dashboard, recordings=admin)
        address = await stack.enter_async_context(listening(app, HOST, free_ports(1)[0], "the test's port"))
        (recording,) = await stream.recordings()
        yield UploadFixture(address, own_token(folder), front, store, stream, bucket, recording.id)


async def _no_page() -> None:
    await asyncio.sleep(0)


async def _nothing(*_: object) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {}
