"""Waits for changes in the folder, scans it, and passes new events on.

On Linux the kernel wakes the event loop (inotify). watchfiles, used elsewhere, polls its own buffer: often
enough for live video, this takes 2 % of a core all the time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from inotify_simple import INotify, flags, masks
from watchfiles import awatch

from broadcaster.aio import HoldTimer, OwnThread, wait_at_most
from broadcaster.catalog.records import SourceSnapshot
from broadcaster.events import SourceEvent
from broadcaster.printable import printable
from broadcaster.source.file_checks import UNFINISHED
from broadcaster.source.scanner import Scanner

logger = logging.getLogger(__name__)

# Not each write: a segment has dozens of them.
CHANGES = flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.DELETE_SELF | flags.MOVE_SELF | masks.MOVE
NEW_FOLDERS = flags.ISDIR | flags.Q_OVERFLOW
LIMITS = {errno.ENOSPC: "fs.inotify.max_user_watches", errno.EMFILE: "fs.inotify.max_user_instances"}
STEP_MS = 1  # by default watchfiles holds a notification back for 60 to 100 ms
POLL_SECONDS = 0.25  # without notifications (network file systems), and to notice a folder that was replaced
PRIVATE_POLL_SECONDS = 1.0  # in a folder whose changes are all reported: time passes for what is awaited
ABSENT_FOR = 15.0  # seconds; with key frames far apart Owncast takes so long between two runs


async def by_inotify(folder: Path, thread: OwnThread, seconds: float) -> AsyncGenerator[bool, None]:
    """Yield True after changes, and False after ``seconds`` without any; raises OSError."""
    loop, notified, new_folders = asyncio.get_running_loop(), asyncio.Event(), True

    def take() -> None:
        nonlocal new_folders
        for event in inotify.read(timeout=0):
            new_folders |= bool(event.mask & NEW_FOLDERS)
            if not event.name.endswith(UNFINISHED):
                notified.set()

    opening = thread.submit(_open_inotify)  # finding the C library may start a process
    try:
        opened = await asyncio.wrap_future(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_opened)
        raise
    with opened as inotify:
        loop.add_reader(inotify.fileno(), take)
        try:
            while True:
                if new_folders:
                    new_folders = False
                    await thread.call(_watch, inotify, folder)
                    notified.set()  # of changes before the watch there is no notification
                await wait_at_most(seconds, notified)
                changed = notified.is_set()
                notified.clear()
                yield changed
        finally:
            loop.remove_reader(inotify.fileno())


async def by_watchfiles(folder: Path, thread: OwnThread, seconds: float) -> AsyncGenerator[bool, None]:
    """The same without inotify."""
    # If the file system hangs, it hangs here: watchfiles would stop every thread.
    await thread.call(lambda: [None for _ in os.walk(folder)])
    async for found in awatch(
        folder,
        watch_filter=None,
        step=STEP_MS,
        debounce=STEP_MS,
        rust_timeout=int(1000 * seconds),
        yield_on_timeout=True,
    ):
        yield bool(found)


def _open_inotify() -> INotify:
    try:
        return INotify(nonblocking=True)
    except OSError as error:
        raise _explained(error) from None


def _close_opened(opening: Future[INotify]) -> None:
    """Close what was opened for a task that was cancelled meanwhile."""
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


def _watch(inotify: INotify, folder: Path) -> None:
    """Watch the folder and all folders in it; earlier watches stay."""
    try:
        inotify.add_watch(folder, CHANGES)  # first: it then notifies of new folders
        with os.scandir(folder) as entries:
            inside = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in inside:
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                inotify.add_watch(path, CHANGES | flags.ONLYDIR | flags.DONT_FOLLOW)
    except OSError as error:
        raise _explained(error) from None


def _explained(error: OSError) -> OSError:
    limit = LIMITS.get(error.errno or 0)
    return OSError(error.errno, f"{error.strerror}: see {limit}") if limit else error


notifications = by_inotify if sys.platform == "linux" else by_watchfiles


class Source(Protocol):
    """Where finished segments come from. Times are monotonic, in seconds: the sign of life of ingest."""

    @property
    def last_scan(self) -> float:
        """When the latest scan began."""

    @property
    def scanned_at(self) -> float:
        """When the latest scan that is over began."""

    @property
    def scanning(self) -> bool:
        """Whether a scan is under way: for long where the file system hangs."""

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """Give every event to ``handle``, in order, until cancelled. An exception of ``handle`` ends it."""


class FolderSource:
    """A folder of HLS output. It need not exist yet, and may vanish and come back.

    ``memory`` is from an earlier process. Scans run in a thread of their own. With ``is_private`` nobody but
    this process writes into the folder: it reports its changes by ``note_change``, and the kernel does not.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime],
        memory: SourceSnapshot | None = None,
        *,
        is_private: bool = False,
    ) -> None:
        self.last_scan = self.scanned_at = time.monotonic()
        self.scanning = False
        self._folder = folder
        self._scanner = Scanner(folder, clock, memory or SourceSnapshot())
        self._changed = asyncio.Event()
        self._is_private = is_private
        self._longest_pause = PRIVATE_POLL_SECONDS if is_private else POLL_SECONDS

    @property
    def awaits_file(self) -> bool:
        """Whether a file that a playlist lists is missing, or may be: a scan is under way."""
        return self.scanning or self._scanner.pause is not None

    def note_change(self) -> None:
        """Scan the folder now."""
        self._changed.set()

    async def run(self, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        """As in ``Source``."""
        with OwnThread("ingest") as thread:
            async with asyncio.TaskGroup() as group:
                if not self._is_private:
                    group.create_task(self._watch(thread), name="watch")
                group.create_task(self._follow(thread, handle), name="follow")

    async def _follow(self, thread: OwnThread, handle: Callable[[SourceEvent], Awaitable[None]]) -> None:
        while True:
            self._changed.clear()
            self.last_scan, self.scanning = time.monotonic(), True
            try:
                events = await thread.call(self._scanner.scan, self.last_scan)
            finally:
                self.scanning = False
            self.scanned_at = self.last_scan
            for event in events:
                await handle(event)
            pause = min(self._scanner.pause or self._longest_pause, self._longest_pause)
            await wait_at_most(pause, self._changed)

    async def _watch(self, thread: OwnThread) -> None:
        absent, reported = HoldTimer(ABSENT_FOR), ""
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
                await self._watch_descriptor(thread, folder)
            except* Exception as group:  # noqa: BLE001 - looking four times a second needs no notifications
                # The folder has vanished, or there are no more watches; watchfiles needs names in UTF-8.
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

    async def _watch_descriptor(self, thread: OwnThread, folder: int) -> None:
        """Pass on notifications until the folder is replaced or gone, which the kernel does not notify."""
        compared_at = time.monotonic()
        async with aclosing(notifications(self._folder, thread, POLL_SECONDS)) as found:
            async for changed in found:
                if changed:
                    self._changed.set()
                if time.monotonic() - compared_at >= POLL_SECONDS:
                    compared_at = time.monotonic()
                    if not await thread.call(_is_same, self._folder, folder):
                        return


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _is_same(folder: Path, descriptor: int) -> bool:
    """Whether the path still leads to the open folder, whose number no other folder can have meanwhile."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except OSError:
        return False
