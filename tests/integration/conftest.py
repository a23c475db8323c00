"""What several tests of this folder stand in front of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fakes.viewer_app import ViewerApp
from tests.support.servers.edge_fixture import Front, running_front
from tests.support.servers.relay_origin import SmallOrigin


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    """A site that is live, with two variants, and an edge before it."""
    site = ViewerApp(tmp_path)
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
