"""Calls that may never return, those of a network file system above all, off the event loop."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_LOOK = 2.0  # seconds for a folder to say where it is


class OwnThread:
    """A thread that makes one call after the other, from the first on, until it is left or nobody has it.

    Unlike the threads of an executor, one whose call hangs ends with the process.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=_work, args=[self._calls], name=name, daemon=True)
        weakref.finalize(self, self._calls.put, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.put(None)

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have it called after those before it; one that is cancelled while it waits is left out."""
        future: Future[T] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                    future.set_exception(error)

        self._calls.put(call)
        if self._thread.ident is None:
            self._thread.start()
        return future

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it and wait. Whoever is cancelled waits no longer, even where it hangs."""
        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))


def _work(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while call := calls.get():
        call()


def real_path(folder: Path) -> Path:
    """Where it is by its links; by its name alone where the file system hangs."""
    with OwnThread("path") as thread:
        try:
            return Path(thread.submit(os.path.realpath, folder).result(MAX_LOOK))
        except TimeoutError:
            return folder.absolute()
