"""What viewers get, without a process or a bucket."""

from pathlib import Path

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from tests.support.fakes.viewer_app import Client, ViewerApp


@pytest.fixture
def site(tmp_path: Path) -> ViewerApp:
    """A stream that tests publish, and what serves it."""
    return ViewerApp(tmp_path)


@pytest.fixture
async def client(site: ViewerApp, aiohttp_client: AiohttpClient) -> Client:
    """Whoever asks for it."""
    return await aiohttp_client(site.app)
