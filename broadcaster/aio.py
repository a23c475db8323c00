"""What is tried until the bucket does its part: the pauses between attempts, and what is said meanwhile.

Calls that may never return, those of a network file system above all, off the event loop.

Waiting for whichever comes first.

What means nothing for a moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, Self, TypeVar

from broadcaster.errors import StorageError, StorageRefused

logger = logging.getLogger(__name__)

FIRST_PAUSE, MAX_PAUSE = 0.2, 10.0  # seconds between attempts; doubled each time, of which a random part
LOG_INTERVAL = 60.0  # seconds between lines about a fault that goes on


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the bucket does not do it, and since when; ``permanent`` means that someone must act."""

    message: str
    permanent: bool
    since: datetime


class Retrying:
    """One kind of work, ``what``, of which several attempts may be on; ``fault`` is what is wrong just now.

    ``clock`` gives the wall time, ``sleep`` lets seconds pass.
    """

    def __init__(
        self,
        what: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.fault: Fault | None = None
        self._what = what
        self._clock = clock
        self._sleep = sleep
        self._worked = asyncio.Event()
        self._logged_at = 0.0  # monotonic

    def failed(self, error: StorageError | OSError) -> Fault:
        """An attempt has failed; that is said when it is new, and now and then."""
        permanent = isinstance(error, StorageRefused)
        known = self.fault and self.fault.permanent == permanent
        self.fault = Fault(str(error), permanent, self.fault.since if self.fault else self._clock())
        if not known or time.monotonic() - self._logged_at > LOG_INTERVAL:
            self._logged_at = time.monotonic()
            level = logging.ERROR if permanent else logging.WARNING
            logger.log(level, "%s fail since %s: %s", self._what, f"{self.fault.since:%H:%M:%SZ}", error)
        return self.fault

    def worked(self, *, over: bool = True) -> None:
        """An attempt got through: whoever pauses tries again. The fault is ``over`` if no other has it."""
        if self.fault is None:
            return
        self._worked.set()
        self._worked = asyncio.Event()
        if over:
            logger.info("%s work again; they failed since %s", self._what, f"{self.fault.since:%H:%M:%SZ}")
            self.fault = None

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt, so long or until another one works."""
        waits = [asyncio.ensure_future(one) for one in (self._sleep(seconds), self._worked.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()


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


async def wait_at_most(seconds: float, event: asyncio.Event) -> None:
    """Until the event is set, or so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class HoldTimer:
    """Something that counts once it has gone on for ``seconds``.

    ``since`` is when it began (monotonic), None while it is not; ``counts`` says that it has gone on so long.
    """

    def __init__(self, seconds: float) -> None:
        self.since: float | None = None
        self.counts = False
        self._seconds = seconds

    def note(self, now: float, *, on: bool = True) -> bool:
        """Note whether it is; returns whether it counts from now on: true once, until it is over."""
        if not on:
            self.since, self.counts = None, False
            return False
        self.since = now if self.since is None else self.since
        counted, self.counts = self.counts, now - self.since >= self._seconds
        return self.counts and not counted
