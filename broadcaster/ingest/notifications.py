"""Tells when something in a folder, or in one of those in it, has changed.

On Linux the kernel wakes the event loop. watchfiles looks once in so many milliseconds at what it was told:
often enough for live video, that takes 2 % of a core by day and by night, more than all the rest.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from inotify_simple import INotify, flags, masks
from watchfiles import awatch

from broadcaster.threads import OwnThread
from broadcaster.waiting import wait_at_most

# What is there is another or is whole. Not each write: a segment has dozens of them.
CHANGES = flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.DELETE_SELF | flags.MOVE_SELF | masks.MOVE
NEW_FOLDERS = flags.ISDIR | flags.Q_OVERFLOW
LIMITS = {errno.ENOSPC: "fs.inotify.max_user_watches", errno.EMFILE: "fs.inotify.max_user_instances"}
STEP_MS = 1  # by default watchfiles holds a notification back for 60 to 100 ms


async def by_inotify(folder: Path, thread: OwnThread, seconds: float) -> AsyncGenerator[bool, None]:
    """Yield True when something has changed, and False when nothing has for so many seconds.

    Whatever may hang with the folder is done in ``thread``. Raises OSError.
    """
    loop, told, new_folders = asyncio.get_running_loop(), asyncio.Event(), True

    def take() -> None:
        nonlocal new_folders
        new_folders |= any(event.mask & NEW_FOLDERS for event in inotify.read(timeout=0))
        told.set()

    with await thread.call(_open) as inotify:  # to find the C library may take a process
        loop.add_reader(inotify.fileno(), take)
        try:
            while True:
                if new_folders:
                    new_folders = False
                    await thread.call(_watch, inotify, folder)
                    told.set()  # nobody has told of what came before
                await wait_at_most(seconds, told)
                changed = told.is_set()
                told.clear()
                yield changed
        finally:
            loop.remove_reader(inotify.fileno())


async def by_watchfiles(folder: Path, thread: OwnThread, seconds: float) -> AsyncGenerator[bool, None]:
    """The same, where there is no inotify."""
    await thread.call(_go_through, folder)
    async for found in awatch(
        folder,
        watch_filter=None,
        step=STEP_MS,
        debounce=STEP_MS,
        rust_timeout=int(1000 * seconds),
        yield_on_timeout=True,
    ):
        yield bool(found)


def _go_through(folder: Path) -> None:
    """Have all in it answered once: watchfiles would stop every thread where something does not."""
    for _ in os.walk(folder):
        pass


def _open() -> INotify:
    try:
        return INotify(nonblocking=True)
    except OSError as error:
        raise _explained(error) from None


def _watch(inotify: INotify, folder: Path) -> None:
    """Have changes told of the folder and of all in it; what was watched before still is."""
    try:
        inotify.add_watch(folder, CHANGES)  # first: of a folder that comes now it will be told
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
