"""Waits for changes in the folder, looks, and hands on what is new."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path

from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from broadcaster.discovery import SourceEvent, SourceMemory
from broadcaster.source.playlist_file import printable
from broadcaster.source.scanner import Scanner

logger = logging.getLogger(__name__)

# Notifications only say "look again": watchfiles' defaults would hold them back for 60 to 100 ms.
WATCH_STEP_MS = 1
WATCH_DEBOUNCE_MS = 1
SETTLE_SECONDS = 0.001  # the close of a file brings no notification
POLL_SECONDS = 0.25  # without notifications (network file systems), and to notice a folder that was replaced


class Source:
    """A folder that somebody writes HLS into. It need not exist yet, and may vanish and come back.

    ``memory`` is where an earlier process stood. ``last_look`` (monotonic, seconds) is when the folder was
    looked at last: the sign of life of the whole ingest.
    """

    def __init__(
        self, folder: Path, clock: Callable[[], datetime], memory: SourceMemory | None = None
    ) -> None:
        self.last_look = time.monotonic()
        self._folder = folder
        self._scanner = Scanner(folder, clock, memory or SourceMemory())
        self._changed = asyncio.Event()

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled. An exception of ``handle`` ends it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="watch")
            group.create_task(self._follow(handle), name="follow")

    async def _follow(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        while True:
            self._changed.clear()
            self.last_look = time.monotonic()
            for event in self._scanner.scan(self.last_look):
                await handle(event)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS if self._scanner.unsettled else POLL_SECONDS):
                    await self._changed.wait()

    async def _watch(self) -> None:
        missing = False
        reported = ""
        while True:
            if self._inode() is None:
                if not missing:
                    logger.warning("the folder %s is not there; waiting for it", self._folder)
                missing = True
                await asyncio.sleep(POLL_SECONDS)
                continue
            if missing:
                logger.info("the folder %s is there", self._folder)
                missing = False
            try:
                async for _ in self._notifications():
                    self._changed.set()
            except* (OSError, WatchfilesRustInternalError) as group:
                # It vanished just now, there are no more inotify watches, or a name is not UTF-8.
                error = str(group.exceptions[0])
                if error != reported:
                    reported = error
                    logger.warning(
                        "no notifications (%s); looking every %s s", printable(error), POLL_SECONDS
                    )
                self._changed.set()
                await asyncio.sleep(POLL_SECONDS)

    async def _notifications(self) -> AsyncIterator[None]:
        """Until the folder is replaced or gone, which the kernel's watch would sit out in silence."""
        inode = self._inode()
        async for _ in awatch(
            self._folder,
            watch_filter=None,
            step=WATCH_STEP_MS,
            debounce=WATCH_DEBOUNCE_MS,
            rust_timeout=int(POLL_SECONDS * 1000),
            yield_on_timeout=True,
        ):
            yield
            if self._inode() != inode:
                return

    def _inode(self) -> int | None:
        try:
            return self._folder.stat().st_ino
        except OSError:
            return None
