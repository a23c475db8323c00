"""Ingest's end of the feed, where the other process cannot be had."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import aiohttp
import psutil
import pytest

from broadcaster.ipc.messages import HealthReport, PublicRecording, Setup, State, View
from broadcaster.service import viewer_process
from broadcaster.service.viewer_process import ViewerProcess
from tests.support.fakes.pipeline_parts import START
from tests.support.waiting import eventually


async def test_it_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without memory for another process, ingest goes on, says so, and tries again."""

    async def none(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none)
    process = ViewerProcess(Setup(Path("none")), [], View(), lambda: HealthReport("offline", 0, None))

    def tried_again() -> bool:
        process.show(View(State.STARTING))  # the next process gets what happens meanwhile
        return process.restarts >= 2

    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(process.run())
        await eventually(tried_again)
        assert not running.done()
        running.cancel()
    assert "cannot be started (Cannot allocate memory)" in caplog.text
    assert process.pid() == 0


async def test_many_ask_for_the_page_on_a_machine_of_many_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However many processors there are, threads do not take the address space that there may be."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos.cpu_count = lambda: 64\n")
    monkeypatch.syspath_prepend(tmp_path)  # the process has our path
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html><title>x</title>")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        setup = Setup(page, max_connections=500)
        process = ViewerProcess(setup, [listening], View(), lambda: HealthReport("offline", 0, None))
        running = asyncio.create_task(process.run())
        await process.ready.wait()
        first = process.pid()

        async def status() -> int:
            async with session.get(address) as answer:
                return answer.status

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            statuses = await asyncio.gather(*(status() for _ in range(200)))
        assert set(statuses) == {200}
        assert process.pid() == first
        assert psutil.Process(first).num_threads() <= 2
        assert psutil.Process(first).memory_info().vms < 2**27
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _fails(*_: object) -> NoReturn:
    raise TypeError("no JSON")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda patch, _: patch.setattr(viewer_process, "encode", _fails),
        lambda patch, process: patch.setattr(process, "_keep_counts", _fails),
    ],
    ids=["while it gets the view", "while its counts are kept"],
)
async def test_a_failure_of_our_own_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch, ViewerProcess], None]
) -> None:
    """The part is started again with another process: the one before must not go on beside it."""
    started: list[asyncio.subprocess.Process] = []

    async def start(_: object) -> tuple[asyncio.subprocess.Process, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.close()
        started.append(await asyncio.create_subprocess_exec("sleep", "60"))
        return started[-1], ours

    monkeypatch.setattr(viewer_process, "start_viewer_process", start)
    monkeypatch.setattr(viewer_process, "UNANSWERED_AT_START", 1)
    process = ViewerProcess(Setup(Path("none")), [], View(), lambda: HealthReport("offline", 0, None))
    break_it(monkeypatch, process)
    try:
        with pytest.raises(TypeError):
            await process.run()
        assert [process.returncode for process in started] == [-9]
        process.show(View(State.STARTING))  # and no process gets it until there is another
    finally:
        for child in started:
            if child.returncode is None:
                child.kill()
            await child.wait()


@pytest.mark.parametrize(
    "change",
    [
        lambda process: process.show(View(State.STARTING)),
        lambda process: process.show_recordings({"/watch/a": PublicRecording("a", "", START, None, 0.0, ())}),
    ],
    ids=["of the stream", "of recordings"],
)
async def test_a_viewer_server_that_missed_a_change_is_replaced(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[ViewerProcess], None]
) -> None:
    """The next change would be of something else, and what was deleted would be shown for ever."""
    process = ViewerProcess(Setup(Path("none")), [], View(), lambda: HealthReport("offline", 0, None))
    running = asyncio.create_task(process.run())
    try:
        await process.ready.wait()
        monkeypatch.setattr(viewer_process, "encode", _fails)
        with pytest.raises(TypeError):
            change(process)
        monkeypatch.undo()
        await eventually(lambda: process.restarts == 1)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
