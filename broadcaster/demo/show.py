"""``broadcaster demo``: a bucket, a stream, the service and the page, all on this machine."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from broadcaster.config import Settings, load
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.encoder import ffmpeg, start_encoder
from broadcaster.demo.processes import HOST, Child, require_free
from broadcaster.events import Event, SegmentPublished, StreamStarted
from broadcaster.printable import write
from broadcaster.service import serve

REPORT_EVERY = 10  # seconds


async def run_demo(source: Path | None, port: int) -> None:
    """Run until cancelled; no process and no file remains.

    ``source`` is an HLS folder, None for a test picture. Raises DemoError if a part
    cannot be started and ConfigError for a wrong setting; in an exception group later, or if a part dies.
    """
    require_free(port)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="broadcaster-demo-")))
        _say("starting SeaweedFS, in the place of the R2 bucket")
        bucket = await stack.enter_async_context(SeaweedBucket(folder / "bucket"))
        parts = [bucket.child]
        if source is None:
            source = folder / "hls"
            _say("starting ffmpeg, in the place of Owncast, with two variants")
            encoder = await start_encoder(source, folder / "ffmpeg.log")
            stack.push_async_callback(encoder.kill)
            parts.append(encoder)
        await _serve(_settings(folder, source, port, bucket), parts)


async def _serve(settings: Settings, parts: list[Child | None]) -> None:
    progress = _DemoProgress()
    async with asyncio.TaskGroup() as group:
        for part in parts:
            if part is not None:
                group.create_task(part.watch())
        group.create_task(serve(settings, on_ready=progress.ready, on_event=progress.note))
        group.create_task(progress.report())


class _DemoProgress:
    """Prints the demo's progress."""

    def __init__(self) -> None:
        self._address = self._admin_address = ""
        self._published = 0
        self._delays: list[float] = []

    def ready(self, address: str, admin_address: str) -> None:
        self._address, self._admin_address = address, admin_address
        _say(f"waiting for the first segments; the page is at {address}/")

    def note(self, event: Event) -> None:
        match event:
            case StreamStarted(variants=variants):
                _say(f"metrics at {self._admin_address}/metrics")
                _say(f"live with {len(variants)} variant(s); Ctrl-C ends it. Open:\n\n    {self._address}/\n")
            case SegmentPublished():
                self._published += 1
                self._delays += [] if event.delay is None else [event.delay]

    async def report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            if self._delays:
                milliseconds = 1000 * sorted(self._delays)[len(self._delays) // 2]
                self._delays.clear()
                _say(f"{self._published} segments published, {milliseconds:.0f} ms after they were finished")


def _settings(folder: Path, source: Path, port: int, bucket: SeaweedBucket) -> Settings:
    return load(
        _env_file=None,  # is for a real bucket
        BROADCASTER_HOST=HOST,
        BROADCASTER_HLS_DIR=source,
        BROADCASTER_STATE_DIR=folder / "state",
        BROADCASTER_PORT=port,
        BROADCASTER_ADMIN_PORT=0,
        BROADCASTER_PICTURES=ffmpeg()[0],
        R2_ENDPOINT_URL=bucket.endpoint_url,
        R2_BUCKET=bucket.bucket,
        R2_ACCESS_KEY_ID=bucket.access_key_id,
        R2_SECRET_ACCESS_KEY=bucket.secret_access_key,
        R2_PUBLIC_URL=bucket.public_url,
    )


def _say(text: str) -> None:
    write(f"demo: {text}")
