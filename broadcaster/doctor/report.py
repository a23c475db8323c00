"""Checks, their findings and the report; ``examine`` runs checks in order, each with a time limit."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import aiohttp

from broadcaster.aio import OwnThread
from broadcaster.errors import StorageError, StorageRefused
from broadcaster.guest import why_no_answer
from broadcaster.printable import printable, printable_json
from broadcaster.service.health import CheckFinding, Outcome, failed, skipped

P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 8  # characters of the longest outcome, and a blank


@dataclass(frozen=True, slots=True)
class Result:
    """The finding of a check; ``name`` is the check's name in JSON, ``title`` its name on a terminal."""

    name: str
    title: str
    finding: CheckFinding
    seconds: float

    @property
    def text(self) -> str:
        """The result as a line, with the remedy in a second line."""
        outcome = self.finding.outcome
        word = outcome.upper() if outcome is Outcome.FAILED else outcome
        line = printable(f"{word:<{WIDTH}} {self.title}: {self.finding.message}")
        return f"{line}\n{'':<{WIDTH}} → {printable(self.finding.remedy)}" if self.finding.remedy else line


@dataclass(slots=True)
class Report:
    """All results in order, and the duration in seconds."""

    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether no check failed."""
        return not any(result.finding.outcome is Outcome.FAILED for result in self.results)

    def summary(self) -> str:
        """The number of checks per outcome."""
        outcomes = [result.finding.outcome for result in self.results]
        counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in Outcome if kind in outcomes)
        return f"{counts}, in {self.seconds:.1f} s"

    def as_json(self) -> str:
        """The report as JSON."""
        checks = [
            {
                "name": result.name,
                "title": result.title,
                "verdict": result.finding.outcome,
                "message": result.finding.message,
                "remedy": result.finding.remedy,
                "seconds": round(result.seconds, 3),
            }
            for result in self.results
        ]
        report = {"ok": self.is_good, "seconds": round(self.seconds, 3), "checks": checks}
        return printable_json(json.dumps(report, indent=2))


def from_storage(error: StorageError, remedy: str = "") -> CheckFinding:
    """The finding for a StorageError, with the remedy of the error if it has one."""
    cause, named = error.problem
    if named:
        return failed(cause, f"{named}; {remedy}" if remedy else named)
    usual = (
        "check bucket and keys (R2_BUCKET, R2_ACCESS_KEY_ID)"
        if isinstance(error, StorageRefused)
        else "see whether it lasts"
    )
    return failed(cause, remedy or usual)


class CheckError(Exception):
    """Ends a check with a finding."""

    def __init__(self, finding: CheckFinding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@contextmanager
def reading(url: str, setting: str) -> Iterator[None]:
    """A context for requests to ``url``. Without an answer the check ends; only the host is shown."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        fault = why_no_answer(error, url, setting)
        raise CheckError(failed(fault.message, fault.remedy)) from None


def rate_text(rate: float) -> str:
    """Bytes per second as a bit rate."""
    return f"{rate * 8 / 1e6:.2f} Mbit/s"


def time_text(seconds: float) -> str:
    """A duration with its unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Check:
    """A check. It is skipped if a check that it ``needs`` has failed, or was skipped for that reason.

    ``deadline`` is in seconds; ``on_timeout`` is the remedy after a timeout. An ``always`` check ignores the
    budget of the whole.
    """

    name: str
    title: str
    run: Callable[[], Awaitable[CheckFinding]]
    needs: tuple[str, ...] = ()
    deadline: float = 4.0
    on_timeout: str = "check again; if it lasts, look at the network between"
    always: bool = False


async def examine(
    checks: Sequence[Check],
    *,
    budget: float,
    on_start: Callable[[str], None] = lambda _: None,
    on_result: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Run the checks in order, within ``budget`` seconds.

    ``on_start`` is called with the title of each check that begins, ``on_result`` with each result.
    """
    report = Report()
    started = time.monotonic()
    unusable: dict[str, str] = {}  # checks that failed, or were skipped because of others, and which of both
    for check in checks:
        on_start(check.title)
        began = time.monotonic()
        left = check.deadline if check.always else min(check.deadline, budget - (began - started))
        obstacle = _obstacle(check, unusable, left)
        finding = obstacle or await _finding_of(check, left)
        if obstacle or finding.outcome is Outcome.FAILED:
            unusable[check.name] = "was skipped" if obstacle else "failed"
        result = Result(check.name, check.title, finding, time.monotonic() - began)
        report.results.append(result)
        on_result(result)
    report.seconds = time.monotonic() - started
    return report


def _obstacle(check: Check, unusable: dict[str, str], left: float) -> CheckFinding | None:
    for name in check.needs:
        if name in unusable:
            return skipped(f"needs {name}, which {unusable[name]}")
    return skipped("no time is left") if left <= 0 else None


async def _finding_of(check: Check, deadline: float) -> CheckFinding:
    try:
        return await _run_within(check, deadline)
    except CheckError as error:
        return error.finding
    except StorageError as error:
        return from_storage(error)
    except TimeoutError:
        return failed(f"no answer within {deadline:.0f} s", check.on_timeout)
    except Exception as error:  # noqa: BLE001 - a bug in one check must not hide the other checks
        return failed(f"the check itself failed ({type(error).__name__})", "please report this")


async def _run_within(check: Check, deadline: float) -> CheckFinding:
    async with asyncio.timeout(deadline):
        return await check.run()


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a thread of its own, because network file systems can hang."""
    with OwnThread("check") as thread:
        return await thread.call(function, *args, **kwargs)
