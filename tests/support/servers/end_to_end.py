"""Everything together: the simulated Owncast, a bucket, the service and a strict viewer."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import poll
from broadcaster.hls import MediaPlaylist, parse
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.watcher import Availability, Watcher, watching
from tests.support.servers.owncast_receiver import SegmentKey
from tests.support.servers.service import Service, running_service
from tests.support.servers.shared_bucket import client_of
from tests.support.waiting import PATIENCE, eventually

VARIANTS = ("0", "1")
ROOMY = "60"  # segments of a window: what is listed stays until a viewer on a busy machine looks


@dataclass(slots=True)
class Inventory:
    """What the bucket has of all that was finished."""

    missing: set[SegmentKey]
    different: list[str] = field(default_factory=list)  # object keys
    twice: list[str] = field(default_factory=list)  # object keys of what is there already


class EndToEnd:
    """What a test of the whole has in its hands."""

    def __init__(
        self,
        owncast: SimulatedOwncast,
        bucket: SeaweedBucket,
        service: Service,
        watcher: Watcher,
        availability: Availability,
    ) -> None:
        self.owncast = owncast
        self.bucket = bucket
        self.service = service
        self.watcher = watcher
        self.availability = availability

    async def live_with(self, segments: int, *, segment_seconds: int | None = None) -> None:
        """Start a run of the encoder, and wait until each variant has so many segments."""
        await self.owncast.go_live(segment_seconds=segment_seconds)
        await self.owncast.wait_for_segments(segments)

    async def whole_run(self, segments: int, *, segment_seconds: int | None = None) -> None:
        """A run of the encoder that ends in good order, and is listed."""
        await self.live_with(segments, segment_seconds=segment_seconds)
        await self.owncast.stop_streaming()
        await self.drained()

    def owncast_segments(self) -> int:
        """How many segments of this run every variant has finished."""
        counts = [
            sum(key[:2] == (self.owncast.run_id, variant) for key in self.owncast.finished)
            for variant in VARIANTS
        ]
        return min(counts)

    async def drained(self, within: float = PATIENCE) -> dict[SegmentKey, str]:
        """Wait until everything that Owncast has finished by now is listed; returns the SHA-256 of each.

        There may be no moment at which a busy machine lists the newest of a stream that goes on.
        """
        finished = dict(self.owncast.finished)
        try:
            await self.watcher.until(lambda: not self._unlisted(finished), within=within)
        except TimeoutError:
            listed = {variant: self.watcher.versions[variant][-1] for variant in self.watcher.versions}
            text = f"{self._unlisted(finished)} of {sorted(finished)} are not in {listed}"
            raise AssertionError(f"{text}; {self.service.log.read_text()[-4000:]}") from None
        return finished

    async def taken_in(self) -> None:
        """Wait until the service has all that is finished by now: nobody can save what is removed after that.

        The service is not killed meanwhile.
        """
        finished = set(self.owncast.finished)
        await eventually(partial(self._missing, finished), lambda missing: not missing)
        await self.service.health()  # it has finished what it was doing when its files were looked at

    async def check_bucket(self) -> int:
        """All that is finished by now gets listed and is in the bucket byte for byte; returns how many."""
        finished = await self.drained()
        urls = self._urls()
        async with aiohttp.ClientSession() as session:
            for key, digest in finished.items():
                async with session.get(urls[key]) as response:
                    assert hashlib.sha256(await response.read()).hexdigest() == digest, key
        assert self.watcher.violations == []
        assert self.watcher.missing == []
        return len(finished)

    async def is_settled(self, within: float = PATIENCE) -> bool:
        """Wait until nothing is on its way and viewers see each variant's newest; whether it came to that.

        Unlike ``drained`` it does not mind segments that came and went between two looks of the viewer.
        """
        newest = {key[1]: key for key in self.owncast.finished}  # in order of arrival

        async def nothing_on_its_way() -> bool:
            return (
                all(key in self._shown(variant) for variant, key in newest.items())
                and (await self.service.health())["backlog"] == 0
            )

        try:
            async with asyncio.timeout(within):
                await poll(nothing_on_its_way)
                await self.watcher.all_answered()
        except TimeoutError:
            return False
        return True

    async def check_zeros(self, hint: str = "") -> None:
        """Nothing missing by the bucket's own list, nothing different, no rule broken, no URL unanswered.

        Nor may viewers have seen a finished segment as a gap.
        """
        finished, watcher = self.owncast.finished, self.watcher
        found = await take_inventory(self.bucket, finished)
        seen = {url_key(url) for url in watcher.listed.values()}
        gaps = sorted((seen & finished.keys()).difference(*(self._shown(variant) for variant in VARIANTS)))
        versions = sum(len(versions) for versions in watcher.versions.values())
        print(
            f"{len(finished)} segments, {versions} versions of playlists: missing {len(found.missing)}, "
            f"different {len(found.different)}, violations {len(watcher.violations)}, "
            f"unanswered {len(watcher.missing)}, gaps {len(gaps)}"
        )
        assert found.missing == set(), hint
        assert found.different == [], hint
        assert watcher.violations == [], hint
        assert watcher.missing == [], hint
        assert gaps == [], hint
        assert found.twice == [], hint
        log = self.service.log.read_text()
        assert "Traceback" not in log, hint
        assert self.bucket.secret_access_key not in log, hint
        assert self.bucket.access_key_id not in log, hint

    def _shown(self, variant: str) -> set[SegmentKey]:
        """Segments that viewers could play."""
        return {url_key(url) for url in self.watcher.segments(variant)}

    async def _missing(self, finished: set[SegmentKey]) -> set[SegmentKey]:
        """What of it is neither in the spool, nor listed, nor in the bucket."""
        spool = Path(self.service.environment["BROADCASTER_STATE_DIR"], "spool")
        spooled = {url_key(str(Path(folder, name))) for folder, _, names in os.walk(spool) for name in names}
        listed = {url_key(url) for url in self.watcher.listed.values()}
        missing = finished - spooled - listed
        if missing and self.availability.up.is_set():  # viewers do not see all that is published at once
            with contextlib.suppress(BotoCoreError, ClientError):
                stored = await object_keys(self.bucket)
                missing -= {url_key(key) for key in stored if key.endswith((".ts", ".m4s"))}  # no pictures
        return missing

    def _unlisted(self, finished: Collection[SegmentKey]) -> list[SegmentKey]:
        return sorted({*finished} - set(self._urls()))

    def _urls(self) -> dict[SegmentKey, str]:
        return {url_key(url): url for variant in VARIANTS for url in self.watcher.segments(variant)}


async def taken_in(owncast: SimulatedOwncast, address: str, within: float = PATIENCE) -> None:
    """Wait until players there see the newest that Owncast finished: what is wiped before cannot be saved."""
    newest = {key[1]: key for key in owncast.finished}  # in order of arrival

    async def listed() -> bool:
        async with aiohttp.ClientSession() as session:
            for variant, key in newest.items():
                async with session.get(f"{address}/live/{variant}/playlist.m3u8") as response:
                    playlist = parse(await response.text())
                assert isinstance(playlist, MediaPlaylist)
                if key not in {url_key(segment.uri.partition("?")[0]) for segment in playlist.segments}:
                    return False
        return True

    await eventually(listed, within=within)


def url_key(url: str) -> SegmentKey:
    """Encoder id, variant and name of a segment's URL."""
    _, _, variant, name = url.rsplit("/", 3)
    return (name.removeprefix("stream-").rpartition("-")[0], variant, name)


