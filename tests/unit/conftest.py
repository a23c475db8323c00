"""What viewers get, without a process or a bucket."""

from pathlib import Path

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from tests.support.site import Client, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A stream that tests publish, and what serves it."""
    return Site(tmp_path)


@pytest.fixture
async def client(site: Site, aiohttp_client: AiohttpClient) -> Client:
    """Whoever asks for it."""
    return await aiohttp_client(site.app)
