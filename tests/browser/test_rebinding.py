"""A page elsewhere whose name is pointed at this machine reads nothing of the operator's (DNS rebinding)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from broadcaster.demo.bucket import SeaweedBucket
from tests.browser.conftest import running_chromium
from tests.support.servers.service import running_service

EVIL = "evil.example"
READ = """async (paths) => Promise.all(paths.map(async (path) => {
    const answer = await fetch(path);
    return [answer.status, await answer.text()];
}))"""
PATHS = ["/metrics", "/health", "/dashboard/", "/dashboard/data.json"]


async def test_another_name_reads_nothing(tmp_path: Path, bucket: SeaweedBucket, chromium_path: str) -> None:
    """To the browser the operator's listener is that page's own site; it answers that it is not."""
    async with (
        running_service(tmp_path, tmp_path / "hls", bucket) as service,
        running_chromium(chromium_path, f"--host-resolver-rules=MAP {EVIL} 127.0.0.1") as browser,
    ):
        port = urlsplit(service.admin_address).port
        page = await browser.new_page()
        own = await page.goto(f"{service.admin_address}/health")
        assert own
        assert own.status == 200
        for status, text in await page.evaluate(READ, PATHS):
            assert status == 200
            assert text
        await page.goto(f"http://{EVIL}:{port}/health")
        for status, text in await page.evaluate(READ, PATHS):
            assert status == 421
            assert "BROADCASTER_ADMIN_NAMES" in text
