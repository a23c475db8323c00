"""The wheel, which has page and dashboard inside."""

import re
import sys
import venv
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from broadcaster import __version__
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import run
from tests.support.length import SOAK
from tests.support.servers.service import Service

ROOT = Path(__file__).resolve().parents[2]
BUILD_WITHIN = 300.0  # seconds


async def build_wheel(folder: Path) -> Path:
    """Build the wheel of a copy of the source tree, and return its path."""
    tree = folder / "tree"
    (tree / "viewer").mkdir(parents=True)
    for name in ("broadcaster", "pyproject.toml", "setup.py", "README.md", "viewer/dist", "viewer/dashboard"):
        (tree / name).symlink_to(ROOT / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    await run("pip wheel", [*pip, "--wheel-dir", folder, tree], folder / "pip.log", within=BUILD_WITHIN)
    return folder / f"broadcaster-{__version__}-py3-none-any.whl"


async def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel into an empty environment; returns the path of its Python."""
    venv.create(folder, symlinks=True, with_pip=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    await run("pip install", pip, folder / "pip.log", within=BUILD_WITHIN)
    return folder / "bin" / "python"


@pytest.mark.skipif(not SOAK, reason="make soak runs it: an installation serves the same page")
@pytest.mark.takes(10)
async def test_an_installed_wheel_serves_the_page_and_the_dashboard(
    tmp_path: Path, bucket: SeaweedBucket
) -> None:
    """What pip installs is enough: the service serves page and dashboard from inside the package."""
    wheel = await build_wheel(tmp_path)
    installed = tmp_path / "installed"
    installed.mkdir()
    python = await install(wheel, installed)
    service = Service(tmp_path, tmp_path / "hls", bucket)
    # It does not find the source tree, which is the working directory.
    service.command = [str(python), "-P", "-m", "broadcaster.cli", "run"]
    try:
        await service.start()
        async with aiohttp.ClientSession() as session:
            for address in (f"{service.address}/", f"{service.admin_address}/dashboard"):
                async with session.get(address) as response:
                    assert (response.status, response.content_type) == (200, "text/html")
                    page = await response.text()
                scripts = re.findall(r'<script type="module" src="([^"]+)"', page)
                assert scripts
                for script in scripts:
                    async with session.get(response.url.join(URL(script))) as answer:
                        assert answer.status == 200, script
    finally:
        if service.child:
            await service.stop()
