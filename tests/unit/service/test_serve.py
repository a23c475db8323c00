"""The service in this process."""

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from broadcaster.config import load
from broadcaster.service import serve


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_garbage_is_collected_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``broadcaster run`` starts without garbage collection; the running service collects garbage."""
    (tmp_path / "hls").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = load(
        BROADCASTER_HLS_DIR=tmp_path / "hls",
        BROADCASTER_STATE_DIR=tmp_path / "state",
        BROADCASTER_PORT=free_port(),
        BROADCASTER_ADMIN_PORT=free_port(),
        R2_ENDPOINT_URL="http://127.0.0.1:9",
        R2_BUCKET="bucket",
        R2_ACCESS_KEY_ID="key",
        R2_SECRET_ACCESS_KEY="secret",
        R2_PUBLIC_URL="http://127.0.0.1:9/bucket",
    )
    stop, collecting = asyncio.Event(), []

    def on_ready(*_: str) -> None:
        collecting.append(gc.isenabled())
        stop.set()

    gc.disable()
    try:
        await serve(settings, stop, on_ready=on_ready)
    finally:
        gc.enable()
        gc.unfreeze()
    assert collecting == [True]