async def take_inventory(bucket: SeaweedBucket, finished: dict[SegmentKey, str]) -> Inventory:
    """Hold the bucket's objects against the SHA-256 of every finished segment."""
    keys = [key for key in await object_keys(bucket) if url_key(f"/{key}") in finished]
    once = {url_key(key): key for key in keys}
    found = Inventory(set(finished) - once.keys(), twice=sorted({*keys} - {*once.values()}))
    async with aiohttp.ClientSession() as session:
        for key in keys:
            async with session.get(f"{bucket.public_url}/{key}") as response:
                if hashlib.sha256(await response.read()).hexdigest() != finished[url_key(key)]:
                    found.different.append(key)
    return found


async def object_keys(bucket: SeaweedBucket) -> list[str]:
    """The key of every segment in the bucket."""
    async with client_of(bucket) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket, Prefix="live/")
        keys = [content["Key"] async for page in pages for content in page.get("Contents", [])]
    return [key for key in keys if not key.endswith("/owner.json")]


@asynccontextmanager
async def end_to_end(  # noqa: PLR0913 - what a test can turn
    tmp_path: Path,
    bucket: SeaweedBucket,
    *,
    segment_seconds: int = 1,
    owncast: SimulatedOwncast | None = None,
    patient: bool = False,
    availability: Availability | None = None,
    wrapper: Sequence[str] = (),
    **settings: str,
) -> AsyncIterator[EndToEnd]:
    """Owncast idle, the service following, a viewer watching; objects are kept, to be checked.

    ``wrapper`` is a command that runs the service. A ``patient`` viewer finds what was listed in the minute
    before, so that a segment that came while nobody answered is not missed.
    """
    window = {"BROADCASTER_WINDOW_SEGMENTS": str(60 // segment_seconds)} if patient else {}
    settings = {"BROADCASTER_RETENTION": "keep", **window, **settings}
    owncast = owncast or SimulatedOwncast(
        tmp_path / "hls", tmp_path / "owncast", segment_seconds=segment_seconds
    )
    async with (
        owncast,
        running_service(tmp_path, owncast.hls_dir, bucket, wrapper, **settings) as service,
        watching(service.address, patient=patient, bucket=availability) as watcher,
    ):
        yield EndToEnd(owncast, bucket, service, watcher, availability or Availability())
