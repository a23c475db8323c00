"""Uploads in parts, in memory, as the bucket has them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from broadcaster.bucket import ObjectStore
from broadcaster.errors import StorageUnavailable
from broadcaster.recordings.file_uploads import etag_of


class FakeParts(ObjectStore):
    """``lost`` says that what is completed next gets no answer, though it is done."""

    def __init__(self) -> None:
        self.objects_: dict[str, bytes] = {}
        self.made: dict[str, str] = {}  # by key: the ETag of what was made of parts
        self.uploads_: dict[str, tuple[str, dict[int, bytes], datetime]] = {}
        self.lost = False

    async def begin(
        self, key: str, *, media_type: str, disposition: str, cache_control: str, deadline: float
    ) -> str:
        assert media_type.partition("/")[2] in disposition or "matroska" in media_type
        assert cache_control
        assert deadline > 0
        await asyncio.sleep(0)  # as others have their turn while the bucket is asked
        name = f"upload-{len(self.uploads_)}-of-{key}"
        self.uploads_[name] = key, {}, datetime.now(UTC)
        return name

    async def part_url(self, key: str, upload: str, number: int, size: int, *, valid: timedelta) -> str:
        assert self.uploads_[upload][0] == key
        return f"https://bucket/{upload}/{number}?{size}&{valid // timedelta(seconds=1)}"

    def put_part(self, upload: str, number: int, body: bytes) -> None:
        """What somebody with the URL does."""
        self.uploads_[upload][1][number] = body

    async def parts(self, key: str, upload: str, *, deadline: float) -> dict[int, tuple[str, int]] | None:
        assert deadline > 0
        if upload not in self.uploads_:
            return None
        assert self.uploads_[upload][0] == key
        found = self.uploads_[upload][1]
        return {item: (hashlib.md5(body).hexdigest(), len(body)) for item, body in found.items()}

    async def complete(self, key: str, upload: str, md5s: Sequence[str], *, deadline: float) -> bool:
        found = await self.parts(key, upload, deadline=deadline)
        if found is None:
            return False
        assert [md5 for _, (md5, _) in sorted(found.items())] == list(md5s)
        bodies = self.uploads_.pop(upload)[1]
        self.objects_[key] = b"".join(body for _, body in sorted(bodies.items()))
        self.made[key] = f'"{etag_of(found)}"'
        if self.lost:
            self.lost = False
            raise StorageUnavailable("no answer")
        return True

    async def etag(self, key: str, *, deadline: float) -> str | None:
        assert deadline > 0
        return self.made.get(key)

    async def abort(self, key: str, upload: str, *, deadline: float) -> None:
        assert deadline > 0
        assert self.uploads_.pop(upload, (key,))[0] == key

    async def uploads(self, prefix: str, *, deadline: float) -> AsyncIterator[tuple[str, str, datetime]]:
        assert deadline > 0
        for name, (key, _, begun) in self.uploads_.items():
            if key.startswith(prefix):
                yield key, name, begun
