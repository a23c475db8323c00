"""Ingest's end of the feed, where the other process cannot be had."""

import asyncio
import errno
import logging
import os
from pathlib import Path
from typing import NoReturn

import pytest

from broadcaster.feed import HealthReport, Setup, State, View
from broadcaster.service.audience import AudienceProcess
from tests.support.waiting import eventually


async def test_it_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without memory for another process, ingest goes on, says so, and tries again."""

    async def none(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none)
    process = AudienceProcess(Setup(Path("none")), [], View(), lambda: HealthReport("offline", 0, None))

    def tried_again() -> bool:
        process.show(View(State.STARTING))  # what happens meanwhile is told to the next
        return process.restarts >= 2

    with caplog.at_level(logging.ERROR):
        running = asyncio.create_task(process.run())
        await eventually(tried_again)
        assert not running.done()
        running.cancel()
    assert "cannot be started (Cannot allocate memory)" in caplog.text
    assert process.pid() == 0
