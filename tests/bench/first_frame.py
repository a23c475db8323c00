"""How long a viewer waits for the first picture on slow networks, beside a bare hls.js page."""

import asyncio
import shutil
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from playwright.async_api import Browser, async_playwright

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.own_files import VIEWER, VIEWER_DIR
from tests.bench.report import Figure, progress
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.start_requests import start_of
from tests.support.servers.chromium import FLAGS, find_chromium
from tests.support.servers.end_to_end import taken_in
from tests.support.servers.service import running_service

LOADS = 7  # of each page, in turn
MOST = 1.1  # times the bare page
NETWORKS = {  # as CDP takes them: bytes per second, milliseconds
    "cable": {"downloadThroughput": 5e6 / 8, "uploadThroughput": 1e6 / 8, "latency": 28},
    # DevTools' preset.
    "fast 3G": {"downloadThroughput": 188_744, "uploadThroughput": 86_400, "latency": 562.5},
}
BARE = """<!doctype html>
<video muted playsinline></video>
<script src="hls.min.js"></script>
<script>
  const hls = new Hls();
  hls.loadSource("/live/playlist.m3u8");
  hls.attachMedia(document.querySelector("video"));
  document.querySelector("video").play();
</script>
"""
COMPRESS = """const { readFileSync, writeFileSync } = require("node:fs");
const name = process.argv[1];
writeFileSync(`${name}.br`, require("node:zlib").brotliCompressSync(readFileSync(name)));"""


def measure() -> list[Figure]:
    """First visits, the two pages in turn, on each network."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder)))


def _site(folder: Path) -> Path:
    """Our page, and beside it the bare one with the library as it is published, compressed as ours is."""
    site = folder / "site"
    shutil.copytree(VIEWER_DIR, site)
    bare = site / "bare"
    bare.mkdir()
    (bare / "index.html").write_text(BARE)
    library = shutil.copy(VIEWER / "node_modules/hls.js/dist/hls.min.js", bare)
    subprocess.run(["node", "-e", COMPRESS, library], check=True)
    return site


async def _measure(folder: Path) -> list[Figure]:
    settings = {"BROADCASTER_VIEWER_DIR": str(_site(folder))}
    async with (
        SeaweedBucket(folder / "bucket") as bucket,
        SimulatedOwncast(folder / "hls", folder / "owncast", segment_seconds=2, idle_overlap=0) as owncast,
        running_service(folder, folder / "hls", bucket, **settings) as service,
        async_playwright() as playwright,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(6)
        await taken_in(owncast, service.address)
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), headless=True, chromium_sandbox=False, args=list(FLAGS)
        )
        pages = {"page": f"{service.address}/", "bare": f"{service.address}/bare/index.html"}
        for url in pages.values():  # whatever is made only once
            await _visit(browser, url, {})
        figures: list[Figure] = []
        for network, conditions in NETWORKS.items():
            seconds: dict[str, list[float]] = {name: [] for name in pages}
            for number in range(LOADS):
                progress(f"first frame: {network}, {number + 1} of {LOADS}")
                for name, url in pages.items():
                    seconds[name].append(await _visit(browser, url, conditions))
            ours, bare = median(seconds["page"]), median(seconds["bare"])
            figures += [
                Figure(f"first frame, {network}: the page, median", ours, "s"),
                Figure(f"first frame, {network}: a bare hls.js page, median", bare, "s"),
                Figure(f"first frame, {network}: ratio", ours / bare, at_most=MOST),
            ]
        await browser.close()
        return figures


async def _visit(browser: Browser, url: str, conditions: dict[str, float]) -> float:
    """Seconds to the first picture, of somebody who has never been here."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    try:
        return (await start_of(context, url, conditions)).seconds
    finally:
        await context.close()
