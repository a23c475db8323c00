"""Asyncio and threads: retries, a log limiter, a signal, a worker thread, timers, event loop lag."""

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
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, Self, TypeVar

from broadcaster.errors import NotLeading, Problem, StorageError, StorageRefused

logger = logging.getLogger(__name__)

FIRST_PAUSE, MAX_PAUSE = 0.2, 10.0  # seconds between attempts; doubled each time, of which a random part
LOG_INTERVAL = 60.0  # seconds between lines about a fault that goes on


@dataclass(frozen=True, slots=True)
class Fault:
    """The error of the latest attempt with a remedy, and since when attempts fail.

    A ``permanent`` fault needs an operator.
    """

    problem: Problem
    permanent: bool
    since: datetime


class Backoff:
    """Pauses that double with each failure, from ``first`` to ``longest`` seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._next = first
        self._longest = longest

    def next(self) -> float:
        """The pause after another failure."""
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._next = self._first


class Signal:
    """Wakes all tasks that wait at the moment of a notification."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all waiting tasks."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    def next(self) -> asyncio.Event:
        """The event of the next notification: get it before reading the state that it announces."""
        return self._event


class LogLimiter:
    """Allows one log line per key in ``seconds``. ``clock`` is monotonic."""

    def __init__(self, seconds: float = LOG_INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._logged: dict[str, float] = {}  # by key: time of the latest line (monotonic)

    def allows(self, key: str, *, new: bool = False) -> bool:
        """Whether to log a line with this key now; always for a ``new`` cause."""
        now = self._clock()
        if not new and now - self._logged.get(key, -self._seconds) < self._seconds:
            return False
        self._logged[key] = now
        return True


USUAL = "check the provider's status, its keys, and the uplink; nothing is lost, and it is tried again"


class Retrying:
    """The state of retried operations of one kind, ``what``; ``fault`` is the current error or None.

    ``clock`` gives the wall time, ``sleep`` waits for seconds.
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
        self._worked = Signal()
        self._log = LogLimiter(LOG_INTERVAL)

    @property
    def problem(self) -> Problem | None:
        """The current error, and what to do; None without an error."""
        return self.fault.problem if self.fault else None

    def failed(self, error: StorageError | OSError) -> Fault:
        """Note a failed attempt; a new kind of error is logged at once, a known one once a minute."""
        permanent = isinstance(error, StorageRefused)
        known = self.fault and self.fault.permanent == permanent
        problem = error.problem if isinstance(error, StorageError) else Problem(str(error))
        problem = problem._replace(remedy=problem.remedy or USUAL)
        self.fault = Fault(problem, permanent, self.fault.since if self.fault else self._clock())
        if self._log.allows(self._what, new=not known):
            level = logging.ERROR if permanent else logging.WARNING
            if isinstance(error, NotLeading):  # the lease reports it
                level = logging.DEBUG
            logger.log(level, "%s fail since %s: %s", self._what, f"{self.fault.since:%H:%M:%SZ}", error)
        return self.fault

    def worked(self, *, over: bool = True) -> None:
        """Note a successful attempt and end all pauses. ``over`` clears the fault."""
        if self.fault is None:
            return
        self._worked.notify()
        if over:
            logger.info("%s work again; they failed since %s", self._what, f"{self.fault.since:%H:%M:%SZ}")
            self.fault = None

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt: for ``seconds``, or until another attempt succeeds."""
        waits = [asyncio.ensure_future(wait) for wait in (self._sleep(seconds), self._worked.next().wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


P = ParamSpec("P")
T = TypeVar("T")

PATH_TIMEOUT = 2.0  # seconds


class OwnThread:
    """A daemon thread that runs calls one after another, for calls that may hang on a network file system.

    Unlike the threads of an executor, it does not delay the end of the process when a call hangs.
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
        """Queue a call. Cancelled calls are skipped."""
        future: Future[T] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                    future.set_exception(error)

        self._put(call)
        return future

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call and return its result. Cancelling ends the wait even when the call hangs."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def call() -> None:  # a Future of threads would take another turn of the event loop
            if result.cancelled():
                return
            try:
                finish = partial(result.set_result, function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                finish = partial(result.set_exception, error)
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(_unless_done, result, finish)

        self._put(call)
        return await result

    def _put(self, call: Callable[[], None]) -> None:
        self._calls.put(call)
        if self._thread.ident is None:
            self._thread.start()


def _unless_done(result: asyncio.Future[T], finish: Callable[[], None]) -> None:
    if not result.done():
        finish()


def _work(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while call := calls.get():
        call()


def real_path(folder: Path) -> Path:
    """The path with symbolic links resolved; the absolute path where the file system hangs."""
    with OwnThread("path") as thread:
        try:
            return Path(thread.submit(os.path.realpath, folder).result(PATH_TIMEOUT))
        except TimeoutError:
            return folder.absolute()


async def wait_at_most(seconds: float, event: asyncio.Event) -> None:
    """Wait until the event is set, or for ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def boot_time() -> float:
    """Seconds since the boot, on Linux those of a suspended machine included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class HoldTimer:
    """A condition that counts after it has held for ``seconds``.

    ``since`` is the beginning (monotonic), None while the condition does not hold.
    """

    def __init__(self, seconds: float) -> None:
        self.since: float | None = None
        self.counts = False
        self._seconds = seconds

    def note(self, now: float, *, on: bool = True) -> bool:
        """Note the condition; returns True once, when it begins to count."""
        if not on:
            self.since, self.counts = None, False
            return False
        self.since = now if self.since is None else self.since
        counted, self.counts = self.counts, now - self.since >= self._seconds
        return self.counts and not counted


LAG_EVERY = 0.1  # seconds between measurements
LAG_FADES = 0.9  # what is left of a peak after each measurement, so that a reader in between sees it
TOO_LATE, FOR_LONG = 0.25, 1.0  # seconds: of lag, and without a wake-up in time


class EventLoopLag:
    """Measures how late the event loop runs due calls; ``seconds`` is the lag, fading."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._late_since: float | None = None  # monotonic

    @property
    def is_overloaded(self) -> bool:
        """Whether the lag lasts: thousands of clients that wake up together cause a short one."""
        return self._late_since is not None and time.monotonic() - self._late_since > FOR_LONG

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            self.note(time.monotonic() - due)

    def note(self, late: float) -> None:
        """Note a measurement, in seconds."""
        self.seconds = max(late, LAG_FADES * self.seconds)
        if late <= TOO_LATE:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = time.monotonic() - late
