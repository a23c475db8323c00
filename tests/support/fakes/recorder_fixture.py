"""A channel with its catalog, a bucket in memory, and a recorder that writes recordings into it."""

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broadcaster.errors import ObjectNotFound, StorageError
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.recordings.writer import Recorder
from broadcaster.upload.deleter import YOUNG
from tests.support.fakes.catalog_fixture import CatalogFixture
from tests.support.fakes.multipart_uploads import FakeParts
from tests.support.judges.playlist_rules import violations

GZIP = b"\x1f\x8b"  # what it begins with


def _plain(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(GZIP) else body


class FakeObjectStore(FakeParts):
    """Objects in memory with S3's conditional writes; each of ``faults`` is raised by one of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.times: dict[str, int] = {}  # by key: how many writes there were before it
        self.sent = 0  # bytes, as they were sent
        self.old: set[str] = set()
        self.faults: list[StorageError] = []
        self.meanwhile: Callable[[], object] | None = None  # done once, during a write

    def _fail(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        if self.faults:
            raise self.faults.pop(0)

    async def get(self, key: str, *, deadline: float) -> bytes:
        assert deadline > 0
        self._fail()
        if key not in self.objects_:
            raise ObjectNotFound(f"GET of {key}: there is no such object")
        return _plain(self.objects_[key])

    def tag(self, key: str) -> str | None:
        body = self.objects_.get(key)
        return self.made.get(key, hashlib.sha256(body).hexdigest()) if body is not None else None

    async def etag(self, key: str, *, deadline: float) -> str | None:
        assert deadline > 0
        self._fail()
        return self.tag(key)

    async def written(self, key: str, *, deadline: float) -> tuple[int, datetime] | None:
        assert deadline > 0
        self._fail()
        time = datetime.fromtimestamp(self.times.get(key, 0), UTC)
        return (0, time) if key in self.objects_ else None

    async def replace(  # noqa: PLR0913 - what is known of it
        self,
        key: str,
        body: bytes,
        *,
        etag: str | None,
        max_age: int,
        deadline: float,
        gzipped: bool = False,
        is_fenced: bool = True,
    ) -> str | None:
        assert is_fenced
        assert min(deadline, max_age) > 0
        self._fail()
        self.writes.append(key)
        self.sent += len(body)
        assert body.startswith(GZIP) == gzipped
        if self.tag(key) != etag:
            return None
        self.objects_[key] = body
        self.times[key] = len(self.writes)
        return self.tag(key)

    async def delete(self, keys: Sequence[str], *, deadline: float) -> None:
        assert deadline > 0
        self._fail()
        for key in keys:
            self.objects_.pop(key, None)

    async def objects(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        assert deadline > 0
        for key in sorted(self.objects_):
            if key.startswith(prefix):
                yield key, len(self.objects_[key])

    async def older(self, prefix: str, age: timedelta, *, deadline: float) -> AsyncIterator[tuple[str, int]]:
        assert age in (YOUNG, timedelta())
        async for key, size in self.objects(prefix, deadline=deadline):
            if key in self.old:
                yield key, size


class RecorderFixture:
    """A channel with its catalog, a bucket, and a recorder that writes into it."""

    def __init__(self, folder: Path) -> None:
        self.stream = CatalogFixture(folder)
        self.store = FakeObjectStore()
        self.title: str | None = None
        self.new_recorder()

    def new_recorder(self) -> None:
        self.recorder = Recorder(self.store, self.stream.catalog, "live", title=lambda: self.title)

    def restart(self, keep: timedelta | None = None) -> None:
        self.stream.restart(keep)
        self.new_recorder()

    def upload(self) -> None:
        """The bucket has what was published."""
        self.store.objects_ |= dict.fromkeys(self.stream.published - self.store.objects_.keys(), bytes(1000))

    def text(self, name: str, folder: str = "recordings") -> str:
        return _plain(self.store.objects_[f"live/{folder}/{name}"]).decode()

    def index(self, name: str = "index.json") -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.text(name))

    def media(self, name: str, folder: str = "recordings") -> MediaPlaylist:
        playlist = parse(self.text(name, folder))
        assert isinstance(playlist, MediaPlaylist)
        assert not violations(None, playlist)
        return playlist

    @property
    def names(self) -> list[str]:
        return sorted(name.removeprefix("live/recordings/") for name in self.store.objects_)
