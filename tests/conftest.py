"""Real servers for the tests that need them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broadcaster.demo.bucket import SeaweedBucket


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[SeaweedBucket]:
    """A real S3 server with an empty bucket that anybody may read."""
    async with SeaweedBucket(tmp_path / "bucket") as running:
        yield running
