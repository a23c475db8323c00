"""Restarts optional parts that fail and contains their callbacks: neither can end the stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar

from broadcaster.metrics import Metric

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a restart; doubled with each failure in a row
SETTLED = 60.0  # seconds without a failure, after which the next one is the first in a row again
WARN_FOR = 300.0  # seconds for which a failure is told
TRACEBACK_EVERY = 60.0  # seconds between two tracebacks of one part

P = ParamSpec("P")
T = TypeVar("T")
Run = Callable[[], Coroutine[Any, Any, None]]


class Supervisor:
    """Runs optional parts as tasks, each started again after a pause when it raises.

    ``failures`` counts them by part; ``warning`` says which have failed in the last minutes, how often, and
    why. ``clock`` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures: Counter[str] = Counter()
        self._clock = clock
        self._latest: dict[str, tuple[float, str]] = {}  # when a part has failed, and why
        self._logged: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, group: asyncio.TaskGroup, name: str, run: Run) -> None:
        """Run a part in the group. One that returns has done its work, and is not started again."""
        self.failures[name] += 0  # so that Prometheus sees the first failure as an increase
        self._tasks[name] = group.create_task(self._keep(name, run), name=name)

    async def stop(self, name: str) -> None:
        """Stop a part, and wait until it has ended."""
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])

    def stop_all(self) -> None:
        """Stop every part."""
        for task in self._tasks.values():
            task.cancel()

    def contained(self, name: str, function: Callable[P, T], otherwise: T) -> Callable[P, T]:
        """The function, which returns ``otherwise`` where it would raise: a failure of the part."""
        self.failures[name] += 0

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._note(name, error)
                return otherwise

        return call

    @property
    def warning(self) -> str | None:
        """What the operator has to know of parts that have failed; None while none has."""
        now = self._clock()
        told = [
            f"{name} has failed {_times(self.failures[name])}, {now - at:.0f} s ago for the last time ({why})"
            for name, (at, why) in self._latest.items()
            if now - at < WARN_FOR
        ]
        act = "the stream goes on, and each is tried again; keep the log, and report this"
        return f"{'; '.join(told)}: {act}" if told else None

    def metrics(self) -> Iterator[Metric]:
        """How often each part has failed."""
        text = "Failures of parts that the stream can do without; each was started again"
        yield Metric("part_failures", text, dict(self.failures), labels=("part",), is_counter=True)

    async def _keep(self, name: str, run: Run) -> None:
        pause = FIRST_PAUSE
        while True:
            began = self._clock()
            try:
                await run()
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                failure: BaseException = error  # nobody has cancelled the part: something in it was
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                failure = error
            else:
                return
            self._note(name, failure)
            if self._clock() - began > SETTLED:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _note(self, name: str, error: BaseException) -> None:
        now = self._clock()
        self.failures[name] += 1
        why = _first(error)
        self._latest[name] = now, f"{type(why).__name__}: {why}" if str(why) else type(why).__name__
        if now - self._logged.get(name, -TRACEBACK_EVERY) >= TRACEBACK_EVERY:
            self._logged[name] = now
            text = (
                "%s has failed %s; the stream goes on without it, and it is tried again; please report this"
            )
            logger.error(text, name, _times(self.failures[name]), exc_info=error)


def _first(error: BaseException) -> BaseException:
    """What a group of exceptions began with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
