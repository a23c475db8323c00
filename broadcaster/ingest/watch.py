"""Waits for changes in the folder, looks, and hands on what is new."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

from broadcaster.catalog.records import SourceMemory
from broadcaster.ingest.lasting import Lasting
from broadcaster.ingest.notifications import notifications
from broadcaster.ingest.reports import SourceEvent
from broadcaster.ingest.scanner import Scanner
from broadcaster.printable import printable
from broadcaster.threads import OwnThread
from broadcaster.waiting import wait_at_most

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25  # without notifications (network file systems), and to notice a folder that was replaced
ABSENT_FOR = 15.0  # seconds; with key frames far apart Owncast takes so long between two runs


class Source:
    """A folder that somebody writes HLS into. It need not exist yet, and may vanish and come back.

    ``memory`` is where an earlier process stood. ``last_look`` (monotonic, seconds) is when the latest look
    at the folder began: the sign of life of the whole ingest. ``looking`` says that it is not over, for long
    where the file system hangs; for that reason the folder is touched in a thread of its own.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], datetime], memory: SourceMemory | None = None
    ) -> None:
        self.last_look = time.monotonic()
        self.looking = False
        self._folder = folder
        self._scanner = Scanner(folder, clock, memory or SourceMemory())
        self._changed = asyncio.Event()

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled. An exception of ``handle`` ends it."""
        with OwnThread("ingest") as thread:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(thread), name="watch")
                group.create_task(self._follow(thread, handle), name="follow")

    async def _follow(self, thread: OwnThread, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        while True:
            self._changed.clear()
            self.last_look, self.looking = time.monotonic(), True
            try:
                events = await thread.call(self._scanner.scan, self.last_look)
            finally:
                self.looking = False
            for event in events:
                await handle(event)
            await wait_at_most(min(self._scanner.pause or POLL_SECONDS, POLL_SECONDS), self._changed)

    async def _watch(self, thread: OwnThread) -> None:
        absent, reported = Lasting(ABSENT_FOR), ""
        while True:
            try:
                folder = await thread.call(_open, self._folder)
            except OSError as error:
                if absent.note(time.monotonic()):
                    missing = isinstance(error, FileNotFoundError)
                    fault = "is not there" if missing else f"cannot be read: {error.strerror}"
                    logger.warning("the folder %s %s; waiting for it", self._folder, fault)
                await asyncio.sleep(POLL_SECONDS)
                continue
            if absent.counts:
                logger.info("the folder %s is there", self._folder)
            absent.note(time.monotonic(), on=False)
            try:
                await self._watch_one(thread, folder)
            except* Exception as group:  # noqa: BLE001 - looking four times a second needs no notifications
                # It vanished just now, or there are no more watches; watchfiles wants names in UTF-8.
                error_text = str(group.exceptions[0])
                if error_text != reported and await thread.call(_is_same, self._folder, folder):
                    reported = error_text
                    logger.warning(
                        "no notifications (%s); looking every %s s", printable(error_text), POLL_SECONDS
                    )
                self._changed.set()
                await asyncio.sleep(POLL_SECONDS)
            finally:
                thread.submit(os.close, folder)

    async def _watch_one(self, thread: OwnThread, folder: int) -> None:
        """Pass on notifications until the folder is replaced or gone, of which the kernel would not tell."""
        looked_at = time.monotonic()
        async with aclosing(notifications(self._folder, thread, POLL_SECONDS)) as found:
            async for changed in found:
                if changed:
                    self._changed.set()
                if time.monotonic() - looked_at >= POLL_SECONDS:
                    looked_at = time.monotonic()
                    if not await thread.call(_is_same, self._folder, folder):
                        return


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_same(folder: Path, descriptor: int) -> bool:
    """Whether the path still leads to that folder. While it is held open, no other can have its number."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except OSError:
        return False
