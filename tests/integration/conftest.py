"""What several tests of this folder stand in front of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.front import Front, running_front
from tests.support.site import Site
from tests.support.small_origin import SmallOrigin


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    """A site that is live, with two variants, and an edge before it."""
    site = Site(tmp_path)
    site.go_live("0", "1")
    async with running_front(tmp_path, site) as front:
        yield front


@pytest.fixture
async def origin() -> AsyncIterator[SmallOrigin]:
    """What a relay follows: two variants that are live."""
    origin = SmallOrigin()
    async with origin.running():
        origin.publish(3)
        yield origin
