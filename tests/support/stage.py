"""Everything together: the simulated Owncast, a bucket, the service and a strict viewer."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.owncast import SegmentKey, SimulatedOwncast
from tests.support.service import Service, running_service
from tests.support.watcher import Watcher, watching

VARIANTS = ("0", "1")


class Stage:
    """What a test of the whole has in its hands."""

    def __init__(
        self, owncast: SimulatedOwncast, bucket: SeaweedBucket, service: Service, watcher: Watcher
    ) -> None:
        self.owncast = owncast
        self.bucket = bucket
        self.service = service
        self.watcher = watcher

    def owncast_segments(self) -> int:
        """How many segments of this run every variant has finished."""
        counts = [
            sum(key[:2] == (self.owncast.run_id, one) for key in self.owncast.finished) for one in VARIANTS
        ]
        return min(counts)

    async def drained(self, within: float = 30) -> None:
        """Wait until everything that Owncast finished is listed."""
        await self.watcher.until(lambda: not self._unlisted(), within=within)

    async def check_bucket(self) -> int:
        """Every finished segment is listed and in the bucket byte for byte; returns how many there are."""
        finished = self.owncast.finished
        assert not self._unlisted()
        urls = self._urls()
        async with aiohttp.ClientSession() as session:
            for key, digest in finished.items():
                async with session.get(urls[key]) as response:
                    assert hashlib.sha256(await response.read()).hexdigest() == digest, key
        assert self.watcher.violations == []
        assert self.watcher.missing == []
        return len(finished)

    def _unlisted(self) -> list[SegmentKey]:
        return sorted(set(self.owncast.finished) - set(self._urls()))

    def _urls(self) -> dict[SegmentKey, str]:
        return {url_key(url): url for variant in VARIANTS for url in self.watcher.segments(variant)}


def url_key(url: str) -> SegmentKey:
    """Encoder id, variant and name of a segment's URL."""
    _, _, variant, name = url.rsplit("/", 3)
    return (name.removeprefix("stream-").rpartition("-")[0], variant, name)


@asynccontextmanager
async def stage(
    tmp_path: Path, bucket: SeaweedBucket, *, segment_seconds: int, patient: bool = False, **settings: str
) -> AsyncIterator[Stage]:
    """Owncast idle, the service following, a viewer watching; objects are kept, to be checked."""
    settings = {"BROADCASTER_RETENTION": "keep", **settings}
    async with (
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=segment_seconds) as owncast,
        running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service,
        watching(service.address, patient=patient) as watcher,
    ):
        yield Stage(owncast, bucket, service, watcher)
