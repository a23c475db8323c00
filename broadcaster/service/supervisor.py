"""Restarts optional parts that fail and contains their callbacks: neither can end the stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

from broadcaster.aio import Backoff, LogLimiter
from broadcaster.errors import Problem, first_error
from broadcaster.metrics import Metric

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a restart
SETTLED = 60.0  # seconds without a failure, after which pauses begin with the first again
WARN_FOR = 300.0  # seconds for which a failure is a warning in /health

P = ParamSpec("P")
T = TypeVar("T")
Part = Callable[[], Coroutine[Any, Any, None]]


class Supervisor:
    """Runs optional parts as tasks; a part that raises is started again after a pause.

    ``failures`` counts the failures of each part. ``clock`` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures: Counter[str] = Counter()
        self._clock = clock
        self._latest: dict[str, tuple[float, str]] = {}  # time and reason of each part's latest failure
        self._log = LogLimiter(clock=clock)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, group: asyncio.TaskGroup, name: str, run: Part) -> None:
        """Run a part in the group. A part that returns is not started again."""
        self.failures[name] += 0  # so that Prometheus sees the first failure as an increase
        self._tasks[name] = group.create_task(self._run(name, run), name=name)

    async def stop(self, name: str) -> None:
        """Stop a part and wait for its end."""
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])

    def stop_all(self) -> None:
        """Stop every part."""
        for task in self._tasks.values():
            task.cancel()

    def contained(self, name: str, function: Callable[P, T], otherwise: T) -> Callable[P, T]:
        """The function, but an exception is a failure of the part, and ``otherwise`` is returned."""
        self.failures[name] += 0

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - no failure of a part may end the stream
                self._note(name, error)
                return otherwise

        return call

    @property
    def warning(self) -> Problem | None:
        """Which parts have failed in the last minutes, how often and why; None without failures."""
        now = self._clock()
        failed = [
            f"{name} has failed {_times(self.failures[name])}, {now - at:.0f} s ago for the last time ({why})"
            for name, (at, why) in self._latest.items()
            if now - at < WARN_FOR
        ]
        cause = f"{'; '.join(failed)}: the stream goes on, and each is tried again"
        return Problem(cause, "keep the log, and report this") if failed else None

    def metrics(self) -> Iterator[Metric]:
        """The number of failures of each part."""
        text = "Failures of parts that the stream can do without; each was started again"
        yield Metric("part_failures", text, dict(self.failures), labels=("part",), is_counter=True)

    async def _run(self, name: str, run: Part) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            began = self._clock()
            try:
                await run()
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                failure: BaseException = error  # the part was not cancelled, but something in it
            except Exception as error:  # noqa: BLE001 - no failure of a part may end the stream
                failure = error
            else:
                return
            self._note(name, failure)
            if self._clock() - began > SETTLED:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    def _note(self, name: str, error: BaseException) -> None:
        now = self._clock()
        self.failures[name] += 1
        why = first_error(error)
        self._latest[name] = now, f"{type(why).__name__}: {why}" if str(why) else type(why).__name__
        if self._log.allows(name):
            text = "%s has failed %s; the stream goes on, and the part is started again; please report this"
            logger.error(text, name, _times(self.failures[name]), exc_info=error)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
